/* From the run loop into the chain of handlers. */
#ifndef HVMX_RUN_CHAIN_H
#define HVMX_RUN_CHAIN_H

#include "state.h"

#if HOST_IS_TRANSLATED_FOR
/* Translated code uses all registers: the callee-saved ones are saved here (System V ABI, 3.2.1). */
void hvmx_run_op(Cpu *cpu, Op *op) __attribute__((visibility("hidden")));
__asm__(
    ".text\n"
    ".globl hvmx_run_op\n"
    ".hidden hvmx_run_op\n"
    ".type hvmx_run_op, @function\n"
    "hvmx_run_op:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "sub $8, %rsp\n"
    "call *(%rsi)\n"
    "add $8, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\n"
    "ret\n"
    ".size hvmx_run_op, . - hvmx_run_op\n");
_Static_assert(offsetof(Op, fn) == 0, "hvmx_run_op calls what RSI points at");
#else
static inline void hvmx_run_op(Cpu *cpu, Op *op) { op->fn(cpu, op); }
#endif

/* Runs a chain of handlers to its end; see go_on in state.h. */
static inline void run_chain(Cpu *cpu, Op *op)
{
#ifdef HVMX_RETURNING
    while (op) {
        cpu->next_op = NULL;
        hvmx_run_op(cpu, op);
        op = cpu->next_op;
    }
#else
    hvmx_run_op(cpu, op);
#endif
}

#endif
