/* A binary search tree: 400 keys put in, and searched for. */
#include "program.h"

struct node { struct node *child[2]; uint32_t key, count; };
struct state { uint32_t chance; struct node nodes[400]; };

word run(void *data)
{
    struct state *state = data;
    struct node *root = 0, *fresh = state->nodes;
    word sum = 0;
    for (int i = 0; i < 400; i++) {
        uint32_t key = draw(&state->chance) >> 16;
        struct node **at = &root;
        while (*at && (*at)->key != key)
            at = &(*at)->child[key > (*at)->key];
        if (!*at) {
            *fresh = (struct node){ { 0, 0 }, key, 0 };
            *at = fresh++;
        }
        (*at)->count++;
    }
    for (int i = 0; i < 400; i++) {
        uint32_t key = draw(&state->chance) >> 16;
        struct node *at = root;
        while (at && at->key != key) {
            sum += at->count;
            at = at->child[key > at->key];
        }
    }
    return sum;
}
