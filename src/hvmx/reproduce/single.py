"""Single operations on the bare machine, in guest cycles: ``bare/operations.S``, as HVM or without a hypervisor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from hvmx.comparison.runs import GuestFailed, empty_machine
from hvmx.comparison.ways import Way
from hvmx.cost import Profile
from hvmx.stops import StopKind

from .build import BARE_ADDRESS

BUILT = Path(__file__).parent / "built" / "operations"

PORTS = frozenset({"in", "in-unassigned"})
"""Operations that access a port."""

_ROW = 24
"""Bytes of the image's table for an operation: its name and the address where it is entered."""
_NAME = 16

_UNDEFINED = 1 << 6
"""#UD, which KVM takes as an exit: it emulates what the processor has not (vmx_update_exception_bitmap)."""

_PATIENCE = 100_000_000
"""Guest cycles."""


@cache
def entries() -> Mapping[str, int]:
    """Where each operation is entered, by name. ``FileNotFoundError`` where the package was built without it."""
    if not BUILT.exists():
        raise FileNotFoundError(f"{BUILT}: it is built on x86 hosts with gcc and binutils, and was not here")
    image, found = BUILT.read_bytes(), {}
    for start in range(0, len(image), _ROW):
        name = image[start : start + _NAME].rstrip(b"\0").decode()
        if not name:
            break
        found[name] = int.from_bytes(image[start + _NAME : start + _ROW], "little")
    return found


def cycles(operation: str, profile: Profile, way: Way) -> float:
    """Guest cycles of an operation, without the loop around it. ``GuestFailed`` if it does not come to its end."""
    return _round(operation, profile, way) - _round("empty", profile, way)


def _round(operation: str, profile: Profile, way: Way) -> float:
    machine = empty_machine(way, profile, "4M")
    machine.cpu.exception_bitmap |= _UNDEFINED
    machine.load(BUILT, load_address=BARE_ADDRESS, entry=entries()[operation], bits=64)
    stop = machine.run(cycles=_PATIENCE)
    if stop.kind is not StopKind.HALTED or not machine.cpu.rcx:
        raise GuestFailed(f"{operation}, {way.title}: {stop.reason or stop.kind.value} at {machine.cpu.rip:#x}")
    return float(machine.cpu.rax / machine.cpu.rcx)
