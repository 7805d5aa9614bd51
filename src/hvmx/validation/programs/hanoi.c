/* Moves of the towers of Hanoi, on three piles in memory. */
#include "program.h"

struct piles { uint32_t height[3]; uint8_t disc[3][16]; };

static NOINLINE word move(struct piles *piles, int count, int from, int to)
{
    int other = 3 - from - to;
    word moves = 0;
    if (count > 1)
        moves += move(piles, count - 1, from, other);
    piles->disc[to][piles->height[to]++] = piles->disc[from][--piles->height[from]];
    moves += piles->disc[to][0] + 1;
    if (count > 1)
        moves += move(piles, count - 1, other, to);
    return moves;
}

word run(void *data)
{
    struct piles *piles = data;
    int from = piles->height[1] ? 1 : 0;
    if (!piles->height[0] && !piles->height[1])
        for (piles->height[0] = 0; piles->height[0] < 11; piles->height[0]++)
            piles->disc[0][piles->height[0]] = 11 - piles->height[0];
    return move(piles, 11, from, 1 - from);
}
