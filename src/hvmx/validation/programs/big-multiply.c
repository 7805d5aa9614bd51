/* Products of two numbers of 40 words, added up: each word waits for the carry of the one before. */
#include "program.h"

#if __SIZEOF_POINTER__ == 8
typedef unsigned __int128 double_word;
#else
typedef uint64_t double_word;
#endif
#define WORDS 40
#define WORD_BITS (8 * sizeof(word))

word run(void *data)
{
    word *a = data, *b = a + WORDS, *product = b + WORDS, sum = 0;
    for (int i = 0; i < WORDS; i++) {
        a[i] = ~(word)0 / (i + 3);
        b[i] = ~(word)0 / (2 * i + 1);
        product[i] = product[i + WORDS] = 0;
    }
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < WORDS; i++) {
            word carry = 0;
            for (int j = 0; j < WORDS; j++) {
                double_word part = (double_word)a[i] * b[j] + product[i + j] + carry;
                product[i + j] = part;
                carry = part >> WORD_BITS;
            }
            product[i + WORDS] = carry;
        }
    for (int i = 0; i < 2 * WORDS; i++)
        sum = sum * 3 + product[i];
    return sum;
}
