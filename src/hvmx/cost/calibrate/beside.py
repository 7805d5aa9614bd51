"""Measures of this computer what no figure of a profile means: the operating system is in it."""

from __future__ import annotations

from .bench import Bench, Step
from .instructions import INTEGERS

_GETPPID, _MADVISE, _DONTNEED = 110, 28, 4
"""Numbers of Linux's system calls on x86-64, and the advice that gives pages back."""

_PAGES, _PAGE = 8, 4096
"""From R12 to the end of the scratch memory."""


def beside_steps() -> list[Step]:
    """For comparison with a guest that does the same, in whose time its own kernel is."""
    return [Step("system call", _system_call), Step("page fault", _page_fault)]


def _system_call(bench: Bench) -> None:
    """getppid() there and back. A profile's syscall and sysret are the two instructions alone."""
    series = bench.time(f"mov eax, {_GETPPID}; syscall", copies=1)
    bench.beside["getppid(), the host's kernel included"] = f"{series.value:.0f} core cycles"


def _page_fault(bench: Bench) -> None:
    """Pages of zeros are given back and touched again; what giving back takes by itself is taken off."""
    give = f"mov rdi, r12; mov esi, {_PAGES * _PAGE}; mov edx, {_DONTNEED}; mov eax, {_MADVISE}; syscall"
    touch = "; ".join(["mov [r12], al", *(f"mov [r12+{number * _PAGE}], al" for number in range(1, _PAGES))])
    both, alone = (bench.time(text, INTEGERS, copies=1).value for text in (f"{give}; {touch}", give))
    bench.beside["a page fault, the host's kernel included"] = f"{(both - alone) / _PAGES:.0f} core cycles"
