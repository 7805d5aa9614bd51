/* The product of two matrices of 32 by 32 floats, four at a time. */
#include "program.h"
#include <xmmintrin.h>

#define N 32

struct state { float a[N][N], b[N][N], c[N][N]; };

word run(void *data)
{
    struct state *state = data;
    __m128 sum = _mm_setzero_ps();
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            state->a[i][j] = i - j;
            state->b[i][j] = i ^ j;
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j += 8) {
            __m128 low = _mm_setzero_ps(), high = low;
            for (int k = 0; k < N; k++) {
                __m128 factor = _mm_set1_ps(state->a[i][k]);
                low = _mm_add_ps(low, _mm_mul_ps(factor, _mm_load_ps(&state->b[k][j])));
                high = _mm_add_ps(high, _mm_mul_ps(factor, _mm_load_ps(&state->b[k][j + 4])));
            }
            _mm_store_ps(&state->c[i][j], low);
            _mm_store_ps(&state->c[i][j + 4], high);
            sum = _mm_add_ps(sum, _mm_sub_ps(low, high));
        }
    return (uint32_t)_mm_cvttss_si32(sum) + (uint32_t)(int32_t)state->c[N - 1][N - 1];
}
