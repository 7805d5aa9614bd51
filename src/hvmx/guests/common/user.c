/* Linked at USER_BASE, apart from the kernel, by the linker scripts: nothing here may call or read the rest. */
#include "user.h"

#include "space.h"
#include "system_call.h"

#define MOST_ROUNDS 4

static _Noreturn void leave(int value)
{
    for (;;)
        system_call(CALL_EXIT, value, 0);
}

static void report(uint64_t start, uint64_t end)
{
    system_call(CALL_STARTED, (uint32_t)start, start >> 32);
    system_call(CALL_ENDED, (uint32_t)end, end >> 32);
}

/* One operation: a system call that does nothing. */
void user_null_calls(uintptr_t operations)
{
    uint64_t start = rdtsc();
    for (uintptr_t i = 0; i < operations; i++)
        system_call(CALL_NULL, i, 0);
    report(start, rdtsc());
    leave(0);
}

/* ... a first touch, for which the kernel maps a page that is zero already. */
void user_page_faults(uintptr_t operations)
{
    uint64_t starts[MOST_ROUNDS], ends[MOST_ROUNDS];
    uintptr_t rounds = operations / USER_ARENA_PAGES;
    if (rounds > MOST_ROUNDS)
        leave(1);
    for (uintptr_t round = 0; round < rounds; round++) {
        system_call(CALL_DISCARD, 0, 0);
        starts[round] = rdtsc();
        for (unsigned i = 0; i < USER_ARENA_PAGES; i++)
            *(volatile char *)(USER_ARENA + i * PAGE_SIZE) = 1;
        ends[round] = rdtsc();
    }
    for (uintptr_t round = 0; round < rounds; round++)
        report(starts[round], ends[round]);
    leave(0);
}

/* ... a divide error, from which the kernel returns behind the instruction. */
void user_divides(uintptr_t operations)
{
    system_call(CALL_SKIP, VECTOR_DIVIDE, 2);
    uint64_t start = rdtsc();
    for (uintptr_t i = 0; i < operations; i++)
        asm volatile("divl %%ecx" ::"a"(1), "d"(0), "c"(0)); /* F7 F1: two bytes */
    report(start, rdtsc());
    leave(0);
}

/* ... a change from one process to the other: two of them yield to each other. */
void user_switches(uintptr_t operations)
{
    bool parent = system_call(CALL_FORK, 0, 0);
    /* One round first: after it both have their own copies of the stack. */
    system_call(CALL_YIELD, 0, 0);
    uint64_t start = rdtsc();
    for (uintptr_t i = 0; i < operations / 2; i++)
        system_call(CALL_YIELD, 0, 0);
    uint64_t end = rdtsc();
    if (!parent)
        leave(0);
    system_call(CALL_WAIT, 0, 0);
    report(start, end);
    leave(0);
}

/* ... a fork: the child ends at once, and the parent waits for it. */
void user_forks(uintptr_t operations)
{
    uint64_t start = rdtsc();
    for (uintptr_t i = 0; i < operations; i++) {
        if (!system_call(CALL_FORK, 0, 0))
            leave(0);
        system_call(CALL_WAIT, 0, 0);
    }
    report(start, rdtsc());
    leave(0);
}

void user_call_value(uintptr_t argument)
{
    leave(system_call(CALL_NULL, argument, 0) != argument + 1);
}

/* A page fault changes no register. */
void user_registers(uintptr_t seed)
{
    uintptr_t b = seed, c = seed + 1, d = seed + 2, s = seed + 3, t = seed + 4, fresh = USER_ARENA;
#ifdef __x86_64__
    register uintptr_t r8 asm("r8") = seed + 8, r9 asm("r9") = seed + 9, r10 asm("r10") = seed + 10;
    register uintptr_t r11 asm("r11") = seed + 11, r12 asm("r12") = seed + 12, r13 asm("r13") = seed + 13;
    register uintptr_t r14 asm("r14") = seed + 14, r15 asm("r15") = seed + 15;
    asm volatile("movb $1, (%0)"
                 : "+a"(fresh), "+b"(b), "+c"(c), "+d"(d), "+S"(s), "+D"(t), "+r"(r8), "+r"(r9), "+r"(r10),
                   "+r"(r11), "+r"(r12), "+r"(r13), "+r"(r14), "+r"(r15)::"memory");
    if (r8 != seed + 8 || r9 != seed + 9 || r10 != seed + 10 || r11 != seed + 11 || r12 != seed + 12 ||
        r13 != seed + 13 || r14 != seed + 14 || r15 != seed + 15)
        leave(2);
#else
    asm volatile("movb $1, (%0)" : "+a"(fresh), "+b"(b), "+c"(c), "+d"(d), "+S"(s), "+D"(t)::"memory");
#endif
    leave(fresh != USER_ARENA || b != seed || c != seed + 1 || d != seed + 2 || s != seed + 3 || t != seed + 4);
}

void user_read(uintptr_t address)
{
    (void)*(volatile char *)address;
    leave(1);
}

void user_write(uintptr_t address)
{
    *(volatile char *)address = 1;
    leave(1);
}

void user_halt(uintptr_t unused)
{
    (void)unused;
    asm volatile("hlt");
    leave(1);
}

void user_undefined(uintptr_t unused)
{
    (void)unused;
    asm volatile("ud2");
    leave(1);
}

void user_breakpoint(uintptr_t unused)
{
    (void)unused;
    asm volatile("int3");
    leave(1);
}

/* Copies across the end of a page that is there into one that is not. */
void user_string(uintptr_t count)
{
    char *from = (char *)USER_ARENA, *to = (char *)USER_ARENA + PAGE_SIZE - count / 2;
    for (uintptr_t i = 0; i < count; i++)
        from[i] = (char)i;
    const void *source = from;
    void *target = to;
    uintptr_t left = count;
    asm volatile("rep movsb" : "+S"(source), "+D"(target), "+c"(left)::"memory");
    if (left || source != from + count || target != to + count)
        leave(1);
    for (uintptr_t i = 0; i < count; i++)
        if (to[i] != (char)i)
            leave(2);
    leave(0);
}

void user_fork_copies(uintptr_t unused)
{
    (void)unused;
    volatile int *shared = (volatile int *)USER_ARENA;
    *shared = 1;
    if (!system_call(CALL_FORK, 0, 0)) {
        bool inherited = *shared == 1;
        *shared = 2;
        leave(!inherited || *shared != 2);
    }
    if (system_call(CALL_WAIT, 0, 0) != 0)
        leave(1);
    leave(*shared != 1);
}

/* Spins in user mode until a tick came, or gives up after so many rounds. */
void user_tick(uintptr_t rounds)
{
    uintptr_t before = system_call(CALL_TICKS, 0, 0);
    while (rounds-- && system_call(CALL_TICKS, 0, 0) == before)
        for (volatile unsigned i = 0; i < 100; i++)
            ;
    leave(system_call(CALL_TICKS, 0, 0) == before);
}
