/* A domain's creation: its table of hypercalls, the hypervisor's own frames, and its start of day. */
#include "create.h"

#include "addresses.h"
#include "clock.h"
#include "console.h"
#include "descriptors.h"
#include "emulate.h"
#include "events.h"
#include "flags.h"
#include "frames.h"
#include "grant_table.h"
#include "hypercalls.h"
#include "memory_op.h"
#include "mmu.h"
#include "mode.h"
#include "ports.h"
#include "traps.h"
#include "vcpu.h"
#include "version.h"

#include <stdlib.h>
#include <string.h>

static void fill_table(struct domain *d)
{
    static const struct { uint32_t number; hvmx_hypercall_fn fn; uint32_t flags; int divided; } functions[] = {
        { __HYPERVISOR_set_trap_table, xen_set_trap_table, 0, 0 },
        { __HYPERVISOR_mmu_update, xen_mmu_update, 0, 0 },
        { __HYPERVISOR_set_gdt, xen_set_gdt, 0, 0 },
        { __HYPERVISOR_stack_switch, xen_stack_switch, 0, 0 },
        { __HYPERVISOR_set_callbacks, xen_set_callbacks, 0, 0 },
        { __HYPERVISOR_fpu_taskswitch, xen_fpu_taskswitch, 0, 0 },
        { __HYPERVISOR_set_debugreg, xen_set_debugreg, 0, 0 },
        { __HYPERVISOR_get_debugreg, xen_get_debugreg, 0, 0 },
        { __HYPERVISOR_update_descriptor, xen_update_descriptor, 0, 0 },
        { __HYPERVISOR_memory_op, xen_memory_op, 0, 1 },
        { __HYPERVISOR_multicall, xen_multicall, ENTRY_LIST | ENTRY_CHARGES, 0 },
        { __HYPERVISOR_update_va_mapping, xen_update_va_mapping, 0, 0 },
        { __HYPERVISOR_set_timer_op, xen_set_timer_op, 0, 0 },
        { __HYPERVISOR_xen_version, xen_version, 0, 1 },
        { __HYPERVISOR_console_io, xen_console_io, ENTRY_CHARGES, 1 },
        { __HYPERVISOR_grant_table_op, xen_grant_table_op, 0, 1 },
        { __HYPERVISOR_vm_assist, xen_vm_assist, 0, 0 },
        { __HYPERVISOR_iret, xen_iret, ENTRY_RESUMES, 0 },
        { __HYPERVISOR_vcpu_op, xen_vcpu_op, 0, 1 },
        { __HYPERVISOR_set_segment_base, xen_set_segment_base, 0, 0 },
        { __HYPERVISOR_mmuext_op, xen_mmuext_op, ENTRY_LIST, 1 },
        { __HYPERVISOR_sched_op, xen_sched_op, 0, 1 },
        { __HYPERVISOR_callback_op, xen_callback_op, 0, 1 },
        { __HYPERVISOR_event_channel_op, xen_event_channel_op, 0, 1 },
        { __HYPERVISOR_physdev_op, xen_physdev_op, 0, 1 },
    };
    struct call_tally (*tallies)[SUB_OPERATIONS + 1] = d->sub_operations;
    hvmx_table_init(&d->table);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        hvmx_table_register(&d->table, functions[i].number, functions[i].fn, NULL, functions[i].flags);
        if (functions[i].divided)
            hvmx_table_divide(&d->table, functions[i].number, *tallies++, SUB_OPERATIONS);
    }
}

/* --- the hypervisor's own frames ---------------------------------------------------------------------------------------- */
static uint64_t take_reserved(struct domain *d, uint64_t *next, uint64_t count)
{
    uint64_t first = *next;
    *next += count;
    memset(frame_memory(d, first), 0, count << 12);
    return first;
}

/* Lets the domain map these frames of the hypervisor's writable: they keep that type for ever. */
static void share(struct domain *d, uint64_t first, uint64_t count)
{
    for (uint64_t mfn = first; mfn < first + count; mfn++)
        d->frames[mfn] = (struct frame){ .refs = 1, .type_refs = 1, .type = FRAME_WRITABLE, .released = 1 };
}

static void build_m2p(struct domain *d, uint64_t *next)
{
    const uint64_t flags = PTE_P | PTE_US | PTE_A | PTE_NX;
    uint64_t tables = (d->m2p_frames + 511) / 512;
    d->m2p_frame = take_reserved(d, next, d->m2p_frames);
    d->m2p = frame_memory(d, d->m2p_frame);
    memset(d->m2p, 0xff, d->m2p_frames << 12);
    uint64_t l1 = take_reserved(d, next, tables), l2 = take_reserved(d, next, 1);
    d->m2p_l3 = take_reserved(d, next, 1);
    for (uint64_t i = 0; i < d->m2p_frames; i++)
        ((uint64_t *)frame_memory(d, l1))[i] = (d->m2p_frame + i) << 12 | flags;
    for (uint64_t i = 0; i < tables; i++)
        ((uint64_t *)frame_memory(d, l2))[i] = (l1 + i) << 12 | PTE_P | PTE_US | PTE_A;
    *(uint64_t *)frame_memory(d, d->m2p_l3) = l2 << 12 | PTE_P | PTE_US | PTE_A;
}

/* Maps the GDT and the LDT at supervisor addresses, which the guest at ring 3 cannot access. The guest's pages of the GDT come
 * first, then the hypervisor's, with the flat segments. */
static void build_descriptor_tables(struct domain *d, uint64_t *next)
{
    const uint64_t flags = PTE_P | PTE_RW | PTE_A;
    uint64_t gdt = take_reserved(d, next, GDT_PAGES - FIRST_RESERVED_GDT_PAGE);
    uint64_t l1 = take_reserved(d, next, 1), l2 = take_reserved(d, next, 1);
    uint64_t *page = frame_memory(d, gdt);
    d->descriptor_l3 = take_reserved(d, next, 1);
    d->descriptor_l1 = frame_memory(d, l1);
    page[(FLAT_RING3_CS32 >> 3) - FIRST_RESERVED_GDT_ENTRY] = 0x00cffb000000ffffull;
    page[(FLAT_RING3_SS32 >> 3) - FIRST_RESERVED_GDT_ENTRY] = 0x00cff3000000ffffull;
    page[(FLAT_KERNEL_CS64 >> 3) - FIRST_RESERVED_GDT_ENTRY] = 0x00affb000000ffffull;
    d->no_descriptors = gdt + GDT_PAGES - 1 - FIRST_RESERVED_GDT_PAGE; /* the last page, which stays zero */
    for (uint64_t i = 0; i < FIRST_RESERVED_GDT_PAGE; i++)
        d->descriptor_l1[i] = d->no_descriptors << 12 | PTE_P | PTE_A;
    for (uint64_t i = FIRST_RESERVED_GDT_PAGE; i < GDT_PAGES; i++)
        d->descriptor_l1[i] = (gdt + i - FIRST_RESERVED_GDT_PAGE) << 12 | flags;
    *(uint64_t *)frame_memory(d, l2) = l1 << 12 | flags;
    *(uint64_t *)frame_memory(d, d->descriptor_l3) = l2 << 12 | flags;
}

static int build_memory(struct domain *d)
{
    Cpu *cpu = d->cpu;
    /* A domain has no MMIO: its RAM is contiguous, without the holes that a board has made. */
    cpu->ram_low += cpu->ram_high;
    cpu->ram_high = 0;
    for (uint64_t page = 0; page < cpu->ram_low >> 12; page++)
        if (cpu->page_flags[page] & (PAGE_HOLE | PAGE_ROM)) /* without need no write: host pages stay unallocated */
            cpu->page_flags[page] &= (uint8_t)~(PAGE_HOLE | PAGE_ROM);
    d->frame_count = cpu->ram_low >> 12;
    d->m2p_frames = (d->frame_count + 511) / 512;
    uint64_t own = d->m2p_frames + (d->m2p_frames + 511) / 512 + GRANT_FRAMES + 8;
    if (d->frame_count < own + 2 || d->frame_count > FRAME_MAX)
        return -1;
    d->reserved = d->frame_count - own;
    d->max_pages = d->nr_pages = d->reserved - 1; /* frame 0 is never used: in many places 0 means "none" */
    d->frames = calloc(d->frame_count, sizeof *d->frames);
    if (d->frames == NULL)
        return -1;
    uint64_t next = d->reserved;
    d->frames[0].owner = OWNER_XEN;
    for (uint64_t mfn = d->reserved; mfn < d->frame_count; mfn++)
        d->frames[mfn].owner = OWNER_XEN;
    build_m2p(d, &next);
    build_descriptor_tables(d, &next);
    d->grant_frame = take_reserved(d, &next, GRANT_FRAMES);
    d->shared_info_frame = take_reserved(d, &next, 1);
    d->shared_info = frame_memory(d, d->shared_info_frame);
    share(d, d->grant_frame, GRANT_FRAMES);
    share(d, d->shared_info_frame, 1);
    for (uint64_t mfn = 1; mfn < d->reserved; mfn++)
        d->m2p[mfn] = d->reserved - 1 - mfn;
    return 0;
}

static void start_shared_info(struct domain *d, uint64_t epoch)
{
    d->vcpu_info = &d->shared_info->vcpu_info[0];
    for (uint32_t i = 0; i < XEN_LEGACY_MAX_VCPUS; i++)
        d->shared_info->vcpu_info[i].evtchn_upcall_mask = 1;
    d->shared_info->arch.max_pfn = d->nr_pages;
    start_time(d, epoch);
}

struct domain *xen_create(Cpu *cpu, const struct domain_config *config)
{
    struct domain *d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    d->cpu = cpu;
    d->frequency = config->frequency;
    d->flags = config->flags;
    d->update_cost = config->update_cost;
    d->entry_cost = config->entry_cost;
    d->work_limit = WORK_LIMIT;
    d->console = config->console;
    d->owner = config->owner;
    d->in_kernel = 1;
    d->platform_on_deadline = cpu->on_deadline;
    d->ports = CHANNELS_AT_ONCE;
    d->shutdown_code = SHUTDOWN_CODE_NONE;
    d->call.vcpu = cpu;
    d->call.services = &hypercall_services;
    if (build_memory(d)) {
        xen_destroy(d);
        return NULL;
    }
    fill_table(d);
    start_shared_info(d, config->epoch);
    if (!(d->flags & SIF_INITDOMAIN)) {
        d->store_port = host_port(d);
        d->console_port = host_port(d);
    }
    cpu->controls = 0; /* CPUID still exits: the rest faults at ring 3, or is a hypercall */
    cpu->exception_bitmap = 0;
    cpu->pv = d;
    cpu->pv_privilege = PRIVILEGE_PV_KERNEL;
    cpu->pv_hypercall = xen_hypercall;
    cpu->pv_exception = xen_exception;
    cpu->pv_privileged = xen_privileged;
    cpu->pv_event = xen_event;
    cpu->pv_schedule = xen_schedule;
    cpu->on_deadline = xen_deadline;
    return d;
}

void xen_destroy(struct domain *d)
{
    if (d->cpu->pv == d) {
        d->cpu->pv = NULL;
        d->cpu->on_deadline = d->platform_on_deadline;
        d->cpu->deadline = d->cpu->platform_deadline;
    }
    free(d->frames);
    free(d);
}

int xen_start(struct domain *d, const struct domain_start *start)
{
    Cpu *cpu = d->cpu;
    int64_t acct = cpu->acct;
    Charged charged[CHARGES];
    int error;
    memcpy(charged, cpu->charged, sizeof charged);
    while ((error = get_frame_and_type(d, start->l4, FRAME_L4)) == UNFINISHED) /* nobody waits for a limit yet */
        d->work = 0;
    if (error)
        return error;
    d->frames[start->l4].pinned = 1;
    if (start->console_frame) { /* the hypervisor writes to it: it must keep the type "writable" */
        error = get_frame_and_type(d, start->console_frame, FRAME_WRITABLE);
        if (error)
            return error;
        d->console_frame = start->console_frame;
    }
    error = get_frame_and_type(d, start->l4, FRAME_L4); /* as the base of the address space */
    if (error)
        return error;
    d->kernel_table = start->l4;

    cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    cpu->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    cpu->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    cpu->idtr = (TableRegister){ 0, 0 };
    cpu->gdtr = (TableRegister){ GDT_VIRT_START, GDT_PAGES * 0x1000 - 1 };
    for (int i = 0; i < SEG_COUNT; i++)
        cpu->seg[i] = (Segment){ 0, 0, AR_UNUSABLE | AR_DPL, 0 };
    cpu->seg[SEG_TR] = (Segment){ 0, 0, AR_P | 0xb, 0 }; /* no stacks, as no lower ring is ever entered, and no I/O bitmap */
    cpu->kernel_gs_base = 0;
    cpu->cpl = 3;
    load_page_tables(d);
    load_code_segment(d, FLAT_KERNEL_CS64);
    load_stack_segment(d, FLAT_KERNEL_SS);
    memset(cpu->r, 0, sizeof cpu->r);
    write_rflags(cpu, FL_IF);
    cpu->r[REG_RSP] = start->stack;
    cpu->r[REG_RSI] = start->start_info;
    cpu->rip = start->entry;
    hvmx_core->update_mode(cpu);
    flush_all(d);
    cpu->acct = acct; /* building the domain costs the guest nothing */
    memcpy(cpu->charged, charged, sizeof charged);
    d->runstate.state_entry_time = system_time(d);
    d->period_last = system_time(d);
    schedule(d);
    return 0;
}
