#include "string.h"

/* By words, then the bytes that are left. */
#ifdef __x86_64__
#define REP_MOVE_WORDS "rep movsq"
#define REP_STORE_WORDS "rep stosq"
#else
#define REP_MOVE_WORDS "rep movsl"
#define REP_STORE_WORDS "rep stosl"
#endif

void *memcpy(void *to, const void *from, size_t count)
{
    void *next = to;
    size_t words = count / sizeof(long), bytes = count % sizeof(long);
    asm volatile(REP_MOVE_WORDS : "+D"(next), "+S"(from), "+c"(words)::"memory");
    asm volatile("rep movsb" : "+D"(next), "+S"(from), "+c"(bytes)::"memory");
    return to;
}

void *memset(void *to, int byte, size_t count)
{
    void *next = to;
    size_t words = count / sizeof(long), bytes = count % sizeof(long);
    unsigned long pattern = (unsigned char)byte * (~0ul / 255);
    asm volatile(REP_STORE_WORDS : "+D"(next), "+c"(words) : "a"(pattern) : "memory");
    asm volatile("rep stosb" : "+D"(next), "+c"(bytes) : "a"(byte) : "memory");
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
