"""A guest of plain 64-bit code whose pipeline is made by hand: nothing else costs guest cycles."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hvmx.core.vcpu import Vcpu
from hvmx.cost import FRACTION, PipelineTables
from hvmx.cost.profile import ClassTiming
from hvmx.isa import MOVE_CLASSES, cost_classes
from hvmx.vocabulary import ExitReason

from .machine import assemble

CODE, TABLES, DATA, STACK = 0x8000, 0x10000, 0x40000, 0x60000

# Pipes, as masks: four that compute, of which one multiplies, two that load, one that stores, one that divides.
ALU, MULTIPLY, LOAD, STORE, DIVIDE = 0b1111, 0b0010, 0b110000, 0b1000000, 0b10000000
WIDTH, WINDOW, MISPREDICTION, LOAD_LATENCY, FORWARD, FORWARD_STACK, VECTOR = 4, 240, 15, 4, 6, 5, 7
HLT, LOCKED = 1, 11

CLASSES: dict[str, dict[str, Any]] = {
    "load": {"slots": 0, "uses": ((LOAD, 1),)},
    "load-vector": {"slots": 0, "uses": ((LOAD, 1),)},
    "store": {"uses": ((STORE, 1),)},
    "store-indexed": {"uses": ((STORE, 1),)},
    "store-vector": {"uses": ((STORE, 1),)},
    "locked": {"latency": LOCKED, "serial": True},
    "imul": {"latency": 3, "uses": ((MULTIPLY, 1),)},
    "div64": {"latency": 40, "uses": ((DIVIDE, 10),)},
    "rdtsc": {"latency": 20, "serial": True},
    "cpuid": {"latency": 100, "serial": True},
    "hlt": {"latency": HLT, "serial": True},
    "nop": {"uses": ()},
    "push": {"uses": ((STORE, 1),)},
    "pop": {"latency": LOAD_LATENCY, "uses": ((LOAD, 1),)},
    "ret": {"latency": LOAD_LATENCY, "uses": ((LOAD, 1),)},
    "x87-add": {"latency": 4},
}


def classes(**changes: Any) -> tuple[ClassTiming, ...]:
    """One cycle, one slot and any pipe that computes, where neither `CLASSES` nor `changes` says otherwise."""

    def timing(name: str) -> ClassTiming:
        plain = ClassTiming(latency=1, slots=1, uses=((ALU, 1),), serial=False, moves=name in MOVE_CLASSES)
        return replace(plain, **(CLASSES.get(name, {}) | changes.get(name.replace("-", "_"), {})))

    return tuple(timing(name) for name in cost_classes())


PLAIN = PipelineTables(
    width=WIDTH, window=WINDOW, window_vectors=WINDOW, retire=2 * WIDTH, taken_branch=1, indirect=1,
    call=1, fetch_ahead=0, misprediction=MISPREDICTION, load=LOAD_LATENCY, load_vector=VECTOR, forward=FORWARD,
    forward_stack=FORWARD_STACK, forward_operand=FORWARD, forward_vector=VECTOR, fusion=(), eliminates_general=False,
    eliminates_vector=False, zero_idioms=(), pipes=tuple("abcdefgh"),
    repeats=((0, (FRACTION,) * 4, (FRACTION,) * 4),) * 5, classes=classes(),
)  # fmt: skip

PREDICTOR: dict[str, Any] = {
    "history_lengths": (4, 10, 24, 58), "table_entries": 1024, "target_entries": 1024, "return_stack": 8,
}  # fmt: skip


def guest(source: str, tables: PipelineTables | None = PLAIN, *, predictor: dict[str, Any] | None = None) -> Vcpu:
    """At the start of this code, with all memory in one large page."""
    vcpu = Vcpu(2 << 20)
    vcpu.set_costs({}, {ExitReason.CPUID: 1000 * FRACTION}, exception=200 * FRACTION)
    if tables:
        vcpu.set_pipeline(tables)
    if predictor:
        vcpu.set_predictor(**predictor)
    for table, entry in enumerate((TABLES + 0x1000 | 7, TABLES + 0x2000 | 7, 0x87)):
        vcpu.write(TABLES + table * 0x1000, struct.pack("<Q", entry))
    vcpu.set_segment("cs", 8, 0, 0xFFFFFFFF, 0xA09B)
    vcpu.cr3, vcpu.cr4, vcpu.efer, vcpu.cr0 = TABLES, 0x620, 0xD00, 0x80000033
    vcpu.write(CODE, assemble(64, [source + "\nhlt"])[0])
    vcpu.rip, vcpu.rsp, vcpu.rbx, vcpu.rcx = CODE, STACK, DATA, DATA
    return vcpu


def run(vcpu: Vcpu, parts: Iterator[int] | None = None) -> Vcpu:
    """To its end: whole, or in parts of so many cycles, of which 0 is a step."""
    while not vcpu.halted:
        if parts is None:
            vcpu.run(cycles=100_000_000)
        elif part := next(parts):
            vcpu.run(cycles=part)
        else:
            vcpu.step()
    return vcpu


def cycles(source: str, tables: PipelineTables = PLAIN, **setup: Any) -> int:
    """From the first instruction to the completion of the last."""
    return run(guest(source, tables, **setup)).cycles - HLT


def times(count: int, source: str) -> str:
    """The same code, one after the other."""
    return f".rept {count}\n{source}\n.endr\n"


def loop(count: int, source: str) -> str:
    """R15 counts down."""
    return f"mov r15d, {count}\n.balign 16\n9: {source}\ndec r15d\njnz 9b\n"
