"""Measures the processor's core: widths, what the front end makes disappear, branches, and the way through memory."""

from __future__ import annotations

from collections.abc import Callable

from hvmx.isa import families

from .bench import Bench, Step, said, whole
from .classes import latency_of
from .instructions import INTEGERS, SINGLES

_MOVES = [f"mov {register}, rbx" for register in ("rax", "r8", "r9", "r10", "r11", "rbp")]
_WITHOUT_PIPES = (
    _MOVES,
    [f"xor {register}, {register}" for register in ("eax", "r8d", "r9d", "r10d", "r11d", "ebp")],
)
"""What a front end may make disappear. Otherwise it needs a pipe, and there may be fewer of those than slots."""

_MIXED = (
    [
        "add rax, rbx",
        "movaps xmm0, xmm1",
        "add r8, rbx",
        "movaps xmm2, xmm3",
        "add r9, rbx",
        "movaps xmm4, xmm5",
    ],
    ["add rax, rbx", "nop", "add r8, rbx", "nop", "add r9, rbx", "nop"],
)
"""What needs no pipe beside what does. Two NOPs may share a slot (on Zen 4), and so may a NOP and a move, so none of
those are next to each other."""

_FUSING = ("cmp", "test", "add", "sub", "and", "or", "xor", "inc", "dec", "neg", "adc", "sbb", "shl")
"""Families that set the flags; all leave a result other than 0 below, so JE is not taken."""

_FUSING_OPERANDS = {
    "inc": "r8", "dec": "r8", "neg": "r8", "shl": "r8, 1", "cmp": "r12, rbx", "test": "r12, r12", "and": "r12, r12",
    "or": "r12, r12",
}  # fmt: skip

_GENERAL_IDIOMS = ("xor", "sub", "sbb", "and", "or")
_VECTOR_IDIOMS = (
    "pxor", "xorps", "xorpd", "pandn", "andnps", "andnpd", "psubb", "psubw", "psubd", "psubq", "psubsb", "psubsw",
    "psubusb", "psubusw", "pcmpgtb", "pcmpgtw", "pcmpgtd", "pcmpgtq",
)  # fmt: skip
"""With one register for both operands the result is 0, whatever is in it."""

_ELIMINATED = 0.75
"""A move in a chain of moves that takes less than this is none: one that is carried out takes a whole cycle."""

_CUT = 0.75
"""A chain through an idiom takes less than so much of what the chain without it takes; through what is none, more."""

_HALF = 0.5
"""Random branches go the way that is not expected half of the time."""

_RANDOM = (
    "mov r8, 6364136223846793005; mov r9, 1442695040888963407; mov rax, [rsi]; mov ebx, 1",
    "imul rax, r8; add rax, r9; mov [rsi], rax; {}; js +1; nop",
)
"""Knuth's linear congruential generator modulo 2^64 (MMIX), whose top bit does not repeat while this runs: what decides
is the sign of its state, or that of 1. The state is kept in memory from run to run."""


def pipeline_steps() -> list[Step]:
    """All that is measured of [pipeline]; the width comes first, as others build on it."""
    steps: dict[str, Callable[[Bench], None]] = {
        "dispatch": _width, "eliminated_moves": _moves, "zero_idioms": _idioms, "fusion": _fusion,
        "misprediction": _misprediction, "taken_branch": _taken, "load": _load, "load_vector": _load_vector,
        "forward": _forward, "forward_stack": _forward_stack, "forward_operand": _forward_operand,
        "forward_vector": _forward_vector, "window": _window,
    }  # fmt: skip
    return [Step(f"pipeline.{name}", step) for name, step in steps.items()]


def _window(bench: Bench) -> None:
    """Loads that miss overlap while both are in the window. How far apart that is depends on what is between them."""
    bench.miss("pipeline.window", "other limits, such as those of free registers, show first")
    bench.miss("pipeline.window_vectors", "measured as the window would be, and it is not")
    bench.miss(
        "pipeline.retire", "nothing retires faster than it is dispatched, for longer than the window lasts"
    )


def _width(bench: Bench) -> None:
    rates = [len(texts) / bench.time("; ".join(texts)).value for texts in (*_WITHOUT_PIPES, *_MIXED)]
    bench.width = whole(max(rates))
    widest = (texts for texts, rate in zip(_WITHOUT_PIPES, rates) if whole(rate) == bench.width)
    bench.filler = next(widest, ())
    shown = ", ".join(f"{rate:.2f} of {texts[0]}" for texts, rate in zip((*_WITHOUT_PIPES, *_MIXED), rates))
    bench.find("pipeline.dispatch", {"value": bench.width}, f"{shown} and the like a cycle")


def _moves(bench: Bench) -> None:
    chains = {"general": "mov rax, rbx; mov rbx, rax", "vector": "movaps xmm0, xmm1; movaps xmm1, xmm0"}
    taken = {kind: bench.time(text).value / 2 for kind, text in chains.items()}
    bench.find(
        "pipeline.eliminated_moves",
        {"kinds": [kind for kind, cycles in taken.items() if cycles < _ELIMINATED]},
        "a move in a chain of moves: " + ", ".join(f"{kind} {cycles:.2f}" for kind, cycles in taken.items()),
    )


def _idioms(bench: Bench) -> None:
    """An idiom cuts the chain that goes through it: then its links take no longer than independent multiplications."""
    found: list[str] = []
    kept: list[str] = []
    for names, multiply, register, setup in (
        (_GENERAL_IDIOMS, "imul rax, rcx", "rax", INTEGERS), (_VECTOR_IDIOMS, "pmullw xmm0, xmm12", "xmm0", SINGLES),
    ):  # fmt: skip
        chain = bench.time(multiply, setup).value
        for name in names:
            if name in families():
                cut = bench.time(f"{multiply}; {name} {register}, {register}", setup).value < _CUT * chain
                (found if cut else kept).append(name)
    bench.find(
        "pipeline.zero_idioms",
        {"families": sorted(found)},
        f"a chain of multiplications is cut by them, and not by {', '.join(kept)}",
    )


def _fusion(bench: Bench) -> None:
    """Fused with the branch behind it, an instruction takes no slot of its own."""
    fused: list[str] = []
    apart: list[str] = []
    for name in _FUSING:
        operands = _FUSING_OPERANDS.get(name, "r8, rbx")
        body = [f"{name} {operands}; je +0", *_rest(bench)]
        slots = bench.time("; ".join(body)).value * bench.width - len(body) + 1
        (fused if slots < _FUSED else apart).append(name)
    bench.find(
        "pipeline.fusion",
        {"families": sorted(fused)},
        f"with JE they take one slot of dispatch; two do {', '.join(apart)}",
    )


_FUSED = 1.5
"""Slots between one, of a fused pair, and two."""


def _rest(bench: Bench) -> list[str]:
    """Fillers beside a branch: so many that branches, of which few are executed a cycle, do not hold them."""
    return [text for text in _MOVES if "r8" not in text][: bench.width - 1]


def _misprediction(bench: Bench) -> None:
    """From a random branch's resolution: a cycle for the branch itself comes off what a wrong turn takes longer."""
    setup, text = _RANDOM
    random = bench.time(text.format("test rax, rax"), setup, copies=1)
    always = bench.time(text.format("test rbx, rbx"), setup, copies=1)
    cycles = (random.value - always.value) / _HALF - 1
    bench.find(
        "pipeline.misprediction", {"cycles": whole(cycles)},
        f"a random branch {said(random)}, the same where it is predicted {said(always)}: "
        "twice the difference, less 1 for the branch",
    )  # fmt: skip


def _taken(bench: Bench) -> None:
    distance, jumps = 30, 16
    series = bench.time("; ".join([f"jmp +{distance}", *["nop"] * distance]), copies=jumps)
    bench.find(
        "pipeline.taken_branch",
        {"cycles": max(1, whole(series.value))},
        f"jumps over {distance} bytes: one every {said(series)}",
    )
    bench.miss("pipeline.indirect", "it differs with where the targets are")
    bench.miss("pipeline.call", "calls without what they call would empty the stack of return addresses")
    bench.miss("pipeline.fetch_ahead", "what fills the queue that fetching is ahead by differs from one instruction to another")


_OWN_ADDRESS = "mov [rsi], rsi; mov rax, rsi"
"""A pointer to itself."""


def _load(bench: Bench) -> None:
    series = bench.time("mov rax, [rax]", _OWN_ADDRESS)
    bench.find("pipeline.load", {"cycles": whole(series.value)}, f"a pointer to itself: {said(series)}")


def _load_vector(bench: Bench) -> None:
    series = bench.time("movq xmm0, qword ptr [rax]; movq rax, xmm0", _OWN_ADDRESS)
    back = latency_of(bench, "sse-to-general")
    bench.find(
        "pipeline.load_vector", {"cycles": whole(series.value - back)},
        f"a pointer to itself by way of an XMM register: {said(series)}, less {back:.2f} for sse-to-general",
    )  # fmt: skip


def _forward(bench: Bench) -> None:
    _forwarded(bench, "pipeline.forward", "rsi")


def _forward_stack(bench: Bench) -> None:
    _forwarded(bench, "pipeline.forward_stack", "rsp+8")


def _forwarded(bench: Bench, key: str, address: str) -> None:
    series = bench.time(f"mov [{address}], rax; mov rax, [{address}]; imul rax, rcx")
    multiply = latency_of(bench, "imul")
    bench.find(
        key, {"cycles": max(0, whole(series.value - multiply))},
        f"stored, loaded and multiplied: {said(series)}, less {multiply:.2f} for imul",
    )  # fmt: skip


def _forward_operand(bench: Bench) -> None:
    series = bench.time("mov [rsi], rax; add rax, [rsi]")
    add = latency_of(bench, "alu")
    bench.find(
        "pipeline.forward_operand", {"cycles": max(0, whole(series.value - add))},
        f"stored and added to itself: {said(series)}, less {add:.2f} for the addition",
    )  # fmt: skip


def _forward_vector(bench: Bench) -> None:
    series = bench.time("movaps [r12], xmm0; movaps xmm0, [r12]")
    bench.find(
        "pipeline.forward_vector", {"cycles": whole(series.value)}, f"stored and loaded: {said(series)}"
    )
