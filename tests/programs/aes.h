/* AES-128 (FIPS 197), encryption of blocks: in C on any processor, and with AES-NI where CPUID has it. */
#ifndef AES_H
#define AES_H

#include <stdint.h>

typedef void (*AesEncrypt)(const uint8_t key[16], const uint8_t in[16], uint8_t out[16]);

static uint8_t aes_double(uint8_t value)
{
    return (uint8_t)(value << 1 ^ (value & 0x80 ? 0x1b : 0));
}

/* The S-box by its definition: the inverse in GF(2^8), then an affine map (section 5.1.1). */
static const uint8_t *aes_sbox(void)
{
    static uint8_t box[256];
    if (box[0])
        return box;
    uint8_t p = 1, q = 1;
    do {
        p = (uint8_t)(p ^ aes_double(p));                 /* times 3, a generator */
        q = (uint8_t)(q ^ q << 1);
        q = (uint8_t)(q ^ q << 2);
        q = (uint8_t)(q ^ q << 4);                        /* divided by 3 */
        q = (uint8_t)(q ^ (q & 0x80 ? 0x09 : 0));
        uint8_t x = (uint8_t)(q << 1 | q >> 7);
        uint8_t y = (uint8_t)(q << 2 | q >> 6);
        uint8_t z = (uint8_t)(q << 3 | q >> 5);
        uint8_t w = (uint8_t)(q << 4 | q >> 4);
        box[p] = (uint8_t)(q ^ x ^ y ^ z ^ w ^ 0x63);
    } while (p != 1);
    box[0] = 0x63;
    return box;
}

static void aes_round_keys(const uint8_t key[16], uint8_t keys[176])
{
    const uint8_t *sbox = aes_sbox();
    uint8_t constant = 1;
    for (int i = 0; i < 16; i++)
        keys[i] = key[i];
    for (int i = 16; i < 176; i += 4) {
        uint8_t word[4] = { keys[i - 4], keys[i - 3], keys[i - 2], keys[i - 1] };
        if (i % 16 == 0) {
            uint8_t first = word[0];
            word[0] = (uint8_t)(sbox[word[1]] ^ constant);
            word[1] = sbox[word[2]];
            word[2] = sbox[word[3]];
            word[3] = sbox[first];
            constant = aes_double(constant);
        }
        for (int j = 0; j < 4; j++)
            keys[i + j] = keys[i + j - 16] ^ word[j];
    }
}

static void aes_encrypt_c(const uint8_t key[16], const uint8_t in[16], uint8_t out[16])
{
    const uint8_t *sbox = aes_sbox();
    uint8_t keys[176], state[16], shifted[16];
    aes_round_keys(key, keys);
    for (int i = 0; i < 16; i++)
        state[i] = in[i] ^ keys[i];
    for (int round = 1; round <= 10; round++) {
        for (int i = 0; i < 16; i++)
            shifted[i] = sbox[state[(i + 4 * (i % 4)) % 16]];
        for (int column = 0; column < 16; column += 4)
            for (int i = 0; i < 4; i++) {
                uint8_t a = shifted[column + i], b = shifted[column + (i + 1) % 4];
                uint8_t rest = shifted[column + (i + 2) % 4] ^ shifted[column + (i + 3) % 4];
                uint8_t mixed = (uint8_t)(aes_double((uint8_t)(a ^ b)) ^ b ^ rest);
                state[column + i] = (round < 10 ? mixed : a) ^ keys[16 * round + column + i];
            }
    }
    for (int i = 0; i < 16; i++)
        out[i] = state[i];
}

typedef long long AesVector __attribute__((vector_size(16)));

__attribute__((target("aes,sse2"))) static void aes_encrypt_ni(const uint8_t key[16], const uint8_t in[16],
                                                               uint8_t out[16])
{
    uint8_t keys[176];
    AesVector state, round_key[11];
    aes_round_keys(key, keys);
    __builtin_memcpy(round_key, keys, sizeof keys);
    __builtin_memcpy(&state, in, 16);
    state ^= round_key[0];
    for (int round = 1; round < 10; round++)
        state = __builtin_ia32_aesenc128(state, round_key[round]);
    state = __builtin_ia32_aesenclast128(state, round_key[10]);
    __builtin_memcpy(out, &state, 16);
}

#endif
