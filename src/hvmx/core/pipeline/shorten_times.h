/* The times of a Pipeline when its front moves on. */
#ifndef HVMX_SHORTEN_TIMES_H
#define HVMX_SHORTEN_TIMES_H

#include "state.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

_Static_assert(offsetof(Pipeline, ready) == 0 && offsetof(Pipeline, busy) == READY_COUNT && (READY_COUNT + PIPES) % 16 == 0,
               "ready times and backlogs are shortened together");

/* All become shorter by so many cycles, down to 0. */
static inline void shorten_times(Pipeline *s, uint8_t by)
{
    uint8_t *times = s->ready;
#ifdef __SSE2__
    __m128i all = _mm_set1_epi8((char)by);
    for (int i = 0; i < READY_COUNT + PIPES; i += 16)
        _mm_storeu_si128((__m128i *)(times + i), _mm_subs_epu8(_mm_loadu_si128((const __m128i *)(times + i)), all));
#else
    for (int i = 0; i < READY_COUNT + PIPES; i++)
        times[i] = times[i] > by ? times[i] - by : 0;
#endif
    for (int i = 0; i < SEEN_STORES; i++)
        s->stores[i].ready = s->stores[i].ready > by ? s->stores[i].ready - by : 0;
}

#endif
