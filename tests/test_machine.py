"""What `import hvmx` promises: handlers, registers, memory, steps, slices and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from core.machine import CODE, assemble

import hvmx
from hvmx import ExitReason, Machine, StopKind, guests

if TYPE_CHECKING:
    from hvmx.core.exit import Exit
    from hvmx.core.vcpu import Vcpu

START = 0x1000
FLAT_CODE32, FLAT_DATA32 = 0xC09B, 0xC093


def bare(code: str, memory: int | str = "1M") -> Machine:
    """A processor without a board, in flat 32-bit mode, before the instructions given in hexadecimal."""
    machine = Machine(memory, board=False)
    cpu = machine.cpu
    cpu.write(START, bytes.fromhex(code))
    cpu.cr0 |= 1
    cpu.set_segment("cs", 8, 0, 0xFFFF_FFFF, FLAT_CODE32)
    for name in ("ss", "ds", "es"):
        cpu.set_segment(name, 16, 0, 0xFFFF_FFFF, FLAT_DATA32)
    cpu.rip = START
    return machine


def test_a_handler_answers_for_the_guest() -> None:
    machine = bare("0fa2 f4")  # cpuid; hlt

    def answer(vcpu: Vcpu, exit: Exit) -> None:
        assert exit.reason == ExitReason.CPUID and exit.length == 2
        vcpu.rbx = 0x6D767868

    machine.exits.on(ExitReason.CPUID, answer)
    assert machine.run().kind is StopKind.HALTED
    assert (machine.cpu.rbx, machine.cpu.rip) == (0x6D767868, START + 3)
    assert machine.exits.statistics()[ExitReason.CPUID].count == 1


def test_what_a_handler_raises_comes_out_and_the_guest_can_go_on() -> None:
    machine = bare("b807000000 0fa2 f4")  # mov eax, 7; cpuid; hlt

    def refuse(vcpu: Vcpu, exit: Exit) -> None:
        raise KeyError("not today")

    before = machine.exits.on(ExitReason.CPUID, refuse)
    for _ in range(2):
        with pytest.raises(KeyError, match="not today"):
            machine.run()
        assert (machine.cpu.rip, machine.cpu.rax) == (START + 5, 7)
    assert before is not None
    machine.exits.on(ExitReason.CPUID, before)
    assert machine.run().kind is StopKind.HALTED


def test_a_port_range_has_its_own_handler_and_the_rest_keeps_its() -> None:
    machine = bare("e480 88c3 e680 e481 f4")  # in al, 0x80; mov bl, al; out 0x80, al; in al, 0x81; hlt
    seen: list[tuple[int, bool, int]] = []

    def port(vcpu: Vcpu, exit: Exit) -> None:
        seen.append((exit.port, exit.is_in, exit.value if exit.is_write else exit.width))
        if exit.is_in:
            exit.value = 0x5A

    machine.exits.on_ports(0x80, 1, port)
    assert machine.run().kind is StopKind.HALTED
    assert seen == [(0x80, True, 1), (0x80, False, 0x5A)]
    assert machine.cpu.rbx & 0xFF == 0x5A
    assert machine.cpu.rax & 0xFF == 0xFF, "no device at the other port: all ones"


def test_a_range_of_addresses_has_its_own_handler() -> None:
    # mov eax, [0xfed40000]; mov [0xfed40ffc], eax; mov ebx, [0xfed41000]; hlt
    machine = bare("a10000d4fe a3fc0fd4fe 8b1d0010d4fe f4")
    seen: list[tuple[int, int, bool, int]] = []

    def registers(vcpu: Vcpu, exit: Exit) -> None:
        seen.append((exit.guest_physical, exit.width, exit.is_write, exit.value if exit.is_write else 0))
        if not exit.is_write:
            exit.value = 0x1234_5678

    machine.exits.on_mmio(0xFED4_0000, 0x1000, registers)
    assert machine.run().kind is StopKind.HALTED
    assert seen == [(0xFED4_0000, 4, False, 0), (0xFED4_0FFC, 4, True, 0x1234_5678)]
    assert machine.cpu.rbx == 0xFFFF_FFFF, "nothing answers there: all ones"


def test_ranges_stay_when_the_handler_of_the_rest_changes() -> None:
    machine = bare("e480 e481 f4")  # in al, 0x80; in al, 0x81; hlt
    ports: list[str] = []
    machine.exits.on_ports(0x80, 1, lambda vcpu, exit: ports.append("range"))
    machine.exits.on(ExitReason.IO_INSTRUCTION, lambda vcpu, exit: ports.append("rest"))
    machine.run()
    assert ports == ["range", "rest"]


@pytest.mark.parametrize(
    ("first", "count"), [(0x84, 1), (0x80, 8), (0x7F, 2), (0x87, 4), (0x70, 0x100), (0xFFFF, 2), (-1, 1), (5, 0)]
)
def test_a_range_that_is_taken_or_no_range_is_refused(first: int, count: int) -> None:
    machine = bare("f4")
    machine.exits.on_ports(0x80, 8, lambda vcpu, exit: None)
    machine.exits.on_ports(0x78, 8, lambda vcpu, exit: None)
    with pytest.raises(ValueError, match=f"{first:#x}"):
        machine.exits.on_ports(first, count, lambda vcpu, exit: None)


def test_an_exit_reason_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="0x3e7"):
        bare("f4").exits.on(0x3E7, lambda vcpu, exit: None)


def test_a_machine_that_runs_cannot_be_run_again_below_its_handler() -> None:
    machine = bare("0fa2 f4")  # cpuid; hlt
    machine.exits.on(ExitReason.CPUID, lambda vcpu, exit: vcpu.run(10) and None)
    with pytest.raises(RuntimeError, match="running already"):
        machine.run()
    machine.exits.on(ExitReason.CPUID, lambda vcpu, exit: None)
    assert machine.run().kind is StopKind.HALTED


def test_every_register_reads_back_what_was_written() -> None:
    cpu = Machine("1M", board=False).cpu
    for number, name in enumerate(("rax", "rsp", "r8", "r15", "rip", "cr2", "fs_base", "gs_base", "lstar", "dr0")):
        value = 0x1234_5678_0000 + number
        setattr(cpu, name, value)
        assert getattr(cpu, name) == value, name
    cpu.fs = 0x2B
    assert cpu.fs == 0x2B and cpu.segment("fs")[:2] == (0x2B, cpu.fs_base)


def test_memory_is_the_guests_own_without_a_copy() -> None:
    machine = bare("c605002000005a")  # mov byte [0x2000], 0x5a
    memory = machine.memory
    assert memory.dtype == np.uint8 and memory.size == 1 << 20
    machine.step()
    assert memory[0x2000] == 0x5A
    memory[START + 6] = 0xA5  # the instruction's immediate
    machine.cpu.rip = START
    machine.step()
    assert memory[0x2000] == 0xA5


def test_a_step_is_exactly_one_instruction() -> None:
    machine = bare("40 40 ebfc")  # inc eax; inc eax; jmp back
    addresses = []
    for count in range(1, 7):
        machine.step()
        addresses.append(machine.cpu.rip - START)
        assert machine.cpu.instructions == count
    assert addresses == [1, 2, 0, 1, 2, 0]
    assert machine.cpu.rax == 4


def test_machines_in_threads_come_to_the_same_end_as_alone() -> None:
    def end(_: int) -> tuple[StopKind, int, str]:
        machine = Machine("64M")
        machine.load(guests.image("hvm64"), append="workloads=cpuid")
        stop = machine.run(cycles=1_000_000_000)
        return stop.kind, machine.cpu.cycles, machine.state_hash()

    alone = end(0)
    assert alone[0] is StopKind.HALTED
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(end, range(4))) == [alone] * 4


def test_the_public_names_are_there() -> None:
    for name in hvmx.__all__:
        assert getattr(hvmx, name).__name__ == name


class Person:
    """Somebody at a terminal, or a file, that says nothing; and for how long it was waited for."""

    ended = quit = False

    def __init__(self, interactive: bool) -> None:
        self.interactive = interactive
        self.waited = 0.0

    def poll(self, limit: int) -> bytes:
        return b""

    def wait(self, limit: int, seconds: float | None = None) -> bytes:
        assert seconds is not None, "a guest whose timer ticks is never waited for without end"
        self.waited += seconds
        return b""


# Controllers: vectors from 0x20, all but input 0 masked; the timer every 1193 ticks, about a millisecond; then HLT for ever.
TICKING = """
    mov al, 0x11; out 0x20, al; mov al, 0x20; out 0x21, al; mov al, 4; out 0x21, al; mov al, 1; out 0x21, al
    mov al, 0xfe; out 0x21, al
    mov al, 0x34; out 0x43, al; mov al, 0xa9; out 0x40, al; mov al, 4; out 0x40, al
    xor ax, ax; mov ds, ax; mov word ptr [0x80], offset tick; mov word ptr [0x82], ax; sti
1:  hlt; jmp 1b
tick: push ax; mov al, 0x20; out 0x20, al; pop ax; iret
"""


@pytest.mark.parametrize("interactive", [True, False])
def test_before_a_person_an_idle_guest_waits_as_long_on_the_wall(tmp_path: Path, interactive: bool) -> None:
    person = Person(interactive)
    machine = Machine("2M", keys=person)
    image = tmp_path / "ticking"
    image.write_bytes(assemble(16, [TICKING])[0])
    machine.load(image, load_address=CODE, bits=16)
    hundred_milliseconds = machine.clock.hz // 10
    assert machine.run(cycles=hundred_milliseconds).kind is StopKind.CYCLES
    assert machine.cpu.halted_cycles > 0.95 * hundred_milliseconds
    assert person.waited == pytest.approx(0.1 if interactive else 0.0, abs=0.05)
