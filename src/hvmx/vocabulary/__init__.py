"""The words of exits and of guest time, each written down once: reasons, controls, how a handler left its exit, why a run
ended, what time is charged for, and what a timeline consists of.

The build makes C and Cython of them (:mod:`hvmx.vocabulary.generate`): ``EXIT_REASON_CPUID``, ``CTL_HLT``, ``EXIT_DONE``,
``STOP_HALTED``. Python has the classes. `docs/exits.md` is made of them, too.
"""

from __future__ import annotations

from enum import IntEnum


class ExitReason(IntEnum):
    """Basic exit reasons (Intel SDM vol. 3, appendix C) that hvmx takes; the names are Linux's, as perf prints them."""

    EXCEPTION_NMI = 0
    EXTERNAL_INTERRUPT = 1
    TRIPLE_FAULT = 2
    INTERRUPT_WINDOW = 7
    TASK_SWITCH = 9
    CPUID = 10
    HLT = 12
    INVD = 13
    INVLPG = 14
    RDPMC = 15
    RDTSC = 16
    VMCALL = 18
    CR_ACCESS = 28
    DR_ACCESS = 29
    IO_INSTRUCTION = 30
    MSR_READ = 31
    MSR_WRITE = 32
    PAUSE_INSTRUCTION = 40
    GDTR_IDTR = 46
    LDTR_TR = 47
    EPT_VIOLATION = 48
    EPT_MISCONFIG = 49
    RDTSCP = 51
    WBINVD = 54
    XSETBV = 55
    RDRAND = 57
    INVPCID = 58
    RDSEED = 61


PAGE = "page"

DETAILS: dict[ExitReason, str] = {
    ExitReason.EXCEPTION_NMI: "vector",
    ExitReason.VMCALL: "hypercall",
    ExitReason.CR_ACCESS: "CR",
    ExitReason.DR_ACCESS: "DR",
    ExitReason.IO_INSTRUCTION: "port",
    ExitReason.MSR_READ: "MSR",
    ExitReason.MSR_WRITE: "MSR",
    ExitReason.EPT_VIOLATION: PAGE,
    ExitReason.EPT_MISCONFIG: PAGE,
}
"""What the exits of a reason are counted by besides: a number, or the guest-physical page."""

PV_REASONS = frozenset((
    ExitReason.EXCEPTION_NMI, ExitReason.EXTERNAL_INTERRUPT, ExitReason.CPUID, ExitReason.RDTSC,
    ExitReason.IO_INSTRUCTION, ExitReason.PAUSE_INSTRUCTION, ExitReason.GDTR_IDTR, ExitReason.LDTR_TR,
    ExitReason.EPT_VIOLATION, ExitReason.RDTSCP, ExitReason.RDRAND, ExitReason.RDSEED,
))  # fmt: skip
"""What exits of a PV guest, some of it if the controls say so: what faults at ring 3 is Xen's, or #UD."""


class Control(IntEnum):
    """Bits of ``Vcpu.controls``, as in a VMCS: what is set exits, what is clear runs natively."""

    HLT = 1
    INVLPG = 2
    RDPMC = 4
    RDTSC = 8
    CR3_LOAD = 0x10
    CR3_STORE = 0x20
    CR8_LOAD = 0x40
    CR8_STORE = 0x80
    MOV_DR = 0x100
    PAUSE = 0x200
    WBINVD = 0x400
    DESCRIPTOR_TABLE = 0x800
    EXTERNAL_INTERRUPT = 0x2000
    SHADOW_PAGING = 0x8000
    EPT = 0x10000
    TASK_SWITCH = 0x20000
    RDRAND = 0x40000
    RDSEED = 0x80000


CONTROLLED: dict[Control, tuple[ExitReason, ...]] = {
    Control.HLT: (ExitReason.HLT,),
    Control.INVLPG: (ExitReason.INVLPG, ExitReason.INVPCID),
    Control.RDPMC: (ExitReason.RDPMC,),
    Control.RDTSC: (ExitReason.RDTSC, ExitReason.RDTSCP),
    Control.CR3_LOAD: (ExitReason.CR_ACCESS,),
    Control.CR3_STORE: (ExitReason.CR_ACCESS,),
    Control.CR8_LOAD: (ExitReason.CR_ACCESS,),
    Control.CR8_STORE: (ExitReason.CR_ACCESS,),
    Control.MOV_DR: (ExitReason.DR_ACCESS,),
    Control.PAUSE: (ExitReason.PAUSE_INSTRUCTION,),
    Control.WBINVD: (ExitReason.WBINVD,),
    Control.DESCRIPTOR_TABLE: (ExitReason.GDTR_IDTR, ExitReason.LDTR_TR),
    Control.EXTERNAL_INTERRUPT: (ExitReason.EXTERNAL_INTERRUPT,),
    Control.SHADOW_PAGING: (ExitReason.EXCEPTION_NMI,),
    Control.EPT: (ExitReason.EPT_VIOLATION,),
    Control.TASK_SWITCH: (ExitReason.TASK_SWITCH,),
    Control.RDRAND: (ExitReason.RDRAND,),
    Control.RDSEED: (ExitReason.RDSEED,),
}
"""What each control makes exit."""


class ExitOutcome(IntEnum):
    """How a handler left its exit, as ``exit_to_handler()`` answers; the exit has been paid for unless it raised."""

    DONE = 0
    """It returned: what exited goes on, or is complete."""
    MOVED = 1
    """It returned with RIP elsewhere: it has dealt with the instruction."""
    INJECTED = 2
    """It injected an exception or reset the processor; ``Cpu.fault`` says which."""
    RAISED = 3
    """It raised an exception of Python's, which ``run()`` raises: nothing has happened."""


class CoreStop(IntEnum):
    """Why the core's run loop ended (``Cpu.stop``, and what ``Vcpu.run`` returns)."""

    NONE = 0
    """It has not."""
    CYCLES = 1
    """The slice is used up."""
    HALTED = 2
    """HLT, and nothing can wake it."""
    REQUESTED = 3
    """A handler or another thread asked."""
    ERROR = 4
    """A Python exception is waiting."""
    SHUTDOWN = 5
    """A triple fault."""


class Charge(IntEnum):
    """What guest time is charged for on top of what the pipeline takes for instructions."""

    DATA_WALK = 0
    """References of page walks for accesses to data."""
    CODE_WALK = 1
    """The same for code that is fetched."""
    DATA_TLB_HIT = 2
    """Hits of the second-level TLB."""
    CODE_TLB_HIT = 3
    CACHE = 4
    """Accesses, and references of page walks, that missed a cache."""
    STRING = 5
    """Elements of repeated string instructions."""
    DRAIN = 6
    """Emptying the pipeline before an event."""
    EXCEPTION = 7
    """Exceptions delivered, to the guest's handler or to the hypervisor below a PV guest."""
    INTERRUPT = 8
    """Interrupts and NMIs delivered."""
    EXIT = 9
    """Exits, each at the price of its reason."""
    USER_DEVICE = 10
    """Exits that go on to the hypervisor's user space."""
    HYPERCALL = 11
    """The way into the hypervisor and out of it."""
    CALL = 12
    """What the function behind a hypercall asks for itself."""
    UPDATE = 13
    """Elements of the lists that hypercalls process."""
    ENTRY = 14
    """Page-table entries validated."""
    EMULATION = 15
    """Instructions emulated for a PV guest."""
    BOUNCED_CALL = 16
    """System calls that the hypervisor passes on to the kernel of a PV guest."""
    BOUNCED_EXCEPTION = 17
    """The same of exceptions."""
    BOUNCED_EVENT = 18
    """Events delivered to the kernel of a PV guest."""


EXCEPTIONS = {
    0: "#DE", 1: "#DB", 2: "NMI", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF", 10: "#TS", 11: "#NP",
    12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC", 19: "#XM",
}  # fmt: skip
"""Names of exceptions, those of the SDM (vol. 3, table 6-1)."""
EXCEPTIONS_WITH_ERROR = (8, 10, 11, 12, 13, 14, 17)
"""Those that push an error code."""


class SpanKind(IntEnum):
    """What a timeline has spans of (``Vcpu.timeline``), and what their ``number`` and ``value`` are."""

    EXIT = 0
    """The reason; what it is counted by besides, or all ones."""
    HYPERCALL = 1
    """Of a PV guest, also one in a list: its number. (Those of an HVM guest are exits, of ``VMCALL``.)"""
    PRIVILEGE = 2
    """A ``Privilege``."""
    ADDRESS_SPACE = 3
    """``value``: CR3."""
    WAITING = 4
    """For an interrupt."""
    EXCEPTION = 5
    """The guest's handler is entered, which takes no time: the vector; the error code, or the address of a page fault."""
    INTERRUPT = 6
    """So for one from outside, or an NMI: the vector."""
    SOFTWARE_INTERRUPT = 7
    """So for INT n."""
    UPCALL = 8
    """So for the events of a PV guest."""


class Privilege(IntEnum):
    """The levels between which a guest changes: those of the processor, and the two modes that a PV guest has at CPL 3."""

    CPL0 = 0
    CPL1 = 1
    CPL2 = 2
    CPL3 = 3
    PV_KERNEL = 4
    PV_USER = 5
