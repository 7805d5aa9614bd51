/* The hypervisor's range of linear addresses, and which addresses a guest may name. */
#ifndef HVMX_XEN_ADDRESSES_H
#define HVMX_XEN_ADDRESSES_H

#include "xen_abi.h"

/* The parts of the hypervisor's range of addresses (L4 slots 256-271) that are in use. */
enum { L4_SLOT_XEN_FIRST = 256, L4_SLOT_M2P = 256, L4_SLOT_DESCRIPTORS = 260, L4_SLOT_XEN_END = 272 };
#define GDT_VIRT_START 0xffff820000000000ull
#define LDT_VIRT_START (GDT_VIRT_START + 16 * 0x1000)
enum { GDT_PAGES = 16, LDT_PAGES = 16, LDT_ENTRIES = 8192 };

static inline int is_canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

/* Not in the hypervisor's range, nor non-canonical below it (Xen: __addr_ok). */
static inline int is_guest_address(uint64_t address)
{
    return address < 1ull << 47 || address >= HYPERVISOR_VIRT_END;
}

#endif
