/* KVM's hypercalls, for HVM guests that know they are virtual: VMCALL with the number in RAX. */
#include "table.h"
#include "timeline.h"

#include <string.h>

/* include/uapi/linux/kvm_para.h */
enum { KVM_EPERM = 1, KVM_EFAULT = 14, KVM_EOPNOTSUPP = 95, KVM_ENOSYS = 1000 };
enum { KVM_HC_VAPIC_POLL_IRQ = 1, KVM_HC_KICK_CPU = 5, KVM_HC_CLOCK_PAIRING = 9, KVM_HC_SCHED_YIELD = 11 };
enum { KVM_CLOCK_PAIRING_WALLCLOCK = 0 };
struct kvm_clock_pairing { int64_t sec, nsec; uint64_t tsc; uint32_t flags, pad[9]; };

/* With one processor there is nobody to kick or to yield to, and pending interrupts are taken after the VMCALL anyway. */
static int64_t nothing_to_do(struct hvmx_hypercall *call)
{
    (void)call;
    return 0;
}

/* clock_pairing(guest-physical address, clock): reads the wall clock and the TSC at the same moment. */
static int64_t clock_pairing(struct hvmx_hypercall *call)
{
    const struct vmcall *vmcall = call->user;
    Cpu *cpu = call->vcpu;
    uint64_t address = call->args[0];
    struct kvm_clock_pairing pairing;
    if (call->args[1] != KVM_CLOCK_PAIRING_WALLCLOCK)
        return -KVM_EOPNOTSUPP;
    if (address > cpu->ram_low || cpu->ram_low - address < sizeof pairing)
        return -KVM_EFAULT;
    uint64_t cycles = guest_time(cpu) / CYCLE_FRACTION;
    memset(&pairing, 0, sizeof pairing);
    pairing.sec = (int64_t)(vmcall->epoch + cycles / vmcall->frequency);
    pairing.nsec = (int64_t)((unsigned __int128)(cycles % vmcall->frequency) * 1000000000u / vmcall->frequency);
    pairing.tsc = cycles + (uint64_t)cpu->tsc_offset;
    for (uint64_t page = address >> 12; page <= (address + sizeof pairing - 1) >> 12; page++)
        page_changes(cpu, page);
    memcpy(cpu->ram + address, &pairing, sizeof pairing);
    return 0;
}

void vmcall_init(struct vmcall *vmcall, Cpu *cpu, uint64_t frequency, uint64_t epoch)
{
    hvmx_table_init(&vmcall->table);
    vmcall->frequency = frequency;
    vmcall->epoch = epoch;
    memset(&vmcall->call, 0, sizeof vmcall->call);
    vmcall->call.services = &hypercall_services;
    vmcall->call.vcpu = cpu;
    hvmx_table_register(&vmcall->table, KVM_HC_VAPIC_POLL_IRQ, nothing_to_do, NULL, 0);
    hvmx_table_register(&vmcall->table, KVM_HC_KICK_CPU, nothing_to_do, NULL, 0);
    hvmx_table_register(&vmcall->table, KVM_HC_SCHED_YIELD, nothing_to_do, NULL, 0);
    hvmx_table_register(&vmcall->table, KVM_HC_CLOCK_PAIRING, clock_pairing, vmcall, 0);
}

static inline uint64_t register_mask(const Cpu *cpu)
{
    return (cpu->mode & MODE_WIDTH) == MODE_64 ? ~0ull : 0xffffffff;
}

/* Calls the function of a number with the arguments in the registers. Always inlined: it is the fast path. */
static inline __attribute__((always_inline)) struct answer answer_call(struct vmcall *vmcall, struct hypercall_entry *entry,
                                                                       struct call_tally *tally, Cpu *cpu, uint64_t number,
                                                                       uint64_t mask)
{
    struct hvmx_hypercall *call = &vmcall->call;
    cpu->hypercalls++;
    call->args[0] = cpu->r[REG_RBX] & mask;
    call->args[1] = cpu->r[REG_RCX] & mask;
    call->args[2] = cpu->r[REG_RDX] & mask;
    call->args[3] = cpu->r[REG_RSI] & mask;
    charge_call(cpu, entry, &vmcall->table.before);
    struct answer answer = entry_call(entry, tally, call, number);
    if (UNLIKELY(answer.result == (uint64_t)-KVM_ENOSYS))
        entry->unanswered++;
    else if (UNLIKELY(answer.result == (uint64_t)-HVMX_ENOSYS))
        answer.result = (uint64_t)-KVM_ENOSYS;
    return answer;
}

int vmcall_dispatch(Cpu *cpu)
{
    struct vmcall *vmcall = cpu->vmcall_table;
    uint64_t mask = register_mask(cpu), number = cpu->r[REG_RAX] & mask;
    struct hypercall_entry *entry = table_entry(&vmcall->table, number);
    int64_t before = cpu->acct;
    if (UNLIKELY(cpu->cpl || (entry->flags & (ENTRY_TAKEN | ENTRY_SLOW)) != ENTRY_TAKEN))
        return 1;
    struct answer answer = answer_call(vmcall, entry, entry->tally, cpu, number, mask);
    cpu->r[REG_RAX] = answer.result & mask;
    charge(cpu, CHARGE_EXIT, cpu->exit_cost[EXIT_REASON_VMCALL]); /* it is an exit, though no handler in Python sees it */
    uint64_t units = charged_since(cpu, before);
    if (UNLIKELY(cpu->timeline != NULL))
        note_span(cpu, SPAN_EXIT, EXIT_REASON_VMCALL, number, guest_time(cpu) - units);
    tally_add(entry->tally, units, answer.host_ns);
    return 0;
}

int vmcall_answer(struct vmcall *vmcall, Cpu *cpu)
{
    uint64_t mask = register_mask(cpu), number = cpu->r[REG_RAX] & mask;
    if (cpu->cpl) {
        cpu->hypercalls++;
        cpu->r[REG_RAX] = (uint64_t)-KVM_EPERM & mask;
        return 0;
    }
    struct hypercall_entry *entry = table_entry(&vmcall->table, number);
    struct call_tally exit = { .calls = 1, .untimed = 1 }; /* of an exit, which is counted and timed as such */
    entry->exits++;
    uint64_t result = answer_call(vmcall, entry, &exit, cpu, number, mask).result;
    if (cpu->fault == FAULT_ABORT) {
        entry->exits--;
        cpu->hypercalls--;
        take_back_charges(cpu, &vmcall->table.before);
        cpu->fault = FAULT_NONE;
        return 1;
    }
    if (!cpu->fault) /* else the function has injected an exception, and there is no result */
        cpu->r[REG_RAX] = result & mask;
    return 0;
}
