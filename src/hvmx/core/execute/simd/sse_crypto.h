/* AES (FIPS 197) and carry-less multiplication in plain C, so that the host need not have the instructions.
 *
 * An AES state is 16 bytes, column after column, as in an XMM register (SDM vol. 1, 12.13). The tables are computed when
 * the module is loaded. Operands in the guest's memory need not be aligned.
 */
#ifndef HVMX_SSE_CRYPTO_H
#define HVMX_SSE_CRYPTO_H

#include <stdint.h>
#include <string.h>

/* Out of line: a handler with locals whose addresses are taken could not end with a jump. */
#define CRYPTO_FUNCTION static __attribute__((noinline, unused)) void

static uint8_t aes_sbox[256], aes_inverse_sbox[256];
/* What a byte of the first row adds to its column in MixColumns and InvMixColumns; for the other rows it is rotated. */
static uint32_t aes_mix[256], aes_inverse_mix[256];

/* Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, 4.2). */
static uint8_t aes_product(uint8_t a, uint8_t b)
{
    uint8_t product = 0;
    for (; b; b >>= 1) {
        if (b & 1)
            product ^= a;
        a = (uint8_t)(a << 1 ^ (a & 0x80 ? 0x1b : 0));
    }
    return product;
}

static inline uint32_t aes_column(uint8_t r0, uint8_t r1, uint8_t r2, uint8_t r3)
{
    return r0 | (uint32_t)r1 << 8 | (uint32_t)r2 << 16 | (uint32_t)r3 << 24;
}

static void aes_make_tables(void)
{
    for (int value = 0; value < 256; value++) {
        uint8_t x = (uint8_t)value, inverse = 1;
        for (int i = 0; i < 254; i++) /* x^254 is the inverse of x, and 0 that of 0 */
            inverse = aes_product(inverse, x);
        uint8_t s = 0x63;
        for (int shift = 0; shift < 5; shift++) /* FIPS 197, 5.1.1: the affine transformation */
            s ^= (uint8_t)(inverse << shift | inverse >> (8 - shift));
        aes_sbox[x] = s;
        aes_inverse_sbox[s] = x;
        aes_mix[x] = aes_column(aes_product(x, 2), x, x, aes_product(x, 3));
        aes_inverse_mix[x] = aes_column(aes_product(x, 14), aes_product(x, 9), aes_product(x, 13), aes_product(x, 11));
    }
}

static inline uint32_t aes_rotated(uint32_t value, int bits)
{
    return bits ? value << bits | value >> (32 - bits) : value;
}

static void aes_mix_columns(uint8_t *state, const uint32_t *table)
{
    for (int column = 0; column < 16; column += 4) {
        uint32_t mixed = 0;
        for (int row = 0; row < 4; row++)
            mixed ^= aes_rotated(table[state[column + row]], 8 * row);
        memcpy(state + column, &mixed, 4);
    }
}

/* ShiftRows and SubBytes, or their inverses: row r moves by r columns, to the left where `direction` is 1. */
static void aes_substitute(uint8_t *result, const uint8_t *state, const uint8_t *box, int direction)
{
    for (int column = 0; column < 4; column++)
        for (int row = 0; row < 4; row++)
            result[4 * column + row] = box[state[4 * ((column + direction * row) & 3) + row]];
}

static inline void aes_add_key(void *destination, const uint8_t *state, const void *key)
{
    uint64_t a[2], k[2];
    memcpy(a, state, 16);
    memcpy(k, key, 16);
    a[0] ^= k[0];
    a[1] ^= k[1];
    memcpy(destination, a, 16);
}

CRYPTO_FUNCTION sse_aesenc(void *destination, const void *key)
{
    uint8_t state[16];
    aes_substitute(state, destination, aes_sbox, 1);
    aes_mix_columns(state, aes_mix);
    aes_add_key(destination, state, key);
}

CRYPTO_FUNCTION sse_aesenclast(void *destination, const void *key)
{
    uint8_t state[16];
    aes_substitute(state, destination, aes_sbox, 1);
    aes_add_key(destination, state, key);
}

CRYPTO_FUNCTION sse_aesdec(void *destination, const void *key)
{
    uint8_t state[16];
    aes_substitute(state, destination, aes_inverse_sbox, -1);
    aes_mix_columns(state, aes_inverse_mix);
    aes_add_key(destination, state, key);
}

CRYPTO_FUNCTION sse_aesdeclast(void *destination, const void *key)
{
    uint8_t state[16];
    aes_substitute(state, destination, aes_inverse_sbox, -1);
    aes_add_key(destination, state, key);
}

CRYPTO_FUNCTION sse_aesimc(void *destination, const void *source)
{
    uint8_t state[16];
    memcpy(state, source, 16);
    aes_mix_columns(state, aes_inverse_mix);
    memcpy(destination, state, 16);
}

/* SDM vol. 2, AESKEYGENASSIST: of the second and the fourth doubleword, SubWord, and RotWord of it with the constant. */
CRYPTO_FUNCTION sse_aeskeygenassist(void *destination, const void *source, uint32_t constant)
{
    const uint8_t *bytes = source;
    uint32_t result[4];
    for (int half = 0; half < 2; half++) {
        const uint8_t *word = bytes + 4 + 8 * half;
        uint32_t substituted = aes_column(aes_sbox[word[0]], aes_sbox[word[1]], aes_sbox[word[2]], aes_sbox[word[3]]);
        result[2 * half] = substituted;
        result[2 * half + 1] = aes_rotated(substituted, 24) ^ constant;
    }
    memcpy(destination, result, 16);
}

/* Polynomials over GF(2): bit 0 of `order` chooses the quadword of the destination, bit 4 that of the source. */
CRYPTO_FUNCTION sse_pclmulqdq(void *destination, const void *source, uint32_t order)
{
    uint64_t a, b, product[2] = { 0, 0 };
    memcpy(&a, (const uint8_t *)destination + (order & 1 ? 8 : 0), 8);
    memcpy(&b, (const uint8_t *)source + (order & 16 ? 8 : 0), 8);
    for (int bit = 0; bit < 64; bit++) {
        uint64_t mask = -(b >> bit & 1);
        product[0] ^= a << bit & mask;
        product[1] ^= (bit ? a >> (64 - bit) : 0) & mask;
    }
    memcpy(destination, product, 16);
}

#endif
