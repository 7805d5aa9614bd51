"""`Machine.memory`: guest RAM as an array. Cheap to read, every write seen by the code cache, flat without a board."""

from __future__ import annotations

import copy
import io
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from test_machine import START, bare

from hvmx import ExitReason, Machine, StopKind
from hvmx.boot import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hvmx.core.exit_info import Exit
    from hvmx.core.vcpu import Vcpu

    Memory = NDArray[np.uint8]

IMMEDIATE = START + 2
OLD, NEW = 7, 9
GIB = 1 << 30


def counters(machine: Machine, *names: str) -> list[int]:
    found = machine.cpu.counters()
    return [found[name] for name in names]


def test_memory_read_in_a_handler_drops_no_code() -> None:
    machine = bare("e460 ebfc")  # in al, 0x60; jmp back
    exits = 0

    def port(vcpu: Vcpu, exit: Exit) -> None:
        nonlocal exits
        exits += 1
        exit.value = int(machine.memory[0x3000]) + int(vcpu.memory[0x3000:0x3010].sum())
        if exits == 10_000:
            machine.stop()

    machine.exits.on_ports(0x60, 1, port)
    machine.run(cycles=100_000)
    before = counters(machine, "code_flushes", "blocks_decoded")
    assert machine.run().kind is StopKind.REQUESTED
    assert exits == 10_000
    assert counters(machine, "code_flushes", "blocks_decoded") == before
    assert machine.memory is machine.memory


class Value:
    """What numpy takes for an array, by running code of its own first."""

    def __init__(self, first: Callable[[], object]) -> None:
        self._first = first

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Memory:
        self._first()
        return np.array(NEW, dtype=np.uint8)


def words(memory: Memory) -> NDArray[np.uint32]:
    return memory[START : START + 8].view("<u4")


RECORD = [("code", "<u2"), ("value", "u1")]
WAYS: dict[str, Callable[[Memory], object]] = {
    "item": lambda m: m.__setitem__(IMMEDIATE, NEW),
    "item from the end": lambda m: m.__setitem__(IMMEDIATE - m.size, NEW),
    "slice": lambda m: m.__setitem__(slice(IMMEDIATE, IMMEDIATE + 1), NEW),
    "slice of a slice": lambda m: m[START : START + 4].__setitem__(slice(2, 3), NEW),
    "backwards": lambda m: m[START + 4 : START - 1 : -1].__setitem__(2, NEW),
    "indices": lambda m: m.__setitem__([IMMEDIATE, 0x8000], NEW),
    "mask": lambda m: m[START : START + 4].__setitem__([False, False, True, False], NEW),
    "ellipsis": lambda m: m[IMMEDIATE : IMMEDIATE + 1].__setitem__(..., NEW),
    "words": lambda m: words(m).__setitem__(0, int(words(m)[0]) + (NEW - OLD << 16)),
    "rows and columns": lambda m: m.reshape(-1, 16).__setitem__((IMMEDIATE >> 4, IMMEDIATE & 15), NEW),
    "field": lambda m: m[START : START + 3].view(RECORD)["value"].__setitem__(0, NEW),
    "record": lambda m: m[START : START + 3].view(RECORD).__setitem__(0, (0xB866, NEW)),
    "in place": lambda m: m[IMMEDIATE : IMMEDIATE + 1].__iadd__(NEW - OLD),
    "in place by name": lambda m: np.add(m[IMMEDIATE : IMMEDIATE + 1], 2, out=m[IMMEDIATE : IMMEDIATE + 1]),
    "at": lambda m: np.add.at(m, [IMMEDIATE], NEW - OLD),
    "reduce": lambda m: np.add.reduce([NEW - 1, 1], out=m[IMMEDIATE : IMMEDIATE + 1].reshape(()), dtype=np.uint8),
    "clip": lambda m: np.clip([200], 0, NEW, out=m[IMMEDIATE : IMMEDIATE + 1], casting="unsafe"),
    "sum": lambda m: np.sum([[NEW - 1], [1]], axis=0, dtype=np.uint8, out=m[IMMEDIATE : IMMEDIATE + 1]),
    "copyto": lambda m: np.copyto(m[IMMEDIATE : IMMEDIATE + 1], np.uint8(NEW)),
    "copyto by name": lambda m: np.copyto(dst=m[IMMEDIATE : IMMEDIATE + 1], src=np.uint8(NEW)),
    "put": lambda m: np.put(m, [IMMEDIATE], NEW),
    "put of the array": lambda m: m.put([IMMEDIATE], NEW),
    "place": lambda m: np.place(m[START + 1 : START + 3], np.array([False, True]), [NEW]),
    "putmask": lambda m: np.putmask(m[START + 1 : START + 3], np.array([False, True]), NEW),
    "put_along_axis": lambda m: np.put_along_axis(m[START + 1 : START + 3], np.array([1]), NEW, 0),
    "fill": lambda m: m[IMMEDIATE : IMMEDIATE + 1].fill(NEW),
    "sort": lambda m: m[IMMEDIATE : START + 0x103 : 0x100].sort(),
    "partition": lambda m: m[IMMEDIATE : START + 0x103 : 0x100].partition(0),
    "byteswap": lambda m: m[IMMEDIATE : IMMEDIATE + 2].view("<u2").byteswap(True),
    "setfield": lambda m: m[IMMEDIATE : IMMEDIATE + 1].setfield(NEW, np.uint8),
    "another's value": lambda m: m.__setitem__(slice(IMMEDIATE, IMMEDIATE + 1), Value(lambda: None)),
}
"""Ways to write 9 where 7 is."""


@pytest.mark.parametrize("way", WAYS)
def test_what_is_written_through_memory_is_seen_by_the_code(way: str) -> None:
    machine = bare("66b80709 e660")  # mov ax, 0x907; out 0x60, al
    cpu, memory = machine.cpu, machine.memory
    machine.exits.on_ports(0x60, 1, lambda vcpu, exit: vcpu.stop())
    cpu.write(0x5000, b"\x41\xe6\x60")  # inc ecx; out 0x60, al: elsewhere
    if way in ("sort", "partition"):
        cpu.write(IMMEDIATE, bytes([200]))
        cpu.write(IMMEDIATE + 0x100, bytes([NEW]))
    for _ in range(2):
        for entry in (START, 0x5000):
            cpu.rip = entry
            assert machine.run().kind is StopKind.REQUESTED
    assert cpu.al != NEW
    flushes, decoded = counters(machine, "code_flushes", "blocks_decoded")
    WAYS[way](memory)
    for entry in (START, 0x5000):
        cpu.rip = entry
        assert machine.run().kind is StopKind.REQUESTED
    assert (cpu.al, cpu.read(IMMEDIATE, 1)) == (NEW, bytes([NEW]))
    assert counters(machine, "code_flushes") == [flushes], "all code was dropped"
    dropped = counters(machine, "blocks_decoded")[0] - decoded
    assert dropped == 1 or way in ("indices", "at", "put", "put of the array"), f"{dropped} blocks were dropped"


def test_code_that_a_handler_changes_runs_as_changed() -> None:
    machine = bare("e660 b007 e661 ebf8")  # out 0x60, al; mov al, 7; out 0x61, al; jmp back
    seen = []

    def change(vcpu: Vcpu, exit: Exit) -> None:
        machine.memory[START + 3] = (len(seen) * 3) & 0xFF

    def note(vcpu: Vcpu, exit: Exit) -> None:
        seen.append(exit.value)
        if len(seen) == 600:
            machine.stop()

    machine.exits.on_ports(0x60, 1, change)
    machine.exits.on_ports(0x61, 1, note)
    assert machine.run().kind is StopKind.REQUESTED
    assert seen[:600] == [(count * 3) & 0xFF for count in range(600)]


PAST_IT: dict[str, Callable[[Memory], object]] = {
    "memoryview": lambda m: memoryview(m).__setitem__(0, 1),  # type: ignore[arg-type]
    "data": lambda m: m.data.__setitem__(0, 1),
    "asarray": lambda m: np.asarray(m).__setitem__(0, 1),
    "view as ndarray": lambda m: m.view(np.ndarray).__setitem__(0, 1),
    "frombuffer": lambda m: np.frombuffer(m, np.uint8).__setitem__(0, 1),
    "setflags": lambda m: m.setflags(write=True),
    "flags": lambda m: setattr(m.flags, "writeable", True),
    "flat": lambda m: m.flat.__setitem__(0, 1),
    "real": lambda m: setattr(m[:4], "real", 1),
    "resize": lambda m: m.resize(1),
    "shape of what all share": lambda m: setattr(m, "shape", (2, -1)),
    "dtype of what all share": lambda m: setattr(m, "dtype", np.uint32),
    "nditer": lambda m: np.nditer(m, op_flags=[["readwrite"]]),
    "ctypes": lambda m: np.ctypeslib.as_ctypes(m),
    "take": lambda m: m.take([0], out=m[4:5], mode="raise"),
    "shuffle": lambda m: np.random.default_rng(1).shuffle(m[:8]),
    "record of a record array": lambda m: m[:4].view([("a", "<u4")])[0].__setitem__("a", 4),
    "readinto": lambda m: io.BytesIO(b"1").readinto(m),
    "objects": lambda m: m.view(object),
}


@pytest.mark.parametrize("way", PAST_IT)
def test_what_the_code_cache_would_not_hear_of_is_refused(way: str) -> None:
    machine = bare("f4")
    before = machine.state_hash()
    with pytest.raises((ValueError, TypeError, AttributeError, BufferError)):
        PAST_IT[way](machine.memory)
    assert machine.state_hash() == before
    assert machine.memory.shape == (machine.cpu.memory_bytes,) and machine.memory.dtype == np.uint8


def test_copies_of_memory_are_ordinary_arrays() -> None:
    machine = bare("f4")
    memory = machine.memory[:0x2000]
    makers: list[Callable[[], Memory]] = [
        lambda: memory.copy(),
        lambda: copy.copy(memory),
        lambda: copy.deepcopy(memory),
        lambda: pickle.loads(pickle.dumps(memory)),
        lambda: pickle.loads(pickle.dumps(memory, 5)),
        lambda: memory + 0,
        lambda: memory[np.arange(0x2000)],
        lambda: memory.astype(np.uint8),
        lambda: np.concatenate([memory]),
        lambda: np.array(memory),
    ]
    for make in makers:
        twin = make()
        assert (twin == memory).all()
        twin[START] = 0x90
        twin += 1
        assert machine.memory[START] == 0xF4 and twin[START] == 0x91


def test_nothing_else_than_what_was_written_changes() -> None:
    machine = Machine("1M", board=False)
    expected = np.zeros(1 << 20, np.uint8)
    rng = np.random.default_rng(7)
    for _ in range(300):
        first, step, length = rng.integers(0, 1 << 19), rng.integers(1, 50), rng.integers(0, 5000)
        data = rng.integers(0, 256, length, np.uint8)
        for memory in (machine.memory, expected):
            memory[first :: int(step)][:length] = data
            memory[int(first) : int(first) + 64][::-3] ^= np.uint8(step)
    assert (machine.memory == expected).all()


def test_memory_is_not_written_while_another_thread_runs_the_guest() -> None:
    machine = bare("ebfe")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(machine.run, timeout=20)
        while not machine.cycles:
            time.sleep(0.01)
        for write in (
            lambda: machine.memory.__setitem__(START, 0xF4),
            lambda: machine.memory[:4].fill(1),
            lambda: np.copyto(machine.memory[:4], np.uint8(1)),
            lambda: machine.cpu.write(START, b"\xf4"),
        ):
            with pytest.raises(RuntimeError, match="another thread"):
                write()
        assert machine.memory[START] == 0xEB
        machine.stop()
        assert running.result(timeout=30).kind is StopKind.REQUESTED
    machine.memory[START] = 0xF4
    assert machine.run().kind is StopKind.HALTED


def test_the_guest_does_not_run_in_the_middle_of_a_write() -> None:
    machine = bare("66b80709 f4")
    with pytest.raises(RuntimeError, match="running already"):
        machine.memory[IMMEDIATE : IMMEDIATE + 1] = Value(machine.run)
    assert machine.run().kind is StopKind.HALTED
    assert machine.cpu.al == OLD


# --- where memory lies ------------------------------------------------------------------------------------------------
def test_without_a_board_memory_is_flat() -> None:
    machine = Machine("6G", board=False)
    # mov byte [0xd0000000], 0x5a; mov rax, 0x120000000; mov [rax], al; mov byte [rax + 1], 0xa5; hlt
    code = "b8000000d0 c6005a 48b80000002001000000 c60033 c64001a5 f4"
    machine.load(bytes.fromhex(code), load_address=0x10000, bits=64)
    cpu = machine.cpu
    directories = int.from_bytes(cpu.read(cpu.cr3, 8), "little") & ~0xFFF
    fifth = 0x200000
    cpu.write(directories + 4 * 8, (fifth | 3).to_bytes(8, "little"))
    cpu.write(fifth + 0x100 * 8, (0x1_2000_0000 | 0x83).to_bytes(8, "little"))
    assert machine.run().kind is StopKind.HALTED
    assert machine.memory.size == 6 * GIB
    assert machine.memory[0xD000_0000] == 0x5A and cpu.read(0xD000_0000, 1) == b"\x5a"
    assert bytes(machine.memory[0x1_2000_0000:0x1_2000_0002]) == b"\x33\xa5"
    cpu.write(6 * GIB - 1, b"!")
    assert machine.memory[-1] == ord("!")
    with pytest.raises(ValueError, match="is not RAM"):
        cpu.read(6 * GIB, 1)


def test_with_a_board_devices_have_the_addresses_from_3_to_4_gib() -> None:
    machine = Machine("5G")
    machine.memory[3 * GIB - 1 : 3 * GIB + 1] = 0x11, 0x22
    assert machine.cpu.read(3 * GIB - 1, 1) + machine.cpu.read(4 * GIB, 1) == b"\x11\x22"
    for address in (3 * GIB, 4 * GIB - 1, 6 * GIB):
        with pytest.raises(ValueError, match="is not RAM"):
            machine.cpu.read(address, 1)


def test_what_the_processor_does_not_reach_is_no_memory() -> None:
    with pytest.raises(ValueError, match="pentium2 reaches 68719476736"):
        Machine(65 * GIB, cpu="pentium2", board=False)
    with pytest.raises(ValueError, match="devices have 1 GiB"):
        Machine(64 * GIB, cpu="pentium2")
    assert Machine(64 * GIB, cpu="pentium2", board=False).memory.size == 64 * GIB


def test_a_rom_lies_over_ram_wherever_that_is() -> None:
    for machine, address in ((Machine("5G", board=False), 0xFFFF_0000), (Machine("5G"), 5 << 30)):
        machine.cpu.add_rom(address, bytes([0xF4]) * 0x1000)
        assert machine.cpu.read(address, 1) == b"\xf4"


def test_an_image_finds_all_of_a_bare_machines_memory() -> None:
    assert prepare(b"\xf4", load_address=0xB_0000, memory_bytes=1 << 20, hole=False).memory  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="outside the guest's RAM"):
        prepare(b"\xf4", load_address=0xB_0000, memory_bytes=1 << 20)


def test_a_range_of_addresses_takes_the_place_of_any_ram() -> None:
    for board, address in ((False, 0xD000_0000), (False, 1 << 32), (True, 1 << 32)):
        machine = Machine("5G", board=board)
        machine.exits.on_mmio(address, 0x10, answer)
        # mov rax, address; mov ecx, [rax]; hlt
        code = b"\x48\xb8" + address.to_bytes(8, "little") + bytes.fromhex("8b08 f4")
        machine.load(code, load_address=0x10000, bits=64)
        cpu = machine.cpu
        directories = int.from_bytes(cpu.read(cpu.cr3, 8), "little") & ~0xFFF
        cpu.write(directories + 4 * 8, (0x200000 | 3).to_bytes(8, "little"))
        cpu.write(0x200000, (1 << 32 | 0x83).to_bytes(8, "little"))
        assert machine.run().kind is StopKind.HALTED
        assert machine.cpu.ecx == 0x1234_5678, (board, hex(address))
        assert machine.exits.statistics()[ExitReason.EPT_MISCONFIG].count == 1


def answer(vcpu: Vcpu, exit: Exit) -> None:
    exit.value = 0x1234_5678
