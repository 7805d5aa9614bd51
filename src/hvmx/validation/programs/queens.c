/* The ways to place eight queens, by bit masks and recursion. */
#include "program.h"

static NOINLINE word place(word all, word columns, word left, word right)
{
    word count = 0, free = all & ~(columns | left | right);
    if (columns == all)
        return 1;
    while (free) {
        word bit = free & -free;
        free ^= bit;
        count += place(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return count;
}

word run(void *data)
{
    return place(0xff | (*(word *)data & 1), 0, 0, 0);
}
