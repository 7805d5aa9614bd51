"""Short pieces of system code, one topic a file, each with the world (machine.py) that it runs in.

A snippet runs until a HLT: its own, in ring 0, or that of the exception handler it reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..machine import State, assemble, world


def _nothing(state: State) -> None:
    pass


@dataclass(frozen=True, eq=False)
class Snippet:
    """Assembler source, the world it runs in, and what is different there."""

    name: str
    bits: int
    source: str
    cpl: int = 0
    change: Callable[[State], None] = _nothing

    def __str__(self) -> str:
        return f"{self.bits}-ring{self.cpl}: {self.name}"


def initial_states(snippets: Iterable[Snippet]) -> dict[Snippet, State]:
    """What each snippet starts in. All sources of one width are assembled at once."""
    snippets = list(snippets)
    codes: dict[tuple[int, str], bytes] = {}
    for bits in {snippet.bits for snippet in snippets}:
        sources = sorted({snippet.source for snippet in snippets if snippet.bits == bits})
        codes |= zip(((bits, source) for source in sources), assemble(bits, sources))
    states = {}
    for snippet in snippets:
        states[snippet] = world(snippet.bits, codes[snippet.bits, snippet.source], cpl=snippet.cpl)
        snippet.change(states[snippet])
    return states
