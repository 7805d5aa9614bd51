/* Emulation of privileged instructions, which the guest's kernel executes at ring 3, and of port accesses where the guest is
 * allowed them. For an instruction that is refused here the guest gets the #GP that the processor raised. */
#include "emulate.h"

#include "addresses.h"
#include "clock.h"
#include "instruction.h"
#include "mmu.h"
#include "version.h"

#include <string.h>

/* Has traps.c deliver this exception for the emulated instruction. */
static void fault_with(struct domain *d, uint32_t vector, uint32_t error, uint64_t cr2)
{
    d->emulated_fault = (struct emulated_fault){ .due = 1, .vector = vector, .error = error, .cr2 = cr2 };
}

enum { FORCED_CPUID_BYTES = 7 };

/* Takes Cpu.exit, filled in but for the reason, to its handler. 0: nothing is left to do. It has moved Cpu.rip, or injected
 * an exception; or it raised, and then the exception by which the instruction got here has not been, either. */
static int emulation_exit(Cpu *cpu, uint32_t reason)
{
    struct domain *d = cpu->pv;
    enum ExitOutcome outcome = hvmx_core->exit_to_handler(cpu, reason);
    if (outcome == EXIT_RAISED) {
        take_back_charge(cpu, CHARGE_EXCEPTION, cpu->exception_cost);
        cpu->exceptions--;
    } else if (outcome == EXIT_INJECTED && cpu->fault == FAULT_EXCEPTION && cpu->fault_vector == VEC_GP) {
        cpu->fault = FAULT_NONE; /* straight to the guest: by the run loop the instruction would only be emulated again */
        fault_with(d, VEC_GP, cpu->fault_error, cpu->cr2);
    }
    return outcome == EXIT_DONE;
}

/* --- CPUID ------------------------------------------------------------------------------------------------------------ */
/* Features that are hidden from a PV guest, which cannot use them whatever the processor has. */
enum { CPUID_1_EDX_VME = 1 << 1, CPUID_1_EDX_PSE = 1 << 3, CPUID_1_EDX_MTRR = 1 << 12, CPUID_1_EDX_PGE = 1 << 13,
       CPUID_1_EDX_PSE36 = 1 << 17, CPUID_1_ECX_MONITOR = 1 << 3, CPUID_1_ECX_VMX = 1 << 5,
       CPUID_1_ECX_PCID = 1 << 17, CPUID_1_ECX_XSAVE = 1 << 26, CPUID_1_ECX_OSXSAVE = 1 << 27,
       CPUID_7_EBX_SMEP = 1 << 7, CPUID_7_EBX_INVPCID = 1 << 10, CPUID_7_EBX_SMAP = 1 << 20,
       CPUID_7_ECX_UMIP = 1 << 2, CPUID_7_ECX_PKU = 1 << 3,
       CPUID_X1_ECX_SVM = 1 << 2, CPUID_X1_EDX_PAGE1GB = 1 << 26 };
#define CPUID_1_ECX_HYPERVISOR 0x80000000u
#define XEN_CPUID_BASE 0x40000000u

static void hypervisor_leaf(struct domain *d, uint32_t leaf, uint32_t out[4])
{
    memset(out, 0, 4 * sizeof *out);
    switch (leaf - XEN_CPUID_BASE) {
    case 0: /* "XenVMMXenVMM", and the highest leaf */
        memcpy(out, (uint32_t[4]){ XEN_CPUID_BASE + 5, 0x566e6558, 0x65584d4d, 0x4d4d566e }, 16);
        break;
    case 1:
        out[0] = XEN_VERSION;
        break;
    case 3: /* time: how the TSC scales to nanoseconds, and its frequency in kHz */
        out[2] = (uint32_t)(d->frequency / 1000);
        break;
    case 5: /* width of machine addresses */
        out[1] = d->cpu->phys_bits;
        break;
    }
}

/* 1: done, and RIP is to be advanced. 0: the exit handler raised, injected, or has moved RIP itself. */
static int cpuid(struct domain *d)
{
    Cpu *cpu = d->cpu;
    uint32_t leaf = (uint32_t)cpu->r[REG_RAX];
    uint32_t out[4];
    if (leaf >= XEN_CPUID_BASE && leaf < XEN_CPUID_BASE + 0x100) {
        charge_emulation(cpu);
        hypervisor_leaf(d, leaf, out);
        cpu->r[REG_RAX] = out[0];
        cpu->r[REG_RBX] = out[1];
        cpu->r[REG_RCX] = out[2];
        cpu->r[REG_RDX] = out[3];
        return 1;
    }
    cpu->exit = (ExitInfo){ .length = FORCED_CPUID_BYTES };
    if (!emulation_exit(cpu, EXIT_REASON_CPUID))
        return 0;
    if (leaf == 1) {
        cpu->r[REG_RDX] &= ~(uint64_t)(CPUID_1_EDX_VME | CPUID_1_EDX_PSE | CPUID_1_EDX_MTRR | CPUID_1_EDX_PGE
                                       | CPUID_1_EDX_PSE36);
        cpu->r[REG_RCX] &= ~(uint64_t)(CPUID_1_ECX_MONITOR | CPUID_1_ECX_VMX | CPUID_1_ECX_PCID | CPUID_1_ECX_XSAVE
                                       | CPUID_1_ECX_OSXSAVE);
        cpu->r[REG_RCX] |= CPUID_1_ECX_HYPERVISOR;
    } else if (leaf == 7) {
        cpu->r[REG_RBX] &= ~(uint64_t)(CPUID_7_EBX_SMEP | CPUID_7_EBX_INVPCID | CPUID_7_EBX_SMAP);
        cpu->r[REG_RCX] &= ~(uint64_t)(CPUID_7_ECX_UMIP | CPUID_7_ECX_PKU);
    } else if (leaf == 0xd) {
        cpu->r[REG_RAX] = cpu->r[REG_RBX] = cpu->r[REG_RCX] = cpu->r[REG_RDX] = 0;
    } else if (leaf == 0x80000001) {
        cpu->r[REG_RCX] &= ~(uint64_t)CPUID_X1_ECX_SVM;
        cpu->r[REG_RDX] &= ~(uint64_t)CPUID_X1_EDX_PAGE1GB;
    }
    return 1;
}

/* CPUID after UD2 and the letters "xen": with this prefix the guest asks the hypervisor instead of the processor. */
int forced_cpuid(struct domain *d)
{
    static const uint8_t prefixed[FORCED_CPUID_BYTES] = { 0x0f, 0x0b, 'x', 'e', 'n', 0x0f, 0xa2 };
    uint8_t bytes[sizeof prefixed];
    if (guest_read(d->cpu, bytes, instruction_address(d->cpu, d->cpu->rip), sizeof bytes) || memcmp(bytes, prefixed, sizeof bytes))
        return 0;
    if (cpuid(d))
        d->cpu->rip += sizeof bytes;
    return 1;
}

/* --- ports ------------------------------------------------------------------------------------------------------------ */
static int may_use_port(struct domain *d, uint32_t port, uint32_t width)
{
    if (d->iopl >= (d->in_kernel ? 1 : 3))
        return 1;
    for (uint32_t i = port; i < port + width; i++) {
        uint8_t bits;
        if (i >= d->io_ports || guest_read(d->cpu, &bits, d->io_bitmap + i / 8, 1) || (bits >> i % 8 & 1))
            return 0;
    }
    return 1;
}

static uint64_t ones(uint32_t width)
{
    return width == 4 ? 0xffffffff : (1ull << width * 8) - 1;
}

/* Makes a port access of *value. 1: the instruction is to be completed. 0: as in cpuid(). Only a dom0 reaches the board's
 * ports: any other domain reads all ones. */
static int port_access(struct domain *d, uint32_t port, uint32_t width, int in, uint32_t length, int immediate,
                       uint64_t *value)
{
    Cpu *cpu = d->cpu;
    if (d->flags & SIF_PRIVILEGED) {
        cpu->exit = (ExitInfo){
            .length = length, .number = port, .width = width, .is_write = !in,
            .value = in ? 0 : *value & ones(width),
            .qualification = (width - 1) | (uint64_t)in << 3 | (uint64_t)immediate << 6 | (uint64_t)port << 16,
        };
        if (!emulation_exit(cpu, EXIT_REASON_IO_INSTRUCTION))
            return 0;
        *value = cpu->exit.value & ones(width);
    } else {
        charge_emulation(cpu); /* there is no port, and no access */
        *value = ones(width);
    }
    return 1;
}

/* Whether the guest may access `width` bytes at an address; if not, `*fault` is where the page fault is. */
static int may_access(Cpu *cpu, uint64_t address, uint32_t width, int write, uint64_t *fault)
{
    uint64_t last = address + width - 1;
    *fault = address;
    if (hvmx_core->translate(cpu, address, write) == NO_ADDRESS)
        return 0;
    *fault = last & ~0xfffull;
    return hvmx_core->translate(cpu, last, write) != NO_ADDRESS;
}

/* INS and OUTS, in 64-bit code and without FS or GS, where memory is flat. With REP it does one element, and the instruction is
 * executed again for the next. */
static int string_in_out(struct domain *d, const Insn *insn, uint64_t ip)
{
    Cpu *cpu = d->cpu;
    uint32_t width = insn->opsize / 8, port = cpu->r[REG_RDX] & 0xffff;
    int out = insn->family == FAM_OUTS, repeated = insn->prefixes & (PREFIX_REP | PREFIX_REPNE);
    int flat = insn->addrsize == 64 && insn->segment != SEG_FS && insn->segment != SEG_GS;
    uint64_t *index = &cpu->r[out ? REG_RSI : REG_RDI], value = 0;
    if (!flat || !may_use_port(d, port, width))
        return 1;
    if (!repeated || cpu->r[REG_RCX]) {
        uint64_t fault;
        if (!is_canonical(*index) || !is_canonical(*index + width - 1))
            return 1;
        if (!may_access(cpu, *index, width, !out, &fault)) {
            cpu->rip = ip; /* in the error code Xen sets the write bit, but never the present bit */
            fault_with(d, VEC_PF, out ? 0 : 2, fault);
            return 0;
        }
        if (out && guest_read(cpu, &value, *index, width)) /* MMIO */
            return 1;
        if (!port_access(d, port, width, !out, insn->length, 0, &value))
            return 0;
        if (!out)
            guest_write(cpu, *index, &value, width);
        *index += cpu->rflags & FL_DF ? -(uint64_t)width : width;
        if (repeated)
            cpu->r[REG_RCX]--;
    }
    cpu->rip = repeated && cpu->r[REG_RCX] ? ip : ip + insn->length;
    return 0;
}

static int in_out(struct domain *d, const Insn *insn, uint64_t ip)
{
    Cpu *cpu = d->cpu;
    int immediate = insn->form == FORM_RM_I, reads = insn->family == FAM_IN;
    uint32_t width = insn->opsize / 8, port = immediate ? (uint32_t)insn->imm : cpu->r[REG_RDX] & 0xffff;
    uint64_t value = cpu->r[REG_RAX];
    if (!may_use_port(d, port, width))
        return 1;
    if (!port_access(d, port, width, reads, insn->length, immediate, &value))
        return 0;
    if (reads)
        cpu->r[REG_RAX] = width == 4 ? value : (cpu->r[REG_RAX] & ~ones(width)) | value;
    cpu->rip = ip + insn->length;
    return 0;
}

/* --- control, debug and model-specific registers ---------------------------------------------------------------------- */
static int move_from_control(struct domain *d, uint32_t number, uint64_t *value)
{
    switch (number) {
    case 0:
        *value = d->cpu->cr0;
        return 1;
    case 2:
        *value = d->vcpu_info->arch.cr2;
        return 1;
    case 3:
        *value = d->kernel_table << 12;
        return 1;
    case 4:
        *value = d->cpu->cr4;
        return 1;
    default:
        return 0;
    }
}

#define GUEST_CR4 ((uint64_t)(CR4_TSD | CR4_DE))

static int move_to_control(struct domain *d, uint32_t number, uint64_t value)
{
    switch (number) {
    case 0: /* the guest may change TS only */
        if ((value ^ d->cpu->cr0) & ~(uint64_t)CR0_TS)
            return 0;
        d->cpu->cr0 = value;
        return 1;
    case 2:
        d->vcpu_info->arch.cr2 = value;
        return 1;
    case 3:
        return new_base(d, value >> 12) == 0;
    case 4: /* changes of other bits are ignored */
        d->cpu->cr4 = (d->cpu->cr4 & ~GUEST_CR4) | (value & GUEST_CR4);
        return 1;
    default:
        return 0;
    }
}

enum { DR7_ENABLED = 0xff, DR7_GD = 1 << 13 };

/* DR4 and DR5 are aliases of DR6 and DR7, unless CR4.DE is set. */
static int is_debug_register(const Cpu *cpu, uint32_t number)
{
    return number <= 7 && !((number == 4 || number == 5) && (cpu->cr4 & CR4_DE));
}

static uint64_t read_debug(const Cpu *cpu, uint32_t number)
{
    return cpu->dr[number == 4 || number == 5 ? number + 2 : number];
}

/* Writes a debug register. In DR7 general detect is refused, and so are I/O breakpoints if any breakpoint is enabled. */
static int write_debug(struct domain *d, uint32_t number, uint64_t value)
{
    if (!is_debug_register(d->cpu, number))
        return -XEN_ENODEV;
    switch (number) {
    case 0:
    case 1:
    case 2:
    case 3:
        if (!is_guest_address(value))
            return -XEN_EPERM;
        d->cpu->dr[number] = value;
        break;
    case 4:
    case 6:
        if (value >> 32)
            return -XEN_EINVAL;
        d->cpu->dr[6] = (value & 0xe00full) | 0xffff0ff0;
        break;
    case 5:
    case 7:
        if (value >> 32)
            return -XEN_EINVAL;
        if (value & DR7_GD)
            return -XEN_EPERM;
        for (uint32_t i = 0; (value & DR7_ENABLED) && i < 4; i++)
            if ((value >> (16 + i * 4) & 3) == 2)
                return -XEN_EPERM;
        d->cpu->dr[7] = (value & 0xffff03ff) | 0x400;
        break;
    }
    hvmx_core->update_mode(d->cpu);
    return 0;
}

enum { MSR_TSC = 0x10, MSR_PLATFORM_ID = 0x17, MSR_APIC_BASE = 0x1b, MSR_FEATURE_CONTROL = 0x3a, MSR_UCODE_REV = 0x8b,
       MSR_PLATFORM_INFO = 0xce, MSR_MISC_FEATURES = 0x140, MSR_MCG_CAP = 0x179, MSR_MCG_STATUS = 0x17a,
       MSR_MISC_ENABLE = 0x1a0, MSR_PAT = 0x277, MSR_PERF_CAPABILITIES = 0x345 };
/* IA32_MISC_ENABLE: performance counters and MONITOR are off, BTS and PEBS unavailable, xTPR messages disabled. */
enum { MISC_ENABLE_CLEAR = 1 << 7 | 1 << 18, MISC_ENABLE_SET = 1 << 11 | 1 << 12 | 1 << 23 };
#define MSR_EFER 0xc0000080u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u

static int read_msr(struct domain *d, uint32_t number, uint64_t *value)
{
    const Cpu *cpu = d->cpu;
    switch (number) {
    case MSR_TSC:
        *value = cycles_now(cpu);
        return 1;
    case MSR_APIC_BASE:
        *value = cpu->apic_base;
        return 1;
    case MSR_MISC_ENABLE:
        *value = (cpu->misc_enable & ~(uint64_t)MISC_ENABLE_CLEAR) | MISC_ENABLE_SET;
        return 1;
    case MSR_FEATURE_CONTROL: /* locked, nothing enabled */
        *value = 1;
        return 1;
    case MSR_PLATFORM_ID:
    case MSR_UCODE_REV:
    case MSR_PLATFORM_INFO:
    case MSR_MISC_FEATURES:
    case MSR_MCG_CAP: /* no machine-check banks */
    case MSR_MCG_STATUS:
    case MSR_PERF_CAPABILITIES:
        *value = 0;
        return 1;
    case MSR_PAT: /* the hypervisor's own PAT, which applies to PV guests too */
        *value = 0x050100070406ull;
        return 1;
    case MSR_EFER: /* long mode with SYSCALL and NX */
        *value = cpu->efer & (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
        return 1;
    case MSR_FS_BASE:
        *value = cpu->seg[SEG_FS].base;
        return 1;
    case MSR_GS_BASE:
        *value = cpu->seg[SEG_GS].base;
        return 1;
    case MSR_KERNEL_GS_BASE:
        *value = cpu->kernel_gs_base;
        return 1;
    case MSR_TSC_AUX:
        *value = cpu->tsc_aux;
        return 1;
    default:
        return 0;
    }
}

static int write_msr(struct domain *d, uint32_t number, uint64_t value)
{
    Cpu *cpu = d->cpu;
    switch (number) {
    case MSR_UCODE_REV:   /* writes are ignored */
    case MSR_MISC_ENABLE:
        return 1;
    case MSR_MISC_FEATURES:
    case MSR_MCG_STATUS:
        return value == 0;
    case MSR_PAT:
        return value == 0x050100070406ull;
    case MSR_EFER:
        return value == (cpu->efer & (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE));
    case MSR_FS_BASE:
    case MSR_GS_BASE:
    case MSR_KERNEL_GS_BASE:
        if (!is_canonical(value))
            return 0;
        if (number == MSR_KERNEL_GS_BASE)
            cpu->kernel_gs_base = value;
        else
            cpu->seg[number == MSR_FS_BASE ? SEG_FS : SEG_GS].base = value;
        return 1;
    case MSR_TSC_AUX:
        cpu->tsc_aux = value;
        return 1;
    default:
        return 0;
    }
}

int has_msr(struct domain *d, uint32_t number)
{
    uint64_t value;
    return read_msr(d, number, &value);
}

static void count_msr(struct domain *d, uint32_t number)
{
    for (struct msr_count *msr = d->msrs; msr < d->msrs + ANSWERED_MSRS; msr++)
        if (msr->number == number || msr->number == 0) {
            msr->number = number;
            msr->count++;
            return;
        }
}

enum emulated { REFUSED, DONE, UNDEFINED }; /* REFUSED: the guest gets the #GP that the processor raised; UNDEFINED: a #UD */

static enum emulated system_instruction(struct domain *d, const Insn *insn)
{
    Cpu *cpu = d->cpu;
    uint64_t value = 0, *operand = &cpu->r[insn->rm];
    int error;
    switch (insn->family) {
    case FAM_CLTS:
        cpu->cr0 &= ~(uint64_t)CR0_TS;
        return DONE;
    case FAM_WBINVD: /* memory is coherent here, so there is nothing to do */
        return DONE;
    case FAM_MOV_FROM_CR:
        return move_from_control(d, insn->reg, operand) ? DONE : REFUSED;
    case FAM_MOV_FROM_DR:
        if (!is_debug_register(cpu, insn->reg))
            return UNDEFINED;
        *operand = read_debug(cpu, insn->reg);
        return DONE;
    case FAM_MOV_TO_CR:
        return move_to_control(d, insn->reg, *operand) ? DONE : REFUSED;
    case FAM_MOV_TO_DR:
        error = write_debug(d, insn->reg, *operand);
        return error == -XEN_ENODEV ? UNDEFINED : error ? REFUSED : DONE;
    case FAM_WRMSR:
        if (!write_msr(d, (uint32_t)cpu->r[REG_RCX], (uint32_t)cpu->r[REG_RAX] | cpu->r[REG_RDX] << 32))
            return REFUSED;
        count_msr(d, (uint32_t)cpu->r[REG_RCX]);
        return DONE;
    case FAM_RDTSC: /* which faults because of CR4.TSD */
        value = cycles_now(cpu);
        break;
    case FAM_RDMSR:
        if (!read_msr(d, (uint32_t)cpu->r[REG_RCX], &value))
            return REFUSED;
        count_msr(d, (uint32_t)cpu->r[REG_RCX]);
        break;
    default:
        return REFUSED;
    }
    cpu->r[REG_RAX] = (uint32_t)value;
    cpu->r[REG_RDX] = value >> 32;
    return DONE;
}

int emulate_privileged(struct domain *d, uint64_t ip)
{
    Cpu *cpu = d->cpu;
    enum emulated result = REFUSED;
    Insn insn;
    if (!fetch(d, ip, &insn))
        return 1;
    switch (insn.family) {
    case FAM_IN:
    case FAM_OUT:
        return in_out(d, &insn, ip);
    case FAM_INS:
    case FAM_OUTS:
        return string_in_out(d, &insn, ip);
    case FAM_CLI: /* without effect: events are masked in vcpu_info */
    case FAM_STI:
        result = d->iopl >= (d->in_kernel ? 1 : 3) ? DONE : REFUSED;
        break;
    default:
        if (d->in_kernel)
            result = system_instruction(d, &insn);
    }
    if (result == REFUSED) {
        d->refused_instructions += d->in_kernel;
        return 1;
    }
    if (result == UNDEFINED) {
        cpu->rip = ip;
        fault_with(d, VEC_UD, 0, 0);
        return 0;
    }
    charge_emulation(cpu);
    cpu->rip = ip + insn.length;
    return 0;
}

/* --- hypercalls -------------------------------------------------------------------------------------------------------- */
/* fpu_taskswitch(set) */
int64_t xen_fpu_taskswitch(struct hvmx_hypercall *call)
{
    Cpu *cpu = call->vcpu;
    cpu->cr0 = arg32(call, 0) ? cpu->cr0 | CR0_TS : cpu->cr0 & ~(uint64_t)CR0_TS;
    return 0;
}

/* set_debugreg(register, value) */
int64_t xen_set_debugreg(struct hvmx_hypercall *call)
{
    return write_debug(domain_of(call), arg32(call, 0), call->args[1]);
}

/* get_debugreg(register) */
int64_t xen_get_debugreg(struct hvmx_hypercall *call)
{
    return !is_debug_register(call->vcpu, arg32(call, 0)) ? -XEN_ENODEV : (int64_t)read_debug(call->vcpu, arg32(call, 0));
}

/* physdev_op(command, *argument) */
int64_t xen_physdev_op(struct hvmx_hypercall *call)
{
    struct domain *d = domain_of(call);
    struct physdev_set_iopl iopl;
    struct physdev_set_iobitmap bitmap;
    switch (arg32(call, 0)) {
    case PHYSDEVOP_set_iopl:
        if (guest_read(d->cpu, &iopl, call->args[1], sizeof iopl))
            return -XEN_EFAULT;
        if (iopl.iopl > 3)
            return -XEN_EINVAL;
        d->iopl = (uint8_t)iopl.iopl;
        return 0;
    case PHYSDEVOP_set_iobitmap:
        if (guest_read(d->cpu, &bitmap, call->args[1], sizeof bitmap))
            return -XEN_EFAULT;
        if (bitmap.nr_ports > 65536 || !is_canonical(bitmap.bitmap))
            return -XEN_EINVAL;
        d->io_bitmap = bitmap.bitmap;
        d->io_ports = bitmap.nr_ports;
        return 0;
    default:
        return -XEN_ENOSYS;
    }
}
