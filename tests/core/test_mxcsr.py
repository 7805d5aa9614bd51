"""Whatever reads the guest's MXCSR finds every flag that the guest has raised, and none of the host's own."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable

import pytest

from hvmx.core.vcpu import Vcpu
from hvmx.vocabulary import ExitReason

from .machine import CODE, DATA, MEMORY, assemble, world

POWER_UP, IE, ZE, OE, PE, ROUND_UP = 0x1F80, 0x01, 0x04, 0x08, 0x20, 0x4000
FE_DIVBYZERO, FE_ALL = 0x04, 0x3D
ONE, THREE, HUGE, ZERO, STORED, AREA = (DATA + 0x400 + 16 * index for index in range(6))
"""Doubles in the guest's memory, 16 bytes each, two alike; where a test stores; where there is room for 512 bytes."""


def guest(source: str, on_cpuid: Callable[[Vcpu], None] = lambda vcpu: None) -> Vcpu:
    """A 64-bit guest that has run `source`: xmm1 is 1.0 twice, xmm0 zero, MXCSR as it comes up."""
    state = world(64, assemble(64, [f"movapd xmm1, [{ONE}]; {source}; hlt"])[0])
    cpu = Vcpu(MEMORY)
    cpu.set_handler(ExitReason.TRIPLE_FAULT, lambda vcpu, exit: None)
    cpu.set_handler(ExitReason.CPUID, lambda vcpu, exit: on_cpuid(vcpu))
    for at, data in state.memory.items():
        cpu.write(at, data)
    for at, number in ((ONE, 1.0), (THREE, 3.0), (HUGE, 1e308), (ZERO, 0.0)):
        cpu.write(at, struct.pack("<2d", number, number))
    cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer = state.cr0, state.cr3, state.cr4 | 0x40600, state.efer
    cpu.xcr0 = 3
    cpu.gdtr, cpu.idtr = state.gdtr, state.idtr
    for name, segment in state.segments.items():
        cpu.set_segment(name, *segment)
    for name, value in state.registers.items():
        setattr(cpu, name, value)
    cpu.run(cycles=100_000)
    assert cpu.halted, f"the guest is at {cpu.rip:#x}, not beyond {CODE:#x}"
    return cpu


def stored(cpu: Vcpu) -> int:
    return int.from_bytes(cpu.read(STORED, 4), "little")


DIVIDE = f"divpd xmm1, [{THREE}]"


@pytest.mark.parametrize(
    ("source", "flags"),
    [
        (f"addsd xmm1, [{ONE}]", 0),
        (f"divsd xmm1, [{THREE}]", PE),
        (f"mulpd xmm1, [{HUGE}]; mulpd xmm1, [{HUGE}]", OE | PE),
        (f"divpd xmm1, [{ZERO}]", ZE),
        (f"divsd xmm1, [{THREE}]; divsd xmm1, [{ZERO}]; subsd xmm1, xmm1", IE | ZE | PE),
        (f"{DIVIDE}; mov rax, 5; cvtsi2sd xmm2, rax; ucomisd xmm2, xmm1", PE),
    ],
)
@pytest.mark.parametrize("times", [1, 3])
def test_stmxcsr_saved_images_and_the_embedder_find_the_flags(source: str, flags: int, times: int) -> None:
    image = (AREA + 63) & ~63
    body = "; ".join([f"movapd xmm1, [{ONE}]; {source}"] * times)
    for save in ("fxsave", "mov eax, 3; cdq; xsave", "mov eax, 3; cdq; xsaveopt"):
        cpu = guest(f"{body}; {save} [{image}]")
        assert int.from_bytes(cpu.read(image + 24, 4), "little") == POWER_UP | flags, save
        assert cpu.mxcsr == POWER_UP | flags
    assert stored(guest(f"{body}; stmxcsr [{STORED}]")) == POWER_UP | flags


def test_ldmxcsr_clears_flags_that_have_been_raised() -> None:
    clear = f"mov dword ptr [{AREA}], {POWER_UP}; ldmxcsr [{AREA}]"
    cpu = guest(f"{DIVIDE}; {DIVIDE}; {clear}; addpd xmm0, xmm0; stmxcsr [{STORED}]")
    assert stored(cpu) == POWER_UP


@pytest.mark.parametrize(("save", "restore"), [("fxsave", "fxrstor"), ("xsave", "xrstor")])
def test_a_restored_image_replaces_flags_that_have_been_raised(save: str, restore: str) -> None:
    image = (AREA + 63) & ~63
    cpu = guest(
        f"mov eax, 3; cdq; {save} [{image}]; {DIVIDE}; {DIVIDE}; {restore} [{image}];"
        f"addpd xmm0, xmm0; stmxcsr [{STORED}]"
    )
    assert stored(cpu) == POWER_UP


def test_rounding_changes_between_two_instructions() -> None:
    cpu = guest(
        f"{DIVIDE}; mov dword ptr [{AREA}], {POWER_UP | ROUND_UP}; ldmxcsr [{AREA}]; movapd xmm2, [{ONE}];"
        f"divpd xmm2, [{THREE}]; mov dword ptr [{AREA}], {POWER_UP}; ldmxcsr [{AREA}]; movapd xmm3, [{ONE}];"
        f"divpd xmm3, [{THREE}]; movsd [{STORED}], xmm2; movsd [{STORED + 8}], xmm3"
    )
    up, nearest = struct.unpack("<2Q", cpu.read(STORED, 16))
    assert (up, nearest) == (0x3FD5555555555556, 0x3FD5555555555555)


def test_an_unmasked_exception_is_raised_after_masked_ones() -> None:
    cpu = guest(
        f"{DIVIDE}; {DIVIDE}; mov dword ptr [{AREA}], {POWER_UP & ~(ZE << 7)}; ldmxcsr [{AREA}]; divpd xmm1, [{ZERO}]"
    )
    assert cpu.rip == 0x4000 + 16 * 19 + 1, "the handler of #XM"
    assert cpu.mxcsr == POWER_UP & ~(ZE << 7) | ZE


def test_exit_handlers_see_the_flags_and_leave_none() -> None:
    seen = []

    def compute(vcpu: Vcpu) -> None:
        seen.append(vcpu.mxcsr)
        assert 1e200 * float(len(seen)) / 3.0 > 0  # inexact, on the host

    cpu = guest(f"addpd xmm0, xmm0; cpuid; addpd xmm0, xmm0; cpuid; {DIVIDE}; {DIVIDE}; cpuid", compute)
    assert seen == [POWER_UP, POWER_UP, POWER_UP | PE]
    assert cpu.mxcsr == POWER_UP | PE


def test_a_handler_may_change_mxcsr() -> None:
    def round_up(vcpu: Vcpu) -> None:
        vcpu.mxcsr = POWER_UP | ROUND_UP

    cpu = guest(f"addpd xmm0, xmm0; addpd xmm0, xmm0; cpuid; {DIVIDE}; movsd [{STORED}], xmm1", round_up)
    assert cpu.read(STORED, 8) == struct.pack("<Q", 0x3FD5555555555556)
    assert cpu.mxcsr == POWER_UP | ROUND_UP | PE


def test_the_guest_leaves_no_flag_in_the_hosts_unit() -> None:
    unit = ctypes.CDLL("libm.so.6")
    unit.feclearexcept(FE_ALL)
    cpu = guest(f"{DIVIDE}; divpd xmm1, [{ZERO}]; divpd xmm1, [{ZERO}]")
    assert cpu.mxcsr & ZE
    assert not unit.fetestexcept(FE_DIVBYZERO)
