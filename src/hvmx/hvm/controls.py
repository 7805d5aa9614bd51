"""Which operations exit by default, and what then happens: as under KVM (the handlers are plain functions)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvmx.core.vcpu import Vcpu
from hvmx.exits import ExitReason
from hvmx.hvm.cpuid import XCR0_BITS, XCR0_X87, cpuid
from hvmx.isa.levels import WRITE_ONLY_MSRS
from hvmx.vocabulary import Control

if TYPE_CHECKING:
    from hvmx.core.exit_info import Exit
    from hvmx.exits import Handler
    from hvmx.pv.xen import VmcallTable

# Bits of Vcpu.controls.
HLT, INVLPG, RDPMC, RDTSC = Control.HLT, Control.INVLPG, Control.RDPMC, Control.RDTSC
CR3_LOAD, CR3_STORE = Control.CR3_LOAD, Control.CR3_STORE
CR8_LOAD, CR8_STORE = Control.CR8_LOAD, Control.CR8_STORE
MOV_DR, PAUSE, WBINVD, DESCRIPTOR_TABLE = Control.MOV_DR, Control.PAUSE, Control.WBINVD, Control.DESCRIPTOR_TABLE
EXTERNAL_INTERRUPT, TASK_SWITCH = Control.EXTERNAL_INTERRUPT, Control.TASK_SWITCH
SHADOW_PAGING, EPT = Control.SHADOW_PAGING, Control.EPT
RDRAND, RDSEED = Control.RDRAND, Control.RDSEED

GENERAL_PROTECTION, PAGE_FAULT = 13, 14

CR0_GUEST_OWNED = 1 << 3
"""TS; all other bits of CR0 are the host's (KVM_POSSIBLE_CR0_GUEST_BITS)."""
CR0_ET = 1 << 4
CR0_RESERVED = 0x1FFAFFC0
"""Bits that stay 0 whatever is written, as ET stays 1 (SDM vol. 3, 2.5)."""
CR4_GUEST_OWNED = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10
"""PVI TSD DE PGE PCE OSFXSR OSXMMEXCPT (KVM_POSSIBLE_CR4_GUEST_BITS, of those that exist here)."""

PASSED_MSRS = (0x10, 0x174, 0x175, 0x176, 0xC0000100, 0xC0000101, 0xC0000102)
"""TSC, SYSENTER_*, FS and GS base: the MSRs that KVM lets a guest reach without an exit."""


def complete(vcpu: Vcpu, exit: Exit) -> None:
    """Let the operation happen: the processor's own semantics go on when the handler returns."""


def hlt(vcpu: Vcpu, exit: Exit) -> None:
    """HLT: wait for an interrupt."""
    vcpu.halt()


def exception(vcpu: Vcpu, exit: Exit) -> None:
    """Exceptions of the guest go back to the guest; those of shadow paging end here."""
    if not exit.host_only:
        vcpu.inject(exit.vector, exit.error_code)


def cr_access(vcpu: Vcpu, exit: Exit) -> None:
    """MOV CR, CLTS, LMSW: let it happen, and let the guest read back what it wrote to host-owned bits."""
    if exit.is_write and exit.number == 0:
        vcpu.cr0_shadow = exit.value & ~CR0_RESERVED | CR0_ET
    elif exit.is_write and exit.number == 4:
        vcpu.cr4_shadow = exit.value


def msr_access(vcpu: Vcpu, exit: Exit) -> None:
    """RDMSR and WRMSR: #GP for an MSR that the processor has not."""
    if not vcpu.has_msr(exit.msr) or exit.msr in WRITE_ONLY_MSRS and not exit.is_write:
        vcpu.inject(GENERAL_PROTECTION, 0)


def xsetbv(vcpu: Vcpu, exit: Exit) -> None:
    """XSETBV: the one extended control register is XCR0, which never lets go of the x87 (SDM vol. 1, 13.3)."""
    if exit.number != 0 or exit.value & ~XCR0_BITS or not exit.value & XCR0_X87:
        vcpu.inject(GENERAL_PROTECTION, 0)
    else:
        vcpu.xcr0 = exit.value


DEFAULT_HANDLERS: dict[ExitReason, Handler] = {
    ExitReason.EXCEPTION_NMI: exception,
    ExitReason.EXTERNAL_INTERRUPT: complete,
    ExitReason.TRIPLE_FAULT: complete,
    ExitReason.INTERRUPT_WINDOW: complete,
    ExitReason.TASK_SWITCH: complete,
    ExitReason.CPUID: cpuid,
    ExitReason.HLT: hlt,
    ExitReason.INVD: complete,
    ExitReason.INVLPG: complete,
    ExitReason.RDPMC: complete,
    ExitReason.RDTSC: complete,
    ExitReason.CR_ACCESS: cr_access,
    ExitReason.DR_ACCESS: complete,
    ExitReason.IO_INSTRUCTION: Vcpu.to_platform,
    ExitReason.MSR_READ: msr_access,
    ExitReason.MSR_WRITE: msr_access,
    ExitReason.PAUSE_INSTRUCTION: complete,
    ExitReason.GDTR_IDTR: complete,
    ExitReason.LDTR_TR: complete,
    ExitReason.EPT_VIOLATION: complete,
    ExitReason.EPT_MISCONFIG: Vcpu.to_platform,
    ExitReason.RDTSCP: complete,
    ExitReason.WBINVD: complete,
    ExitReason.XSETBV: xsetbv,
    ExitReason.RDRAND: complete,
    ExitReason.INVPCID: complete,
    ExitReason.RDSEED: complete,
}


def leave_paging_to_the_guest(vcpu: Vcpu) -> None:
    """As without a hypervisor: the guest's own tables are all that a page walk reads, and no page of RAM exits."""
    vcpu.controls &= ~(EPT | SHADOW_PAGING)


def install_defaults(vcpu: Vcpu, vmcalls: VmcallTable, paging: str) -> None:
    """Set the controls and a handler for every reason, ``vmcalls`` for VMCALL; ``paging`` is ``ept`` or ``shadow``."""
    if paging not in ("ept", "shadow"):
        raise ValueError(f"paging {paging!r} is neither 'ept' nor 'shadow'")
    for reason, handler in DEFAULT_HANDLERS.items():
        vcpu.set_handler(reason, handler)
    vcpu.set_handler(ExitReason.VMCALL, vmcalls)
    controls = HLT | WBINVD | MOV_DR | EXTERNAL_INTERRUPT | TASK_SWITCH
    if paging == "ept":
        controls |= EPT
    else:
        controls |= SHADOW_PAGING | CR3_LOAD | INVLPG
        vcpu.exception_bitmap = 1 << PAGE_FAULT
    vcpu.controls = controls
    vcpu.cr0_mask = (1 << 64) - 1 & ~CR0_GUEST_OWNED
    vcpu.cr4_mask = (1 << 64) - 1 & ~CR4_GUEST_OWNED
    vcpu.io_bitmap[:] = 0xFF
    bitmap = vcpu.msr_bitmap
    bitmap[:] = 0xFF
    for msr in PASSED_MSRS:
        # SDM vol. 3, 24.6.9: reads of low and high MSRs, then writes of low and high, 1 KiB each.
        place = (0x400 if msr >= 0xC0000000 else 0) * 8 + (msr & 0x1FFF)
        for bit in (place, place + 0x800 * 8):
            bitmap[bit >> 3] &= ~(1 << (bit & 7)) & 0xFF
