/* Strings of 5 to 60 bytes: their lengths, copied and compared, a byte at a time. */
#include "program.h"

static NOINLINE word length(const char *text)
{
    const char *at = text;
    while (*at)
        at++;
    return at - text;
}

static NOINLINE void copy(char *to, const char *from)
{
    while ((*to++ = *from++)) {
    }
}

static NOINLINE int compare(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (uint8_t)*a - (uint8_t)*b;
}

word run(void *data)
{
    char *texts = data, *copies = texts + 2048;
    word sum = 0;
    for (int i = 0; i < 2048; i++)
        texts[i] = i % 64 == 5 * (i / 64) % 56 + 5 ? 0 : 'a' + i % 26;
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < 32; i++) {
            sum += length(texts + 64 * i);
            copy(copies + 64 * i, texts + 64 * i);
            sum = sum * 3 + compare(copies + 64 * i, texts + 64 * i);
        }
    return sum;
}
