/* Page-table entries hold machine frames; the kernel sees its pages at their physical address above the virtual
 * base. */
#pragma once
#include "../common/x86.h"
#include "machine.h"

typedef uint64_t entry_t;

static inline entry_t page_entry(const void *page, unsigned flags)
{
    return machine_frame(page) * PAGE_SIZE | flags;
}

static inline void *entry_page(entry_t entry)
{
    return (void *)(XEN_VIRT_BASE + XEN_MACHINE_TO_PHYSICAL[entry / PAGE_SIZE] * PAGE_SIZE);
}

void paging_init(void);
