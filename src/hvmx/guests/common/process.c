#include "process.h"

#include "env.h"
#include "pages.h"
#include "panic.h"
#include "space.h"
#include "string.h"

#define PROCESSES        4
#define USER_STACK_PAGES 2

/* The user program as the kernel sees it, and where it ends (the linker scripts). */
extern char user_text[], user_text_end[];

struct process {
    enum { FREE, READY, WAITING, ENDED } state;
    struct process *parent;
    struct space space;
    char *stack;         /* the kernel's, one page */
    void *stack_pointer; /* while another process runs */
    int value;
    uintptr_t skip_vector, skip_bytes;
};

/* The first one is the kernel's own thread, which runs checks and workloads and waits for programs. */
static struct process processes[PROCESSES];
static struct process *const kernel_thread = &processes[0];
static struct process *current = &processes[0];
static struct outcome outcome;

/* switch64.S, switch32.S */
void switch_stacks(void **save, void *load);
void *stack_for_switch(void *frame, void (*resume)(void));

void processes_init(void)
{
    kernel_thread->state = READY;
}

static void schedule(void)
{
    struct process *previous = current, *next = current;
    do {
        if (++next == processes + PROCESSES)
            next = processes;
    } while (next->state != READY && next != previous);
    if (next->state != READY)
        panic("every process waits");
    if (next == previous)
        return;
    current = next;
    if (next == kernel_thread)
        space_load(&kernel_space);
    else
        env_enter_process(next->stack + PAGE_SIZE, &next->space);
    switch_stacks(&previous->stack_pointer, next->stack_pointer);
}

static struct process *process_new(void)
{
    for (struct process *process = processes; process < processes + PROCESSES; process++)
        if (process->state == FREE) {
            process->state = READY;
            process->parent = current;
            process->stack = page_new();
            process->skip_bytes = 0;
            return process;
        }
    panic("out of processes");
}

/* Puts a frame on the process's kernel stack such that switching to it returns into that frame. */
static struct frame *process_set_frame(struct process *process, const struct frame *frame)
{
    struct frame *copy = (struct frame *)(process->stack + PAGE_SIZE) - 1;
    *copy = *frame;
    process->stack_pointer = stack_for_switch(copy, trap_return);
    return copy;
}

struct outcome run_program(program *start, uintptr_t argument)
{
    struct process *process = process_new();
    space_new(&process->space);
    for (size_t offset = 0; user_text + offset < user_text_end; offset += PAGE_SIZE)
        space_map(&process->space, USER_BASE + offset, user_text + offset, 0);
    for (unsigned i = 1; i <= USER_STACK_PAGES; i++)
        space_map(&process->space, USER_STACK_TOP - i * PAGE_SIZE, page_new(), ENTRY_WRITABLE);

    struct frame frame = {
        .ip = (uintptr_t)start,
        .sp = USER_STACK_TOP - sizeof(uintptr_t), /* aligned as after a call, without a return address */
        .flags = FLAGS_RESERVED | FLAGS_INTERRUPT,
    };
    frame_set_argument(&frame, argument);
    env_init_user_frame(&frame);
    process_set_frame(process, &frame);

    outcome = (struct outcome){0};
    outcome.value = process_wait();
    return outcome;
}

int process_fork(const struct frame *frame)
{
    struct process *child = process_new();
    space_copy(&child->space, &current->space);
    process_set_frame(child, frame)->ax = 0;
    return 1;
}

void process_exit(int value)
{
    current->value = value;
    current->state = ENDED;
    if (current->parent->state == WAITING)
        current->parent->state = READY;
    schedule();
    panic("an ended process runs");
}

int process_wait(void)
{
    for (;;) {
        bool children = false;
        for (struct process *child = processes; child < processes + PROCESSES; child++) {
            if (child->state == FREE || child->parent != current)
                continue;
            children = true;
            if (child->state == ENDED) {
                space_free(&child->space);
                page_drop(child->stack);
                child->state = FREE;
                return child->value;
            }
        }
        if (!children)
            return -1;
        current->state = WAITING;
        schedule();
    }
}

void process_yield(void)
{
    schedule();
}

void process_discard_arena(void)
{
    for (unsigned i = 0; i < USER_ARENA_PAGES; i++)
        space_unmap(&current->space, USER_ARENA + i * PAGE_SIZE);
}

void process_skip(uintptr_t vector, uintptr_t bytes)
{
    current->skip_vector = vector;
    current->skip_bytes = bytes;
}

void process_fault(struct frame *frame, const struct fault *fault)
{
    if (fault->vector == VECTOR_PAGE_FAULT && space_fault(&current->space, fault->address, fault->error)) {
        outcome.mended = *fault;
        return;
    }
    outcome.fault = *fault;
    if (!current->skip_bytes || current->skip_vector != fault->vector)
        process_exit(-1);
    frame->ip += current->skip_bytes;
}
