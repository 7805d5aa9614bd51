#include "paging.h"

#include "../common/env.h"
#include "../common/pages.h"
#include "../common/panic.h"
#include "../common/space.h"

#define TABLE_FLAGS (ENTRY_PRESENT | ENTRY_WRITABLE | ENTRY_USER)

static entry_t *new_table(struct space *space)
{
    entry_t *table = page_new();
    space->tables[space->table_count++] = table;
    return table;
}

#ifdef __x86_64__
extern entry_t boot_level4[], boot_level3[];

struct space kernel_space = {.root = boot_level4};

/* Long mode and its tables come from boot64.S. */
void paging_init(void)
{
}

void space_build_tables(struct space *space)
{
    entry_t *level4 = new_table(space), *level3 = new_table(space), *level2 = new_table(space);
    space->root = level4;
    space->leaf = new_table(space);
    level4[0] = page_entry(level3, TABLE_FLAGS);
    level3[0] = boot_level3[0]; /* the kernel's first GB */
    level3[USER_BASE >> 30] = page_entry(level2, TABLE_FLAGS);
    level2[USER_BASE >> 21 & 511] = page_entry(space->leaf, TABLE_FLAGS);
}
#else
#define KERNEL_ENTRIES (USER_BASE >> 22)
#define CR0_PG_WP      0x80010000
#define CR4_PSE        0x10
#define CPUID_PSE      (1u << 3) /* leaf 1, EDX */
#define CPUID_TSC      (1u << 4)

static entry_t kernel_directory[1024] __attribute__((aligned(PAGE_SIZE)));

struct space kernel_space = {.root = kernel_directory};

void paging_init(void)
{
    for (unsigned i = 0; i < KERNEL_ENTRIES; i++)
        kernel_directory[i] = i << 22 | ENTRY_PRESENT | ENTRY_WRITABLE | ENTRY_LARGE;
    uint32_t registers[4];
    env_cpuid(1, registers);
    if (~registers[3] & (CPUID_PSE | CPUID_TSC))
        panic("this processor lacks large pages or RDTSC: a Pentium has them");
    uintptr_t register_value;
    asm volatile("mov %%cr4, %0; or %1, %0; mov %0, %%cr4" : "=&r"(register_value) : "i"(CR4_PSE));
    space_load(&kernel_space);
    asm volatile("mov %%cr0, %0; or %1, %0; mov %0, %%cr0" : "=&r"(register_value) : "i"(CR0_PG_WP) : "memory");
}

void space_build_tables(struct space *space)
{
    space->root = new_table(space);
    space->leaf = new_table(space);
    for (unsigned i = 0; i < KERNEL_ENTRIES; i++)
        space->root[i] = kernel_directory[i];
    space->root[USER_BASE >> 22] = page_entry(space->leaf, TABLE_FLAGS);
}
#endif

/* A page table is ordinary memory here: nothing to register, nothing to batch. */
void space_publish(struct space *space)
{
    (void)space;
}

void space_retire(struct space *space)
{
    (void)space;
}

void space_begin_batch(void)
{
}

void space_end_batch(void)
{
}

void space_write_entry(struct space *space, unsigned index, entry_t value)
{
    *(volatile entry_t *)&space->leaf[index] = value;
}

void space_load(const struct space *space)
{
    asm volatile("mov %0, %%cr3" ::"r"(space->root) : "memory");
}

void tlb_flush_page(uintptr_t address)
{
    asm volatile("invlpg (%0)" ::"r"(address) : "memory");
}

void tlb_flush(void)
{
    uintptr_t root;
    asm volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(root)::"memory");
}
