/* Page-table entries of a machine whose physical memory is mapped one to one: 2 levels with 32-bit entries in
 * hvm32, 4 levels with 64-bit entries in hvm64 (SDM 4.3, 4.5). */
#pragma once
#include "../common/x86.h"

typedef uintptr_t entry_t;

static inline entry_t page_entry(const void *page, unsigned flags)
{
    return (uintptr_t)page | flags;
}

static inline void *entry_page(entry_t entry)
{
    return (void *)(entry & ~(entry_t)(PAGE_SIZE - 1));
}

void paging_init(void);
