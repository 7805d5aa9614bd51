"""External interrupts: when they are taken, and the shadows of STI and MOV SS; turning long mode on and off."""

from __future__ import annotations

import struct

import pytest

from hvmx.core.exit_info import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.platform import Platform
from hvmx.vocabulary import Control, ExitReason

from .machine import CODE, IDT, MEMORY, STUBS, TABLES, assemble, run_hvmx, world


class Controller(Platform):
    """Nothing but an interrupt controller with one request at a time."""

    def __init__(self, cpu: Vcpu, vector: int) -> None:
        self.cpu, self.vector = cpu, vector

    def acknowledge_interrupt(self) -> int:
        self.cpu.set_interrupt(False)
        return self.vector


def _guest(source: str) -> Vcpu:
    """A guest at the first instruction of its code; the handlers of its interrupts and exceptions halt."""
    state = world(32, assemble(32, [f"{source}; hlt"])[0])
    cpu = Vcpu(MEMORY)
    for at, data in state.memory.items():
        cpu.write(at, data)
    cpu.cr0 = state.cr0
    cpu.gdtr, cpu.idtr = state.gdtr, state.idtr
    for name, segment in state.segments.items():
        cpu.set_segment(name, *segment)
    for name, value in state.registers.items():
        setattr(cpu, name, value)
    cpu.set_handler(ExitReason.INTERRUPT_WINDOW, lambda vcpu, exit: None)
    return cpu


def _interrupted(source: str, *, iret: bool = False) -> Vcpu:
    """The guest with interrupt 32 pending from its first instruction on; its handler halts, or returns."""
    cpu = _guest(source)
    if iret:
        cpu.write(STUBS + 16 * 32, b"\x41\xcf")  # inc ecx; iret
    cpu.platform = Controller(cpu, 32)
    cpu.set_interrupt(True)
    cpu.run(cycles=10_000)
    return cpu


def _return_address(cpu: Vcpu) -> int:
    return int.from_bytes(cpu.read(cpu.rsp, 4), "little")


@pytest.mark.parametrize(("source", "taken_after"), [
    ("sti; inc ebx; inc ebx", 2), ("sti; sti; inc ebx; inc ebx", 2), ("cli; sti; cli; sti; inc ebx", 5),
    ("push 0x202; popf; inc ebx", 6), ("mov eax, ss; sti; mov ss, eax; inc ebx; inc ebx", 6),
], ids=str)  # fmt: skip
def test_interrupts_wait_for_the_end_of_the_shadow(source: str, taken_after: int) -> None:
    cpu = _interrupted(source)
    assert cpu.rip == STUBS + 16 * 32 + 1
    assert _return_address(cpu) == CODE + taken_after


def test_sti_then_hlt_wakes_and_goes_on_after_the_halt() -> None:
    cpu = _interrupted("sti; hlt; inc ebx; cli", iret=True)
    assert cpu.rbx == 0x4040404 + 1 and cpu.rcx == 0x2020202 + 1


def test_nothing_is_taken_with_interrupts_off() -> None:
    cpu = _interrupted("inc ebx")
    assert cpu.rip == CODE + 2 and cpu.rbx == 0x4040404 + 1


def test_an_nmi_is_taken_with_interrupts_off() -> None:
    cpu = _guest("inc ebx")
    cpu.raise_nmi()
    cpu.run(cycles=10_000)
    assert cpu.rip == STUBS + 16 * 2 + 1 and _return_address(cpu) == CODE


def test_a_second_nmi_waits_for_the_iret_of_the_first_and_a_third_is_lost() -> None:
    cpu = _guest("inc ebx; inc ebx")
    cpu.write(STUBS + 16 * 2, assemble(32, ["inc ecx; nop; nop; iret"])[0])
    cpu.raise_nmi()
    for _ in range(3):  # its delivery, and two instructions of its handler
        cpu.step()
    before = cpu.rsp
    cpu.raise_nmi()
    cpu.raise_nmi()
    cpu.step()
    assert cpu.rsp == before, "no second frame on the stack of the first"
    cpu.run(cycles=10_000)
    assert cpu.rcx == 0x2020202 + 2 and cpu.rbx == 0x4040404 + 2


class Refused(Exception):
    """What a handler of these tests raises."""


@pytest.mark.parametrize("event", ["interrupt", "nmi", "trap"])
def test_an_event_whose_delivery_a_handler_breaks_off_is_delivered_when_the_guest_goes_on(event: str) -> None:
    cpu = _guest("sti; inc ebx; inc ebx; inc ebx")
    vector = {"interrupt": 32, "nmi": 2, "trap": 1}[event]
    refuse = True

    def device(vcpu: Vcpu, exit: Exit) -> None:
        if refuse and not exit.is_write:
            raise Refused
        exit.value = int.from_bytes(idt[exit.guest_physical - IDT :][: exit.width], "little")

    idt = cpu.read(IDT, 0x200)
    cpu.add_hole(IDT, 0x1000)
    cpu.set_handler(ExitReason.EPT_MISCONFIG, device)
    if event == "interrupt":
        cpu.platform = Controller(cpu, 32)
        cpu.set_interrupt(True)
    elif event == "nmi":
        cpu.raise_nmi()
    else:
        cpu.rflags |= 1 << 8
    for _ in range(3):
        with pytest.raises(Refused):
            cpu.run(cycles=10_000)
    refuse = False
    cpu.run(cycles=10_000)
    assert cpu.rip == STUBS + 16 * vector + 1
    assert _return_address(cpu) == {"interrupt": CODE + 2, "nmi": CODE, "trap": CODE + 1}[event]


LONG_MODE = (
    f"mov eax, {TABLES}; mov cr3, eax; mov eax, 0x20; mov cr4, eax; mov ecx, 0xc0000080; mov eax, 0x100; xor edx, edx; "
    "wrmsr; mov eax, 0x80000011; mov cr0, eax; "
)  # fmt: skip


def _tables() -> dict[int, bytes]:
    return {TABLES: struct.pack("<Q", TABLES + 0x1000 | 7), TABLES + 0x1000: struct.pack("<Q", TABLES + 0x2000 | 7),
            TABLES + 0x2000: struct.pack("<Q", 0x87)}  # fmt: skip


def test_long_mode_is_entered_and_left() -> None:
    source = (LONG_MODE + "rdmsr; mov ebx, eax; .byte 0xea; .long 1f; .word 0x28; .code64; 1: mov r15, -1; push 8; push offset 2f; "
              "rex.w lret; .code32; 2: mov eax, 0x11; mov cr0, eax; rdmsr; hlt")  # fmt: skip
    state = world(32, assemble(64, [".code32; " + source])[0])
    state.memory.update(_tables())
    after = run_hvmx(state)
    assert after.registers["rbx"] == 0x500, "EFER.LME and LMA"
    assert after.registers["r15"] == 2**64 - 1
    assert after.registers["rax"] == 0x100 and after.efer == 0x100
    assert after.segments["cs"][0] == 8


def test_long_mode_needs_pae() -> None:
    state = world(32, assemble(32, [LONG_MODE.replace("0x20;", "0;") + "hlt"])[0])
    after = run_hvmx(state)
    assert after.registers["rip"] == STUBS + 16 * 13 + 1 and not after.cr0 >> 31


def test_pae_paging_refuses_reserved_bits_in_its_pointers() -> None:
    source = f"mov eax, {TABLES}; mov cr3, eax; mov eax, 0x20; mov cr4, eax; mov eax, 0x80000011; mov cr0, eax; hlt"
    for entry, refused in ((TABLES + 0x2000 | 1, False), (TABLES + 0x2000 | 3, True)):
        state = world(32, assemble(32, [source])[0])
        state.memory.update({TABLES: struct.pack("<4Q", entry, 0, 0, 0), TABLES + 0x2000: struct.pack("<Q", 0x87)})
        after = run_hvmx(state)
        assert bool(after.cr0 >> 31) != refused
        assert (after.registers["rip"] == STUBS + 16 * 13 + 1) == refused


def test_a_handler_may_inject_any_vector() -> None:
    cpu = _guest("cpuid")
    cpu.exception_bitmap = 1 << 8
    cpu.set_handler(ExitReason.CPUID, lambda vcpu, exit: vcpu.inject(40))
    before = cpu.rsp
    cpu.run(cycles=10_000)
    assert cpu.rip == STUBS + 16 * 40 + 1
    assert cpu.rsp == before - 12, "no error code, whatever vector 8 has"
    assert _return_address(cpu) == CODE
    assert not int.from_bytes(cpu.read(cpu.rsp + 8, 4), "little") & 1 << 16, "and no RF: it is no fault"


@pytest.mark.parametrize("reason", [ExitReason.INTERRUPT_WINDOW, ExitReason.EXTERNAL_INTERRUPT])
def test_an_exception_injected_between_instructions_comes_before_the_interrupt_and_loses_none(reason: int) -> None:
    cpu = _guest("nop; sti; nop; inc ebx")
    cpu.write(STUBS + 16 * 32, b"\x41\xcf")  # inc ecx; iret
    cpu.write(STUBS + 16 * 6, b"\x42\xcf")  # inc edx; iret
    cpu.platform = Controller(cpu, 32)
    cpu.controls = Control.EXTERNAL_INTERRUPT
    cpu.deadline = 0
    cpu.platform.advance = lambda now: cpu.set_interrupt(True)
    cpu.platform.next_event = lambda: None
    cpu.set_handler(ExitReason.EXTERNAL_INTERRUPT, lambda vcpu, exit: None)
    once = [6]
    cpu.set_handler(reason, lambda vcpu, exit: vcpu.inject(once.pop()) if once else None)
    cpu.run(cycles=10_000)
    assert (cpu.rbx, cpu.rcx, cpu.rdx) == (0x4040404 + 1, 0x2020202 + 1, 0x3030303 + 1)


def test_an_exception_injected_before_a_step_is_the_step() -> None:
    cpu = _guest("inc ebx")
    cpu.inject(6)
    cpu.step()
    assert cpu.rip == STUBS + 16 * 6 and _return_address(cpu) == CODE


RESUME = 0x10000  # RF


@pytest.mark.parametrize("count", [1, 3])
def test_a_trap_within_a_repetition_pushes_rf(count: int) -> None:
    """After any iteration but the last (SDM vol. 3, 17.3.1.1)."""
    cpu = _guest(f"mov ecx, {count}; pushf; or dword ptr [esp], 0x100; popf; rep stosb")
    cpu.run(cycles=10_000)
    assert (cpu.rip, cpu.rcx) == (STUBS + 16 + 1, count - 1)
    assert bool(int.from_bytes(cpu.read(cpu.rsp + 8, 4), "little") & RESUME) == (count > 1)


def test_an_interrupt_within_a_repetition_pushes_rf_and_one_after_it_does_not() -> None:
    cpu = _guest("mov ecx, 1000; sti; nop; rep stosb; nop")
    cpu.write(STUBS + 16 * 32, b"\x5a\x59\x5b\xf4")  # pop edx; pop ecx; pop ebx; hlt
    cpu.platform = Controller(cpu, 32)
    while cpu.rcx != 998:
        cpu.step()
    repetition = cpu.rip
    cpu.set_interrupt(True)
    cpu.run(cycles=10_000)
    assert (cpu.rdx, cpu.rbx & RESUME) == (repetition, RESUME)
    cpu = _guest("mov ecx, 1; sti; nop; rep stosb; nop")
    cpu.write(STUBS + 16 * 32, b"\x5a\x59\x5b\xf4")
    cpu.platform = Controller(cpu, 32)
    while cpu.rcx:
        cpu.step()
    cpu.set_interrupt(True)
    cpu.run(cycles=10_000)
    assert (cpu.rdx, cpu.rbx & RESUME) == (repetition + 2, 0)


def test_rf_lasts_for_one_instruction() -> None:
    """What IRET loads holds off the breakpoint on the next instruction, but not on the one after (SDM vol. 3, 17.3.1.1)."""
    cpu = _guest("push 0x10002; push 8; push offset 1f; iret; 1: inc ebx; inc ebx")
    first = cpu.rip + 5 + 2 + 5 + 1
    cpu.dr0, cpu.dr1, cpu.dr7 = first, first + 1, 0xF
    cpu.run(cycles=10_000)
    assert cpu.rip == STUBS + 16 + 1
    assert (_return_address(cpu), cpu.dr6 & 0xF) == (first + 1, 2)
