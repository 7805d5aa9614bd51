"""What `import hvmx` promises: handlers, registers, memory, steps, slices and threads."""

from __future__ import annotations

import ast
import importlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bare_guest import START, bare
from core.machine import CODE, assemble

import hvmx
from hvmx import ExitReason, Machine, StopKind, guests
from hvmx.boot import ImageError

if TYPE_CHECKING:
    from hvmx.core.exit_info import Exit
    from hvmx.core.vcpu import Vcpu


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


@pytest.mark.parametrize("kind", ["ports", "mmio"])
def test_a_range_that_is_given_back_is_the_others_again(kind: str) -> None:
    seen: list[int] = []
    for given_back in (False, True):
        machine = bare("e480 a10000d4fe f4")  # in al, 0x80; mov eax, [0xfed40000]; hlt
        exits, where = machine.exits, (0x80, 1) if kind == "ports" else (0xFED4_0000, 4)
        getattr(exits, f"on_{kind}")(*where, lambda vcpu, exit: seen.append(exit.reason))
        if given_back:
            getattr(exits, f"off_{kind}")(*where)
        assert machine.run().kind is StopKind.HALTED
    assert seen == [ExitReason.IO_INSTRUCTION if kind == "ports" else ExitReason.EPT_MISCONFIG]


def test_only_what_was_given_a_handler_is_given_back() -> None:
    machine = bare("f4")
    machine.exits.on_ports(0x80, 2, lambda vcpu, exit: None)
    for first, count in ((0x80, 1), (0x81, 1), (0x7F, 3), (0x60, 1)):
        with pytest.raises(ValueError, match=f"{first:#x}"):
            machine.exits.off_ports(first, count)


def test_ram_gives_way_to_a_range_of_addresses() -> None:
    machine = bare("a100200000 a300200000 f4")  # mov eax, [0x2000]; mov [0x2000], eax; hlt
    seen: list[tuple[int, bool]] = []

    def register(vcpu: Vcpu, exit: Exit) -> None:
        seen.append((exit.guest_physical, exit.is_write))
        exit.value = 0x5A

    machine.cpu.write(0x2000, b"RAM!")
    machine.exits.on_mmio(0x2000, 0x10, register)
    assert machine.run().kind is StopKind.HALTED
    assert seen == [(0x2000, False), (0x2000, True)] and machine.cpu.rax == 0x5A
    assert machine.cpu.read(0x2000, 4) == b"RAM!"


def test_control_registers_read_back_as_a_processor_has_them() -> None:
    """Bits of CR0 that do not exist stay 0, ET stays 1, and what is refused was never written."""
    # mov eax, 0x50061; mov cr0, eax; mov ebx, cr0; hlt
    machine = bare("b8 61 00 05 00  0f 22 c0  0f 20 c3  f4")
    assert machine.run().kind is StopKind.HALTED
    assert machine.cpu.rbx == machine.cpu.cr0 == 0x50031
    # mov eax, 0x80000000; mov cr0, eax: paging without protection is #GP, which without a table shuts down
    machine = bare("b8 00 00 00 80  0f 22 c0")
    before = machine.cpu.cr0_shadow
    assert machine.run().kind is StopKind.TRIPLE_FAULT
    assert machine.cpu.cr0_shadow == before
    assert machine.exits.statistics()[ExitReason.CR_ACCESS].count == 1


@pytest.mark.parametrize("reason", [999, 3, 70, -1])
def test_an_exit_reason_that_does_not_exist_is_refused(reason: int) -> None:
    with pytest.raises(ValueError, match=f"no exit reason {reason}:"):
        bare("f4").exits.on(reason, lambda vcpu, exit: None)


def test_what_cannot_be_called_is_refused_as_a_handler_at_once() -> None:
    exits: Any = bare("f4").exits
    for register in (
        lambda handler: exits.on(ExitReason.CPUID, handler),
        lambda handler: exits.on_ports(0x80, 1, handler),
        lambda handler: exits.on_mmio(0xFED4_0000, 4, handler),
    ):
        for handler in (None, 5, "cpuid"):
            with pytest.raises(TypeError, match="called with"):
                register(handler)


def test_a_machine_that_runs_cannot_be_run_again_below_its_handler() -> None:
    machine = bare("0fa2 f4")  # cpuid; hlt
    machine.exits.on(ExitReason.CPUID, lambda vcpu, exit: vcpu.run(10) and None)
    with pytest.raises(RuntimeError, match="running already"):
        machine.run()
    machine.exits.on(ExitReason.CPUID, lambda vcpu, exit: None)
    assert machine.run().kind is StopKind.HALTED


@pytest.mark.parametrize(
    "again",
    [lambda m: m.run(), lambda m: m.run(timeout=0), lambda m: m.step(), lambda m: m.load(b"\xf4", bits=32)],
    ids=["run", "run with a limit", "step", "load"],
)
def test_a_machine_that_runs_is_left_alone(again: Callable[[Machine], object]) -> None:
    machine = bare("ebfe")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(machine.run, timeout=0.5)
        time.sleep(0.1)
        with pytest.raises(RuntimeError, match="running already"):
            again(machine)
        assert running.result(timeout=20).kind is StopKind.TIMEOUT, "the first run has lost its limit"
    machine = bare("0fa2 f4")
    machine.exits.on(ExitReason.CPUID, lambda vcpu, exit: again(machine) and None)
    with pytest.raises(RuntimeError, match="running already"):
        machine.run()
    assert machine.cpu.rip == START


def test_a_machine_is_loaded_once() -> None:
    machine = Machine("2M")
    with pytest.raises(ImageError):
        machine.load(b"no image")
    assert machine.load(b"\xf4", bits=32).startswith("flat binary")
    with pytest.raises(RuntimeError, match="loaded already: flat binary"):
        machine.load(b"\xf4", bits=32)


@pytest.mark.parametrize(
    "limits",
    [{"cycles": -1}, {"cycles": 1 << 63}, {"timeout": -1}, {"timeout": float("nan")}, {"timeout": float("inf")}],
)
def test_a_limit_that_is_none_is_refused_by_its_value(limits: dict[str, Any]) -> None:
    machine = bare("ebfe")
    ((name, value),) = limits.items()
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        machine.run(**limits)
    with pytest.raises(TypeError):
        machine.run(cycles=1.5)  # type: ignore[arg-type]
    assert machine.cpu.cycles == 0


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"memory": 3.5}, TypeError, "float"),
        ({"memory": "²M"}, ValueError, "is not a number"),
        ({"memory": 1 << 80}, ValueError, "more than this host has addresses for"),
        ({"serial": None}, TypeError, "serial"),
        ({"debug_exit": 0xFFFE}, ValueError, "0xfffe is no range of the port bus"),
        ({"debugcon": (1 << 16, bytearray().extend)}, ValueError, "0x10000 is no range of the port bus"),
        ({"debug_exit": 0xF4, "board": False}, ValueError, "without a board"),
        ({"debugcon": (0xE9, bytearray().extend), "board": False}, ValueError, "without a board"),
    ],
)
def test_what_no_machine_has_is_refused(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Machine(**{"memory": "2M", **options})


def stub_of(module: str) -> dict[str, ast.ClassDef]:
    """The classes that a compiled module's stub promises."""
    path = Path(hvmx.__file__).parent / f"{module.replace('.', '/')}.pyi"
    return {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)}


REGISTERS = [
    node.target.id
    for node in stub_of("core.registers")["Registers"].body
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
]
NUMBERS = [name for name in REGISTERS if name not in ("gdtr", "idtr")]
ONLY_SOME_VALUES = {"pat": 0x0606_0606_0606_0606, "xcr0": 3, "cr0": 0x8000_0011, "cr4": 0x20, "efer": 0x901}
"""Of registers that do not hold any bits."""


@pytest.mark.parametrize(
    "module", ["core.cost_models", "core.exit_info", "core.physical_memory", "core.registers", "core.vcpu", "pv.xen"]
)
def test_the_stub_of_a_compiled_module_has_its_public_names_and_no_others(module: str) -> None:
    compiled = importlib.import_module(f"hvmx.{module}")
    for name, stub in stub_of(module).items():
        promised = set()
        for node in stub.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                promised.add(node.target.id)
            elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                promised.add(node.name)
        there = {attribute for attribute in vars(getattr(compiled, name)) if not attribute.startswith("_")}
        assert there == promised, f"{module}.{name}"


def test_every_register_that_the_manual_names_has_its_attribute() -> None:
    general = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16))]
    vectors = [*(f"xmm{n}" for n in range(16)), *(f"{kind}{n}" for kind in ("st", "mm") for n in range(8))]
    system = ["cr0", "cr2", "cr3", "cr4", "cr8", "efer", "xcr0", "gdtr", "idtr", "ldtr", "tr"]
    debug = [f"dr{n}" for n in (0, 1, 2, 3, 6, 7)]
    parts = ["eax", "r15d", "di", "r15w", "al", "dil", "r15b", "bh", "eip", "eflags"]
    others = [*parts, "rip", "rflags", "es", "cs", "ss", "ds", "fs", "gs", "fcw", "fsw", "ftw", "mxcsr"]
    assert {*general, *vectors, *system, *debug, *others} <= {*REGISTERS}


@pytest.mark.parametrize(
    ("name", "value", "whole"),
    [
        ("eax", 0xFEDCBA98, 0xFEDCBA98),
        ("r15d", 0xFEDCBA98, 0xFEDCBA98),
        ("si", 0xFEDC, 0x112233445566FEDC),
        ("r8w", 0xFEDC, 0x112233445566FEDC),
        ("bl", 0xFE, 0x11223344556677FE),
        ("dil", 0xFE, 0x11223344556677FE),
        ("r9b", 0xFE, 0x11223344556677FE),
        ("ch", 0xFE, 0x112233445566FE88),
        ("eip", 0xFEDCBA98, 0xFEDCBA98),
    ],
)
def test_a_part_of_a_register_is_written_as_an_instruction_does(name: str, value: int, whole: int) -> None:
    cpu = Machine("1M", board=False).cpu
    holder = {"eax": "rax", "r15d": "r15", "si": "rsi", "r8w": "r8", "bl": "rbx", "dil": "rdi", "r9b": "r9",
              "ch": "rcx", "eip": "rip"}[name]  # fmt: skip
    setattr(cpu, holder, 0x1122334455667788)
    assert getattr(cpu, name) == {"ch": 0x77}.get(name, 0x1122334455667788 & (1 << value.bit_length()) - 1)
    setattr(cpu, name, value)
    assert (getattr(cpu, name), getattr(cpu, holder)) == (value, whole)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_register_reads_back_what_was_written(name: str) -> None:
    cpu = Machine("1M", board=False).cpu
    for value in (ONLY_SOME_VALUES.get(name, 1), getattr(cpu, name)):
        setattr(cpu, name, value)
        assert getattr(cpu, name) == (value | 2 if name in ("rflags", "eflags") else value)
    if name in ("fs", "gs"):
        assert cpu.segment(name)[:2] == (getattr(cpu, name), getattr(cpu, f"{name}_base"))


@pytest.mark.parametrize("name", NUMBERS)
def test_a_value_that_a_register_cannot_hold_is_refused_by_its_name(name: str) -> None:
    cpu = Machine("1M", board=False).cpu
    before = cpu.registers()
    narrow = name in ("fcw", "cs", "dr7", "cr0", "cr4", "cr8", "rflags", "mxcsr", "tsc_aux")
    for value in (-1, 1 << 128, *([1 << 32] if narrow else [])):
        with pytest.raises(ValueError, match=f"{name} = {value:#x}"):
            setattr(cpu, name, value)
    for value in (1.5, "1", None):
        with pytest.raises(TypeError):
            setattr(cpu, name, value)
    assert cpu.registers() == before


def test_states_that_no_processor_is_in_are_refused() -> None:
    cpu = Machine("1M", board=False).cpu
    for name, value in (("cr0", 1 << 31), ("xcr0", 2), ("pat", 2), ("gdtr", (0, 1 << 16)), ("idtr", (-1, 0))):
        with pytest.raises(ValueError):
            setattr(cpu, name, value)
    with pytest.raises(ValueError, match="no segment register 'xs'"):
        cpu.segment("xs")
    for fields in ((1 << 16, 0, 0, 0x93), (0, -1, 0, 0x93), (0, 0, 1 << 32, 0x93), (0, 0, 0, 1 << 17)):
        with pytest.raises(ValueError, match="ds "):
            cpu.set_segment("ds", *fields)
    assert cpu.segment("ds") == (0, 0, 0xFFFF, 0x93)


def test_vector_and_floating_point_registers_are_those_of_the_guest() -> None:
    # movq rax, xmm9 follows as its 32-bit form: movd eax, xmm1; fstp tbyte [0x2000]; movd ecx, mm7; movd xmm2, eax
    machine = bare("660f7ec8 db3d00200000 0f7ef9 660f6ed0")
    cpu = machine.cpu
    cpu.cr0, cpu.cr4, cpu.fcw = 0x11, 0x200, 0x37F
    cpu.xmm1, cpu.st0 = 0x1_2345_6789_ABCD_EF01_2345_6789, 0x4000_C90F_DAA2_2168_C235
    for _ in range(2):
        machine.step()
    assert cpu.rax == 0x2345_6789
    assert cpu.read(0x2000, 10) == 0x4000_C90F_DAA2_2168_C235.to_bytes(10, "little")
    cpu.mm7 = 0xFEED_FACE_DEAD_BEEF
    for _ in range(2):
        machine.step()
    assert cpu.rcx == 0xDEAD_BEEF and cpu.xmm2 == 0x2345_6789


def test_model_specific_registers_are_there_by_number() -> None:
    machine = Machine("1M", board=False)
    cpu = machine.cpu
    cpu.lstar = 0x1000
    assert cpu.msr(0xC000_0082) == 0x1000
    cpu.set_msr(0x10, 1 << 40)
    assert cpu.msr(0x10) == 1 << 40, "the time-stamp counter"
    cpu.set_msr(0x200, 6)
    assert cpu.registers()["mtrr"][2][0] == 6
    with pytest.raises(ValueError, match="no MSR 0xc0001234"):
        cpu.msr(0xC000_1234)
    for number, value in ((0xC000_0082, 1 << 62), (0x277, 2), (0xFE, 0), (0x10, -1)):
        with pytest.raises(ValueError, match=f"MSR {number:#x} = "):
            cpu.set_msr(number, value)


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
        assert machine.step().kind is StopKind.STEP
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
