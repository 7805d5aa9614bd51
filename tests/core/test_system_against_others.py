"""System code (snippets/): hvmx ends in the same state as the host's KVM, Bochs and QEMU's translator.

KVM is the processor where the processor virtualises; where it does not, KVM runs system code by an emulator of its own,
which is an opinion like the others' and does not know every instruction. known_differences.py has what of these
opinions is not the SDM's.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from . import emulators, kvm
from .known_differences import WRONG, asked, reason_not_to_ask, reconciled
from .machine import MEMORY, State, differences, run_hvmx
from .snippets import (
    Snippet,
    alignment,
    debug,
    descriptors,
    gates,
    initial_states,
    interrupts,
    paging,
    real,
    registers,
    returns,
    segments,
    system_calls,
    tasks,
    virtual8086,
)  # fmt: skip

TOPICS = (segments, gates, interrupts, returns, tasks, virtual8086, real, registers, system_calls, paging, alignment,
          debug, descriptors)
SNIPPETS = [snippet for topic in TOPICS for snippet in topic.SNIPPETS]

Answers = dict[str, dict[Snippet, State]]
"""By oracle: the final states, packed."""


def packed(state: State) -> State:
    """Thousands are kept, and their memory is nearly all zeros."""
    return replace(state, memory={at: zlib.compress(data, 1) for at, data in state.memory.items()})


def unpacked(state: State) -> State:
    return replace(state, memory={at: zlib.decompress(data) for at, data in state.memory.items()})


@pytest.fixture(scope="module")
def states(request: pytest.FixtureRequest) -> dict[Snippet, State]:
    """What the snippets of this run start in."""
    chosen = (item.callspec.params for item in request.session.items if item.path == request.path and hasattr(item,
        "callspec"))
    return initial_states(parameters["snippet"] for parameters in chosen if "snippet" in parameters)


@pytest.fixture(scope="module")
def answers(states: dict[Snippet, State]) -> Answers:
    found: Answers = {}
    absent = []
    for name in emulators.NAMES:
        if reason := emulators.missing(name):
            absent.append(reason)
        else:
            chosen = asked(name, states)
            finals = emulators.run_all(name, [states[snippet] for snippet in chosen])
            found[name] = dict(zip(chosen, map(packed, finals)))
    if absent and os.environ.get("CI") == "true":
        pytest.fail("; ".join(absent))
    if reason := kvm.missing():
        absent.append(reason)
    else:
        found["KVM"] = dict(_run_by_kvm(states))
    if not found:
        pytest.skip("; ".join(absent))
    return found


def _run_by_kvm(states: dict[Snippet, State]) -> Iterator[tuple[Snippet, State]]:
    machine = kvm.Kvm(MEMORY)
    for snippet in asked("KVM", states):
        try:
            yield snippet, packed(machine.run(states[snippet]))
        except kvm.KvmRefused:
            continue


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_ends_as_everywhere(states: dict[Snippet, State], answers: Answers, snippet: Snippet) -> None:
    ours = run_hvmx(states[snippet])
    oracles = [name for name, finals in answers.items() if snippet in finals]
    if not oracles:
        pytest.skip("the oracles that are there do not know this")
    lines = [line for name in oracles for line in differences(*reconciled(name, ours, unpacked(answers[name][snippet])), name)]
    assert not lines, "\n".join([snippet.source, *lines])


def test_no_snippet_is_without_an_oracle() -> None:
    known = {snippet for name in emulators.NAMES for snippet in asked(name, SNIPPETS)}
    assert not [str(snippet) for snippet in SNIPPETS if snippet not in known]


def test_every_known_difference_is_of_a_snippet() -> None:
    for name, patterns in WRONG.items():
        for pattern, _ in patterns:
            assert any(reason_not_to_ask(name, snippet, [pattern]) for snippet in SNIPPETS), (name, pattern)
