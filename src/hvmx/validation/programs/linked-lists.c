/* A list built, reversed in place, and every other node moved to a second list. */
#include "program.h"

struct node { struct node *next; word value; };

static NOINLINE struct node *reverse(struct node *list)
{
    struct node *before = 0;
    while (list) {
        struct node *next = list->next;
        list->next = before;
        before = list;
        list = next;
    }
    return before;
}

word run(void *data)
{
    struct node *pool = data, *list = 0, *other = 0;
    word sum = 0;
    for (int i = 0; i < 512; i++) {
        pool[i].value = i * 7;
        pool[i].next = list;
        list = &pool[i];
    }
    for (int round = 0; round < 12; round++)
        list = reverse(list);
    for (struct node *at = list; at && at->next; at = at->next) {
        struct node *moved = at->next;
        at->next = moved->next;
        moved->next = other;
        other = moved;
    }
    for (; list; list = list->next)
        sum += list->value;
    for (other = reverse(other); other; other = other->next)
        sum = sum * 3 + other->value;
    return sum;
}
