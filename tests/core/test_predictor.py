"""The branch predictor learns what follows a rule and nothing else, and says the same however it is run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from .plain_guest import MISPREDICTION, PREDICTOR, cycles, guest, loop, run, times

RANDOM = "imul rax, rax, 1103515245\nadd rax, 12345\nmov rdx, rax\nshr rdx, 40\n"
"""RDX: bits that no history of branches tells."""


def mispredictions(source: str, **predictor: Any) -> int:
    return run(guest(source, predictor=PREDICTOR | predictor)).mispredictions


def late(body: str, turns: int = 2000, **predictor: Any) -> int:
    """Mispredictions in the second half of a loop."""
    return mispredictions(loop(2 * turns, body), **predictor) - mispredictions(loop(turns, body), **predictor)


# --- directions ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("trips", [1, 2, 3, 5, 12, 40, 300])
def test_a_loop_of_a_fixed_number_of_turns_is_learned(trips: int) -> None:
    assert late(f"mov ecx, {trips}\n1: dec ecx\njnz 1b", 500) <= 2


def test_a_loop_of_a_random_number_of_turns_goes_wrong_about_once_at_its_end() -> None:
    """And sometimes before, where the loops before it ended."""
    assert 450 <= late(RANDOM + "and edx, 63\n1: dec edx\njns 1b", 500) <= 800


@pytest.mark.parametrize("period", [2, 3, 4, 7])
def test_a_pattern_is_learned(period: int) -> None:
    assert late(f"inc ecx\ncmp ecx, {period}\njb 1f\nxor ecx, ecx\n1:") <= 2


def test_a_branch_that_does_as_one_before_it_is_learned() -> None:
    body = RANDOM + "test dl, 1\njz 1f\n1: test dl, 1\njz 1f\n1:"
    alone = RANDOM + "test dl, 1\njz 1f\n1:"
    assert late(body) < late(alone) * 1.2


@pytest.mark.parametrize(("bits", "taken"), [(1, 0.5), (3, 0.25), (7, 0.125)])
def test_a_random_branch_goes_wrong_as_often_as_it_goes_the_rarer_way(bits: int, taken: float) -> None:
    assert taken * 0.8 <= late(RANDOM + f"test dl, {bits}\njz 1f\n1:") / 2000 <= taken * 1.6


def test_a_branch_that_always_goes_one_way_goes_wrong_at_most_at_its_first() -> None:
    assert mispredictions("xor eax, eax\n" + loop(500, "test eax, eax\njnz 1f\n1:")) <= 4
    assert late("test eax, eax\njz 1f\n1:") == late("test rsp, rsp\njz 1f\n1:") == 0


def test_a_branch_that_changes_its_way_after_long_is_learned_anew() -> None:
    body = "cmp r15d, 2000\njb 1f\n1:"
    assert mispredictions(loop(4000, body)) <= mispredictions(loop(4000, "")) + 6


# --- targets ------------------------------------------------------------------------------------------------------------
CALLS = "lea rsi, [rip + 5f]\nlea rdi, [rip + 6f]\njmp 7f\n.balign 16\n5: ret\n.balign 16\n6: ret\n7:\n"


def test_an_indirect_branch_with_one_target_is_learned() -> None:
    assert mispredictions(CALLS + loop(1000, "call rsi")) <= 4
    assert mispredictions(loop(1000, "lea rsi, [rip + 1f]\njmp rsi\n1:")) <= 4


def test_indirect_targets_that_alternate_are_learned_by_history() -> None:
    body = "call rsi\nxchg rsi, rdi\n"
    assert mispredictions(CALLS + loop(2000, body)) < 100


ALTERNATING = "lea rsi, [rip + 1f]\nlea rdi, [rip + 2f]\n" + loop(
    1000, "xchg rsi, rdi\njmp rsi\n.balign 16\n1: jmp 3f\n.balign 16\n2: jmp 3f\n3: {}"
)


@pytest.mark.parametrize(("kept", "returns"), [(1, 0), (2, 1), (3, 2), (8, 7)])
def test_a_target_is_remembered_for_some_indirect_branches_and_returns(kept: int, returns: int) -> None:
    """Of 1000 jumps to two places in turn all go wrong where the last target is too long ago."""
    called = "jmp 7f\n5: ret\n7: " + ALTERNATING.format(times(returns, "call 5b"))
    assert mispredictions(called, target_history=kept) < 50
    more = "jmp 7f\n5: ret\n7: " + ALTERNATING.format(times(returns + 1, "call 5b"))
    assert mispredictions(more, target_history=kept) >= 990


def test_as_many_targets_are_remembered_as_a_rule_needs() -> None:
    """Two places, twice each in turn: only the last two targets tell which is next."""
    body = "inc ecx\ntest ecx, 2\nmov rax, rsi\ncmovz rax, rdi\njmp rax\n.balign 16\n1: jmp 3f\n.balign 16\n2: nop\n3:"
    source = "lea rsi, [rip + 1f]\nlea rdi, [rip + 2f]\n" + loop(1000, body)
    assert mispredictions(source, target_history=1) >= 450
    assert mispredictions(source, target_history=2) < 20


def test_indirect_targets_at_random_go_wrong_half_of_the_time() -> None:
    body = RANDOM + "test dl, 1\nmov rcx, rsi\ncmovz rcx, rdi\ncall rcx\n"
    assert mispredictions(CALLS + loop(2000, body)) == pytest.approx(1000, rel=0.2)


# --- returns ------------------------------------------------------------------------------------------------------------
def nested(depth: int) -> str:
    """Calls within calls, each returning to somewhere else."""
    functions = "".join(f"function{n}: call function{n + 1}\nret\n" for n in range(1, depth))
    return f"jmp 7f\n{functions}function{depth}: ret\n7: " + loop(100, "call function1")


@pytest.mark.parametrize("entries", [1, 4, 16])
def test_as_many_returns_are_predicted_as_the_return_stack_holds(entries: int) -> None:
    exact = mispredictions(nested(entries), return_stack=entries)
    assert exact == mispredictions(nested(entries), return_stack=64)
    for more in (1, 3):
        deeper = mispredictions(nested(entries + more), return_stack=entries)
        assert deeper - mispredictions(nested(entries + more), return_stack=64) == pytest.approx(100 * more, abs=5)


def test_a_return_to_where_no_call_was_goes_wrong() -> None:
    pushed = loop(100, "lea rcx, [rip + 1f]\npush rcx\nret\n1:")
    assert mispredictions(pushed) >= 100


def test_functions_with_several_callers_return_to_each() -> None:
    body = times(5, "call rsi") + "call rdi\n"
    assert mispredictions(CALLS + loop(500, body)) <= 20


# --- prices and counts --------------------------------------------------------------------------------------------------
def test_without_a_predictor_every_branch_is_predicted() -> None:
    source = "mov eax, 7\n" + loop(500, RANDOM + "test dl, 1\njz 1f\nnop\n1:")
    vcpu = run(guest(source))
    assert vcpu.mispredictions == 0
    assert vcpu.cycles < run(guest(source, predictor=PREDICTOR)).cycles - 100 * MISPREDICTION


def test_what_is_predicted_costs_the_same_as_without_a_predictor() -> None:
    straight = times(50, "test rsp, rsp\njz 1f\n1: nop\nimul rax, rax")
    assert cycles(straight, predictor=PREDICTOR) == cycles(straight)


def test_sizes_that_cannot_be_are_refused() -> None:
    for wrong in ({"history_lengths": (0,)}, {"history_lengths": (1000,)}, {"history_lengths": tuple(range(1, 20))},
                  {"return_stack": 0}, {"return_stack": 1000}, {"target_history": 9}, {"table_entries": 1 << 20}):  # fmt: skip
        with pytest.raises(ValueError):
            guest("nop", predictor=PREDICTOR | wrong)


# --- however it is run --------------------------------------------------------------------------------------------------
MIXED = CALLS + "mov eax, 99\n" + loop(
    300,
    RANDOM + "test dl, 3\njz 1f\ncall rsi\n1: bt edx, 4\njc 2f\nxchg rsi, rdi\n2: mov ecx, 3\n3: dec ecx\njnz 3b\ncall rdi",
)  # fmt: skip


RETURNS = ALTERNATING.format("lea rax, [rip + 4f]\npush rax\nret\n4: call 5f\njmp 6f\n5: ret\n6:")
"""Between indirect jumps a return that goes wrong and one that does not."""


def parts(seed: int) -> Iterator[int]:
    draw = random.Random(seed)
    while True:
        yield draw.choice((0, 1, 3, 20, 400))


@pytest.mark.parametrize("kept", [0, 2])
@pytest.mark.parametrize("translate_after", [None, 0, 3])
@pytest.mark.parametrize("seed", range(3))
def test_predictions_do_not_depend_on_where_a_run_is_cut(seed: int, translate_after: int | None, kept: int) -> None:
    predictor = PREDICTOR | {"target_history": kept}
    whole, cut = guest(MIXED, predictor=predictor), guest(MIXED, predictor=predictor)
    whole.translate_after, cut.translate_after = None, translate_after
    run(whole)
    run(cut, parts(seed))
    assert whole.mispredictions > 100
    assert (cut.cycles, cut.mispredictions) == (whole.cycles, whole.mispredictions)


KINDS = {
    "jmp register": "lea rsi, [rip + 1f]\njmp rsi\n1:",
    "jmp memory": "lea rsi, [rip + 1f]\nmov [rbx], rsi\njmp [rbx]\n1:",
    "call register": "lea rsi, [rip + 1f]\ncall rsi\n1: pop rsi",
    "call memory": "lea rsi, [rip + 1f]\nmov [rbx], rsi\ncall [rbx]\n1: pop rsi",
    "ret": "lea rsi, [rip + 1f]\npush rsi\nret\n1:",
    "jnz": "test r15d, 1\njnz 1f\n1:",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_branch_is_predicted_and_alike_where_it_is_translated(kind: str) -> None:
    seen = []
    for translate_after in (None, 0, 3):
        vcpu = guest(loop(20, KINDS[kind]), predictor=PREDICTOR)
        vcpu.translate_after = translate_after
        seen.append((run(vcpu).mispredictions, vcpu.cycles))
    assert seen[0][0] > mispredictions(loop(20, "")), "at least the first is not what it expects"
    assert seen[1] == seen[2] == seen[0]


@pytest.mark.parametrize("kept", [0, 1, 2, 8])
@pytest.mark.parametrize("source", [MIXED, RETURNS])
def test_translated_code_is_predicted_as_interpreted_code(source: str, kept: int) -> None:
    predictor = PREDICTOR | {"target_history": kept}
    interpreted, translated = guest(source, predictor=predictor), guest(source, predictor=predictor)
    interpreted.translate_after, translated.translate_after = None, 0
    run(interpreted)
    run(translated)
    assert (translated.cycles, translated.mispredictions) == (interpreted.cycles, interpreted.mispredictions)
