/* A ring of 256 nodes in 16 KB, in an order without a pattern: each load waits for the one before it. */
#include "program.h"

struct node { struct node *next; word value; uint8_t unused[64 - 2 * sizeof(word)]; };

word run(void *data)
{
    struct node *nodes = data, *at = nodes;
    word sum = 0;
    for (int i = 0; i < 256; i++) {
        nodes[i].next = &nodes[(i * 149 + 31) & 255];
        nodes[i].value = i;
    }
    for (int i = 0; i < 10000; i++)
        at = at->next;
    for (int i = 0; i < 2000; i++) {
        sum += at->value;
        at = at->next;
    }
    return sum;
}
