"""What looking into a guest shows, and that it shows only what is there."""

from __future__ import annotations

import pytest

from hvmx.debug.code import disassemble, read_linear
from hvmx.debug.crash import DEEPEST, backtrace, crash_report
from hvmx.machine import Machine

SEGMENT = {"base": 0, "limit": 0xFFFFFFFF}
CODE_32, DATA_32 = 0xC09B, 0xC093


@pytest.fixture
def machine() -> Machine:
    """A bare processor of 1 MiB in 32-bit protected mode, without paging."""
    machine = Machine("1M", board=False)
    machine.cpu.cr0 = 0x11
    machine.cpu.set_segment("cs", 8, SEGMENT["base"], SEGMENT["limit"], CODE_32)
    for name in ("ss", "ds", "es"):
        machine.cpu.set_segment(name, 16, SEGMENT["base"], SEGMENT["limit"], DATA_32)
    return machine


def chain(machine: Machine, frames: list[tuple[int, int, int]]) -> None:
    """Put frames (address, address of the caller's frame, return address) into memory; the first is the innermost."""
    machine.cpu.rbp = frames[0][0]
    for address, above, back in frames:
        machine.cpu.write(address, above.to_bytes(4, "little") + back.to_bytes(4, "little"))


def test_a_backtrace_follows_frame_pointers_up(machine: Machine) -> None:
    chain(machine, [(0x8000, 0x8100, 0x1111), (0x8100, 0x8200, 0x2222), (0x8200, 0, 0x3333)])
    assert list(backtrace(machine.cpu)) == [0x1111, 0x2222, 0x3333]


@pytest.mark.parametrize(
    "frames",
    [
        [(0x8000, 0x8000, 0x1111)],
        [(0x8000, 0x7000, 0x1111), (0x7000, 0x8000, 0x2222)],
        [(0x8000, 0xFFFFFFF0, 0x1111)],
    ],
    ids=["itself", "down", "nowhere"],
)
def test_a_backtrace_ends_where_frames_make_no_sense(
    machine: Machine, frames: list[tuple[int, int, int]]
) -> None:
    chain(machine, frames)
    assert list(backtrace(machine.cpu)) == [0x1111]


def test_a_backtrace_of_an_endless_chain_ends(machine: Machine) -> None:
    chain(machine, [(0x8000 + 8 * n, 0x8008 + 8 * n, 0x1111) for n in range(2 * DEEPEST)])
    assert len(list(backtrace(machine.cpu))) == DEEPEST


def test_memory_is_read_as_far_as_it_is_there(machine: Machine) -> None:
    machine.cpu.write(0xFFFFE, b"\x90\xf4")
    assert read_linear(machine.cpu, 0xFFFFE, 16) == b"\x90\xf4"
    assert read_linear(machine.cpu, 0x200000, 16) == b""


def test_an_instruction_at_the_end_of_memory_is_disassembled(machine: Machine) -> None:
    machine.cpu.write(0xFFFFF, b"\xf4")
    assert disassemble(machine.cpu, 0xFFFFF).endswith("hlt")


def test_what_is_no_instruction_is_called_so(machine: Machine) -> None:
    machine.cpu.write(0x1000, b"\xff\xff")
    assert disassemble(machine.cpu, 0x1000).endswith("(no instruction)")
    assert disassemble(machine.cpu, 0x200000).endswith("(no memory is mapped here)")


def test_a_crash_report_holds_the_last_exits_with_where_they_were(machine: Machine) -> None:
    machine.cpu.write(0x1000, bytes.fromhex("0f a2 e4 80 0f 0b"))  # cpuid; in al, 0x80; ud2
    machine.cpu.rip = 0x1000
    machine.cpu.idtr = (0, 0)
    machine.run(timeout=10)
    exits = crash_report(machine.cpu, "a test").split("latest last:")[1].split("\n")[1:]
    assert [line.split("  ")[2:] for line in exits] == [
        [f"rip {0x1000:#018x}", "EPT_VIOLATION page 0x1000"],
        [f"rip {0x1000:#018x}", "CPUID"],
        [f"rip {0x1002:#018x}", "IO_INSTRUCTION port 0x80"],
        [f"rip {0x1004:#018x}", "TRIPLE_FAULT"],
    ]
    cycles = [int(line.split()[1]) for line in exits]
    assert cycles == sorted(cycles)
    assert cycles[0] < cycles[-1]
