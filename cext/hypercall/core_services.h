/* The core's functions that the C of cext/ calls. src/hvmx/pv/xen.pyx fills in one such structure when it is imported. */
#ifndef HVMX_CORE_SERVICES_H
#define HVMX_CORE_SERVICES_H

#include "insn.h"
#include "state.h"

#define NO_ADDRESS (~0ull)

struct hvmx_core {
    /* Flush the TLB and the jump cache: everything, or (all = 0) everything but global pages. */
    void (*flush_tlb)(Cpu *cpu, int all);
    /* Flush the TLB entry of the page that holds this linear address, global or not. */
    void (*flush_page)(Cpu *cpu, uint64_t address);
    /* To be called after a change of CPL, CS, SS, DS, ES, CR0, CR4, EFLAGS.AC or EFLAGS.TF: selects the TLB and the mode of
     * decoding that go with them. */
    void (*update_mode)(Cpu *cpu);
    /* Translate a linear address for a read (write = 0) or a write at the current CPL, by the TLB or by a page walk, which
     * sets accessed and dirty bits as usual. The guest-physical address, or NO_ADDRESS where the guest itself could not make
     * that access. There is no exception and no exit, and Cpu.fault does not change. */
    uint64_t (*translate)(Cpu *cpu, uint64_t address, int write);
    /* To be called before a write to a page of RAM (an index into Cpu.page_flags) that has PAGE_CODE or PAGE_TABLE set:
     * discards the code decoded from it, or its shadow page table. */
    void (*page_written)(Cpu *cpu, uint64_t page);
    /* Take Cpu.exit, filled in but for the reason, to its handler, and charge the cost of the reason. */
    enum ExitOutcome (*exit_to_handler)(Cpu *cpu, uint32_t reason);
    /* Decode the instruction at `code`, in the processor's current mode and with its features. Its length, or one of enum
     * insn_decode_error. */
    int (*decode)(const Cpu *cpu, const uint8_t *code, int available, Insn *insn);
};

/* Set once, before any machine runs, and the same for all machines. */
extern const struct hvmx_core *hvmx_core;

/* The hooks in Cpu that xen_create() and VmcallTable (src/hvmx/pv/xen.pyx) set, and what the core expects of them:
 *
 * pv_hypercall(cpu, op)   SYSCALL in 64-bit mode when Cpu.pv is set, instead of what the instruction does otherwise.
 *     Charges the block up to and including `op`, and leaves Cpu.rip at the next instruction. 0: the core goes on there
 *     through the jump cache (if Cpu.acct < 0). 1: mappings, events, halt or stop have changed: it returns to the run loop.
 * pv_exception(cpu, vector, error, cr2)   instead of delivery through the IDT. Cpu.rip is what would be pushed: for #BP
 *     by INT3 and #OF by INTO, the address after the instruction. `INT n` is, as under Xen, vector 13 (#GP) with error
 *     (n << 3) | 2 and Cpu.rip at the INT. Leaves Cpu.rip at the guest's handler. It cannot fail, but may crash the domain.
 * pv_privileged(cpu, ip)  for a #GP(0) at CPL 3, which may be that of a privileged instruction, or of IN, OUT, CLI, STI,
 *     INS or OUTS that IOPL forbids. The block is charged up to before the instruction at `ip`. 0: the instruction has been
 *     emulated, and Cpu.rip is where to go on; or an exit handler raised, which has set Cpu.stop, and neither the instruction
 *     nor the #GP has happened. 1: deliver the #GP.
 * pv_event(cpu)   in the run loop, when PEND_EVENT is set, halted or not: clears it, and delivers an upcall if one is
 *     pending and unmasked (then Cpu.rip is the callback and Cpu.halted is 0). Always 0. Charges Cpu.acct, which the loop
 *     settles.
 * on_deadline(cpu)   fires the timers that are due, and sets Cpu.deadline and PEND_EVENT. When Cpu.platform_deadline is
 *     reached it calls the platform's on_deadline, which it replaced when the domain was created.
 * pv_schedule(cpu)   after Cpu.platform_deadline has changed: sets Cpu.deadline to it, or to a timer that is due before.
 * vmcall(cpu)     VMCALL of an HVM guest, with Cpu.acct at the end of the instruction. 0: answered and charged; the core
 *     advances RIP. 1: nothing has happened, and VMCALL exits to its handler.
 */
#endif
