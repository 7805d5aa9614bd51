"""What instructions cost by a profile: in a chain, one after another, and without a pipeline."""

from __future__ import annotations

import pytest

from hvmx import ExitReason, Machine, StopKind
from hvmx.cost import BUNDLED, Profile, load_profile

CODE, DATA, TIMES = 0x100000, 0x200000, 500
HALT = bytes.fromhex("f4")

OVERLAPPING = [name for name in BUNDLED if load_profile(name).pipeline.window.value]
IN_ORDER = [name for name in BUNDLED if name not in OVERLAPPING]

CHAINS = {
    "add rax, rbx": ("4801d8", "alu"),
    "adc rax, rbx": ("4811d8", "carry"),
    "shl rax, 3": ("48c1e003", "shift"),
    "imul rax, rbx": ("480fafc3", "imul"),
    "bswap rax": ("480fc8", "bswap64"),
    "lea rax, [rax+rbx+8]": ("488d441808", "lea-complex"),
    "paddd xmm0, xmm1": ("660ffec1", "sse-integer"),
    "addps xmm0, xmm1": ("0f58c1", "sse-add"),
    "mulsd xmm0, xmm1": ("f20f59c1", "sse-multiply-double"),
    "divsd xmm0, xmm1": ("f20f5ec1", "sse-divide-sd"),
}
"""Instructions that need their own result of before."""

SINGLE = {
    "add rax, rbx": ("4801d8", ("alu",)),
    "mov rax, [rsi]": ("488b06", ("mov", "load")),
    "mov [rsi], rax": ("488906", ("mov", "store")),
    "add rax, [rsi]": ("480306", ("alu", "load")),
    "add [rsi], rax": ("480106", ("alu", "load", "store")),
    "cmp [rsi], rax": ("483906", ("alu", "load")),
    "lock add [rsi], rax": ("f0480106", ("alu", "load", "store", "locked")),
    "cmpxchg rbx, rcx": ("480fb1cb", ("cmpxchg",)),
    "lock cmpxchg [rsi], rcx": ("f0480fb10e", ("cmpxchg", "load", "store", "locked")),
    "xchg rbx, rcx": ("4887cb", ("xchg",)),
    "xchg [rsi], rcx": ("48870e", ("xchg", "load", "store", "locked")),
    "pushf; popf": ("9c9d", ("pushf", "popf")),
    "call next": ("e800000000", ("call",)),
    "imul rax, rbx": ("480fafc3", ("imul",)),
    "nop": ("90", ("nop",)),
}


def each(code: str, profile: Profile) -> float:
    """Cycles of each of many repetitions of this code."""

    def cycles(times: int) -> float:
        machine = Machine("8M", profile, board=False)
        machine.load(bytes.fromhex(code) * times + HALT, load_address=CODE, bits=64)
        machine.cpu.cr4 |= 0x600  # SSE is enabled
        machine.cpu.write(DATA, DATA.to_bytes(8, "little"))
        machine.cpu.rsi, machine.cpu.rsp = DATA, DATA + 0x1000
        assert machine.run().kind is StopKind.HALTED
        pages = machine.exits.statistics()[ExitReason.EPT_VIOLATION].guest_cycles
        walks = machine.cpu.counters()["walk_references"] * profile.page_reference.cycles
        return machine.cycles - pages - walks

    return (cycles(2 * TIMES) - cycles(TIMES)) / TIMES


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.parametrize("instruction", CHAINS)
def test_in_a_chain_an_instruction_takes_its_latency(instruction: str, name: str) -> None:
    code, cost = CHAINS[instruction]
    profile = load_profile(name)
    assert each(code, profile) == pytest.approx(profile.instructions[cost].latency, abs=0.02)


@pytest.mark.parametrize("name", OVERLAPPING)
def test_loads_that_lead_to_each_other_take_the_latency_of_a_load(name: str) -> None:
    profile = load_profile(name)
    assert each("488b36", profile) == pytest.approx(profile.pipeline.load.cycles, abs=0.02)  # mov rsi, [rsi]


@pytest.mark.parametrize("name", OVERLAPPING)
def test_instructions_that_wait_for_nothing_begin_as_many_a_cycle_as_are_dispatched(name: str) -> None:
    profile = load_profile(name)
    assert each("90", profile) == pytest.approx(1 / profile.pipeline.dispatch.value, abs=0.02)  # nop


@pytest.mark.parametrize("name", OVERLAPPING)
def test_loads_that_wait_for_nothing_take_turns_at_the_pipes(name: str) -> None:
    profile = load_profile(name)
    tables = profile.pipeline_tables()
    uses = tables.classes[list(profile.instructions).index("load")].uses
    slowest = max(cycles / mask.bit_count() for mask, cycles in uses)
    assert each("488b06", profile) == pytest.approx(max(slowest, 1 / tables.width), abs=0.02)  # mov rax, [rsi]


@pytest.mark.parametrize("name", IN_ORDER)
@pytest.mark.parametrize("instruction", SINGLE)
def test_without_a_pipeline_an_instruction_costs_its_class_and_what_it_does_in_memory(instruction: str, name: str) -> None:
    code, classes = SINGLE[instruction]
    profile = load_profile(name)
    assert each(code, profile) == pytest.approx(sum(profile.instructions[cost].cycles for cost in classes), abs=0.02)
