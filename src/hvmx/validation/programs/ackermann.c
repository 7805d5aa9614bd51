/* Ackermann's function: recursion that goes deeper than a return stack. */
#include "program.h"

static NOINLINE word ackermann(word m, word n)
{
    if (m == 0)
        return n + 1;
    if (n == 0)
        return ackermann(m - 1, 1);
    return ackermann(m - 1, ackermann(m, n - 1));
}

word run(void *data)
{
    return ackermann(2, 60 + (*(word *)data & 1));
}
