/* The public interface of hvmx's hypercall table, for C extensions that answer hypercalls of their own.
 *
 * This header stands alone. An extension compiles a function of type `hvmx_hypercall_fn`, wraps its address in a
 * PyCapsule named HVMX_HYPERCALL_CAPSULE, and hands that to `Machine.hypercalls.register(number, capsule)`. It links
 * with nothing: the services it needs are reached through the call itself.
 *
 * Calling conventions (guest side)
 *   xen  SYSCALL in the kernel of a 64-bit PV guest: number in RAX, arguments in RDI, RSI, RDX, R10, R8, R9, result in
 *        RAX; RCX and R11 are lost.
 *   kvm  VMCALL or VMMCALL at CPL 0 of an HVM guest: number in RAX, arguments in RBX, RCX, RDX, RSI, result in RAX.
 *
 * Numbers
 *   0..63 belong to the ABI (Xen's or KVM's). HVMX_FIRST_FREE..HVMX_HYPERCALLS-1 are left free by both, and Xen's
 *   hypercall page reaches those below 128. A number that has a function already is refused.
 *
 * Rules for a function
 *   - It runs in the guest's loop, without the GIL and without a Python thread state: it must not call Python.
 *   - It must be deterministic: nothing of the host's (time, addresses, random numbers) may reach the guest.
 *   - A guest pointer is a number. The only ways to what it points at are the two copy functions.
 */
#ifndef HVMX_HYPERCALL_H
#define HVMX_HYPERCALL_H

#include <stdint.h>

#define HVMX_HYPERCALL_CAPSULE "hvmx.hypercall"
#define HVMX_HYPERCALLS 256
#define HVMX_FIRST_FREE 64

/* Errors, as negative results; the numbers are Xen's. Of these only "there is no such call" is another one in KVM's ABI:
 * a guest that called by VMCALL gets 1000 where a function answers -HVMX_ENOSYS. */
#define HVMX_ENOENT 2
#define HVMX_EFAULT 14
#define HVMX_EEXIST 17
#define HVMX_EINVAL 22
#define HVMX_ENOSYS 38

struct hvmx_hypercall;

typedef int64_t (*hvmx_hypercall_fn)(struct hvmx_hypercall *call);

/* In these structures "in" is what hvmx fills in before it calls a function: it may be read until the function returns, and
 * hvmx reads none of it back. A call has one output, the function's result, which goes to the guest. */

/* What a function may ask of the machine; by way of the functions below. */
struct hvmx_services {
    int (*copy_from_guest)(struct hvmx_hypercall *call, void *to, uint64_t guest, uint64_t size);      /* in */
    int (*copy_to_guest)(struct hvmx_hypercall *call, uint64_t guest, const void *from, uint64_t size);  /* in */
    void (*charge)(struct hvmx_hypercall *call, uint64_t cycles);                                      /* in */
};

struct hvmx_hypercall {
    uint64_t args[6];                      /* in: the arguments (kvm has four; the others are 0) */
    uint32_t number;                       /* in: the number that was called */
    uint32_t reserved;                     /* in: 0 */
    void *user;                            /* in: what was given at registration */
    void *vcpu;                            /* in: opaque: the virtual processor that called */
    const struct hvmx_services *services;  /* in: never NULL */
};

/* Copy `size` bytes out of the calling guest's memory at the linear address `guest` into `to` (out), or from `from` (in) into
 * that memory: through the guest's own page tables and with the rights that the guest itself has there. 0, or -HVMX_EFAULT
 * when any byte is out of reach; what lies before that byte has then been copied. */
static inline int hvmx_copy_from_guest(struct hvmx_hypercall *call, void *to, uint64_t guest, uint64_t size)
{
    return call->services->copy_from_guest(call, to, guest, size);
}

static inline int hvmx_copy_to_guest(struct hvmx_hypercall *call, uint64_t guest, const void *from, uint64_t size)
{
    return call->services->copy_to_guest(call, guest, from, size);
}

/* Let the call cost `cycles` more guest cycles than the profile's price of a hypercall. */
static inline void hvmx_charge(struct hvmx_hypercall *call, uint64_t cycles)
{
    call->services->charge(call, cycles);
}

#endif
