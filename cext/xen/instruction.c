/* The instruction that the hypervisor emulates, or lets write to a page table: fetched and decoded. */
#include "instruction.h"

#include <string.h>

int fetch(struct domain *d, uint64_t ip, struct decoded *in)
{
    memset(in, 0, sizeof *in);
    while (in->length < sizeof in->bytes && guest_read(d->cpu, &in->bytes[in->length], ip + in->length, 1) == 0)
        in->length++;
    for (;; in->at++) {
        if (in->at >= in->length)
            return 0;
        uint8_t byte = in->bytes[in->at];
        if (byte == 0x66)
            in->operand16 = 1;
        else if (byte == 0xf2 || byte == 0xf3)
            in->repeat = byte;
        else if (byte == 0x64 || byte == 0x65 || byte == 0x67)
            in->overridden = 1;
        else if (byte != 0x2e && byte != 0x36 && byte != 0x3e && byte != 0x26 && byte != 0xf0)
            break;
    }
    if ((in->bytes[in->at] & 0xf0) == 0x40 && (d->cpu->seg[SEG_CS].access & AR_L))
        in->rex = in->bytes[in->at++];
    if (in->at < in->length && in->bytes[in->at] == 0x0f) {
        in->two_byte = 1;
        in->at++;
    }
    if (in->at >= in->length)
        return 0;
    in->opcode = in->bytes[in->at++];
    return 1;
}

int next_byte(struct decoded *in, uint8_t *byte)
{
    if (in->at >= in->length)
        return 0;
    *byte = in->bytes[in->at++];
    return 1;
}
