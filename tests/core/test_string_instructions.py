"""Repeated string instructions: however much is done at once, what comes out is what one element at a time gives.

Single iterations are compared with the processor (test_against_processor.py); here whole repetitions, which work in
chunks of host memory, are compared with single iterations.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from hvmx.cost import FRACTION

core = pytest.importorskip("hvmx.core.vcpu", reason="the core is not built")

MEMORY = 1 << 16
RESUME = 0x10000  # RF
CODE, DATA, END = 0x1000, 0x4000, 0xC000
FLAT_CODE, FLAT_DATA, CODE_16, DATA_16 = 0xC09B, 0xC093, 0x9B, 0x93
STRING = {"movs": 0xA4, "cmps": 0xA6, "stos": 0xAA, "lods": 0xAC, "scas": 0xAE}
REPEATS = {"rep": 0xF3, "repne": 0xF2}
DIRECTION = 1 << 10
STATES = 10


def machine(bits: int, code: bytes) -> Any:
    """A processor about to execute `code` and then to spin, without paging."""
    cpu = core.Vcpu(memory_bytes=MEMORY)
    if bits == 32:
        cpu.cr0 |= 1
    for name in ("cs", "ds", "es", "ss"):
        access = {16: (CODE_16, DATA_16), 32: (FLAT_CODE, FLAT_DATA)}[bits][name != "cs"]
        cpu.set_segment(name, 8, 0, 0xFFFF if bits == 16 else 0xFFFFFFFF, access)
    cpu.write(CODE, code + b"\xeb\xfe")
    cpu.rip = CODE
    return cpu


def outcome(cpu: Any) -> dict[str, Any]:
    """All that the instruction may have changed, and what it cost."""
    registers = {name: getattr(cpu, name) for name in ("rax", "rcx", "rsi", "rdi", "rip", "rflags")}
    return registers | {"memory": cpu.read(0, MEMORY)}


def random_state(rng: random.Random, width: int) -> dict[str, int]:
    """Registers so that source and target often overlap, cross pages, or go down."""
    source = rng.randrange(DATA, END - 0x2800)
    target = source + rng.choice((0, 1, 3, 8, -1, -8, 64, -64, 0x1000, rng.randrange(-0x2000, 0x2000)))
    return {
        "rax": rng.choice((0, rng.getrandbits(32))), "rcx": rng.choice((0, 1, 2, 5, rng.randrange(0x2000 // width))),
        "rsi": source, "rdi": max(target, DATA - 0x1000), "rflags": 2 | rng.choice((0, 0, 0, DIRECTION)),
    }  # fmt: skip


def random_memory(rng: random.Random) -> bytes:
    """Runs of zeros between random bytes, so that comparisons go some way."""
    pieces = [bytes(64) if rng.random() < 0.7 else rng.randbytes(64) for _ in range((END - DATA) // 64)]
    return b"".join(pieces)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("repeat", REPEATS)
@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("name", STRING)
def test_chunks_do_what_single_iterations_do(name: str, width: int, repeat: str, bits: int) -> None:
    opcode = bytes([REPEATS[repeat], STRING[name] | (width > 1)])
    if width > 1 and 8 * width != bits:
        opcode = b"\x66" + opcode
    rng = random.Random(f"{name} {width} {repeat} {bits}")
    for _ in range(STATES):
        state, memory = random_state(rng, width), random_memory(rng)
        results = []
        for slices in (None, 100_000, 7):
            cpu = machine(bits, opcode)
            cpu.write(DATA, memory)
            for register, value in state.items():
                setattr(cpu, register, value)
            while cpu.rip == CODE:
                if slices is None:
                    cpu.step()
                else:
                    cpu.run(cycles=slices)
            results.append(outcome(cpu))
        for how, result in zip(("in one go", "in slices of 7 cycles"), results[1:], strict=True):
            differing = [key for key in result if result[key] != results[0][key]]
            assert not differing, f"{repeat} {name}{8 * width} {how} differs in {differing} from {state}"


@pytest.mark.parametrize("slice_cycles", [1, 10, 3000])
def test_each_iteration_costs_the_same_however_it_is_cut(slice_cycles: int) -> None:
    cpu = machine(32, b"\xf3\xa4")
    cpu.set_costs({"movs": 3 * FRACTION}, {})
    cpu.rcx, cpu.rsi, cpu.rdi = 1000, DATA, DATA + 0x3000
    while cpu.rcx:
        cpu.run(cycles=slice_cycles)
        assert cpu.cycles == 3 * (1000 - cpu.rcx), (
            f"{1000 - cpu.rcx} iterations of 3 cycles took {cpu.cycles}"
        )


def test_a_repetition_ends_at_its_slice_with_what_is_left_in_rcx() -> None:
    cpu = machine(32, b"\xf3\xaa")
    cpu.set_costs({"stos": FRACTION}, {})
    cpu.rax, cpu.rcx, cpu.rdi = 0x55, 1 << 31, DATA
    cpu.run(cycles=100)
    assert (cpu.rip, cpu.rcx, cpu.rdi) == (CODE, (1 << 31) - 100, DATA + 100)
    assert cpu.read(DATA, 101) == b"\x55" * 100 + b"\x00"


def test_a_repetition_counts_as_one_instruction() -> None:
    cpu = machine(32, b"\xf3\xaa")
    cpu.rcx, cpu.rdi = 50, DATA
    while cpu.rip == CODE:
        cpu.step()
    assert cpu.instructions == 1


def test_a_store_into_its_own_block_ends_the_repetition_in_time() -> None:
    # rep stosb over the INC behind it: the NOPs that it writes must be what runs.
    cpu = machine(32, b"\xf3\xaa\x43\x43\x43\x43")
    cpu.rax, cpu.rcx, cpu.rdi, cpu.rbx = 0x90, 4, CODE + 2, 0
    cpu.run(cycles=1000)
    assert cpu.rbx == 0, f"{cpu.rbx} of the overwritten instructions ran all the same"
    assert cpu.rip == CODE + 6


@pytest.mark.parametrize(("name", "ended_by"), [("cmps", "count"), ("cmps", "difference"), ("scas", "count")])
def test_a_comparison_shows_no_flags_before_its_repetition_ends(name: str, ended_by: str) -> None:
    cpu = machine(32, bytes([0xF3, STRING[name]]))
    cpu.write(DATA, b"\x55" * 4)
    cpu.write(END, b"\x55" * 3 + (b"\x66" if ended_by == "difference" else b"\x55"))
    cpu.rax, cpu.rcx, cpu.rsi, cpu.rdi = 0x55, 4, DATA, END
    cpu.rflags = before = 0x2 | 0x8D5 & ~0x44  # all but ZF and PF, which an equal pair sets
    for left in (3, 2, 1):
        cpu.step()
        assert (cpu.rcx, cpu.rip, cpu.rflags) == (left, CODE, before | RESUME)
    cpu.step()
    last = 0x91 if ended_by == "difference" else 0x44  # 55h - 66h: SF, AF and CF; 0: ZF and PF
    assert (cpu.rcx, cpu.rip, cpu.rflags) == (0, CODE + 2, 0x2 | last)
