/* The times of a Pipeline: counting them from its front anew, and the cycles that pipes are booked for. */
#ifndef HVMX_TIMES_H
#define HVMX_TIMES_H

#include "state.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { TIMES = READY_COUNT + PIPES + WINDOW_PARTS };
_Static_assert(offsetof(Pipeline, ready) == 0 && offsetof(Pipeline, booked) == TIMES * sizeof(uint16_t) && TIMES % 8 == 0,
               "the times are shortened together");

/* Cycles behind the front. */
static inline uint32_t behind_front(const Pipeline *s, uint32_t time)
{
    return time > s->front ? time - s->front : 0;
}

/* Of the cycles that a pipe is booked for, those that have not passed. */
static inline uint16_t cycles_left(const Pipeline *s, uint32_t pipe)
{
    uint32_t left = behind_front(s, s->booked_until[pipe]);
    return left < BOOKED_CYCLES ? (uint16_t)(s->booked[pipe].cycles & 0xffffu << (BOOKED_CYCLES - left)) : s->booked[pipe].cycles;
}

/* From now on times count from the front; all that has passed is 0. */
static inline void settle(Pipeline *s)
{
    uint16_t *times = s->ready, by = (uint16_t)(s->front < UINT16_MAX ? s->front : UINT16_MAX);
    if (!by)
        return;
    for (int i = 0; i < PIPES; i++)
        s->booked[i].cycles = cycles_left(s, (uint32_t)i);
#ifdef __SSE2__
    __m128i all = _mm_set1_epi16((short)by);
    for (int i = 0; i < TIMES; i += 8)
        _mm_storeu_si128((__m128i *)(times + i), _mm_subs_epu16(_mm_loadu_si128((const __m128i *)(times + i)), all));
#else
    for (int i = 0; i < TIMES; i++)
        times[i] = times[i] > by ? times[i] - by : 0;
#endif
    for (int i = 0; i < PIPES; i++)
        s->booked[i].work = (uint16_t)behind_front(s, s->booked[i].work);
    for (int i = 0; i < SEEN_STORES; i++)
        s->stores[i].forgotten = (uint16_t)behind_front(s, s->stores[i].forgotten);
    s->front = 0;
}

static inline uint32_t bits_in(uint16_t value)
{
    uint32_t bits = value - (value >> 1 & 0x5555u);
    bits = (bits & 0x3333) + (bits >> 2 & 0x3333);
    return ((bits + (bits >> 4) & 0x0f0f) * 0x101 >> 8) & 0x1f;
}

/* Which of these pipes is booked least in the last BOOKED_CYCLES that any of them is booked for, or else not so long. */
static inline uint32_t least_booked(const Pipeline *s, uint32_t pipes)
{
    uint32_t until = 0, least = UINT32_MAX, best = 0, rest, pipe, before, booked;
    if (!(pipes & (pipes - 1)))
        return (uint32_t)__builtin_ctz(pipes);
    for (rest = pipes; rest; rest &= rest - 1) {
        pipe = (uint32_t)__builtin_ctz(rest);
        if (s->booked_until[pipe] <= s->front && s->booked[pipe].work <= s->front)
            return pipe;
        if (s->booked_until[pipe] > until)
            until = s->booked_until[pipe];
    }
    until = behind_front(s, until);
    for (rest = pipes; rest; rest &= rest - 1) {
        pipe = (uint32_t)__builtin_ctz(rest);
        before = until - behind_front(s, s->booked_until[pipe]);
        booked = before < BOOKED_CYCLES ? bits_in(cycles_left(s, pipe) >> before) : 0;
        booked = (booked + behind_front(s, s->booked[pipe].work)) << 16 | behind_front(s, s->booked_until[pipe]);
        if (booked < least) {
            least = booked;
            best = pipe;
        }
    }
    return best;
}

/* A time that is so far behind the front as the state can hold. */
static inline uint16_t held(const Pipeline *s, uint32_t time)
{
    return (uint16_t)(time < s->front + MOST_HELD ? time : s->front + MOST_HELD);
}

/* Book a pipe for an operation that can begin at `ready`, which has not passed; when it does.
 * One that takes it for a cycle begins in the first that is free. What is earlier than the BOOKED_CYCLES that are known is
 * free where of these less than half is booked, and is not booked. One that takes it for longer waits for such ones only. */
static inline uint32_t book(Pipeline *s, uint32_t pipe, uint32_t ready, uint32_t cycles)
{
    Booking *booked = &s->booked[pipe];
    int32_t until, first, start = (int32_t)ready;
    uint32_t work = booked->work > s->front ? booked->work : s->front;
    if (cycles > 1) {
        booked->work = held(s, work + cycles);
        return ready > work ? ready : work;
    }
    booked->cycles = cycles_left(s, pipe);
    until = s->booked_until[pipe] > s->front ? s->booked_until[pipe] : (int32_t)s->front;
    first = until - BOOKED_CYCLES;
    if (start < first) {
        if (bits_in(booked->cycles) < BOOKED_CYCLES / 2)
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
        s->booked_until[pipe] = held(s, (uint32_t)start + 1);
    }
    return (uint32_t)start;
}

#endif
