#include "trap.h"

#include "env.h"
#include "panic.h"
#include "print.h"
#include "process.h"
#include "system_call.h"
#include "windows.h"

volatile unsigned timer_ticks;

/* Where a kernel instruction that is allowed to fault continues; 0 where none is. */
uintptr_t trap_resume;
static struct fault last_fault;

#ifdef __x86_64__
#define RESUME_AT_1 "movq $1f, trap_resume(%%rip)\n\t"
#else
#define RESUME_AT_1 "movl $1f, trap_resume\n\t"
#endif

static bool resumed_after_fault(void)
{
    bool faulted = trap_resume == 0;
    trap_resume = 0;
    return faulted;
}

bool read_faults(const volatile uint32_t *address, uint32_t *value)
{
    asm volatile(RESUME_AT_1 "movl (%1), %0\n1:" : "=r"(*value) : "r"(address), "0"(0) : "memory");
    return resumed_after_fault();
}

bool write_faults(volatile uint32_t *address, uint32_t value)
{
    asm volatile(RESUME_AT_1 "movl %1, (%0)\n1:" ::"r"(address), "r"(value) : "memory");
    return resumed_after_fault();
}

bool divide_faults(uint32_t dividend, uint32_t divisor)
{
    uint32_t high = 0;
    asm volatile(RESUME_AT_1 "divl %2\n1:" : "+a"(dividend), "+d"(high) : "r"(divisor) : "memory");
    return resumed_after_fault();
}

const struct fault *trap_fault(void)
{
    return &last_fault;
}

void timer_tick(void)
{
    timer_ticks++;
}

static void fault(struct frame *frame)
{
    struct fault this = {
        .vector = frame->vector,
        .error = frame->error,
        .address = frame->vector == VECTOR_PAGE_FAULT ? env_fault_address() : 0,
        .ip = frame->ip,
        .di = frame->di,
        .cx = frame->cx,
    };
    if (frame_is_user(frame)) {
        process_fault(frame, &this);
        return;
    }
    if (trap_resume) {
        last_fault = this;
        frame->ip = trap_resume;
        trap_resume = 0;
        return;
    }
    print("fault %u error %x at %p address %p\n", (unsigned)this.vector, (unsigned)this.error, this.ip,
          this.address);
    panic("unexpected fault in the kernel");
}

static uint64_t started; /* as a program has last said */

static void serve(struct frame *frame)
{
#ifdef __x86_64__
    uintptr_t first = frame->di, second = frame->si;
#else
    uintptr_t first = frame->bx, second = frame->cx;
#endif
    switch (frame->ax) {
    case CALL_NULL: frame->ax = first + 1; break;
    case CALL_EXIT: process_exit((int)first);
    case CALL_YIELD: process_yield(); break;
    case CALL_FORK: frame->ax = process_fork(frame); break;
    case CALL_WAIT: frame->ax = process_wait(); break;
    case CALL_STARTED: started = (uint64_t)second << 32 | (uint32_t)first; break;
    case CALL_ENDED: window_add(started, (uint64_t)second << 32 | (uint32_t)first, 1); break;
    case CALL_DISCARD: process_discard_arena(); break;
    case CALL_SKIP: process_skip(first, second); break;
    case CALL_TICKS: frame->ax = timer_ticks; break;
    default: process_exit(-1);
    }
}

void trap_dispatch(struct frame *frame)
{
    if (frame->vector == VECTOR_SYSCALL)
        serve(frame);
    else if (frame->vector >= VECTOR_INTERRUPT)
        env_interrupt(frame->vector);
    else
        fault(frame);
}
