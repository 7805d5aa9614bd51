/* A table with open addressing: words are counted, looked up, and some are not there. */
#include "program.h"

#define SIZE 1024

struct entry { uint32_t key, count; };
struct state { uint32_t chance; struct entry table[SIZE]; };

static NOINLINE struct entry *find(struct entry *table, uint32_t key)
{
    uint32_t at = (key * 0x9e3779b1u) >> 22;
    while (table[at].key && table[at].key != key)
        at = (at + 1) % SIZE;
    return &table[at];
}

word run(void *data)
{
    struct state *state = data;
    word sum = 0;
    for (int i = 0; i < SIZE; i++)
        state->table[i] = (struct entry){ 0, 0 };
    for (int i = 0; i < 2000; i++) {
        uint32_t key = (draw(&state->chance) & 0x1ff) * 12347 + 1;
        struct entry *entry = find(state->table, key);
        entry->key = key;
        entry->count++;
    }
    for (int i = 0; i < 2000; i++)
        sum += find(state->table, (draw(&state->chance) & 0x3ff) * 12347 + 1)->count;
    return sum;
}
