/* Processes: user programs, each with an address space and a kernel stack, switched when they ask for it. */
#pragma once
#include "frame.h"

/* The results of a program and its children. */
struct outcome {
    int value;          /* of its exit; -1 when a fault ended it */
    struct fault fault; /* the last fault that the kernel could not resolve */
    struct fault mended; /* ... and the last one that it resolved */
};

typedef void program(uintptr_t argument);

void processes_init(void);

/* Runs a program to its end in a fresh process, from the kernel's own thread. */
struct outcome run_program(program *start, uintptr_t argument);

/* For the current process, from its traps. */
void process_fault(struct frame *frame, const struct fault *fault);
_Noreturn void process_exit(int value);
void process_yield(void);
int process_fork(const struct frame *frame);
int process_wait(void);
void process_discard_arena(void);
void process_skip(uintptr_t vector, uintptr_t bytes);
