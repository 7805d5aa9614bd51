/* Checked access to guest memory by linear address, page by page, through the guest's own page tables and with its rights. */
#include "table.h"

#include <string.h>

static uint64_t page_part(uint64_t address, uint64_t size)
{
    uint64_t room = 0x1000 - (address & 0xfff);
    return size < room ? size : room;
}

/* Host address of guest-physical RAM; NULL where there is none (MMIO). */
static uint8_t *ram_at(Cpu *cpu, uint64_t physical)
{
    if (physical < cpu->ram_low)
        return cpu->ram + physical;
    if (physical >= 1ull << 32 && physical - (1ull << 32) < cpu->ram_high)
        return cpu->ram + cpu->ram_low + (physical - (1ull << 32));
    return NULL;
}

int guest_read(Cpu *cpu, void *to, uint64_t guest, uint64_t size)
{
    uint8_t *out = to;
    while (size) {
        uint64_t part = page_part(guest, size);
        TlbEntry *entry = &cpu->tlb[(guest >> 12) & (TLB_ENTRIES - 1)];
        const uint8_t *host;
        if (LIKELY((guest & ~0xfffull) == entry->r)) {
            host = (const uint8_t *)(guest + (uint64_t)entry->addend);
        } else {
            uint64_t physical = hvmx_core->translate(cpu, guest, 0);
            host = physical == NO_ADDRESS ? NULL : ram_at(cpu, physical);
            if (host == NULL)
                return -HVMX_EFAULT;
        }
        memcpy(out, host, part);
        out += part;
        guest += part;
        size -= part;
    }
    return 0;
}

int guest_write(Cpu *cpu, uint64_t guest, const void *from, uint64_t size)
{
    const uint8_t *in = from;
    while (size) {
        uint64_t part = page_part(guest, size);
        TlbEntry *entry = &cpu->tlb[(guest >> 12) & (TLB_ENTRIES - 1)];
        uint8_t *host;
        if (LIKELY((guest & ~0xfffull) == entry->w)) {
            host = (uint8_t *)(guest + (uint64_t)entry->addend);
        } else {
            uint64_t physical = hvmx_core->translate(cpu, guest, 1);
            host = physical == NO_ADDRESS ? NULL : ram_at(cpu, physical);
            if (host == NULL)
                return -HVMX_EFAULT;
            uint64_t page = (uint64_t)(host - cpu->ram) >> 12;
            if (cpu->page_flags[page] & PAGE_ROM)
                return -HVMX_EFAULT;
            page_changes(cpu, page);
        }
        memcpy(host, in, part);
        in += part;
        guest += part;
        size -= part;
    }
    return 0;
}

static int copy_from_guest(struct hvmx_hypercall *call, void *to, uint64_t guest, uint64_t size)
{
    return guest_read(call->vcpu, to, guest, size);
}

static int copy_to_guest(struct hvmx_hypercall *call, uint64_t guest, const void *from, uint64_t size)
{
    return guest_write(call->vcpu, guest, from, size);
}

static void charge_cycles(struct hvmx_hypercall *call, uint64_t cycles)
{
    charge(call->vcpu, CHARGE_CALL, cycles * CYCLE_FRACTION);
}

const struct hvmx_services hypercall_services = { copy_from_guest, copy_to_guest, charge_cycles };
