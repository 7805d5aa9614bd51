"""What looking into a guest shows, and that it shows only what is there."""

from __future__ import annotations

from itertools import takewhile

import pytest

from hvmx import guests
from hvmx.debug.code import disassemble, read_linear
from hvmx.debug.crash import DEEPEST, backtrace, crash_report
from hvmx.machine import Machine, StopKind
from hvmx.platform import Platform

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


def report_lines(machine: Machine, heading: str) -> list[str]:
    """The lines of a crash report below a heading."""
    below = crash_report(machine.cpu, "a test").split(f"\n{heading}")[1].split("\n")[1:]
    return list(takewhile(lambda line: line.startswith("  "), below))


def exits_of(machine: Machine) -> list[str]:
    return [line.split("  ")[3] for line in report_lines(machine, "last exits")]


def exceptions_of(machine: Machine) -> list[str]:
    return [line.split("  ", 2)[2] for line in report_lines(machine, "last exceptions")]


def test_a_crash_report_holds_the_last_exits_with_where_they_were(machine: Machine) -> None:
    machine.cpu.write(0x1000, bytes.fromhex("0f a2 e4 80 0f 0b"))  # cpuid; in al, 0x80; ud2
    machine.cpu.rip = 0x1000
    machine.cpu.idtr = (0, 0)
    machine.run(timeout=10)
    exits = report_lines(machine, "last exits")
    assert [line.split("  ")[2:] for line in exits] == [
        [f"rip {0x1000:#018x}", "EPT_VIOLATION page 0x1000"],
        [f"rip {0x1000:#018x}", "CPUID"],
        [f"rip {0x1002:#018x}", "IO_INSTRUCTION port 0x80"],
        [f"rip {0x1004:#018x}", "TRIPLE_FAULT"],
    ]
    cycles = [int(line.split()[1]) for line in exits]
    assert cycles == sorted(cycles)
    assert cycles[0] < cycles[-1]


def test_console_output_does_not_push_out_the_exits_before_it(machine: Machine) -> None:
    # cpuid; mov ecx, 1000; again: mov dx, 0x3fd; in al, dx; mov dx, 0x3f8; out dx, al; loop again; ud2
    machine.cpu.write(0x1000, bytes.fromhex("0fa2 b9e8030000 66bafd03 ec 66baf803 ee e2f4 0f0b"))
    machine.cpu.rip = 0x1000
    machine.cpu.idtr = (0, 0)
    machine.run(timeout=10)
    exits = exits_of(machine)
    assert [line.split(",")[0] for line in exits] == [
        "EPT_VIOLATION page 0x1000",
        "CPUID",
        "IO_INSTRUCTION port 0x3fd",
        "IO_INSTRUCTION port 0x3f8",
        "TRIPLE_FAULT",
    ]
    assert all(line.split(", ")[1].startswith("1,000 since cycle ") for line in exits[2:4])


def test_first_touches_of_memory_do_not_push_out_the_exits_before_them(machine: Machine) -> None:
    # cpuid; mov ecx, 64; mov edi, 0x10000; again: mov [edi], al; add edi, 0x1000; loop again; ud2
    machine.cpu.write(0x1000, bytes.fromhex("0fa2 b940000000 bf00000100 8807 81c700100000 e2f6 0f0b"))
    machine.cpu.rip = 0x1000
    machine.cpu.idtr = (0, 0)
    machine.run(timeout=10)
    assert [line.split(" since")[0] for line in exits_of(machine)] == [
        "CPUID",
        "EPT_VIOLATION page 0x4f000, 65",
        "TRIPLE_FAULT",
    ]


def test_of_very_many_different_exits_the_last_are_kept(machine: Machine) -> None:
    # again: in al, dx; inc edx; loop again; ud2
    machine.cpu.write(0x1000, bytes.fromhex("ec 42 e2fc 0f0b"))
    machine.cpu.rip, machine.cpu.rdx, machine.cpu.rcx = 0x1000, 0x100, 100
    machine.cpu.idtr = (0, 0)
    machine.run(timeout=10)
    ports = [f"IO_INSTRUCTION port {0x100 + number:#x}" for number in range(85, 100)]
    assert exits_of(machine) == [*ports, "TRIPLE_FAULT"]


def test_a_triple_fault_names_the_exceptions_that_led_to_it(machine: Machine) -> None:
    machine.cpu.write(0x2000, (0x83).to_bytes(4, "little"))  # 4 MiB, of which there is RAM for one, and nothing more
    machine.cpu.write(0x1000, bytes.fromhex("a100005000"))  # mov eax, [0x500000]
    machine.cpu.cr3, machine.cpu.cr4, machine.cpu.cr0 = 0x2000, 0x10, 0x80000011
    machine.cpu.rip = 0x1000
    machine.cpu.idtr = (0x3000, 0x27)
    machine.run(timeout=10)
    where = f"rip {0x1000:#018x}  "
    assert exceptions_of(machine) == [
        f"{where}#PF error 0x0 address 0x500000",
        f"{where}#GP error 0x73, delivering #PF",  # 14 * 8 + 2, and EXT
        f"{where}#DF error 0x0, of those two",
        f"{where}#GP error 0x43, delivering #DF",
    ]


def test_an_exception_in_the_delivery_of_an_interrupt_names_it(machine: Machine) -> None:
    machine.cpu.write(0x1000, b"\x90")
    machine.cpu.rip = 0x1000
    machine.cpu.idtr = (0x3000, 0)
    machine.cpu.raise_nmi()
    machine.run(timeout=10)
    assert "#GP error 0x13, delivering NMI" in exceptions_of(machine)[0]



def test_an_interrupt_is_told_from_the_exception_of_its_number(machine: Machine) -> None:
    class Controller(Platform):
        def acknowledge_interrupt(self) -> int:
            return 8

    machine.cpu.platform = Controller()
    machine.cpu.write(0x1000, b"\x90")
    machine.cpu.rip, machine.cpu.rflags, machine.cpu.idtr = 0x1000, 0x202, (0x3000, 0)
    machine.cpu.set_interrupt(True)
    machine.run(timeout=10)
    assert "#GP error 0x43, delivering interrupt 0x8" in exceptions_of(machine)[0]


def test_a_triple_fault_in_real_mode_has_no_error_codes() -> None:
    machine = Machine("1M", board=False)
    machine.load(bytes.fromhex("0f0b"), load_address=0x8000, bits=16)
    machine.cpu.idtr = (0, 3)
    machine.run(timeout=10)
    assert [line.split("  ")[1] for line in exceptions_of(machine)] == [
        "#UD",
        "#GP, delivering #UD",
        "#GP, delivering #GP",
        "#DF, of those two",
        "#GP, delivering #DF",
    ]


def test_a_pv_guest_that_is_killed_shows_its_exception() -> None:
    machine = Machine("64M")
    machine.load(guests.image("pv64"), pv=True)
    code = machine.cpu.translate(machine.cpu.rip)
    assert code is not None
    machine.cpu.write(code, bytes.fromhex("31c0 488b00"))  # xor eax, eax; mov rax, [rax]
    assert machine.run(timeout=10).kind is StopKind.CRASHED
    assert exceptions_of(machine)[-1].endswith("#PF error 0x4 address 0x0")


def test_exceptions_are_remembered_up_to_the_last_ones(machine: Machine) -> None:
    # again: ud2; a gate to the handler, which skips it: add dword [esp], 2; iretd
    machine.cpu.write(0x1000, bytes.fromhex("0f0b") * 40 + bytes.fromhex("f4"))
    machine.cpu.write(0x2000, bytes.fromhex("83042402 cf"))
    machine.cpu.write(0x3000 + 6 * 8, bytes.fromhex("0020 0800 008f 0000"))
    machine.cpu.write(0x4000 + 8, bytes.fromhex("ffff 0000 009b cf00"))
    machine.cpu.rip, machine.cpu.rsp = 0x1000, 0x8000
    machine.cpu.idtr, machine.cpu.gdtr = (0x3000, 0xFF), (0x4000, 0xFF)
    machine.run(timeout=10)
    assert exceptions_of(machine) == [f"rip {0x1000 + 2 * number:#018x}  #UD" for number in range(24, 40)]
