#include "workloads.h"

#include "divide.h"
#include "env.h"
#include "pages.h"
#include "print.h"
#include "space.h"
#include "string.h"
#include "trap.h"
#include "user.h"
#include "windows.h"

/* Ports that every PC has and that nothing depends on. No hypervisor keeps the POST code's in its kernel; the NMI status
 * register's is where the PIT is. */
#define POST_PORT       0x80
#define NMI_STATUS_PORT 0x61

#define NO_TICKS_CAME     (-62) /* ETIME */
#define PATIENCE          20000000

#define TLB_MISS_PAGES 128 /* behind the pages of user memory: there are not more to be had for all */

struct workload {
    const char *name;
    unsigned operations;
    /* Adds the windows of its operations; returns 0, or a negative error if it is not permitted. */
    long (*run)(unsigned operations);
};

/* Programs of user mode, which time their operations themselves (user.c). */
static long run_user(program *start, unsigned operations)
{
    run_program(start, operations);
    return 0;
}

static long system_calls(unsigned operations)
{
    return run_user(user_null_calls, operations);
}

static long page_faults(unsigned operations)
{
    return run_user(user_page_faults, operations);
}

static long divides(unsigned operations)
{
    return run_user(user_divides, operations);
}

static long context_switches(unsigned operations)
{
    return run_user(user_switches, operations);
}

static long forks(unsigned operations)
{
    return run_user(user_forks, operations);
}

/* Leaf 0; on PV by Xen's forced emulation, as PV kernels do it. */
static long cpuids(unsigned operations)
{
    uint32_t registers[4];
    uint64_t start = rdtsc();
    for (unsigned i = 0; i < operations; i++)
        env_cpuid(0, registers);
    window_add(start, rdtsc(), 1);
    return 0;
}

/* On PV the instructions fault and Xen, which has the ports of the hardware itself, emulates them. */
static long reads_of(uint16_t port, unsigned operations)
{
    long error = env_open_ports();
    if (error)
        return error;
    uint64_t start = rdtsc();
    for (unsigned i = 0; i < operations; i++) {
        uint8_t value;
        asm volatile("inb %w1, %0" : "=a"(value) : "d"(port));
    }
    window_add(start, rdtsc(), 1);
    return 0;
}

static long port_reads(unsigned operations)
{
    return reads_of(POST_PORT, operations);
}

static long kernel_port_reads(unsigned operations)
{
    return reads_of(NMI_STATUS_PORT, operations);
}

static long port_writes(unsigned operations)
{
    long error = env_open_ports();
    if (error)
        return error;
    uint64_t start = rdtsc();
    for (unsigned i = 0; i < operations; i++)
        asm volatile("outb %0, %w1" ::"a"((uint8_t)i), "Nd"(POST_PORT));
    window_add(start, rdtsc(), 1);
    return 0;
}

#define ARENA_INDEX ((USER_ARENA - USER_BASE) / PAGE_SIZE)
#define USER_ENTRY  (ENTRY_PRESENT | ENTRY_WRITABLE | ENTRY_USER)

static void touch(uintptr_t address)
{
    *(volatile char *)address;
}

/* Lets an entry name one page and another in turns, each time as a kernel does it: write it, invalidate what the TLB
 * knows, and use it. */
static long page_table_writes(unsigned operations)
{
    struct space space;
    void *pages[] = {page_new(), page_new()};
    entry_t entries[] = {page_entry(pages[0], USER_ENTRY), page_entry(pages[1], USER_ENTRY)};
    space_new(&space);
    space_load(&space);
    space_write_entry(&space, ARENA_INDEX, entries[1]);
    touch(USER_ARENA);
    uint64_t start = rdtsc();
    for (unsigned i = 0; i < operations; i++) {
        space_write_entry(&space, ARENA_INDEX, entries[i % 2]);
        tlb_flush_page(USER_ARENA);
        touch(USER_ARENA);
    }
    window_add(start, rdtsc(), 1);
    space_write_entry(&space, ARENA_INDEX, 0);
    space_load(&kernel_space);
    space_free(&space);
    page_drop(pages[0]);
    page_drop(pages[1]);
    return 0;
}

/* Makes the entries of the arena present and not present in turns, with one flush for all of them. The page before them is
 * touched after each, so that the processor uses the table. */
static long batched_page_table_writes(unsigned operations)
{
    struct space space;
    void *page = page_new();
    entry_t present = page_entry(page, USER_ENTRY);
    space_new(&space);
    space_load(&space);
    space_write_entry(&space, ARENA_INDEX - 1, present);
    touch(USER_ARENA - PAGE_SIZE);
    uint64_t start = rdtsc();
    for (unsigned i = 0; i < operations / USER_ARENA_PAGES; i++) {
        space_begin_batch();
        for (unsigned k = 0; k < USER_ARENA_PAGES; k++)
            space_write_entry(&space, ARENA_INDEX + k, i % 2 ? 0 : present);
        space_end_batch();
        tlb_flush();
        touch(USER_ARENA - PAGE_SIZE);
    }
    window_add(start, rdtsc(), 1);
    for (unsigned k = 0; k <= USER_ARENA_PAGES; k++)
        space_write_entry(&space, ARENA_INDEX - 1 + k, 0);
    space_load(&kernel_space);
    space_free(&space);
    page_drop(page);
    return 0;
}

/* Reads every page of user memory after a flush, which is not counted. All is mapped, and has been read before. */
static long tlb_misses(unsigned operations)
{
    struct space space;
    void *pages[TLB_MISS_PAGES];
    for (unsigned i = 0; i < TLB_MISS_PAGES; i++)
        pages[i] = page_new();
    space_new(&space);
    space_load(&space);
    space_begin_batch();
    for (unsigned i = 0; i < USER_PAGES; i++)
        space_write_entry(&space, i, page_entry(pages[i % TLB_MISS_PAGES], USER_ENTRY));
    space_end_batch();
    for (unsigned round = 0; round <= operations / USER_PAGES; round++) {
        tlb_flush();
        uint64_t start = rdtsc();
        for (unsigned i = 0; i < USER_PAGES; i++)
            touch(USER_BASE + i * PAGE_SIZE);
        uint64_t end = rdtsc();
        if (round) /* the first one was to be read before */
            window_add(start, end, 1);
    }
    space_begin_batch();
    for (unsigned i = 0; i < USER_PAGES; i++)
        space_write_entry(&space, i, 0);
    space_end_batch();
    space_load(&kernel_space);
    space_free(&space);
    for (unsigned i = 0; i < TLB_MISS_PAGES; i++)
        page_drop(pages[i]);
    return 0;
}

/* Switches between two empty spaces, in the kernel: a load of CR3, or of both of Xen's roots. */
static long space_switches(unsigned operations)
{
    struct space spaces[2];
    space_new(&spaces[0]);
    space_new(&spaces[1]);
    uint64_t start = rdtsc();
    for (unsigned i = 0; i < operations; i++)
        space_load(&spaces[i % 2]);
    window_add(start, rdtsc(), 1);
    space_load(&kernel_space);
    space_free(&spaces[0]);
    space_free(&spaces[1]);
    return 0;
}

/* One line: 32 characters to a polled UART, or one hypercall. */
static long console_writes(unsigned operations)
{
    static const char line[] = "a line of thirty-two characters\n";
    uint64_t start = rdtsc();
    for (unsigned i = 0; i < operations; i++)
        env_write(line, sizeof line - 1);
    window_add(start, rdtsc(), 1);
    return 0;
}

/* The PIT's counter, latched and read; on PV, Xen's system time, which takes no hypercall. */
static long timer_reads(unsigned operations)
{
    uint64_t start = rdtsc();
    for (unsigned i = 0; i < operations; i++)
        env_read_timer();
    window_add(start, rdtsc(), 1);
    return 0;
}

/* Loops until one round after `last` ticks, or until the patience ends. Adds a window for each round that a tick may have
 * made longer, two for each tick: the one in which the count changed, and the next one, in case the tick came between the
 * reading of the clock and that of the count. All rounds execute the same instructions, so that it makes no difference
 * where a tick comes. */
static __attribute__((noinline)) void rounds_with_ticks(unsigned last, unsigned patience)
{
    uint64_t previous = rdtsc();
    uintptr_t before = 0;
    unsigned seen = timer_ticks;
    do {
        uint64_t now = rdtsc();
        unsigned count = timer_ticks;
        uintptr_t changed = count - seen;
        window_add_if(changed | before, previous, now);
        before = changed;
        seen = count;
        previous = now;
    } while (((int)(last - seen) > 0 || before) && --patience);
}

static void time_without_ticks(unsigned rounds, int sign)
{
    uint64_t start = rdtsc();
    rounds_with_ticks(timer_ticks + 1, rounds);
    window_add(start, rdtsc(), sign);
}

/* How much longer these rounds take than as many without a tick. The first tick is not counted: it may have been
 * pending for some time. */
static long ticks(unsigned operations)
{
    time_without_ticks(4 * operations, -1);
    time_without_ticks(2 * operations, 1);
    env_start_ticks();
    env_interrupts(true);
    unsigned last = timer_ticks + 1;
    uint64_t counted = windows.count;
    rounds_with_ticks(last, PATIENCE);
    windows.count = counted;
    last += operations;
    rounds_with_ticks(last, PATIENCE);
    env_interrupts(false);
    env_stop_ticks();
    return (int)(timer_ticks - last) >= 0 ? 0 : NO_TICKS_CAME;
}

static const struct workload workloads[] = {
    {"syscall", 1000, system_calls},
    {"cpuid", 200, cpuids},
    {"port-in", 200, port_reads},
    {"port-out", 200, port_writes},
    {"port-kernel", 200, kernel_port_reads},
    {"pt-write", 500, page_table_writes},
    {"pt-write-batch", 8 * USER_ARENA_PAGES, batched_page_table_writes},
    {"tlb-miss", 4 * USER_PAGES, tlb_misses},
    {"pgfault", 256, page_faults},
    {"divide", 200, divides},
    {"as-switch", 500, space_switches},
    {"console", 16, console_writes},
    {"timer-read", 200, timer_reads},
    {"timer-tick", 20, ticks},
    {"ctx-switch", 500, context_switches},
    {"fork-wait", 50, forks},
};

/* The same initial state, whatever ran before: the same pages in the same order, and none of them in the TLB. */
static void run(const struct workload *workload)
{
    pages_reset();
    tlb_flush();
    windows_of((uint32_t)(workload - workloads));
    long error = workload->run(workload->operations);
    uint64_t cycles = windows_cycles();
    if (error) {
        print("bench %s unavailable %d\n", workload->name, (int)error);
        return;
    }
    uint64_t per_operation = cycles + workload->operations / 2;
    divide(&per_operation, workload->operations);
    print("bench %s %u %U %U\n", workload->name, workload->operations, cycles, per_operation);
}

static const struct workload *find(const char *name, size_t length)
{
    for (unsigned i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (strlen(workloads[i].name) == length && memcmp(workloads[i].name, name, length) == 0)
            return &workloads[i];
    return NULL;
}

unsigned run_workloads(const char *list)
{
    unsigned unknown = 0;
    if (!list) {
        for (unsigned i = 0; i < sizeof workloads / sizeof *workloads; i++)
            run(&workloads[i]);
        return 0;
    }
    while (*list && *list != ' ') {
        size_t length = 0;
        while (list[length] && list[length] != ',' && list[length] != ' ')
            length++;
        const struct workload *workload = find(list, length);
        if (workload)
            run(workload);
        else
            unknown++;
        list += length + (list[length] == ',');
    }
    return unknown;
}
