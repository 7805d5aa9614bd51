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
    for (int i = 0; i < PIPES; i++)
        if (s->booked[i] && s->booked_until[i] < BOOKED_CYCLES)
            s->booked[i] = s->booked_until[i] ? s->booked[i] & ~(uint64_t)0 << (BOOKED_CYCLES - s->booked_until[i]) : 0;
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
        booked = before < BOOKED_CYCLES ? (uint32_t)__builtin_popcountll(s->booked[pipe] >> before) : 0;
        booked = booked << 16 | s->booked_until[pipe];
        if (booked < least) {
            least = booked;
            best = pipe;
        }
    }
    return best;
}

/* Book the first cycle of a pipe that is free and not before `from`; which it is. */
static inline int32_t book_cycle(Pipeline *s, uint32_t pipe, int32_t from)
{
    int32_t until = s->booked_until[pipe], first = until - BOOKED_CYCLES;
    uint64_t busy;
    if (from < first)
        from = first;
    if (from < until) {
        busy = s->booked[pipe] >> (from - first);
        from = busy == ~(uint64_t)0 ? until : from + __builtin_ctzll(~busy);
    }
    if (from < until) {
        s->booked[pipe] |= (uint64_t)1 << (from - first);
    } else {
        s->booked[pipe] = (from + 1 - until < BOOKED_CYCLES ? s->booked[pipe] >> (from + 1 - until) : 0) | (uint64_t)1 << 63;
        s->booked_until[pipe] = (uint16_t)(from < UINT16_MAX ? from + 1 : UINT16_MAX);
    }
    return from;
}

/* Book a pipe for an operation that can begin at `ready`; when it does. What is earlier than the BOOKED_CYCLES that are
 * known is free where of these less than half is booked, and is not booked. One that takes a pipe for longer takes it when
 * the pipe is free, as others that are ready go before it: it is only waited for what is booked already. */
static inline uint32_t book(Pipeline *s, uint32_t pipe, uint32_t ready, uint32_t cycles)
{
    int32_t start;
    if ((int32_t)ready < s->booked_until[pipe] - BOOKED_CYCLES && __builtin_popcountll(s->booked[pipe]) < BOOKED_CYCLES / 2)
        return ready;
    if (cycles == 1)
        return (uint32_t)book_cycle(s, pipe, (int32_t)ready);
    start = book_cycle(s, pipe, 0);
    while (--cycles)
        book_cycle(s, pipe, start);
    return (uint32_t)start > ready ? (uint32_t)start : ready;
}

#endif
