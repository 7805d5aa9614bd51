"""The published tables, as far as their figures are known here, and what does the same in hvmx."""

from __future__ import annotations

from . import signs
from .published import Column, Publication, Row, Unit

_NATIVE, _HARDWARE, _SOFTWARE = "native", "hardware VMM", "software VMM"

ADAMS_AGESEN = Publication(
    name="adams-agesen-2006",
    source="K. Adams and O. Agesen, A Comparison of Software and Hardware Techniques for x86 Virtualization, ASPLOS 2006",
    about="nanobenchmarks on a Pentium 4 672 at 3.8 GHz, natively and on the first VT-x, with shadow paging",
    unit=Unit.CYCLES,
    columns=(Column(_NATIVE, "native"), Column(_HARDWARE, "shadow"), Column(_SOFTWARE, why_not="not modelled (a binary translator)")),
    rows=(
        Row("in", {_NATIVE: 3209, _HARDWARE: 15826}, "in"),
        Row("cr8wr", {_SOFTWARE: 35}),
        Row("callret", {_NATIVE: 11, _HARDWARE: 11, _SOFTWARE: 51}, "callret"),
        Row("pgfault", {_NATIVE: 1093, _SOFTWARE: 3927}, "pgfault"),
        Row("divzero", {_NATIVE: 889, _HARDWARE: 1014, _SOFTWARE: 3223}, "divzero"),
        Row("ptemod", {_NATIVE: 1, _SOFTWARE: 391}, "ptemod"),
        Row(
            "syscall", {_NATIVE: 242, _HARDWARE: 242}, "syscall", certain=False,
            note="from memory, and unverified: it does not count",
        ),
    ),
    notes={"": "Where a place is empty the figure was not to be had, or there is none to hold against it."},
)  # fmt: skip

_KVM = "KVM"
_EXITS, _NO_EXIT = "exits", "what does not exit"

KVM_VMEXIT = Publication(
    name="kvm-vmexit",
    source="Linux commit b7ffc44d5b2e",
    about="kvm-unit-tests' vmexit under KVM, before that commit, on a processor that is not stated",
    unit=Unit.CYCLES,
    columns=(Column(_KVM, "ept"),),
    rows=(
        Row("cpuid", {_KVM: 1313}, "cpuid", _EXITS),
        Row("vmcall", {_KVM: 1195}, "vmcall", _EXITS),
        Row("inl_from_qemu", {_KVM: 6856}, "in-unassigned", _EXITS),
        Row("mov_from_cr8", {_KVM: 11}, "mov_from_cr8", _NO_EXIT),
        Row("mov_to_cr8", {_KVM: 17}, "mov_to_cr8", _NO_EXIT),
    ),
    notes={
        _NO_EXIT: "CR8 is far off since a profile has one price for a move to any control register (the class cr), which is meant "
        "for CR3, and one for a move from any (cr-read).",
    },
)

_EPT, _SHADOW, _PVM = "EPT", "shadow paging", "PVM"
_LINUX = "Linux's services"
_NOT_PVM = (
    "not modelled (it shadows its guests' page tables, which Xen's PV does not; `hvmx reproduce linux-signs` compares their signs)"
)


def _of_linux() -> tuple[Row, ...]:
    """Those of ``signs`` that are published as times."""
    rows = []
    for operation in signs.OPERATIONS:
        for isolation in (True, False):
            if (times := operation.published(isolation)) is not None:
                published = {_EPT: times.ept, _SHADOW: times.shadow, **({_PVM: times.pv} if times.pv else {})}
                rows.append(Row(operation.name, published, operation.name, _LINUX, isolation, kernel=True))
    return tuple(rows)


PVM_SOSP23 = Publication(
    name="pvm-sosp23",
    source="PVM (SOSP 2023)",
    about="KVM with EPT and with shadow paging, and PVM, on a Xeon Platinum 8269CY at 2.5 GHz",
    unit=Unit.MICROSECONDS,
    columns=(Column(_EPT, "ept"), Column(_SHADOW, "shadow"), Column(_PVM, why_not=_NOT_PVM)),
    rows=(
        Row("hypercall", {_EPT: 0.46, _PVM: 0.54}, "vmcall", _EXITS),
        Row(
            "exception", {_EPT: 1.66}, "undefined", _EXITS,
            note="KVM takes #UD as an exit and tries to emulate the instruction, for which EXCEPTION_NMI's price is too low",
        ),
        Row("msr", {_EPT: 0.87, _PVM: 2.53}, "rdmsr", _EXITS),
        Row("cpuid", {_EPT: 0.54, _PVM: 0.60}, "cpuid", _EXITS),
        Row("port-io", {_EPT: 3.39}, "in-unassigned", _EXITS, False),
        Row(
            "port-io", {_EPT: 3.79, _PVM: 4.91}, "", _EXITS, True,
            note="isolation of the host's own tables is not modelled",
        ),
        *_of_linux(),
    ),
    notes={
        _LINUX: "Linux's services are far off for what is not the same here: the kernel (theirs is 4.19); the program, of a few "
        "kilobytes where lmbench's has a C library, so that a fork has less to copy; what SYSCALL, SYSRET and SWAPGS take, "
        "which is assumed; and the processor of the source may run faster than its time-stamp counter, which is the profile's "
        "clock.",
    },
)  # fmt: skip
