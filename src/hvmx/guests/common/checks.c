#include "checks.h"

#include "env.h"
#include "pages.h"
#include "print.h"
#include "space.h"
#include "trap.h"
#include "user.h"

/* Long enough for the ticks of any machine to arrive, short enough not to take forever. */
#define PATIENCE 2000000

/* Each check returns what is wrong, or null. */
struct check {
    const char *name;
    const char *(*run)(void);
};

static const char *check_memory(void)
{
    if (env_memory_bytes() < (uint64_t)4 << 20)
        return "less than 4 MB described";
    return env_memory_is_sound() ? NULL : "the description does not hold together";
}

static const char *check_paging(void)
{
    struct space space;
    volatile uint32_t *first = (volatile uint32_t *)USER_ARENA, *second = first + PAGE_SIZE / 4;
    uint32_t *page = page_new(), value = 0;
    const char *wrong = NULL;

    space_new(&space);
    space_map(&space, (uintptr_t)first, page, ENTRY_WRITABLE);
    space_load(&space);
    if (write_faults(first, 0x600d))
        wrong = "a mapped page faults";
    else if (*page != 0x600d)
        wrong = "a write went elsewhere";
    page_hold(page);
    space_map(&space, (uintptr_t)second, page, 0);
    if (!wrong && (read_faults(second, &value) || value != 0x600d))
        wrong = "a second mapping shows another page";
    if (!wrong && !write_faults(second, 0xbad))
        wrong = "a read-only page can be written";
    if (!wrong && (trap_fault()->vector != VECTOR_PAGE_FAULT || trap_fault()->address != (uintptr_t)second ||
                   (trap_fault()->error & 7) != (FAULT_PRESENT | FAULT_WRITE)))
        wrong = "a write to a read-only page reports another fault";
    space_unmap(&space, (uintptr_t)first);
    if (!wrong && !read_faults(first, &value))
        wrong = "an unmapped page can be read";
    if (!wrong && (trap_fault()->address != (uintptr_t)first || (trap_fault()->error & 7) != 0))
        wrong = "a read of an unmapped page reports another fault";
    space_load(&kernel_space);
    space_free(&space);
    return wrong;
}

static const char *check_divide(void)
{
    if (divide_faults(6, 3))
        return "6 / 3 faults";
    if (!divide_faults(6, 0))
        return "6 / 0 does not fault";
    return trap_fault()->vector == VECTOR_DIVIDE ? NULL : "6 / 0 is another fault";
}

static const char *check_cpuid(void)
{
    uint32_t registers[4];
    env_cpuid(0, registers);
    if (registers[0] < 1)
        return "leaf 1 is missing";
    env_cpuid(1, registers);
    /* EDX: bit 4 TSC, bit 8 CMPXCHG8B (SDM vol. 2A, CPUID). */
    return (registers[3] & 0x110) == 0x110 ? NULL : "no TSC or no CMPXCHG8B";
}

static const char *check_ticks(void)
{
    unsigned before = timer_ticks, rounds = 0;
    env_start_ticks();
    env_interrupts(true);
    while (timer_ticks - before < 3 && rounds < PATIENCE) {
        asm volatile("pause");
        rounds++;
    }
    env_interrupts(false);
    env_stop_ticks();
    return timer_ticks - before >= 3 ? NULL : "no ticks came";
}

static const char *check_user_ticks(void)
{
    env_start_ticks();
    struct outcome outcome = run_program(user_tick, PATIENCE / 100);
    env_stop_ticks();
    return outcome.value == 0 ? NULL : "no tick came in user mode";
}

static const char *check_system_call(void)
{
    return run_program(user_call_value, 41).value == 0 ? NULL : "the value is wrong";
}

static const char *check_registers(void)
{
    return run_program(user_registers, 0x1234567).value == 0 ? NULL : "a page fault changes a register";
}

/* The program was ended by this fault with this error code. */
static bool ended_by(struct outcome outcome, uintptr_t vector, uintptr_t error)
{
    return outcome.value == -1 && outcome.fault.vector == vector && (outcome.fault.error & 0xffff) == error;
}

/* Whether the kernel's pages are present in the user's tables depends on the environment. */
static bool kept_out(struct outcome outcome, uintptr_t address, uintptr_t error)
{
    outcome.fault.error &= ~(uintptr_t)FAULT_PRESENT;
    return ended_by(outcome, VECTOR_PAGE_FAULT, error) && outcome.fault.address == address;
}

static const char *check_isolation(void)
{
    static char secret = 42;
    uintptr_t address = (uintptr_t)&secret;
    if (!kept_out(run_program(user_read, address), address, FAULT_USER))
        return "user mode reads the kernel";
    if (!kept_out(run_program(user_write, address), address, FAULT_USER | FAULT_WRITE) || secret != 42)
        return "user mode writes the kernel";
    struct outcome outcome = run_program(user_write, USER_BASE);
    if (!ended_by(outcome, VECTOR_PAGE_FAULT, FAULT_USER | FAULT_WRITE | FAULT_PRESENT))
        return "user mode writes its text";
    return NULL;
}

static const char *check_user_faults(void)
{
    if (!ended_by(run_program(user_halt, 0), VECTOR_PROTECTION, 0))
        return "HLT is not #GP(0)";
    if (!ended_by(run_program(user_undefined, 0), VECTOR_UNDEFINED, 0))
        return "UD2 is not #UD";
    if (!ended_by(run_program(user_breakpoint, 0), VECTOR_BREAKPOINT, 0))
        return "INT3 is not #BP";
    if (!ended_by(run_program(user_read, USER_STACK_TOP), VECTOR_PAGE_FAULT, FAULT_USER))
        return "a read past the stack is not #PF";
    return NULL;
}

static const char *check_string(void)
{
    const uintptr_t count = 200;
    struct outcome outcome = run_program(user_string, count);
    if (outcome.value)
        return "the copy is wrong";
    const struct fault *fault = &outcome.mended;
    if (fault->address != USER_ARENA + PAGE_SIZE || fault->di != fault->address || fault->cx != count - count / 2)
        return "the fault shows other progress";
    return NULL;
}

static const char *check_fork(void)
{
    return run_program(user_fork_copies, 0).value == 0 ? NULL : "parent and child share a written page";
}

static const struct check checks[] = {
    {"memory", check_memory},
    {"cpuid", check_cpuid},
    {"divide", check_divide},
    {"paging", check_paging},
    {"ticks", check_ticks},
    {"system-call", check_system_call},
    {"registers", check_registers},
    {"isolation", check_isolation},
    {"user-faults", check_user_faults},
    {"user-ticks", check_user_ticks},
    {"string", check_string},
    {"fork", check_fork},
};

static bool passes(const char *name, const char *wrong)
{
    if (wrong)
        print("check %s: FAILED (%s)\n", name, wrong);
    else
        print("check %s: ok\n", name);
    return !wrong;
}

unsigned run_checks(void)
{
    unsigned failed = 0;
    size_t free_before = pages_free();
    for (unsigned i = 0; i < sizeof checks / sizeof *checks; i++)
        failed += !passes(checks[i].name, checks[i].run());
    /* Last: all others have freed their pages. */
    failed += !passes("pages", pages_free() == free_before ? NULL : "some were not given back");
    return failed;
}
