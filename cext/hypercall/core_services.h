/* What the C of this folder needs of the core (src/hvmx/core/), which fills in one such structure at import. */
#ifndef HVMX_CORE_SERVICES_H
#define HVMX_CORE_SERVICES_H

#include "insn.h"
#include "state.h"

#define NO_ADDRESS (~0ull)

struct hvmx_core {
    /* Forget translations: all of them, or (all = 0) all but those of global pages. Forgets the jump cache too. */
    void (*flush_tlb)(Cpu *cpu, int all);
    /* Forget the translation of the page that holds this linear address, global or not. */
    void (*flush_page)(Cpu *cpu, uint64_t address);
    /* CPL, CS, SS, DS, ES, CR0, CR4 or EFLAGS.AC were changed: choose the TLB and the decoding mode anew. */
    void (*update_mode)(Cpu *cpu);
    /* Guest-physical address of a linear one, for a read (write = 0) or a write with the rights of the present CPL, by
     * the TLB or a page walk that sets accessed and dirty bits as usual; NO_ADDRESS when the guest could not make that
     * access. Raises nothing, exits nothing, leaves Cpu.fault alone. */
    uint64_t (*translate)(Cpu *cpu, uint64_t address, int write);
    /* This page of RAM (an index into Cpu.page_flags), which has PAGE_CODE or PAGE_TABLE set, is about to be written:
     * forget the code decoded from it, or what shadows it. */
    void (*page_written)(Cpu *cpu, uint64_t page);
    /* Decode the instruction that these bytes begin with, in the processor's present mode and of those that it has. Its
     * length, or one of enum insn_decode_error. */
    int (*decode)(const Cpu *cpu, const uint8_t *code, int available, Insn *insn);
};

/* Set once, before any machine runs: the services are the same for all machines. */
extern const struct hvmx_core *hvmx_core;

/* How the core calls the hooks in Cpu that xen_create() and hvmx_vmcall_attach() set:
 *
 * pv_hypercall(cpu, op)   SYSCALL in 64-bit mode when Cpu.pv is set, in place of everything that the instruction does.
 *     Accounts the block up to and including `op`, and leaves Cpu.rip at the place to go on. 0: go on there through the
 *     jump cache (when Cpu.acct < 0). 1: the state changed (mapping, event, halt, stop): go on in the run loop.
 * pv_exception(cpu, vector, error, cr2)   in place of delivery through the IDT. Cpu.rip is what would be pushed: for
 *     #BP by INT3 and #OF by INTO the address after the instruction. `INT n` is, as under Xen, vector 13 (#GP) with
 *     error (n << 3) | 2 and Cpu.rip at the INT. Leaves Cpu.rip at the handler; never fails (it may crash the domain).
 * pv_privileged(cpu, ip)  before raising #GP(0) at CPL 3 for a privileged instruction, or for IN, OUT, CLI, STI, INS,
 *     OUTS that IOPL forbids. The block is accounted up to before the instruction at `ip`. 0: done, Cpu.rip moved on (or an
 *     exit handler raised, which has set Cpu.stop, and nothing happened, the #GP neither). 1: raise the #GP.
 * pv_event(cpu)   in the run loop, when PEND_EVENT is set, whether or not Cpu.halted: clears it, and delivers an upcall
 *     when one is pending and unmasked (Cpu.rip is then the callback and Cpu.halted is 0). Always 0. Charges Cpu.acct,
 *     which the loop settles.
 * on_deadline(cpu)   timers: does what is due, and sets Cpu.deadline and PEND_EVENT. It calls the on_deadline that it
 *     found when the domain was created, when that one's deadline is reached.
 * vmcall(cpu)     VMCALL outside PV, with Cpu.acct at its end. 0: answered and charged; the core advances RIP. 1: nothing
 *     has happened, it exits to its handler.
 */
#endif
