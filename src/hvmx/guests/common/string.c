#include "string.h"

void *memcpy(void *to, const void *from, size_t count)
{
    void *next = to;
    asm volatile("rep movsb" : "+D"(next), "+S"(from), "+c"(count)::"memory");
    return to;
}

void *memset(void *to, int byte, size_t count)
{
    void *next = to;
    asm volatile("rep stosb" : "+D"(next), "+c"(count) : "a"(byte) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t count)
{
    const unsigned char *left = a, *right = b;
    for (; count; count--, left++, right++)
        if (*left != *right)
            return *left - *right;
    return 0;
}

size_t strlen(const char *text)
{
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}
