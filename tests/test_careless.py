"""Careless embedders get an exception: odd numbers, other threads, objects that lie, classes made by hand, copies."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from test_machine import REGISTERS, START, bare

import hvmx
from hvmx import ExitReason, Machine, StopKind, guests
from hvmx.core.exit_info import Exit
from hvmx.core.registers import Registers
from hvmx.core.vcpu import Vcpu
from hvmx.cost import FRACTION
from hvmx.isa.levels import LEVELS
from hvmx.platform import Platform
from hvmx.pv import Domain
from hvmx.pv.xen import Call, Hypercalls, VmcallTable, XenDomain

if TYPE_CHECKING:
    from hvmx.core.exit_info import Exit as AnExit

ROOT = Path(__file__).resolve().parents[1]
LAST_CYCLE = ((1 << 64) - 1) // (2 * FRACTION)


class Liar(bytearray):
    """Says that it is longer than it is."""

    def __len__(self) -> int:
        return 0x2000


class LyingNumber(int):
    def to_bytes(self, *_: Any, **__: Any) -> bytes:  # type: ignore[override]
        return b"!"


# --- classes made by hand ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("native", [Registers, Exit, Hypercalls])
def test_a_part_of_a_processor_is_not_made_without_one(native: Any) -> None:
    class Mine(native):  # type: ignore[misc]
        def __init__(self, *_: object) -> None: ...

    makers: list[Callable[[], object]] = [native, lambda: native.__new__(native), lambda: native(None), Mine]
    makers += [lambda: Mine.__new__(Mine), lambda: native(object()), lambda: native(1 << 20)]
    for make in makers:
        with pytest.raises(TypeError, match="is had from a (processor|machine) only"):
            make()
    with pytest.raises(TypeError):
        object.__new__(native)


def test_what_wants_a_processor_takes_nothing_else() -> None:
    class Pretender:
        state_address, memory_bytes = 8, 1 << 20

    options: Any = {"frequency": 1, "epoch": 0, "privileged": True, "console": print, "names": {}}
    for other in (None, Pretender(), 8):
        vcpu: Any = other
        with pytest.raises(TypeError):
            VmcallTable(vcpu, 1, 0, {})
        with pytest.raises(TypeError):
            XenDomain(vcpu, **options)
    with pytest.raises(RuntimeError, match="the hypercall is over"):
        _ = Call().number
    with pytest.raises(TypeError, match="level"):
        Vcpu(1 << 20, "pentium2")  # type: ignore[arg-type]
    vcpu = Vcpu(8 << 20)
    domain = Domain(vcpu, frequency=1, epoch=0, privileged=True, console=print)
    with pytest.raises(RuntimeError, match="another domain's"):
        Domain(vcpu, frequency=1, epoch=0, privileged=True, console=print)
    assert domain.running
    machine = Machine("32M")
    machine.load(guests.image("pv64"), pv=True)
    assert machine.domain is not None
    with pytest.raises(RuntimeError, match="started already"):
        machine.domain.xen.start(1, 0, 0, 0, 0)


def test_a_processor_may_be_subclassed_and_initialised_again() -> None:
    class Mine(Vcpu):
        def __init__(self, *arguments: Any) -> None:
            self.arguments = arguments

    cpu = Mine(1 << 20, LEVELS["pentium2"])
    cpu.rax = 5
    cpu.__init__(3)  # type: ignore[misc]
    assert (cpu.rax, cpu.arguments, cpu.memory_bytes) == (5, (3,), 1 << 20)
    for arguments in ((), (5,), ("1M",), (1 << 20, None), (-4096,), (0,), (1 << 62,), (1 << 64,)):
        with pytest.raises((TypeError, ValueError, MemoryError, OverflowError)):
            Mine(*arguments)


def test_an_exit_that_is_kept_outlives_its_processor_and_is_nobody_elses() -> None:
    kept = []
    for value in (1, 2):
        machine = bare("e460")
        machine.exits.on_ports(0x60, 1, lambda vcpu, exit: kept.append(exit))
        machine.step()
        kept[-1].value = value
        del machine
    assert [exit.value for exit in kept] == [1, 2]
    assert [exit.port for exit in kept] == [0x60, 0x60]


COPIES: list[Callable[[Any], object]] = [copy.copy, copy.deepcopy, pickle.dumps, lambda one: pickle.dumps(one, 0)]


@pytest.mark.parametrize("make", COPIES, ids=["copy", "deepcopy", "pickle", "pickle 0"])
def test_what_stands_for_one_processor_is_not_copied(make: Callable[[Any], object]) -> None:
    machine = Machine("64M")
    machine.load(guests.image("pv64"), pv=True)

    class Mine(Vcpu):
        pass

    parts = [machine, machine.cpu, machine.cpu.exit, machine.exits, machine.clock, machine.board, machine.domain]
    assert machine.domain is not None
    for part in (*parts, machine.hypercalls, machine.domain.xen, Mine(4096)):
        with pytest.raises(TypeError):
            make(part)


# --- objects that lie -------------------------------------------------------------------------------------------------
def test_a_length_that_is_not_true_copies_nothing_of_the_host() -> None:
    machine = bare("f4", memory="2M")
    cpu = machine.cpu
    cpu.write(0x4000, Liar(b"abc"))
    assert cpu.read(0x4000, 6) == b"abc\0\0\0"
    with pytest.raises(ValueError, match="both must be multiples"):
        cpu.add_rom(0x8000, Liar(b"abc"))
    for name in ("xmm3", "st3", "rax", "mm3"):
        setattr(cpu, name, LyingNumber(7))
        assert getattr(cpu, name) == 7
    with pytest.raises(ValueError):
        cpu.write((2 << 20) - 2, Liar(b"abc"))
    machine.load(Liar(b"\xf4"), load_address=0x20000, bits=32)
    assert cpu.read(0x20000, 2) == b"\xf4\0"


def test_what_is_written_may_lie_in_the_guests_own_memory() -> None:
    cpu = bare("f4").cpu
    cpu.write(0x4000, bytes(range(100)))
    cpu.write(0x4001, cpu.ram_view()[0x4000:0x4064])
    assert cpu.read(0x4000, 101) == b"\0" + bytes(range(100))


# --- numbers ----------------------------------------------------------------------------------------------------------
ODD = (-1, 1 << 64, 1 << 200)
REFUSED: dict[str, Callable[[Machine, int], object]] = {
    "charge": lambda m, n: m.cpu.charge(n),
    "deadline": lambda m, n: setattr(m.cpu, "deadline", n),
    "run": lambda m, n: m.run(cycles=n),
    "run of the processor": lambda m, n: m.cpu.run(n),
    "hole's address": lambda m, n: m.cpu.add_hole(n, 0x1000),
    "hole's length": lambda m, n: m.cpu.add_hole(0x1000, n),
    "ROM's address": lambda m, n: m.cpu.add_rom(n & ~0xFFF, bytes(0x1000)),
    "error code": lambda m, n: m.cpu.inject(13, n),
    "vector": lambda m, n: m.cpu.inject(n),
    "translate_after": lambda m, n: setattr(m.cpu, "translate_after", n),
    "write": lambda m, n: m.cpu.write(n, b"abc"),
    "read": lambda m, n: m.cpu.read(n, 1),
    "read's length": lambda m, n: m.cpu.read(0, n),
    "handler": lambda m, n: m.cpu.set_handler(n, print),
    "class's cost": lambda m, n: m.cpu.set_costs({"alu": n}, {}),
    "exit's cost": lambda m, n: m.cpu.set_costs({}, {10: n}),
    "walk's cost": lambda m, n: m.cpu.set_costs({"alu": 640}, {10: 640}, walk_reference=n),
    "hypercall's cost": lambda m, n: m.hypercalls.set_costs({1: n}),
    "exit's value": lambda m, n: setattr(m.cpu.exit, "value", n),
    "controls": lambda m, n: setattr(m.cpu, "controls", n),
}
BEYOND = {
    "charge": LAST_CYCLE + 1, "deadline": LAST_CYCLE + 1, "hole's length": 1 << 60, "hole's address": 1 << 60,
    "error code": 1 << 32, "vector": 256, "class's cost": 1 << 27, "exit's cost": 1 << 27, "walk's cost": 1 << 27,
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_number_that_is_none_is_refused_and_changes_nothing(what: str) -> None:
    machine, other = bare("b807000000 0fa2 ebfe"), bare("b807000000 0fa2 ebfe")
    numbers = [*ODD, BEYOND[what]] if what in BEYOND else ODD
    for number in numbers:
        with pytest.raises((ValueError, OverflowError)):
            REFUSED[what](machine, number)
    for text in (None, 1.5, "1"):
        if text is None and what in ("deadline", "run", "run of the processor", "error code", "translate_after"):
            continue
        with pytest.raises(TypeError):
            REFUSED[what](machine, text)  # type: ignore[arg-type]
    for one in (machine, other):
        assert one.run(cycles=50_000).kind is StopKind.CYCLES
    assert machine.cpu.registers() == other.cpu.registers()
    assert machine.cpu.counters() == other.cpu.counters()
    assert machine.state_hash() == other.state_hash()


def test_the_clock_goes_forward_to_its_end_and_no_further() -> None:
    cpu = bare("ebfe").cpu
    cpu.charge(1000)
    cpu.charge(LAST_CYCLE - cpu.cycles)
    assert cpu.cycles == LAST_CYCLE
    with pytest.raises(ValueError, match="cycles = 1: not from 0 to 0"):
        cpu.charge(1)
    cpu.run(1000)
    assert cpu.cycles >= LAST_CYCLE


def test_a_hypercall_in_python_does_not_set_the_clock_back() -> None:
    machine = bare("0f01c1 f4")  # vmcall; hlt
    refused = []

    def expensive(call: Call) -> int:
        for cycles in (1 << 30, 1 << 64, (1 << 64) - 1, -1, 1 << 32, 1 << 30, 1 << 31, 1 << 31):
            try:
                call.charge(cycles)
            except (ValueError, OverflowError):
                refused.append(cycles)
        return 0

    machine.hypercalls.register(200, expensive)
    machine.cpu.rax = 200
    assert machine.run().kind is StopKind.HALTED
    assert refused == [1 << 64, (1 << 64) - 1, -1, 1 << 32, 1 << 31, 1 << 31]
    assert 2 << 30 <= machine.cycles < 1 << 32


def test_a_hole_takes_no_longer_than_there_is_memory() -> None:
    machine = Machine("64M", board=False)
    start = time.monotonic()
    machine.cpu.add_hole(0, (1 << 52) - 1)
    assert time.monotonic() - start < 5
    with pytest.raises(ValueError, match="0x1000000000000000 bytes at 0x0"):
        machine.cpu.add_hole(0, 1 << 60)


def test_code_in_a_hole_runs_no_more() -> None:
    machine = bare("ebfe")
    machine.run(cycles=1000)
    machine.cpu.add_hole(START, 0x1000)
    machine.cpu.idtr = (0, 0)
    assert machine.run(cycles=100_000).kind is StopKind.TRIPLE_FAULT


# --- other threads ----------------------------------------------------------------------------------------------------
@contextmanager
def running(machine: Machine) -> Iterator[None]:
    """Another thread runs the machine, which must end by `stop`."""
    with ThreadPoolExecutor(1) as pool:
        before = machine.cycles
        result = pool.submit(machine.run, timeout=30)
        while machine.cycles == before and not result.done():
            time.sleep(0.001)
        try:
            yield
        finally:
            machine.stop()
        assert result.result(timeout=60).kind is StopKind.REQUESTED


CHANGES: dict[str, Callable[[Machine], object]] = {
    "reset": lambda m: m.cpu.reset(),
    "segment": lambda m: m.cpu.set_segment("ds", 16, 0, 0xFFFF_FFFF, 0xC093),
    "MSR": lambda m: m.cpu.set_msr(0xC000_0082, 8),
    "write": lambda m: m.cpu.write(0x6000, b"abc"),
    "memory": lambda m: m.memory.__setitem__(0x6000, 1),
    "ROM": lambda m: m.cpu.add_rom(0x7000, bytes(0x1000)),
    "hole": lambda m: m.cpu.add_hole(0x8000, 0x1000),
    "A20": lambda m: setattr(m.cpu, "a20", True),
    "handler": lambda m: m.cpu.set_handler(ExitReason.CPUID, m.cpu.handler(ExitReason.CPUID)),
    "handler by name": lambda m: m.exits.on(ExitReason.RDTSC, print),
    "ports": lambda m: m.exits.on_ports(0x70, 1, print),
    "no more ports": lambda m: m.exits.off_ports(0x60, 1),
    "rest of the ports": lambda m: m.exits.on(ExitReason.IO_INSTRUCTION, print),
    "addresses": lambda m: m.exits.on_mmio(0xFED4_0000, 4, print),
    "inject": lambda m: m.cpu.inject(3),
    "interrupt": lambda m: m.cpu.set_interrupt(False),
    "NMI": lambda m: m.cpu.raise_nmi(),
    "IGNNE#": lambda m: m.cpu.ignore_numeric_error(),
    "halt": lambda m: m.cpu.halt(),
    "controls": lambda m: setattr(m.cpu, "controls", m.cpu.controls),
    "exceptions": lambda m: setattr(m.cpu, "exception_bitmap", 0),
    "CR0 mask": lambda m: setattr(m.cpu, "cr0_mask", 0),
    "CR0 shadow": lambda m: setattr(m.cpu, "cr0_shadow", 0x11),
    "deadline": lambda m: setattr(m.cpu, "deadline", None),
    "charge": lambda m: m.cpu.charge(1),
    "costs": lambda m: m.cpu.set_costs({}, {}),
    "translator": lambda m: setattr(m.cpu, "translate_after", 5),
    "exit": lambda m: setattr(m.cpu.exit, "value", 1),
    "hypercall": lambda m: m.hypercalls.register(77, lambda call: 0),
    "hypercall's cost": lambda m: m.hypercalls.set_costs({1: 1}),
    **{f"{name}": lambda m, name=name: setattr(m.cpu, name, getattr(m.cpu, name)) for name in REGISTERS},  # type: ignore[misc]
}
READ_ONLY = {"cpl"}


def test_no_other_thread_changes_a_processor_that_runs() -> None:
    machine = bare("ebfe")
    machine.exits.on_ports(0x60, 1, print)
    allowed = []
    with running(machine):
        for name, change in CHANGES.items():
            if name in READ_ONLY:
                continue
            try:
                change(machine)
            except RuntimeError as error:
                assert "another thread" in str(error), name
            else:
                allowed.append(name)
        with pytest.raises(RuntimeError, match="running already"):
            machine.cpu.run(5)
        with pytest.raises(RuntimeError, match="a processor that runs"):
            Domain(machine.cpu, frequency=1, epoch=0, privileged=True, console=print)
    assert allowed == []
    assert machine.run(cycles=1000).kind is StopKind.CYCLES


def test_all_that_a_processor_is_may_be_read_from_another_thread() -> None:
    machine = bare("0fa2 ebfc")
    with running(machine):
        for name in sorted({*dir(Vcpu), *dir(Registers)}):
            if not name.startswith("_"):
                getattr(machine.cpu, name)
        for _ in range(100):
            machine.cpu.registers(), machine.cpu.counters(), machine.statistics(), machine.state_hash()
            machine.cpu.read(START, 4), machine.cpu.translate(START), machine.cpu.msr(0x10), machine.cpu.segment("cs")
            machine.cpu.last_exits()


@pytest.mark.parametrize("name", [name for name in CHANGES if name not in READ_ONLY])
def test_a_handler_may_change_all_of_its_processor(name: str) -> None:
    machine = bare("0fa2 0f31 41 ebf9")  # cpuid; rdtsc; inc ecx; jmp back

    def handler(vcpu: Vcpu, exit: AnExit) -> None:
        if not changed:
            CHANGES[name](machine)
        changed.append(vcpu.rip)

    changed: list[int] = []
    machine.exits.on_ports(0x60, 1, print)
    machine.exits.on(ExitReason.CPUID, handler)
    machine.run(cycles=100_000)
    assert changed


def test_a_reset_in_a_handler_takes_the_place_of_the_instruction() -> None:
    for code, reason in (("0fa2", ExitReason.CPUID), ("a10000d4fe", ExitReason.EPT_MISCONFIG), ("e460", ExitReason.IO_INSTRUCTION)):
        machine = bare(code + "ebfe", memory="2M")
        machine.cpu.add_rom(0xFFFF_0000, bytes(0xFFF0) + bytes.fromhex("b83412 f4") + bytes(12))  # mov ax, 0x1234; hlt
        machine.exits.on(reason, lambda vcpu, exit: vcpu.reset())
        assert machine.run().kind is StopKind.HALTED
        assert (machine.cpu.rip, machine.cpu.ax) == (0xFFF4, 0x1234)
    # The instruction that exits is where RESET begins.
    machine = Machine("2M", board=False)
    machine.cpu.add_rom(0xFFFF_0000, bytes(0xFFF0) + bytes.fromhex("0fa2 f4") + bytes(13))
    count = 0

    def reset_once(vcpu: Vcpu, exit: AnExit) -> None:
        nonlocal count
        count += 1
        if count == 1:
            vcpu.reset()

    machine.exits.on(ExitReason.CPUID, reset_once)
    assert machine.run().kind is StopKind.HALTED
    assert (count, machine.cpu.rip) == (2, 0xFFF3)


# --- interrupts without a board ---------------------------------------------------------------------------------------
def test_without_a_board_an_interrupt_needs_who_knows_its_vector() -> None:
    machine = bare("fb ebfe")  # sti; jmp .
    cpu = machine.cpu
    with pytest.raises(RuntimeError, match="acknowledge_interrupt"):
        cpu.set_interrupt(True)
    assert machine.run(cycles=1000).kind is StopKind.CYCLES

    class Controller(Platform):
        """A simulator's own: one interrupt, vector 0x21."""

        def acknowledge_interrupt(self) -> int:
            cpu.set_interrupt(False)
            return 0x21

    cpu.write(0x2000 + 8 * 0x21, (0x3000 | 8 << 16 | 0x8E00 << 32).to_bytes(8, "little"))
    cpu.write(0x3000, b"\xf4")
    cpu.write(0x4008, 0x00CF9B000000FFFF.to_bytes(8, "little"))
    cpu.gdtr, cpu.idtr, cpu.rsp = (0x4000, 0xF), (0x2000, 0x7FF), 0x8000
    cpu.platform = Controller()
    cpu.set_interrupt(True)
    assert machine.run().kind is StopKind.HALTED
    assert cpu.rip == 0x3001


# --- stop -------------------------------------------------------------------------------------------------------------
def test_a_stop_belongs_to_the_run_in_progress() -> None:
    machine = bare("ebfe")
    machine.stop()
    machine.cpu.stop()
    assert machine.run(cycles=1000).kind is StopKind.CYCLES, "asked before the run, it stopped it"
    with running(machine):
        pass
    machine.stop()
    assert machine.run(cycles=1000).kind is StopKind.CYCLES, "asked after the last run, it stopped this one"
    assert machine.step().kind is StopKind.STEP


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_stop_in_the_run_is_not_lost(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = bare("ebfe")
    schedule, result = machine.reschedule, machine._result
    if where == "first":  # the run has begun, and the processor has not
        monkeypatch.setattr(machine, "reschedule", lambda: (machine.stop(), schedule()))
    else:  # the processor's cycles are over, and the run is not
        monkeypatch.setattr(machine, "_result", lambda core: (machine.stop(), result(core))[1])
    assert machine.run(cycles=1000, timeout=20).kind is StopKind.REQUESTED
    if where == "first":
        assert machine.run(timeout=20).kind is StopKind.REQUESTED
    monkeypatch.undo()
    assert machine.run(cycles=1000).kind is StopKind.CYCLES


def test_a_stop_in_the_middle_of_a_write_is_no_runs() -> None:
    machine = bare("ebfe")

    class Stopping:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            machine.cpu.stop()
            return np.zeros(2, np.uint8)

    machine.memory[0x4000:0x4002] = Stopping()
    assert machine.run(cycles=1000).kind is StopKind.CYCLES


def test_of_many_stops_each_ends_the_run_that_it_met() -> None:
    machine = bare("ebfe")
    with ThreadPoolExecutor(1) as pool:
        for count in range(200):
            result = pool.submit(machine.run, timeout=30)
            while not machine._busy.locked() and not result.done():
                pass
            machine.stop()
            assert result.result(timeout=60).kind is StopKind.REQUESTED, count
            assert machine.run(cycles=10).kind is StopKind.CYCLES, count


def test_a_stop_outlasts_an_exception() -> None:
    machine = bare("0fa2 ebfc")
    answer = machine.cpu.handler(ExitReason.CPUID)
    assert answer is not None

    def fail(vcpu: Vcpu, exit: AnExit) -> None:
        machine.stop()
        raise LookupError

    machine.exits.on(ExitReason.CPUID, fail)
    with pytest.raises(LookupError):
        machine.run(timeout=20)
    machine.exits.on(ExitReason.CPUID, answer)
    assert machine.run(timeout=20).kind is StopKind.REQUESTED
    assert machine.run(cycles=100).kind is StopKind.CYCLES


# --- the package ------------------------------------------------------------------------------------------------------
def test_dir_and_help_show_what_there_is() -> None:
    script = """
import hvmx, sys
assert {*hvmx.__all__, "__version__"} <= {*dir(hvmx)}, dir(hvmx)
assert "hvmx.machine" not in sys.modules, "to look is not to import"
import io, contextlib, pydoc
text = pydoc.render_doc(hvmx, renderer=pydoc.plaintext)
for name in ("class Machine", "class ExitReason", "class Stop", "class StopKind", "run(self", "VERSION"):
    assert name in text, name
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=120)


def test_the_version_has_one_source() -> None:
    setup = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    assert setup.stdout.split()[-1] == hvmx.__version__


SUB = """
import sys
{first}
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
import sys
sys.path[:] = {path!r}
import hvmx
try:
    hvmx.Machine("1M", board=False).run(cycles=1000)
except ImportError as error:
    print("refused:", error)
'''
{then}
interpreters.run_string(interpreters.create(), code)
"""


@pytest.mark.parametrize("first", ["", "import hvmx.machine"])
def test_a_sub_interpreter_is_refused(first: str) -> None:
    script = SUB.format(first=first, path=sys.path, then="")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=False, capture_output=True, text=True, timeout=60
    )
    assert "refused:" in done.stdout, done.stdout + done.stderr


# --- everything, with anything ----------------------------------------------------------------------------------------
FUZZ = """
import sys
from tests.fuzz_embedding import fuzz
fuzz(int(sys.argv[1]), float(sys.argv[2]))
print("survived")
"""


@pytest.mark.parametrize("seed", range(4))
def test_no_call_takes_the_host_down(seed: int) -> None:
    seconds = 60 if os.environ.get("HVMX_NIGHTLY") == "1" else 4
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", FUZZ, str(seed), str(seconds)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=seconds * 10 + 60,
    )
    assert done.returncode == 0 and "survived" in done.stdout, done.stdout[-2000:] + done.stderr[-4000:]
