"""Code that is translated to the host's code does to a guest what interpreted code does: to the bit and to the cycle.

`Vcpu.translate_after` says how often a block is entered before it is translated; None is never, and that is the oracle.
"""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from hvmx.core.vcpu import Vcpu

from .machine import STOP_HALTED, STOP_SHUTDOWN
from .program_guest import Program, differences, guest, image, outcome, seen_of
from .random_programs import random_program

NIGHTLY = os.environ.get("HVMX_NIGHTLY") == "1"
SEED = int(os.environ.get("HVMX_SEED", "1"))
PROGRAMS = {64: 1_800, 32: 1_200, 16: 400}
AFTER = (0, 1, 3)
CYCLES = 40_000
ENDED = (STOP_HALTED, STOP_SHUTDOWN)
# Counters that differ between steps and a run: a step decodes a block of one instruction.
BY_STEPS = ("blocks_decoded", "code_flushes")

Drive = Callable[[Vcpu, list[object]], int]
"""Runs a guest to its end; what is seen meanwhile is added to the list. Returns why it ended."""


# --- ways to run a guest --------------------------------------------------------------------------------------------------
def at_once(cpu: Vcpu, seen: list[object]) -> int:
    return cpu.run(cycles=CYCLES)


def in_slices(seed: int) -> Drive:
    def drive(cpu: Vcpu, seen: list[object]) -> int:
        rng = random.Random(seed)
        while True:
            stop = cpu.run(cycles=min(CYCLES - cpu.cycles, rng.choice((1, 1, 2, 5, 10, 20, 50, 100, 1000))))
            if stop in ENDED or cpu.cycles >= CYCLES:
                return stop

    return drive


def in_steps(cpu: Vcpu, seen: list[object]) -> int:
    while True:
        stop = cpu.step()
        if stop in ENDED or cpu.cycles >= CYCLES:
            return stop


def with_interruptions(seed: int) -> Drive:
    """Slices, steps and NMIs, with a look at the registers between, and changes of when blocks are translated."""

    def drive(cpu: Vcpu, seen: list[object]) -> int:
        rng = random.Random(seed)
        translate_after = cpu.translate_after
        while True:
            what = rng.randrange(20)
            stop = 0
            if what < 12:
                stop = cpu.run(cycles=rng.choice((1, 1, 2, 5, 10, 20, 50, 100, 200)))
            elif what < 18:
                for _ in range(rng.choice((1, 1, 2, 10))):
                    stop = cpu.step()
            elif what == 18 and not cpu.halted:
                cpu.raise_nmi()
            else:
                change = rng.choice((None, translate_after, translate_after))
                if translate_after is not None:
                    cpu.translate_after = change
            seen.append(seen_of(cpu))
            if stop in ENDED or cpu.cycles >= CYCLES:
                return stop

    return drive


# --- random programs ------------------------------------------------------------------------------------------------------
def ran(program: Program, memory: bytes, after: int | None, drive: Drive, walk: bool) -> dict[str, Any]:
    seen: list[object] = []
    exits: list[object] = []
    cpu = guest(program.bits, program.cpl, memory, program.registers, exits, walk=walk)
    cpu.translate_after = after
    return outcome(cpu, drive(cpu, seen), seen, exits)


def smallest(count: int, differs: Callable[[list[int]], object]) -> list[int]:
    """As few as possible of so many instructions that still make a difference; not all combinations are tried."""
    kept = list(range(count))
    size = count // 2
    while size:
        at = 0
        while at < len(kept):
            fewer = kept[:at] + kept[at + size :]
            try:
                found = differs(fewer)
            except ValueError:  # a branch is too far now
                found = False
            if found:
                kept = fewer
            else:
                at += size
        size //= 2
    return kept


@dataclass
class Comparison:
    """Programs, translated and driven one way, against the same ones, interpreted and driven the other way."""

    bits: int
    ours: Callable[[int], Drive]
    theirs: Callable[[int], Drive]
    after: Collection[int | None] = AFTER
    besides: Collection[str] = ()
    walk: bool = True

    def run(self, numbers: Iterable[int]) -> list[dict[str, Any]]:
        """Compares programs of these numbers; returns what the interpreted ones came to."""
        return [self.compare(number, random_program(self.bits, number)) for number in numbers]

    def compare(self, number: int, program: Program) -> dict[str, Any]:
        everything = range(len(program.items))
        memory = image(self.bits, program.cpl, program.assembled(everything), program.data)
        expected = ran(program, memory, None, self.theirs(number), self.walk)
        if self.besides == BY_STEPS and expected["stop"] not in ENDED:
            return expected  # patched into a loop for ever: steps use up their cycles in the midst of a block
        for count in self.after:
            found = ran(program, memory, count, self.ours(number), self.walk)
            if different := differences(found, expected, self.besides):
                pytest.fail(self.report(number, program, count, different, expected["stop"] in ENDED), pytrace=False)
        return expected

    def report(self, number: int, program: Program, after: int | None, different: list[str], ends: bool) -> str:
        def still(kept: list[int]) -> list[str]:
            memory = image(self.bits, program.cpl, program.assembled(kept), program.data)
            found = ran(program, memory, after, self.ours(number), self.walk)
            expected = ran(program, memory, None, self.theirs(number), self.walk)
            if ends and expected["stop"] not in ENDED:
                return []  # a loop for ever, and not what is looked for
            return differences(found, expected, self.besides)

        few = smallest(len(program.items), still)
        return "\n".join((
            f"{self.bits}-bit program {number} (HVMX_SEED={SEED}) at CPL {program.cpl}, translate_after {after}, differs:", *different,
            "It starts with " + ", ".join(f"{name} {value:#x}" for name, value in program.registers.items()),
            program.listing(range(len(program.items))), "Of it are enough:", program.listing(few), *still(few),
        ))  # fmt: skip


def some(bits: int, share: float = 1.0) -> range:
    first = SEED * 1_000_000
    return range(first, first + int(PROGRAMS[bits] * share * (30 if NIGHTLY else 1)))


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_translated_programs_end_as_interpreted_ones_do(bits: int) -> None:
    results = Comparison(bits, lambda number: at_once, lambda number: at_once).run(some(bits))
    # They are worth to be run: they end, meet faults now and then, and loop.
    ended = sum(result["stop"] == STOP_HALTED for result in results)
    faulted = sum(result["count of exceptions"] > 0 for result in results)
    looped = sum(result["instructions"] > 200 for result in results)
    assert ended > 0.95 * len(results) and looped > 0.3 * len(results)
    assert 0.02 * len(results) < faulted < 0.8 * len(results)


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_translated_programs_in_slices_end_as_interpreted_ones_run_at_once(bits: int) -> None:
    Comparison(bits, in_slices, lambda number: at_once, (None, *AFTER)).run(some(bits, 0.25))


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_translated_programs_end_as_interpreted_ones_run_in_steps(bits: int) -> None:
    Comparison(bits, lambda number: at_once, lambda number: in_steps, (None, *AFTER), BY_STEPS, walk=False).run(some(bits, 0.1))


@pytest.mark.parametrize("bits", [64, 32, 16])
def test_translated_programs_stop_where_interpreted_ones_do(bits: int) -> None:
    Comparison(bits, with_interruptions, with_interruptions).run(some(bits, 0.25))


def test_where_the_host_lets_nobody_write_code_all_is_interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    program = random_program(64, SEED)
    memory = image(64, program.cpl, program.assembled(range(len(program.items))), program.data)
    expected = ran(program, memory, None, at_once, True)
    usual = mmap.mmap

    def refusing(*arguments: Any, **named: Any) -> mmap.mmap:
        if named.get("prot", 0) & mmap.PROT_EXEC:
            raise PermissionError("no code here")
        return usual(*arguments, **named)

    monkeypatch.setattr(mmap, "mmap", refusing)
    exits: list[object] = []
    cpu = guest(64, program.cpl, memory, program.registers, exits)
    cpu.translate_after = 0
    found = outcome(cpu, at_once(cpu, []), [], exits)
    assert cpu.counters()["blocks_translated"] == 0
    assert not (different := differences(found, expected)), "\n".join(different)
