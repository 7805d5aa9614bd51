#include "processor.h"

#include "../common/env.h"
#include "../common/space.h"
#include "selectors.h"

#define GATE_INTERRUPT 0x8e /* SDM 6.11, 6.14.1: present, interrupt gate */
#define GATE_FROM_USER 0x60 /* DPL 3 */
#define TSS_AVAILABLE  0x89
#define STUB_BYTES     16

extern char trap_stubs[], system_call_entry[];

#ifdef __x86_64__
struct task_state { /* SDM 7.7 */
    uint32_t reserved;
    uint64_t stack0;
    uint64_t unused[11];
    uint16_t reserved2, io_map;
} __attribute__((packed));

struct gate {
    uint16_t offset_low, selector;
    uint8_t stack_table, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
};
#define CODE 0x00af9a000000ffffull /* SDM 3.4.5: L */
#else
struct task_state { /* SDM 7.2.1 */
    uint32_t link, stack0, stack0_selector;
    uint32_t unused[22];
    uint16_t trap, io_map;
};

struct gate {
    uint16_t offset_low, selector;
    uint8_t reserved, type;
    uint16_t offset_middle;
};
#define CODE 0x00cf9a000000ffffull /* SDM 3.4.5: D, 4 GB */
#endif

#define DATA 0x00cf92000000ffffull
#define DPL3 0x0000600000000000ull

uint64_t gdt[8] = {0, CODE, DATA, 0, DATA | DPL3, CODE | DPL3}; /* the rest: the TSS */
asm(".globl gdt_limit\n.set gdt_limit, 63");

static struct gate idt[256];
static struct task_state task_state;

struct table_pointer {
    uint16_t limit;
    uintptr_t base;
} __attribute__((packed));

static void set_gate(unsigned vector, const char *entry, unsigned extra)
{
    uintptr_t address = (uintptr_t)entry;
    idt[vector] = (struct gate){
        .offset_low = address,
        .selector = KERNEL_CODE,
        .type = GATE_INTERRUPT | extra,
        .offset_middle = address >> 16,
#ifdef __x86_64__
        .offset_high = address >> 32,
#endif
    };
}

static void load_task_state(void)
{
    uint64_t base = (uintptr_t)&task_state, limit = sizeof task_state - 1;
    task_state.io_map = sizeof task_state; /* beyond the limit: no port for user mode */
    gdt[TASK_STATE / 8] = (base >> 24 & 0xff) << 56 | (limit & 0xf0000) << 32 | (uint64_t)TSS_AVAILABLE << 40 |
                          (base & 0xffffff) << 16 | (limit & 0xffff);
#ifdef __x86_64__
    gdt[TASK_STATE / 8 + 1] = base >> 32;
#else
    task_state.stack0_selector = KERNEL_DATA;
#endif
    asm volatile("ltr %w0" ::"r"(TASK_STATE));
}

#ifdef __x86_64__
#define MSR_STAR   0xc0000081
#define MSR_LSTAR  0xc0000082
#define MSR_SFMASK 0xc0000084
#define FLAG_TRAP      0x100
#define FLAG_DIRECTION 0x400

extern uintptr_t kernel_stack;

static void write_msr(uint32_t msr, uint64_t value)
{
    asm volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static void init_system_calls(void)
{
    write_msr(MSR_STAR, (uint64_t)SYSRET_BASE << 48 | (uint64_t)KERNEL_CODE << 32);
    write_msr(MSR_LSTAR, (uintptr_t)system_call_entry);
    write_msr(MSR_SFMASK, FLAGS_INTERRUPT | FLAG_TRAP | FLAG_DIRECTION);
}

static void set_kernel_stack(void *top)
{
    kernel_stack = task_state.stack0 = (uintptr_t)top;
}
#else
static void init_system_calls(void)
{
    set_gate(VECTOR_SYSCALL, system_call_entry, GATE_FROM_USER);
}

static void set_kernel_stack(void *top)
{
    task_state.stack0 = (uintptr_t)top;
}
#endif

void processor_init(void)
{
    for (unsigned vector = 0; vector < 0x30; vector++)
        set_gate(vector, trap_stubs + vector * STUB_BYTES, vector == VECTOR_BREAKPOINT ? GATE_FROM_USER : 0);
    struct table_pointer pointer = {sizeof idt - 1, (uintptr_t)idt};
    asm volatile("lidt %0" ::"m"(pointer));
    load_task_state();
    init_system_calls();
}

void env_init_user_frame(struct frame *frame)
{
    frame->cs = USER_CODE;
    frame->ss = USER_DATA;
}

void env_enter_process(void *stack_top, const struct space *space)
{
    set_kernel_stack(stack_top);
    space_load(space);
}

uintptr_t env_fault_address(void)
{
    uintptr_t address;
    asm volatile("mov %%cr2, %0" : "=r"(address));
    return address;
}

void env_cpuid(uint32_t leaf, uint32_t registers[4])
{
    asm volatile("cpuid"
                 : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3])
                 : "a"(leaf), "c"(0));
}
