/* Fibonacci numbers by the definition: calls, and hardly anything else. */
#include "program.h"

static NOINLINE word fib(word n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

word run(void *data)
{
    return fib(18 + (*(word *)data & 1));
}
