/* Fetches an instruction from guest memory and has the core decode it. */
#include "instruction.h"

enum { MAX_LENGTH = 15 };

int fetch(struct domain *d, uint64_t ip, Insn *insn)
{
    uint8_t code[MAX_LENGTH];
    uint64_t place = instruction_address(d->cpu, ip);
    uint32_t room = 0x1000 - (place & 0xfff), first = room < MAX_LENGTH ? room : MAX_LENGTH, available = 0;
    if (guest_read(d->cpu, code, place, first) == 0)
        available = first;
    if (available && first < MAX_LENGTH && guest_read(d->cpu, code + first, place + first, MAX_LENGTH - first) == 0)
        available = MAX_LENGTH;
    return hvmx_core->decode(d->cpu, code, (int)available, insn) > 0;
}
