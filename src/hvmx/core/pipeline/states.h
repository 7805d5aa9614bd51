/* Packing a Pipeline into the State that is kept of it, and back. */
#ifndef HVMX_STATES_H
#define HVMX_STATES_H

#include <string.h>

#include "state.h"

static inline size_t size_of_state(const State *state)
{
    return offsetof(State, words) + state->count * sizeof(state->words[0]);
}

static inline uint64_t mixed(uint64_t value)
{
    value *= 0x9e3779b97f4a7c15;
    return value ^ value >> 29;
}

static inline void pack_state(State *state, const Pipeline *value)
{
    uint64_t count = 0, present = 0, hash = 0;
    for (unsigned i = 0; i < PIPELINE_WORDS; i++) {
        memcpy(&state->words[count], (const uint8_t *)value + 8 * i, 8);
        present |= (uint64_t)(state->words[count] != 0) << i;
        count += state->words[count] != 0;
    }
    for (unsigned i = 0; i + 1 < count; i += 2)
        hash = mixed(hash ^ state->words[i] ^ mixed(state->words[i + 1]));
    if (count & 1)
        hash = mixed(hash ^ state->words[count - 1]);
    state->hash = mixed(hash ^ present);
    state->present = present;
    state->count = count;
    state->latest = NULL;
    state->here.entry = NULL;
    state->here.state = state;
}

static inline void unpack_state(const State *state, Pipeline *value)
{
    const uint64_t *words = state->words;
    memset(value, 0, sizeof(Pipeline));
    for (uint64_t rest = state->present; rest; rest &= rest - 1)
        memcpy((uint8_t *)value + 8 * __builtin_ctzll(rest), words++, 8);
}

static inline int same_state(const State *a, const State *b)
{
    return a->hash == b->hash && a->present == b->present && !memcmp(a->words, b->words, a->count * sizeof(a->words[0]));
}

#endif
