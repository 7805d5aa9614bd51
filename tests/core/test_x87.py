"""The x87 unit beside its arithmetic: the layouts of its state, the host's unit, and when #MF comes."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from hvmx.platform import Platform
from hvmx.vocabulary import ExitReason

core = pytest.importorskip("hvmx.core.vcpu", reason="the core is not built")

CODE_BASE, CODE, DATA_BASE, DATA, IMAGE = 0x12340, 0x100, 0x23450, 0x200, 0x300
NE, ET, PE = 0x20, 0x10, 1
VECTOR_MF, HANDLER = 16, 0x800
FLD_M32, FDIV_M32 = "d9060002", "d8360402"
FNINIT, FWAIT, HLT = "dbe3", "9b", "f4"


def machine(code: str, protected: bool = False) -> Any:
    """A processor in 16-bit code at CODE_BASE:CODE, with 1.0 and 0.0 in memory; #MF goes to 0:HANDLER in real mode."""
    cpu = core.Vcpu(memory_bytes=1 << 20)
    cpu.cr0 = NE | ET | PE * protected
    cpu.set_segment("cs", CODE_BASE >> 4, CODE_BASE, 0xFFFF, 0x9B)
    cpu.set_segment("ds", DATA_BASE >> 4, DATA_BASE, 0xFFFF, 0x93)
    cpu.set_segment("ss", 0, 0, 0xFFFF, 0x93)
    cpu.rsp = 0x1000
    cpu.write(4 * VECTOR_MF, struct.pack("<HH", HANDLER, 0))
    cpu.write(CODE_BASE + CODE, bytes.fromhex(code))
    cpu.write(DATA_BASE + DATA, struct.pack("<ff", 1.0, 0.0))
    cpu.rip = CODE
    return cpu


def step(cpu: Any, count: int) -> None:
    for _ in range(count):
        cpu.step()


FDIV_AT, ZERO_AT, FDIV_OPCODE = CODE + 6, DATA + 4, 0x036
LINEAR_FDIV, LINEAR_ZERO = CODE_BASE + FDIV_AT, DATA_BASE + ZERO_AT
STATUS, TAGS = 0x3804, 0xBFFF
"""Division by zero; ST(0), which is register 7, holds an infinity: special."""


@pytest.mark.parametrize(
    ("prefix", "protected", "image"),
    [
        ("", False, struct.pack("<7H", 0x37F, STATUS, TAGS, LINEAR_FDIV & 0xFFFF, LINEAR_FDIV >> 16 << 12 | FDIV_OPCODE,
                                LINEAR_ZERO & 0xFFFF, LINEAR_ZERO >> 16 << 12)),
        ("66", False, struct.pack("<6HHHHHI", 0x37F, 0xFFFF, STATUS, 0xFFFF, TAGS, 0xFFFF, LINEAR_FDIV & 0xFFFF, 0xFFFF,
                                  LINEAR_FDIV >> 16 << 12 | FDIV_OPCODE, 0, LINEAR_ZERO & 0xFFFF | 0xFFFF0000)
                       + struct.pack("<I", LINEAR_ZERO >> 16 << 12)),
        ("", True, struct.pack("<7H", 0x37F, STATUS, TAGS, FDIV_AT, CODE_BASE >> 4, ZERO_AT, DATA_BASE >> 4)),
        ("66", True, struct.pack("<6HIHHIHH", 0x37F, 0xFFFF, STATUS, 0xFFFF, TAGS, 0xFFFF, FDIV_AT, CODE_BASE >> 4,
                                 FDIV_OPCODE, ZERO_AT, DATA_BASE >> 4, 0xFFFF)),
    ],
    ids=["real 16", "real 32", "protected 16", "protected 32"],
)  # fmt: skip
def test_environment_has_the_layout_of_mode_and_operand_size(prefix: str, protected: bool, image: bytes) -> None:
    """SDM volume 1, figures 8-9 to 8-12."""
    cpu = machine(FNINIT + FLD_M32 + FDIV_M32 + prefix + "d9360003", protected)
    step(cpu, 4)
    assert cpu.read(DATA_BASE + IMAGE, len(image)).hex(" ", 2) == image.hex(" ", 2)


@pytest.mark.parametrize("prefix", ["", "66"])
@pytest.mark.parametrize("protected", [False, True])
def test_state_that_is_saved_and_restored_is_the_same(prefix: str, protected: bool) -> None:
    save, restore = prefix + "dd360003", prefix + "dd260003"
    cpu = machine(FNINIT + FLD_M32 + FDIV_M32 + save + restore + prefix + "dd360004", protected)
    step(cpu, 4)
    assert cpu.read(DATA_BASE + IMAGE, 2) == b"\x7f\x03"
    step(cpu, 2)
    size = 108 if prefix else 94
    first, second = (cpu.read(DATA_BASE + at, size) for at in (IMAGE, IMAGE + 0x100))
    assert first == second


def test_unmasked_exception_comes_at_the_next_waiting_instruction() -> None:
    cpu = machine(FNINIT + "d92e1002" + FLD_M32 + FDIV_M32 + "dfe0" + FWAIT + HLT)
    cpu.write(DATA_BASE + 0x210, b"\x7b\x03")  # zero divide unmasked
    step(cpu, 5)
    assert cpu.rax & 0x80FF == 0x8084, "FNSTSW does not wait, and shows the exception"
    cpu.step()
    assert cpu.rip == HANDLER
    assert struct.unpack("<H", cpu.read(cpu.rsp, 2))[0] == CODE + 16, "the fault is of FWAIT"


def test_guest_leaves_the_control_word_of_the_host_alone() -> None:
    third = np.longdouble(1) / np.longdouble(3)
    cpu = machine(FNINIT + "d92e1002" + FLD_M32 + "d8060002")
    cpu.write(DATA_BASE + 0x210, b"\x7f\x0c")  # single precision, towards zero
    step(cpu, 4)
    assert (np.longdouble(1) / np.longdouble(3)).tobytes()[:10] == third.tobytes()[:10]


class ErrorWire(Platform):
    """A platform on which FERR# is an interrupt of its own."""

    def __init__(self, cpu: Any) -> None:
        self.cpu, self.errors = cpu, 0

    def numeric_error(self) -> None:
        self.errors += 1
        self.cpu.set_interrupt(True)

    def acknowledge_interrupt(self) -> int:
        self.cpu.set_interrupt(False)
        return 0x75


INTERRUPT_FLAG, ZERO_DIVIDE, SUMMARY = 1 << 9, 0x04, 0x80
FNCLEX, IRET, UNMASKED_AT = "dbe2", "cf", "d92e8002"


def failing_division(handler: str, rest: str, flags: int = INTERRUPT_FLAG) -> Any:
    """1.0 divided by 0.0, unmasked, with CR0.NE clear; then WAIT and the rest; the handler of the error's interrupt."""
    cpu = machine(FNINIT + UNMASKED_AT + FLD_M32 + FDIV_M32 + FWAIT + rest)
    cpu.write(DATA_BASE + 0x280, struct.pack("<H", 0x37F & ~ZERO_DIVIDE))
    cpu.write(4 * 0x75, struct.pack("<HH", HANDLER, 0))
    cpu.write(HANDLER, bytes.fromhex(handler))
    cpu.cr0 = ET
    cpu.rflags |= flags
    cpu.set_handler(ExitReason.INTERRUPT_WINDOW, lambda vcpu, exit: None)
    cpu.platform = ErrorWire(cpu)
    return cpu


WAIT_AT = CODE + 2 + 4 + 4 + 4


def test_without_ne_the_next_instruction_waits_for_the_interrupt_that_ferr_brings() -> None:
    cpu = failing_division(HLT, HLT)
    cpu.run(cycles=10_000)
    assert cpu.platform.errors == 1
    assert cpu.rip == HANDLER + 1
    assert struct.unpack("<H", cpu.read(cpu.rsp, 2)) == (WAIT_AT,), "the interrupt returns to the instruction that waits"


def test_a_handler_that_clears_the_error_lets_the_instruction_go_on() -> None:
    cpu = failing_division(FNCLEX + IRET, HLT)
    cpu.run(cycles=10_000)
    assert (cpu.rip, cpu.platform.errors, cpu.fsw & SUMMARY) == (WAIT_AT + 2, 1, 0)


def test_ignne_lets_x87_instructions_go_on_until_the_next_error() -> None:
    out_f0 = "e6f0"
    cpu = failing_division(out_f0 + IRET, FWAIT + FNCLEX + FDIV_M32 + FWAIT + HLT)
    statuses = []

    def ignore(vcpu: Any, exit: Any) -> None:
        statuses.append(vcpu.fsw & SUMMARY)
        vcpu.ignore_numeric_error()

    cpu.io_bitmap[:] = 0xFF
    cpu.set_handler(ExitReason.IO_INSTRUCTION, ignore)
    cpu.run(cycles=10_000)
    assert statuses == [SUMMARY] * 2, "once for each division, not for the WAIT after the first"
    assert cpu.platform.errors == 2
    assert cpu.fsw & SUMMARY and cpu.rip == WAIT_AT + 2 + 2 + 4 + 2


def test_with_interrupts_off_it_waits_for_good() -> None:
    cpu = failing_division(HLT, HLT, flags=0)
    halted = 2
    assert cpu.run(cycles=10_000) == halted
    assert (cpu.rip, cpu.platform.errors) == (WAIT_AT, 1)
