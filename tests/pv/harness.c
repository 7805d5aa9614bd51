/* The C of cext/ with a stand-in for the core: memory and a page walker of its own, and the core's decoder. */
#include "addresses.h"
#include "clock.h"
#include "console.h"
#include "create.h"
#include "emulate.h"
#include "frames.h"
#include "hypercalls.h"
#include "traps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char console[1 << 16];
static uint32_t console_size;
static uint32_t exit_cost[80];

static void flush_tlb(Cpu *cpu, int all) { (void)cpu; (void)all; }
static void flush_page(Cpu *cpu, uint64_t address) { (void)cpu; (void)address; }
static void update_mode(Cpu *cpu) { (void)cpu; }
static void page_written(Cpu *cpu, uint64_t page) { (void)cpu; (void)page; }

/* Instructions take no time here. */
static Node nowhere;
static void no_time(Cpu *cpu, Op *op) { (void)cpu; (void)op; }

static enum ExitOutcome exit_to_handler(Cpu *cpu, uint32_t reason)
{
    cpu->exit.reason = reason;
    cpu->exit.value = 0x5a5a5a5a;
    return EXIT_DONE;
}

static uint64_t translate(Cpu *cpu, uint64_t address, int write)
{
    uint64_t table = cpu->cr3 & PTE_FRAME, entry = 0;
    if (!is_canonical(address))
        return NO_ADDRESS;
    for (int shift = 39; shift >= 12; shift -= 9) {
        entry = *(uint64_t *)(cpu->ram + table + (address >> shift & 511) * 8);
        if (!(entry & PTE_P) || !(entry & PTE_US) || (write && !(entry & PTE_RW)))
            return NO_ADDRESS;
        table = entry & PTE_FRAME;
    }
    return table | (address & 0xfff);
}

/* decode() of src/hvmx/core/decode/decoder.pyx, which harness.py hands in. */
static int (*decoder)(const uint8_t *code, int available, int mode, uint64_t features, Insn *insn);

void harness_set_decoder(void *function) { *(void **)&decoder = function; }

static int decode(const Cpu *cpu, const uint8_t *code, int available, Insn *insn)
{
    uint32_t access = cpu->seg[SEG_CS].access;
    return decoder(code, available, access & AR_L ? 64 : access & AR_DB ? 32 : 16, ~0ull, insn);
}

static const struct hvmx_core services = { flush_tlb, flush_page, update_mode, translate, page_written,
                                           exit_to_handler, decode };

static int print(void *owner, const char *text, uint32_t size)
{
    (void)owner;
    if (size > sizeof console - console_size)
        size = (uint32_t)sizeof console - console_size;
    memcpy(console + console_size, text, size);
    console_size += size;
    return 0;
}

Cpu *harness_new(uint64_t pages, uint32_t flags, uint64_t frequency)
{
    Cpu *cpu = calloc(1, sizeof *cpu);
    hvmx_core = &services;
    cpu->ram = calloc(pages, 0x1000);
    cpu->page_flags = calloc(pages, 1);
    cpu->ram_low = pages << 12;
    cpu->phys_bits = 40;
    cpu->deadline = cpu->platform_deadline = NEVER;
    cpu->exit_cost = exit_cost;
    cpu->acct = cpu->acct_start = -(1ll << 60);
    cpu->node = &nowhere;
    cpu->time_through = cpu->account_before = cpu->take_back = no_time;
    cpu->tlb = cpu->tlbs[0];
    for (int i = 0; i < TLB_ENTRIES; i++)
        cpu->tlb[i].r = cpu->tlb[i].w = NO_PAGE;
    console_size = 0;
    struct domain_config config = { .frequency = frequency, .epoch = 1000000000, .flags = flags, .update_cost = 1,
                                    .entry_cost = 1, .console = print };
    if (xen_create(cpu, &config) == NULL)
        abort();
    return cpu;
}

void harness_free(Cpu *cpu)
{
    xen_destroy(cpu->pv);
    free(cpu->ram);
    free(cpu->page_flags);
    free(cpu);
}

/* A hypercall by SYSCALL at RIP 0x1000, of which at most so many parts are executed. 1: it came to its end. */
int harness_call_parts(Cpu *cpu, uint64_t number, const uint64_t args[6], uint64_t parts)
{
    Op block[2] = { { .ip = 0 }, { .ip = 0x1000, .len = 2, .way = NO_WAY } };
    uint64_t places[6] = { REG_RDI, REG_RSI, REG_RDX, REG_R8 + 2, REG_R8, REG_R8 + 1 };
    for (int i = 0; i < 6; i++)
        cpu->r[places[i]] = args[i];
    cpu->r[REG_RAX] = number;
    do
        xen_hypercall(cpu, &block[1]);
    while (cpu->rip == 0x1000 && cpu->r[REG_RAX] == number && --parts);
    return cpu->rip != 0x1000;
}

/* ... until it is not preempted any more. */
uint64_t harness_call(Cpu *cpu, uint64_t number, const uint64_t args[6])
{
    harness_call_parts(cpu, number, args, 0);
    return cpu->r[REG_RAX];
}

void harness_set_work_limit(Cpu *cpu, uint64_t limit) { ((struct domain *)cpu->pv)->work_limit = limit; }

/* Every table that is partial can be brought to its end, and is then of no type. 0: one cannot. */
int harness_finish_partial(Cpu *cpu)
{
    struct domain *d = cpu->pv;
    for (uint64_t mfn = 1; mfn < d->reserved; mfn++) {
        struct frame *frame = &d->frames[mfn];
        for (d->work = 0; d->dropping_count; d->work = 0)
            drop_tables(d);
        if (frame->type != FRAME_PARTIAL)
            continue;
        enum frame_type level = PARTIAL_LEVEL(frame);
        int error;
        while ((error = get_frame_and_type(d, mfn, level)) == UNFINISHED)
            d->work = 0;
        if (!error)
            put_frame_and_type(d, mfn);
        for (d->work = 0; d->dropping_count; d->work = 0)
            drop_tables(d);
        if (frame->type == FRAME_PARTIAL)
            return 0;
    }
    return 1;
}

int harness_start(Cpu *cpu, uint64_t l4, uint64_t entry, uint64_t stack, uint64_t info, uint64_t console_frame)
{
    struct domain_start start = { l4, entry, stack, info, console_frame };
    return xen_start(cpu->pv, &start);
}

void harness_pass(Cpu *cpu, uint64_t cycles)
{
    cpu->time += cycles * CYCLE_FRACTION;
    if (cycles_now(cpu) >= cpu->deadline)
        cpu->on_deadline(cpu);
    if (cpu->pending & PEND_EVENT)
        cpu->pv_event(cpu);
}

void harness_exception(Cpu *cpu, uint32_t vector, uint32_t error, uint64_t cr2)
{
    cpu->pv_exception(cpu, vector, error, cr2);
}

int harness_privileged(Cpu *cpu) { return cpu->pv_privileged(cpu, cpu->rip); }
uint8_t *harness_ram(Cpu *cpu) { return cpu->ram; }
uint64_t *harness_registers(Cpu *cpu) { return cpu->r; }
uint64_t harness_rip(Cpu *cpu) { return cpu->rip; }
void harness_set_rip(Cpu *cpu, uint64_t rip) { cpu->rip = rip; }
void harness_set_code(Cpu *cpu, uint64_t base, uint32_t bits)
{
    cpu->seg[SEG_CS].base = base;
    cpu->seg[SEG_CS].access &= ~(AR_L | AR_DB);
    cpu->seg[SEG_CS].access |= bits == 64 ? AR_L : bits == 32 ? AR_DB : 0;
}
int harness_halted(Cpu *cpu) { return cpu->halted; }
uint64_t harness_deadline(Cpu *cpu) { return cpu->deadline; }
int harness_in_kernel(Cpu *cpu) { return ((struct domain *)cpu->pv)->in_kernel; }
int harness_state(Cpu *cpu) { return ((struct domain *)cpu->pv)->state; }
uint32_t harness_shutdown_code(Cpu *cpu) { return ((struct domain *)cpu->pv)->shutdown_code; }
const char *harness_crash(Cpu *cpu) { return ((struct domain *)cpu->pv)->crash_reason; }
uint64_t harness_reserved(Cpu *cpu) { return ((struct domain *)cpu->pv)->reserved; }
void harness_set_references(Cpu *cpu, uint64_t mfn, uint32_t refs) { ((struct domain *)cpu->pv)->frames[mfn].refs = refs; }
uint32_t harness_refs(Cpu *cpu, uint64_t mfn) { return ((struct domain *)cpu->pv)->frames[mfn].refs; }
uint32_t harness_type_refs(Cpu *cpu, uint64_t mfn) { return ((struct domain *)cpu->pv)->frames[mfn].type_refs; }
uint32_t harness_type(Cpu *cpu, uint64_t mfn) { return ((struct domain *)cpu->pv)->frames[mfn].type; }
uint64_t harness_kernel_table(Cpu *cpu) { return ((struct domain *)cpu->pv)->kernel_table; }
uint32_t harness_frame_bytes(void) { return sizeof(struct frame); }
uint64_t harness_pages(Cpu *cpu) { return ((struct domain *)cpu->pv)->nr_pages; }
uint64_t harness_shared_info(Cpu *cpu) { return ((struct domain *)cpu->pv)->shared_info_frame; }
uint64_t harness_system_time(Cpu *cpu) { return system_time(cpu->pv); }
uint64_t harness_count(Cpu *cpu, uint32_t n)
{
    return calls_of(&((struct domain *)cpu->pv)->table.entry[n]);
}
uint64_t harness_cycles(Cpu *cpu) { return cycles_now(cpu); }
uint32_t harness_console(char *out) { memcpy(out, console, console_size); return console_size; }
uint32_t harness_input(Cpu *cpu, const uint8_t *text, uint32_t size) { return xen_console_input(cpu->pv, text, size); }

/* --- the books, counted anew ------------------------------------------------------------------------------------------ */
static char complaint[256];
#define COMPLAIN(...) (snprintf(complaint, sizeof complaint, __VA_ARGS__), complaint)

/* The level of the table that a frame is, if it is one, and how many of its entries hold references. */
static enum frame_type table_level(const struct frame *frame, uint32_t *held)
{
    *held = 512;
    if (frame->type == FRAME_PARTIAL) {
        *held = PARTIAL_HELD(frame);
        return PARTIAL_LEVEL(frame);
    }
    return frame->type_refs && frame->type >= FRAME_L1 && frame->type <= FRAME_L4 ? frame->type : FRAME_NONE;
}

/* NULL when every count is what a recount from page tables, pins and the domain's own holdings gives, and no frame is
 * both mapped writable and used as something else; else what is wrong. */
const char *harness_audit(Cpu *cpu)
{
    struct domain *d = cpu->pv;
    uint64_t *refs = calloc(d->frame_count, 8), *types = calloc(d->frame_count, 8);
    const char *result = NULL;
#define HOLD(mfn, typed) (refs[mfn]++, types[mfn] += (typed))
    for (uint64_t mfn = 0; mfn < d->frame_count; mfn++) {
        const struct frame *frame = &d->frames[mfn];
        if (frame->owner != OWNER_DOMAIN)
            continue;
        if (frame->pinned)
            HOLD(mfn, 1);
        if (mfn >= d->reserved)
            HOLD(mfn, 1);
        uint32_t held;
        enum frame_type level = table_level(frame, &held);
        if (level == FRAME_NONE)
            continue;
        if (frame->type == FRAME_PARTIAL)
            HOLD(mfn, frame->type_refs); /* by itself */
        const uint64_t *entries = frame_memory(d, mfn);
        for (uint32_t i = 0; i < held; i++) {
            uint64_t child = (entries[i] & PTE_FRAME) >> 12;
            if (!(entries[i] & PTE_P) || child >= d->frame_count)
                continue;
            if (level == FRAME_L4 && i >= L4_SLOT_XEN_FIRST && i < L4_SLOT_XEN_END)
                continue;
            const struct frame *to = &d->frames[child];
            if (to->owner != OWNER_DOMAIN && !result)
                result = COMPLAIN("frame %#lx maps %#lx, which is not the domain's", mfn, child);
            if (level > FRAME_L1) {
                if ((to->type != level - 1 || !to->type_refs) && !result)
                    result = COMPLAIN("L%d frame %#lx points at %#lx, which is no L%d", level, mfn, child, level - 1);
                HOLD(child, 1);
            } else {
                if ((entries[i] & PTE_RW) && (to->type != FRAME_WRITABLE || !to->type_refs) && !result)
                    result = COMPLAIN("frame %#lx is mapped writable and of type %d", child, to->type);
                HOLD(child, !!(entries[i] & PTE_RW));
            }
        }
    }
    if (d->kernel_table)
        HOLD(d->kernel_table, 1);
    if (d->user_table)
        HOLD(d->user_table, 1);
    if (d->vcpu_info_frame)
        HOLD(d->vcpu_info_frame, 1);
    if (d->console_frame)
        HOLD(d->console_frame, 1);
    for (int i = 0; i < FIRST_RESERVED_GDT_PAGE; i++)
        if (d->gdt[i])
            HOLD(d->gdt[i], 1);
    for (int i = 0; i < LDT_PAGES; i++)
        if (d->ldt[i])
            HOLD(d->ldt[i], 1);
    for (uint64_t mfn = 0; mfn < d->frame_count && !result; mfn++) {
        const struct frame *frame = &d->frames[mfn];
        uint64_t held = frame->owner == OWNER_NOBODY ? 0 : frame->refs; /* who is free has a successor instead */
        if (held != refs[mfn] || frame->type_refs != types[mfn])
            result = COMPLAIN("frame %#lx of type %d: %lu references and %u of the type, counted %lu and %lu", mfn,
                              frame->type, held, (unsigned)frame->type_refs, refs[mfn], types[mfn]);
    }
    free(refs);
    free(types);
    return result;
}
