/* Bytes summed up and their greatest found, sixteen at a time. */
#include "program.h"
#include <emmintrin.h>

word run(void *data)
{
    uint8_t *bytes = data;
    __m128i sum = _mm_setzero_si128(), greatest = sum, zero = sum;
    for (int i = 0; i < 4096; i++)
        bytes[i] = i * i >> 3;
    for (int round = 0; round < 16; round++)
        for (int i = 0; i < 4096; i += 32) {
            __m128i first = _mm_load_si128((const __m128i *)(bytes + i));
            __m128i second = _mm_load_si128((const __m128i *)(bytes + i + 16));
            sum = _mm_add_epi64(sum, _mm_add_epi64(_mm_sad_epu8(first, zero), _mm_sad_epu8(second, zero)));
            greatest = _mm_max_epu8(greatest, _mm_max_epu8(first, _mm_adds_epu8(second, greatest)));
        }
    return (word)_mm_cvtsi128_si32(_mm_add_epi64(sum, _mm_srli_si128(sum, 8))) + (uint32_t)_mm_cvtsi128_si32(greatest);
}
