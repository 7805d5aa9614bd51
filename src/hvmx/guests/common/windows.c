#include "windows.h"

#include "panic.h"

struct windows windows;

static uint32_t current;
static uint64_t first;

void windows_of(uint32_t workload)
{
    current = workload;
    first = windows.count;
}

static void put(uintptr_t counts, uint64_t start, uint64_t end, int sign)
{
    struct window *window = &windows.window[windows.count];
    window->start = start;
    window->end = end;
    window->workload = current;
    window->sign = sign;
    windows.count += counts != 0;
    if (windows.count > MOST_WINDOWS)
        panic("too many windows of time");
}

void window_add(uint64_t start, uint64_t end, int sign)
{
    put(1, start, end, sign);
}

void window_add_if(uintptr_t counts, uint64_t start, uint64_t end)
{
    put(counts, start, end, 1);
}

uint64_t windows_cycles(void)
{
    int64_t cycles = 0;
    for (uint64_t i = first; i < windows.count; i++) {
        int64_t length = (int64_t)(windows.window[i].end - windows.window[i].start);
        cycles += windows.window[i].sign < 0 ? -length : length;
    }
    return cycles > 0 ? (uint64_t)cycles : 0;
}
