/* The times of a Pipeline: they become shorter when its front moves on, and pipes are booked for cycles to come. */
#ifndef HVMX_TIMES_H
#define HVMX_TIMES_H

#include "state.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { TIMES = READY_COUNT + PIPES + WINDOW_PARTS };
_Static_assert(offsetof(Pipeline, ready) == 0 && offsetof(Pipeline, booked) == TIMES * sizeof(uint16_t) && TIMES % 8 == 0,
               "the times are shortened together");

/* All become shorter by so many cycles, down to 0; what has passed of a pipe's bookings is forgotten. */
static inline void shorten_times(Pipeline *s, uint16_t by)
{
    uint16_t *times = s->ready;
#ifdef __SSE2__
    __m128i all = _mm_set1_epi16((short)by);
    for (int i = 0; i < TIMES; i += 8)
        _mm_storeu_si128((__m128i *)(times + i), _mm_subs_epu16(_mm_loadu_si128((const __m128i *)(times + i)), all));
#else
    for (int i = 0; i < TIMES; i++)
        times[i] = times[i] > by ? times[i] - by : 0;
#endif
    for (int i = 0; i < PIPES; i++) {
        Booking *booked = &s->booked[i];
        if (s->booked_until[i] < BOOKED_CYCLES)
            booked->cycles &= (uint16_t)(0xffff << (BOOKED_CYCLES - s->booked_until[i]));
        booked->work = booked->work > by ? booked->work - by : 0;
    }
    for (int i = 0; i < SEEN_STORES; i++)
        s->stores[i].ready = s->stores[i].ready > by ? s->stores[i].ready - by : 0;
}

/* Which of these pipes is booked least in the last BOOKED_CYCLES that any of them is booked for, or else not so long. */
static inline uint32_t least_booked(const Pipeline *s, uint32_t pipes)
{
    uint32_t until = 0, least = UINT32_MAX, best = 0, rest, pipe, before, booked;
    for (rest = pipes; rest; rest &= rest - 1) {
        pipe = (uint32_t)__builtin_ctz(rest);
        if (s->booked_until[pipe] > until)
            until = s->booked_until[pipe];
    }
    for (rest = pipes; rest; rest &= rest - 1) {
        pipe = (uint32_t)__builtin_ctz(rest);
        before = until - s->booked_until[pipe];
        booked = before < BOOKED_CYCLES ? (uint32_t)__builtin_popcount(s->booked[pipe].cycles >> before) : 0;
        booked = (booked + s->booked[pipe].work) << 16 | s->booked_until[pipe];
        if (booked < least) {
            least = booked;
            best = pipe;
        }
    }
    return best;
}

/* Book a pipe for an operation that can begin at `ready`; when it does.
 * One that takes it for a cycle begins in the first that is free. What is earlier than the BOOKED_CYCLES that are known is
 * free where of these less than half is booked, and is not booked. One that takes it for longer waits for such ones only. */
static inline uint32_t book(Pipeline *s, uint32_t pipe, uint32_t ready, uint32_t cycles)
{
    Booking *booked = &s->booked[pipe];
    int32_t until = s->booked_until[pipe], first = until - BOOKED_CYCLES, start = (int32_t)ready;
    uint32_t work = booked->work;
    if (cycles > 1) {
        booked->work = (uint16_t)(work + cycles < UINT16_MAX ? work + cycles : UINT16_MAX);
        return ready > work ? ready : work;
    }
    if (start < first) {
        if (__builtin_popcount(booked->cycles) < BOOKED_CYCLES / 2)
            return ready;
        start = first;
    }
    if (start < until)
        start += __builtin_ctz(~((uint32_t)booked->cycles >> (start - first)));
    if (start < until) {
        booked->cycles |= (uint16_t)(1 << (start - first));
    } else {
        booked->cycles = (uint16_t)((start + 1 - until < BOOKED_CYCLES ? booked->cycles >> (start + 1 - until) : 0)
                                    | 1 << (BOOKED_CYCLES - 1));
        s->booked_until[pipe] = (uint16_t)(start < UINT16_MAX ? start + 1 : UINT16_MAX);
    }
    return (uint32_t)start;
}

#endif
