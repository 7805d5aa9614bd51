"""Where Bochs 2.7, QEMU 7.2's translator or KVM is no oracle for system code, each with the place in the SDM.

What is small and everywhere is taken out of both states before they are compared; where an oracle goes another way
altogether, it is not asked. Bochs checks nearly all that the SDM asks for, and is asked nearly everything. QEMU's
translator leaves out limits, null selectors, presence and reserved bits where its guests do not mind: it is asked what
KVM may not know, and what Bochs gets wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

from .machine import GDT, LDT, STUBS, State
from .snippets import Snippet, segments

WITH_ERROR_CODE = (8, 10, 11, 12, 13, 14, 17)
DOUBLE_FAULT, LOW = 8, 0xFFFFFFFF
ACCESSED, CODE_OR_DATA, LONG_MODE, RF = 1, 0x10, 0x400, 0x10000

WRONG: dict[str, list[tuple[str, str]]] = {
    "QEMU": [
        ("32-ring0: ltr 0x[03]", "takes a null selector (SDM vol. 2, LTR: #GP(0))"),
        ("64-ring0: mov ss, 0x3", "takes a null selector of another RPL than CPL (SDM vol. 2, MOV: #GP(0))"),
    ],
    "Bochs": [
        ("64-ring?: iretd to *", "pops no stack at the same level (SDM vol. 3, 6.14.3)"),
        ("64-ring3: single step over syscall", "looks at TF before SYSCALL has masked it (SDM vol. 2, SYSCALL)"),
        ("64-ring?: l[as][rl] 0x90", "looks at the type in the upper half of a descriptor (SDM vol. 2, LAR)"),
    ],
    "KVM": [],
}
"""By oracle: patterns of names of snippets, and what it does wrong there."""


def reason_not_to_ask(oracle: str, snippet: Snippet, patterns: list[str] | None = None) -> str:
    """What the oracle does wrong in this snippet; empty if it may be asked."""
    for pattern, reason in WRONG[oracle]:
        if (patterns is None or pattern in patterns) and fnmatchcase(str(snippet), pattern):
            return reason
    return ""


def asked(oracle: str, snippets: Iterable[Snippet]) -> list[Snippet]:
    """Those of the snippets that the oracle is to run."""
    return [snippet for snippet in snippets if not reason_not_to_ask(oracle, snippet)
            and (oracle == "Bochs" or snippet in segments.SNIPPETS
                 or oracle == "QEMU" and reason_not_to_ask("Bochs", snippet))]  # fmt: skip


def _without_resume_flag(state: State, vectors: Iterable[int] = range(32)) -> State:
    """QEMU does not set RF in the image of the flags that a fault pushes (SDM vol. 3, 17.3.1.1)."""
    vector, rest = divmod(state.registers["rip"] - STUBS, 16)
    if vector not in vectors or rest != 1:
        return state
    size = 8 if state.efer & LONG_MODE else 4
    at = state.segments["ss"][1] + state.registers["rsp"] + size * (2 + (vector in WITH_ERROR_CODE)) + 2
    memory = bytearray(state.memory[0])
    memory[at % len(memory)] &= ~(RF >> 16)
    return replace(state, memory={0: bytes(memory)})


def _without_resume_flag_in_double_fault(state: State) -> State:
    """Bochs sets RF there, but it is no fault (SDM vol. 3, 17.3.1.1 and table 6-1)."""
    return _without_resume_flag(state, (DOUBLE_FAULT,))


def _without_disabled_breakpoints(state: State) -> State:
    """Bochs says of breakpoints that are not enabled, too, that they were met, as it may (SDM vol. 3, 17.2.3)."""
    disabled = sum(1 << number for number in range(4) if state.dr[number] and not state.dr7 >> 2 * number & 3)
    return replace(state, dr6=state.dr6 & ~disabled)


def _without_high_halves(state: State) -> State:
    """The monitor, in 32-bit code, sees only the low halves of CR2 and of the debug registers."""
    return replace(state, cr2=state.cr2 & LOW, dr=tuple(value & LOW for value in state.dr))


def _with_accessed_segments(state: State) -> State:
    """QEMU does not set the accessed bit of a code segment (SDM vol. 3, 3.4.5.1)."""
    memory = bytearray(state.memory[0])
    for table, size in ((GDT, 0x120), (LDT, 0x18)):
        for at in range(table + 5, table + size, 8):
            if memory[at] & CODE_OR_DATA:
                memory[at] |= ACCESSED
    selector, base, limit, access = state.segments["cs"]
    return replace(state, memory={0: bytes(memory)},
                   segments=state.segments | {"cs": (selector, base, limit, access | ACCESSED)})  # fmt: skip


EVERYWHERE: dict[str, list[Callable[[State], State]]] = {
    "QEMU": [_without_resume_flag, _with_accessed_segments, _without_high_halves],
    "Bochs": [_without_resume_flag_in_double_fault, _without_disabled_breakpoints, _without_high_halves],
    "KVM": [],
}  # fmt: skip


def reconciled(oracle: str, ours: State, theirs: State) -> tuple[State, State]:
    """Both states without what the oracle does differently everywhere."""
    for change in EVERYWHERE[oracle]:
        ours, theirs = change(ours), change(theirs)
    return ours, theirs
