"""XCR0 and CPUID as the default handlers have them: what may be enabled, and how the guest is told."""

from __future__ import annotations

import pytest
from bare_guest import bare

from hvmx import ExitReason, Machine, StopKind
from hvmx.hvm.cpuid import leaf
from hvmx.isa.levels import DEFAULT_LEVEL

ENABLE = "0f20e0 0d00000400 0f22e0"
"""mov eax, cr4; or eax, OSXSAVE; mov cr4, eax"""
OSXSAVE = 1 << 27


def without_idt(code: str) -> Machine:
    machine = bare(code)
    machine.cpu.idtr = 0, 0
    return machine


def xsetbv(number: int, value: int) -> str:
    """MOV ECX, EAX and EDX, and the instruction."""
    words = (number, value & 0xFFFFFFFF, value >> 32)
    moves = " ".join(f"{op} {word.to_bytes(4, 'little').hex()}" for op, word in zip(("b9", "b8", "ba"), words, strict=True))
    return f"{moves} 0f01d1"


@pytest.mark.parametrize("value", [1, 3])
def test_xcr0_takes_the_components_that_cpuid_names(value: int) -> None:
    machine = without_idt(f"{ENABLE} {xsetbv(0, value)} 31c9 0f01d0 f4")  # xor ecx, ecx; xgetbv; hlt
    assert machine.run(100_000).kind is StopKind.HALTED
    assert (machine.cpu.rax, machine.cpu.rdx, machine.cpu.xcr0) == (value, 0, value)
    assert machine.exits.statistics()[ExitReason.XSETBV].count == 1


@pytest.mark.parametrize(
    ("number", "value"), [(0, 0), (0, 2), (0, 7), (0, 1 << 63 | 3), (0, 1 << 32 | 1), (1, 3)]
)
def test_what_xcr0_cannot_hold_is_a_general_protection_fault(number: int, value: int) -> None:
    machine = without_idt(f"{ENABLE} {xsetbv(number, value)} f4")
    machine.cpu.exception_bitmap = 1 << 13
    seen = []
    machine.exits.on(ExitReason.EXCEPTION_NMI, lambda vcpu, exit: seen.append((exit.vector, exit.error_code)))
    machine.run(100_000)
    assert seen[:1] == [(13, 0)]
    assert machine.cpu.xcr0 == 1


def test_cpuid_shows_whether_the_system_has_enabled_xsave() -> None:
    machine = without_idt(f"b801000000 0fa2 89cf {ENABLE} b801000000 0fa2 f4")  # mov eax, 1; cpuid; mov edi, ecx; ...
    assert machine.run(100_000).kind is StopKind.HALTED
    assert machine.cpu.rdi ^ machine.cpu.rcx == OSXSAVE
    assert machine.cpu.rcx & OSXSAVE


def test_the_leaf_of_extended_states_has_one_area_for_both_components() -> None:
    assert leaf(DEFAULT_LEVEL, 0, 0)[0] == 0xD
    assert leaf(DEFAULT_LEVEL, 0xD, 0) == (3, 576, 576, 0)
    assert leaf(DEFAULT_LEVEL, 0xD, 1) == (1, 0, 0, 0), "XSAVEOPT, but neither XSAVEC nor XGETBV with ECX = 1 nor XSAVES"
    assert leaf(DEFAULT_LEVEL, 0xD, 2) == (0, 0, 0, 0)
