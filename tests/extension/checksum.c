/* A hypercall in plain C, which needs nothing but the public header: the sum of some bytes of the guest's memory. */
#include <hvmx_hypercall.h>

enum { CYCLES_PER_BYTE = 2 };

/* checksum(address, size) */
int64_t checksum(struct hvmx_hypercall *call)
{
    int64_t sum = 0;
    for (uint64_t done = 0; done < call->args[1]; done++) {
        uint8_t byte;
        if (hvmx_copy_from_guest(call, &byte, call->args[0] + done, 1))
            return -HVMX_EFAULT;
        sum += byte;
    }
    hvmx_charge(call, call->args[1] * CYCLES_PER_BYTE);
    return sum;
}
