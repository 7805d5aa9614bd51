"""The suite: small programs of many kinds, which run on the processor and in the model alike.

A program is one function, ``run(data)``, in a flat image that is linked at ``CODE_ADDRESS`` and consists of code and
constants only. It has memory at its argument, zero before the first call, and returns a checksum; sources are in
``programs/``, each with what it does in its first comment. It works within the first-level caches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

#: Where images are linked: native_child.c places them there, and modelled.py.
CODE_ADDRESS = 0x20440000

#: Memory that a program has.
DATA_BYTES = 1 << 20

SOURCES = Path(__file__).parent / "programs"
BUILT = Path(__file__).parent / "built"


@dataclass(frozen=True)
class Program:
    """One program of the suite."""

    name: str
    source: str
    """The file in ``programs/``."""
    bits: int
    predictable: bool
    """Its branches go the same ways in every call, so that a predictor can come to know them. Those of the others follow
    from data, which most of them draw anew for every call."""

    @property
    def image_name(self) -> str:
        return f"{self.name}.bin"

    @property
    def about(self) -> str:
        """What it does: the first comment of its source."""
        comment = re.match(r"/\*(.*?)\*/", (SOURCES / self.source).read_text(), re.DOTALL)
        assert comment is not None, self.source
        return " ".join(comment[1].replace("\n *", " ").split())

    def image(self) -> bytes:
        """Raises ``FileNotFoundError`` where the package was built without programs."""
        path = BUILT / self.image_name
        if not path.exists():
            raise FileNotFoundError(
                f"{path}: the programs are built on x86 hosts with gcc and binutils, and were not here"
            )
        return path.read_bytes()


_ASSEMBLY = (
    "add-with-carry", "calls", "chain-alu", "chain-multiply", "choose", "count-bits-instruction", "crc32-instruction",
    "divide-32", "divide-64", "independent-alu", "indirect-calls", "jumps", "load-operands", "locked", "partial-registers",
    "push-and-pop", "rep-copy-large", "rep-copy-small", "rep-fill", "scan-and-compare", "shifts", "single-strings",
    "sse-packed-float", "sse-packed-integer", "sse-scalar-chain", "store-forward", "x87-chain", "x87-functions", "x87-slow",
)  # fmt: skip
_PREDICTABLE = (
    "ackermann", "base64", "big-multiply", "bit-tricks", "bodies", "bytecode", "chacha-like", "compare-packed", "congruential",
    "crc32-bitwise", "crc32-table", "dot-product-float", "fib", "fourier-double", "fourier-integer", "hanoi", "histogram",
    "knapsack", "life", "linked-lists", "matrix-double", "matrix-float-packed", "matrix-integer", "md5-like", "modular-power",
    "newton-x87", "pointer-chase", "sha256", "sieve", "siphash-like", "string-length", "sum-of-bytes", "transpose", "xorshift",
)  # fmt: skip
_BY_DATA = (
    "binary-search", "bytecode-random", "collatz", "decimal", "decompress", "edit-distance", "greatest-divisor",
    "greatest-divisor-binary", "hash-table", "heapsort", "insertion-sort", "mandelbrot-double", "mandelbrot-x87", "merge-sort",
    "objects", "queens", "queue", "quicksort", "run-lengths", "tokens", "tree", "utf8",
)  # fmt: skip
_IN_32_BITS_TOO = (
    "big-multiply", "bytecode", "crc32-table", "edit-distance", "fib", "hash-table", "matrix-double", "matrix-integer",
    "md5-like", "quicksort", "sha256", "string-length",
)  # fmt: skip

PROGRAMS = tuple(
    sorted(
        (
            *(Program(name, f"{name}.S", 64, True) for name in _ASSEMBLY),
            *(Program(name, f"{name}.c", 64, name in _PREDICTABLE) for name in (*_PREDICTABLE, *_BY_DATA)),
            *(Program(f"{name}.32", f"{name}.c", 32, name in _PREDICTABLE) for name in _IN_32_BITS_TOO),
        ),
        key=lambda program: program.name,
    )
)
"""All programs, by name. Those of 32 bits end in ``.32``."""

FITTED: frozenset[str] = frozenset()
"""Names of programs that a figure of a bundled profile was chosen by: they are shown, and count in no mean."""


def select(pattern: str) -> tuple[Program, ...]:
    """The programs whose names match a shell's pattern. ``ValueError`` where there are none."""
    found = tuple(program for program in PROGRAMS if fnmatchcase(program.name, pattern))
    if not found:
        raise ValueError(f"no program's name matches {pattern!r}; `hvmx validate --list` lists them")
    return found
