"""The pipeline: what plain code costs follows from what depends on what, and from nothing else."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from hvmx.core.vcpu import Vcpu
from hvmx.cost import FRACTION, PipelineTables
from hvmx.vocabulary import ExitReason

from .plain_guest import (
    ALU,
    DIVIDE,
    FORWARD,
    FORWARD_STACK,
    LOAD_LATENCY,
    LOCKED,
    MISPREDICTION,
    MULTIPLY,
    PLAIN,
    PREDICTOR,
    STORE,
    WIDTH,
    classes,
    cycles,
    guest,
    loop,
    run,
    times,
)

DIV, IMUL = 40, 3
CHAIN, INDEPENDENT = "imul rax, rax", "nop"


def changed(tables: PipelineTables = PLAIN, **values: Any) -> PipelineTables:
    return replace(tables, **values)


# --- dispatch, dependencies, pipes, window ------------------------------------------------------------------------------
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 6, 8, 10])
def test_independent_instructions_are_dispatched_as_many_a_cycle_as_the_pipeline_is_wide(width: int) -> None:
    assert cycles(times(240, INDEPENDENT), changed(width=width)) == 240 // width
    assert cycles(times(241, INDEPENDENT), changed(width=width)) == -(-241 // width)


def test_a_width_that_cycles_cannot_be_divided_by_is_refused() -> None:
    with pytest.raises(ValueError, match="not 7"):
        guest("nop", changed(width=7))


def test_an_instruction_of_several_micro_operations_takes_as_many_slots() -> None:
    assert cycles(times(100, "nop"), changed(classes=classes(nop={"slots": 2, "uses": ()}))) == 50
    assert cycles(times(10, "nop"), changed(classes=classes(nop={"slots": 40, "uses": ()}))) == 100


def test_dependent_instructions_take_the_sum_of_their_latencies() -> None:
    assert cycles(times(50, CHAIN)) == 50 * IMUL
    assert cycles(times(50, "imul rax, rdx\nimul rdx, rax")) == 100 * IMUL


def test_independent_chains_overlap() -> None:
    one = cycles(times(20, "imul rax, rax"))
    assert cycles(times(20, "imul rax, rax\nimul rdx, rdx\nimul rsi, rsi")) <= one + 2


def test_flags_are_a_dependency_and_the_carry_is_one_of_its_own() -> None:
    slow = changed(classes=classes(carry={"latency": 5}, inc={"latency": 9}))
    assert cycles(times(20, "adc rax, 0\nadc rdx, 0"), slow) == 200
    # INC writes all flags but the carry: the chain of ADC goes past it.
    assert cycles(times(10, "adc rax, 0\ninc rdx"), slow) == 90
    assert cycles(times(10, "adc rax, 0\nadd rdx, 1"), slow) < 90


@pytest.mark.parametrize("ports", [1, 2, 3, 4])
def test_instructions_that_share_pipes_wait_for_one_another(ports: int) -> None:
    tables = changed(classes=classes(popcnt={"uses": ((0b1111 >> 4 - ports, 1),)}))
    registers = itertools.cycle(("rax", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11"))
    source = "\n".join(f"popcnt {next(registers)}, rbp" for _ in range(120))
    assert cycles(source, tables) == 120 // ports


def test_a_pipe_can_be_occupied_longer_than_for_a_cycle() -> None:
    source = times(10, "imul rax, rbp\nimul rdx, rbp")
    assert cycles(source, changed(classes=classes(imul={"uses": ((DIVIDE, 10),)}))) == 200


@pytest.mark.parametrize("window", [16, 40, 64, 80, 160, 400])
def test_dispatch_waits_for_the_oldest_when_the_window_is_full(window: int) -> None:
    division = "xor edx, edx\nmov ebp, 3\ndiv rbp\n"
    others = 40 * WIDTH
    expected = DIV + 1 + max(0, others - window) // WIDTH
    got = cycles(division + times(others, INDEPENDENT), changed(window=window))
    assert abs(got - max(expected, 41)) <= 1 + window // WIDTH // 4, "the window is known by its parts"


@pytest.mark.parametrize("vectors", [16, 40, 64])
def test_dispatch_waits_when_the_vector_registers_are_taken(vectors: int) -> None:
    root, others = "sqrtsd xmm0, xmm0\n", 30 * WIDTH
    tables = changed(window=400, window_vectors=vectors, classes=classes(sse_root_sd={"latency": DIV}))
    held_up = cycles(root + times(others, "pshufd xmm1, xmm2, 0"), tables)
    assert abs(held_up - (DIV + 1 + (others - vectors) // WIDTH)) <= 2 + vectors // WIDTH // 4
    general = root + times(others, INDEPENDENT)
    assert cycles(general, tables) == cycles(general, replace(tables, window_vectors=400)), "what writes none needs none"


def test_without_a_pipeline_each_instruction_takes_its_latency_after_the_other() -> None:
    vcpu = guest(times(7, "imul rax, rbp\nadd rdx, rbp\nlea rsi, [rdi + 8]"), None)
    vcpu.set_costs({"imul": IMUL * FRACTION, "alu": FRACTION, "lea": FRACTION, "hlt": FRACTION}, {})
    assert run(vcpu).cycles == 7 * (IMUL + 1 + 1) + 1


# --- what renaming does -------------------------------------------------------------------------------------------------
def test_a_fused_pair_takes_the_slot_of_one() -> None:
    pairs = times(60, "cmp rax, rax\njnz 1f\n1:")
    narrow = changed(width=1)
    assert cycles(pairs, narrow) == 120
    assert cycles(pairs, changed(narrow, fusion=("cmp",))) == pytest.approx(60, abs=1)
    assert cycles(pairs, changed(narrow, fusion=("test",))) == 120
    apart = times(60, "cmp rax, rax\nnop\njnz 1f\n1:")
    assert cycles(apart, changed(narrow, fusion=("cmp",))) == 180


def test_a_pair_fuses_wherever_a_block_ends() -> None:
    # Fused, the two take the pipe of branches, which is taken by what is before them.
    tables = changed(fusion=("cmp",), classes=classes(branch={"uses": ((MULTIPLY, 1),)}, popcnt={"uses": ((MULTIPLY, 1),)}))
    for before in range(130):
        assert cycles(times(before, "popcnt eax, edx") + "cmp ecx, 1\nje 1f\n1:", tables) == before + 1, before


@pytest.mark.parametrize(("kind", "moves", "partial"), [
    ("general", "mov rax, rdx\nmov rdx, rax", "mov al, dl\nmov dl, al"),
    ("vector", "movaps xmm0, xmm1\nmovaps xmm1, xmm0", "movss xmm0, xmm1\nmovss xmm1, xmm0"),
])  # fmt: skip
def test_an_eliminated_move_has_no_latency_but_takes_its_slot(kind: str, moves: str, partial: str) -> None:
    eliminating = changed(PLAIN, **{f"eliminates_{kind}": True})
    other = changed(PLAIN, **{f"eliminates_{'vector' if kind == 'general' else 'general'}": True})
    assert cycles(times(40, moves)) == cycles(times(40, moves), other) == 80
    assert cycles(times(40, moves), eliminating) == 80 // WIDTH
    assert cycles(times(40, partial), eliminating) == 80, "of a part of a register"


def test_a_move_that_is_eliminated_hands_on_what_it_waits_for() -> None:
    assert cycles(times(20, "imul rax, rax\nmov rdx, rax\nmov rax, rdx"), changed(eliminates_general=True)) == 20 * IMUL


@pytest.mark.parametrize(("family", "idiom", "not_one"), [
    ("xor", "xor eax, eax", "xor eax, edx"), ("sub", "sub rax, rax", "sub rax, rdx"), ("xor", "xor rax, rax", "xor al, al"),
])  # fmt: skip
def test_a_zero_idiom_waits_for_nothing(family: str, idiom: str, not_one: str) -> None:
    knows = changed(zero_idioms=(family,))
    chain = "imul rax, rax\nimul rax, rax\nimul rax, rax\n"
    assert cycles(times(20, chain + idiom)) == 20 * (3 * IMUL + 1)
    assert cycles(times(20, chain + not_one), knows) == 20 * (3 * IMUL + 1)
    assert cycles(times(20, chain + idiom), knows) <= 20 * 3 + 3 * IMUL, "limited by the one pipe that multiplies"


# --- memory -------------------------------------------------------------------------------------------------------------
def test_a_load_waits_for_its_address_and_takes_its_latency() -> None:
    source = "mov [rbx], rbx\n" + times(100, "nop")
    chase = source + times(30, "mov rbx, [rbx]")
    assert cycles(chase) - cycles(source) == pytest.approx(30 * LOAD_LATENCY, abs=1)
    overlapping = times(30, "mov rax, [rbx]")
    assert cycles(overlapping) < 30 + LOAD_LATENCY


@pytest.mark.parametrize(("address", "latency"), [
    ("rbx", FORWARD), ("rbx + 8", FORWARD), ("rbx + rbp*8", FORWARD), ("rsp - 64", FORWARD_STACK),
    ("rip + start + 0x20000", FORWARD),
])  # fmt: skip
def test_a_load_of_what_was_just_stored_waits_for_the_store(address: str, latency: int) -> None:
    source = "start: mov ebp, 2\n" + times(30, f"mov [{address}], rax\nmov rax, [{address}]")
    assert cycles(source) == pytest.approx(30 * latency, abs=2)


def test_a_vector_is_forwarded_at_its_own_latency() -> None:
    assert cycles(times(20, "movaps [rbx], xmm0\nmovaps xmm0, [rbx]"), changed(forward_vector=9)) == 20 * 9


@pytest.mark.parametrize(("between", "displacement"), [
    ("add rbx, 8", -8), ("sub rbx, 16", 16), ("lea rbx, [rbx + 4]", -4), ("inc rbx", -1), ("dec rbx", 1),
])  # fmt: skip
def test_a_constant_that_is_added_to_the_base_does_not_hide_the_store(between: str, displacement: int) -> None:
    source = times(20, f"mov [rbx], rax\n{between}\nmov rax, [rbx + {displacement}]")
    assert cycles(source) == pytest.approx(20 * FORWARD, abs=2)


@pytest.mark.parametrize("between", ["mov rbx, rcx", "imul rbx, rsi", "mov ebx, ebp", "add rbx, rsi", "xchg rbx, rcx"])
def test_after_the_base_has_another_value_no_store_is_found_by_it(between: str) -> None:
    found = times(20, "mov [rbx], rax\nmov rax, [rbx]\nadd rax, 1\n")
    moved = f"mov [rbx], rax\n{between}\nmov rax, [rbx]\nadd rax, 1\n"
    assert cycles(found) >= 20 * FORWARD
    assert cycles("mov rsi, 1\nmov ebp, ebx\n" + times(20, moved)) < 20 * FORWARD


def test_what_was_pushed_is_popped_without_waiting_for_the_stack_pointer() -> None:
    assert cycles(times(30, "push rax\npop rax")) == pytest.approx(30 * FORWARD_STACK, abs=2)
    renamed = changed(forward_stack=0)
    assert cycles(times(30, "push rax\npop rax"), renamed) <= 30


def test_a_store_by_an_index_takes_what_the_profile_says() -> None:
    tables = changed(classes=classes(store_indexed={"slots": 3, "uses": ((STORE, 1), (ALU, 1))}))
    stores = {"mov [rsp], eax": 1, "mov [rsp + rdx], eax": 3, "movups [rsp + rdx], xmm0": 1}
    for store, slots in stores.items():
        others = times(4 * WIDTH - slots, INDEPENDENT)
        assert cycles(times(10, store + "\n" + others), tables) == pytest.approx(40, abs=LOAD_LATENCY + 4), store


# --- branches -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("each", [1, 2, 3])
@pytest.mark.parametrize(
    ("jump", "figure"),
    [
        ("jmp 1f", "taken_branch"),
        ("jz 1f", "taken_branch"),
        ("call 1f", "call"),
        ("lea rsi, [rip + 1f]\njmp rsi", "indirect"),
    ],
)
def test_fetching_takes_its_time_to_go_on_behind_a_taken_branch(jump: str, figure: str, each: int) -> None:
    jumps = times(40, f"{jump}\n.byte 0x0f, 0x0b\n1:")
    assert cycles("cmp eax, eax\n" + jumps, changed(**{figure: each})) == pytest.approx(40 * each, abs=3)


def test_branches_that_are_not_taken_are_as_other_instructions() -> None:
    assert cycles("test esp, esp\n" + times(40, "jz 1f\n1:")) == pytest.approx(40 // WIDTH, abs=2)


@pytest.mark.parametrize("before", [0, 10])
def test_a_misprediction_costs_its_price_from_when_the_branch_is_resolved(before: int) -> None:
    source = times(before, CHAIN) + "test rax, rax\njz 1f\nud2\n1: " + times(40, INDEPENDENT)
    resolved = before * IMUL + 2
    assert cycles(source, predictor=PREDICTOR) == resolved + MISPREDICTION + 40 // WIDTH
    assert cycles(source) == pytest.approx(max(resolved, 40 // WIDTH + 1), abs=1)


# --- what nothing overlaps with -----------------------------------------------------------------------------------------
DIVISION = "mov edx, 0\nmov ebp, 3\ndiv rbp\n"
AROUND = DIVISION + "{}\n" + DIVISION


def test_a_serialising_instruction_waits_for_all_and_nothing_overlaps_with_it() -> None:
    assert cycles(AROUND.format("rdtsc")) == 2 * cycles(DIVISION) + 20


@pytest.mark.parametrize("locked", ["lock add [rbx], eax", "xchg [rbx], eax"])
def test_locked_instructions_follow_one_another(locked: str) -> None:
    assert cycles(times(10, locked)) >= 10 * LOCKED


def test_an_exit_waits_for_all_and_adds_its_price() -> None:
    def exiting(source: str) -> int:
        vcpu = guest(source)
        vcpu.set_handler(ExitReason.CPUID, lambda vcpu, exit: None)
        return run(vcpu).cycles - 1

    assert exiting(AROUND.format("cpuid")) == 2 * cycles(DIVISION) + exiting("cpuid")
    assert exiting("cpuid") >= 1000


# --- x87 ----------------------------------------------------------------------------------------------------------------
def test_x87_registers_are_followed_as_their_stack_turns() -> None:
    two = "fninit\nfld1\nfld1\n"
    start = cycles(two)
    assert cycles(two + times(20, "fadd st, st")) == pytest.approx(start + 20 * 4, abs=2)
    assert cycles(two + times(20, "fadd st, st\nfxch")) == pytest.approx(start + 10 * 4, abs=2), "two chains, in turn"
    # The chain is on what lies below, wherever that is: a push makes ST(1) of it, and a pop ST(0) again.
    below = times(10, "fadd st, st\nfld1\nfadd st(1), st\nfstp st")
    assert cycles(two + below) == pytest.approx(start + 20 * 4, abs=4)
    on_top = times(20, "fld1\nfadd st, st\nfstp st")
    assert cycles(two + on_top) < start + 10 * 4, "each is another"


# --- what is remembered of paths ----------------------------------------------------------------------------------------
SOURCES = {
    "chains": loop(50, "imul rax, rax\nadd rdx, rax\nmov [rbx], rdx\nmov rsi, [rbx]\nadd rbx, 8"),
    "branches": loop(
        200,
        "imul rax, rax, 1103515245\nadd rax, 12345\nmov edx, eax\nshr edx, 28\ncmp edx, 7\nja 1f\nxor edx, edx\ndiv r15d\n1:",
    ),
    "stack": loop(60, "push rax\ncall 1f\npop rax\njmp 2f\n1: inc rax\nret\n2: movd xmm0, eax\naddps xmm1, xmm0"),
    "x87": "fninit\nfld1\n" + loop(40, "fld1\nfadd st(1), st\nfxch\nfmulp st(1), st"),
    "strings": loop(
        9, "mov rdi, rbx\nmov ecx, r15d\nrep stosb\nlock inc dword ptr [rbx]\nmov ecx, 3\n1: imul edx, ecx\nloop 1b"
    ),
}  # fmt: skip


def steps(vcpu: Vcpu) -> Iterator[int]:
    while True:
        yield 0


def ones(vcpu: Vcpu) -> Iterator[int]:
    while True:
        yield 1


def mixture(vcpu: Vcpu) -> Iterator[int]:
    draw = random.Random(12)
    while True:
        yield draw.choice((0, 1, 2, 5, 30))


def forgotten(vcpu: Vcpu) -> Iterator[int]:
    """Paths are forgotten where it stops; setting the model says nothing new."""
    for part in mixture(vcpu):
        yield part
        vcpu.set_pipeline(PLAIN)


def without_translations(vcpu: Vcpu) -> Iterator[int]:
    for part in mixture(vcpu):
        yield part
        vcpu.forget_translations()


@pytest.mark.parametrize("predictor", [None, PREDICTOR], ids=["all predicted", "predictor"])
@pytest.mark.parametrize("translate_after", [None, 0, 3])
@pytest.mark.parametrize("way", [steps, ones, mixture, forgotten, without_translations])
@pytest.mark.parametrize("name", SOURCES)
def test_guest_cycles_do_not_depend_on_what_is_known_of_paths(
    name: str, way: Callable[[Vcpu], Iterator[int]], translate_after: int | None, predictor: dict[str, object] | None
) -> None:
    whole = guest(SOURCES[name], predictor=predictor)
    whole.translate_after = None
    run(whole)
    other = guest(SOURCES[name], predictor=predictor)
    other.translate_after = translate_after
    run(other, way(other))
    assert (other.cycles, other.mispredictions) == (whole.cycles, whole.mispredictions)


@pytest.mark.parametrize("translate_after", [None, 0])
def test_a_guest_that_needs_more_paths_than_there_is_room_for_has_the_same_cycles(translate_after: int | None) -> None:
    """Each turn meets another state: where the stores to memory are, how far the divisions have come."""
    body = "\n".join(
        f"imul rax, rax, 1103515245; add rax, {n}; bt rax, {20 + n % 30}; jc 1f; imul r{8 + n % 6}, rax\n"
        f"mov [rbx + {8 * n}], r8\n1:"
        for n in range(40)
    )
    source = loop(2000, body)
    whole, cut = guest(source), guest(source)
    whole.translate_after, cut.translate_after = translate_after, None
    run(whole)
    while not cut.halted:
        cut.run(cycles=3001)
        cut.set_pipeline(PLAIN)
    assert cut.cycles == whole.cycles
