/* Page tables under Xen: the guest's own, but read-only once they are in use, and changed by hypercall. A space has two
 * roots; the processor uses the second one, which does not map the kernel, in user mode. */
#include "paging.h"

#include "../common/env.h"
#include "../common/pages.h"
#include "../common/panic.h"
#include "../common/space.h"
#include "hypercall.h"

#define TABLE_FLAGS  (ENTRY_PRESENT | ENTRY_WRITABLE | ENTRY_USER)
#define KERNEL_ENTRY 511
#define USER_ROOT    1 /* in space->tables */
#define BATCH        32

struct space kernel_space;

static struct xen_mmu_update batch[BATCH];
static unsigned batched;
static bool batching;

static void must(long result, const char *what)
{
    if (result < 0)
        panic(what);
}

unsigned long machine_frame(const void *page)
{
    return ((const unsigned long *)start_info->frame_list)[((uintptr_t)page - XEN_VIRT_BASE) / PAGE_SIZE];
}

void map_machine_frame(void *window, unsigned long frame)
{
    must(hypercall3(XEN_UPDATE_VA_MAPPING, (uintptr_t)window,
                    frame * PAGE_SIZE | ENTRY_PRESENT | ENTRY_WRITABLE, XEN_FLUSH_ONE),
         "update_va_mapping failed");
}

void paging_init(void)
{
    kernel_space.root = kernel_space.tables[0] = (entry_t *)start_info->root_table;
}

static void multicall(struct xen_multicall *calls, unsigned count)
{
    must(hypercall2(XEN_MULTICALL, (uintptr_t)calls, count), "multicall failed");
    for (unsigned i = 0; i < count; i++)
        must(calls[i].result, "a call of a multicall failed");
}

static struct xen_multicall mmuext_call(const struct xen_mmuext_op *operations, unsigned count)
{
    return (struct xen_multicall){XEN_MMUEXT_OP, 0, {(uintptr_t)operations, count, 0, XEN_DOMAIN_SELF}};
}

static void mmuext(const struct xen_mmuext_op *operations, unsigned count)
{
    must(hypercall4(XEN_MMUEXT_OP, (uintptr_t)operations, count, 0, XEN_DOMAIN_SELF), "mmuext_op failed");
}

static entry_t *new_table(struct space *space)
{
    entry_t *table = page_new();
    space->tables[space->table_count++] = table;
    return table;
}

void space_build_tables(struct space *space)
{
    entry_t *root = new_table(space), *user_root = new_table(space);
    entry_t *level3 = new_table(space), *level2 = new_table(space);
    space->root = root;
    space->leaf = new_table(space);
    root[KERNEL_ENTRY] = kernel_space.root[KERNEL_ENTRY];
    root[0] = user_root[0] = page_entry(level3, TABLE_FLAGS);
    level3[USER_BASE >> 30] = page_entry(level2, TABLE_FLAGS);
    level2[USER_BASE >> 21 & 511] = page_entry(space->leaf, TABLE_FLAGS);
}

/* Changes the kernel's mapping of each table. It stays a user page, which Xen makes global, as the domain builder has
 * mapped all pages: so a page that was a table is like any other afterwards. */
static unsigned protect_tables(const struct space *space, struct xen_multicall *calls, unsigned flags)
{
    for (unsigned i = 0; i < space->table_count; i++)
        calls[i] = (struct xen_multicall){
            XEN_UPDATE_VA_MAPPING,
            0,
            {(uintptr_t)space->tables[i], page_entry(space->tables[i], flags | ENTRY_USER), XEN_FLUSH_ONE},
        };
    return space->table_count;
}

void space_publish(struct space *space)
{
    struct xen_multicall calls[SPACE_TABLES_MAX + 1];
    struct xen_mmuext_op pins[] = {
        {.command = XEN_MMUEXT_PIN_LEVEL4, .frame = machine_frame(space->root)},
        {.command = XEN_MMUEXT_PIN_LEVEL4, .frame = machine_frame(space->tables[USER_ROOT])},
    };
    unsigned count = protect_tables(space, calls, ENTRY_PRESENT);
    calls[count++] = mmuext_call(pins, 2);
    multicall(calls, count);
}

void space_retire(struct space *space)
{
    struct xen_multicall calls[1 + SPACE_TABLES_MAX];
    struct xen_mmuext_op unpins[] = {
        {.command = XEN_MMUEXT_UNPIN, .frame = machine_frame(space->root)},
        {.command = XEN_MMUEXT_UNPIN, .frame = machine_frame(space->tables[USER_ROOT])},
    };
    calls[0] = mmuext_call(unpins, 2);
    multicall(calls, 1 + protect_tables(space, calls + 1, ENTRY_PRESENT | ENTRY_WRITABLE));
}

static void flush_batch(void)
{
    if (batched)
        must(hypercall4(XEN_MMU_UPDATE, (uintptr_t)batch, batched, 0, XEN_DOMAIN_SELF), "mmu_update failed");
    batched = 0;
}

void space_begin_batch(void)
{
    batching = true;
}

void space_end_batch(void)
{
    flush_batch();
    batching = false;
}

void space_write_entry(struct space *space, unsigned index, entry_t value)
{
    batch[batched++] = (struct xen_mmu_update){
        (machine_frame(space->leaf) * PAGE_SIZE + index * sizeof(entry_t)) | XEN_MMU_NORMAL, value};
    if (!batching || batched == BATCH)
        flush_batch();
}

/* Both roots; the kernel's own space has none for user mode, which is frame 0. */
static void set_roots(const struct space *space, struct xen_mmuext_op operations[2])
{
    const entry_t *user_root = space->tables[USER_ROOT];
    operations[0] = (struct xen_mmuext_op){.command = XEN_MMUEXT_NEW_BASE, .frame = machine_frame(space->root)};
    operations[1] = (struct xen_mmuext_op){.command = XEN_MMUEXT_NEW_USER,
                                           .frame = user_root ? machine_frame(user_root) : 0};
}

void space_load(const struct space *space)
{
    struct xen_mmuext_op operations[2];
    set_roots(space, operations);
    mmuext(operations, 2);
}

void env_enter_process(void *stack_top, const struct space *space)
{
    struct xen_mmuext_op operations[2];
    set_roots(space, operations);
    struct xen_multicall calls[] = {
        {XEN_STACK_SWITCH, 0, {XEN_STACK, (uintptr_t)stack_top}},
        mmuext_call(operations, 2),
    };
    multicall(calls, 2);
}

void tlb_flush_page(uintptr_t address)
{
    struct xen_mmuext_op operation = {.command = XEN_MMUEXT_INVLPG, .address = address};
    mmuext(&operation, 1);
}

void tlb_flush(void)
{
    struct xen_mmuext_op operation = {.command = XEN_MMUEXT_FLUSH_LOCAL};
    mmuext(&operation, 1);
}
