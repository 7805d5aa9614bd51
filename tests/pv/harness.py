"""cext/ without a processor: compiled with a stand-in for the core (harness.c), which has its decoder, reached by ctypes."""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import hvmx
from hvmx.core.decode import decoder

ROOT = Path(__file__).resolve().parents[2]
CEXT = ROOT / "cext"
CORE = Path(hvmx.__file__).parent / "core"
MASK = (1 << 64) - 1

PRESENT, WRITABLE, USER, ACCESSED, DIRTY = 1, 2, 4, 0x20, 0x40
LEAF = PRESENT | WRITABLE | USER | ACCESSED | DIRTY
DOMID_SELF = 0x7FF0

VIRT_BASE = 0xFFFFFFFF80000000
FREQUENCY = 3_000_000_000


def compile_c(output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> None:
    """Compile C against cext/ and the core's headers."""
    compiler = os.environ.get("CC", "gcc").split()
    command = [
        *compiler, "-std=gnu11", "-g", "-O1", "-Wall", "-fno-strict-aliasing", "-fwrapv",
        *(f"-I{folder}" for folder in (*CEXT.iterdir(), CORE / "state", CORE / "generated")),
        *flags, *map(str, sources), "-o", str(output),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and not result.stderr, result.stderr


def give_decoder(loaded: Any) -> None:
    """Hand the core's decoder, a C function that other modules reach by a capsule, to a harness that is loaded."""
    capsule = ctypes.py_object(decoder.__pyx_capi__["decode"])
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetPointer.restype = ctypes.c_char_p, ctypes.c_void_p
    loaded.harness_set_decoder(ctypes.c_void_p(api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))))


@functools.cache
def library() -> Any:
    """The compiled harness."""
    directory = Path(tempfile.mkdtemp(prefix="hvmx-pv-"))
    output = directory / "harness.so"
    compile_c(output, *CEXT.rglob("*.c"), Path(__file__).with_name("harness.c"), flags=("-shared", "-fPIC"))
    loaded = ctypes.CDLL(str(output))
    give_decoder(loaded)
    output.unlink()
    directory.rmdir()
    pointer, word = ctypes.c_void_p, ctypes.c_uint64
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "new": (pointer, [word, ctypes.c_uint32, word]),
        "free": (None, [pointer]),
        "call": (word, [pointer, word, ctypes.POINTER(word)]),
        "call_parts": (ctypes.c_int, [pointer, word, ctypes.POINTER(word), word]),
        "set_work_limit": (None, [pointer, word]),
        "finish_partial": (ctypes.c_int, [pointer]),
        "refs": (ctypes.c_uint32, [pointer, word]),
        "type_refs": (ctypes.c_uint32, [pointer, word]),
        "type": (ctypes.c_uint32, [pointer, word]),
        "kernel_table": (word, [pointer]),
        "start": (ctypes.c_int, [pointer, word, word, word, word, word]),
        "pass": (None, [pointer, word]),
        "exception": (None, [pointer, ctypes.c_uint32, ctypes.c_uint32, word]),
        "privileged": (ctypes.c_int, [pointer]),
        "ram": (ctypes.POINTER(ctypes.c_uint8), [pointer]),
        "registers": (ctypes.POINTER(word), [pointer]),
        "rip": (word, [pointer]),
        "set_rip": (None, [pointer, word]),
        "set_code": (None, [pointer, word, ctypes.c_uint32]),
        "halted": (ctypes.c_int, [pointer]),
        "deadline": (word, [pointer]),
        "in_kernel": (ctypes.c_int, [pointer]),
        "state": (ctypes.c_int, [pointer]),
        "shutdown_code": (ctypes.c_uint32, [pointer]),
        "crash": (ctypes.c_char_p, [pointer]),
        "reserved": (word, [pointer]),
        "set_references": (None, [pointer, word, ctypes.c_uint32]),
        "frame_bytes": (ctypes.c_uint32, []),
        "pages": (word, [pointer]),
        "shared_info": (word, [pointer]),
        "system_time": (word, [pointer]),
        "count": (word, [pointer, ctypes.c_uint32]),
        "cycles": (word, [pointer]),
        "console": (ctypes.c_uint32, [ctypes.c_char_p]),
        "input": (ctypes.c_uint32, [pointer, ctypes.c_char_p, ctypes.c_uint32]),
        "audit": (ctypes.c_char_p, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, f"harness_{name}")
        function.restype = result
        function.argtypes = arguments
    return loaded


class Guest:
    """A small domain, started: `PAGES` pages, mapped from VIRT_BASE on, its page tables in the last few.

    Pages are used by number: page n is at VIRT_BASE + n * 0x1000 while it is mapped.
    """

    PAGES = 600
    SCRATCH = 1
    """The page that arguments of hypercalls are put into."""
    STACK = 2
    """The kernel's stack is this page."""

    def __init__(self, flags: int = 0, frequency: int = FREQUENCY) -> None:
        self.library = library()
        self.cpu = self.library.harness_new(self.PAGES, flags, frequency)
        self.count = self.library.harness_pages(self.cpu)
        self.first_frame = self.library.harness_reserved(self.cpu) - 1
        self.memory: NDArray[np.uint8] = np.ctypeslib.as_array(
            self.library.harness_ram(self.cpu), (self.PAGES << 12,)
        )
        self.registers = self.library.harness_registers(self.cpu)
        self.l4, self.l3, self.l2 = self.count - 1, self.count - 2, self.count - 3
        self.l1 = [self.count - 5, self.count - 4]
        self.table_pages = {self.l4, self.l3, self.l2, *self.l1}
        self.words(self.l4)[511] = self.entry(self.l3)
        self.words(self.l3)[510] = self.entry(self.l2)
        for index, table in enumerate(self.l1):
            self.words(self.l2)[index] = self.entry(table)
        for page in range(self.count):
            flags_of = LEAF & ~WRITABLE if page in self.table_pages else LEAF
            self.words(self.l1[page >> 9])[page & 511] = self.entry(page, flags_of)
        stack = self.virtual(self.STACK + 1)
        error = self.library.harness_start(self.cpu, self.frame(self.l4), self.virtual(0), stack, 0, 0)
        assert error == 0, f"the page tables of the harness are refused: {error}"

    def __enter__(self) -> Guest:  # noqa: PYI034 - Self is Python 3.11's
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.library.harness_free(self.cpu)

    # --- memory ---------------------------------------------------------------------------------------------------
    def frame(self, page: int) -> int:
        return int(self.first_frame - page)

    def virtual(self, page: int) -> int:
        return VIRT_BASE + page * 0x1000

    def entry(self, page: int, flags: int = LEAF) -> int:
        return self.frame(page) << 12 | flags

    def words(self, page: int) -> NDArray[np.uint64]:
        at = self.frame(page) << 12
        return self.memory[at : at + 0x1000].view(np.uint64)

    def put(self, data: bytes, offset: int = 0, page: int = SCRATCH) -> int:
        """Write into a page that is mapped; returns the virtual address."""
        at = (self.frame(page) << 12) + offset
        self.memory[at : at + len(data)] = np.frombuffer(data, np.uint8)
        return self.virtual(page) + offset

    def get(self, size: int, offset: int = 0, page: int = SCRATCH) -> bytes:
        at = (self.frame(page) << 12) + offset
        return self.memory[at : at + size].tobytes()

    def shared_info(self, size: int, offset: int) -> bytes:
        at = (self.library.harness_shared_info(self.cpu) << 12) + offset
        return self.memory[at : at + size].tobytes()

    def set_shared_info(self, offset: int, data: bytes) -> None:
        at = (self.library.harness_shared_info(self.cpu) << 12) + offset
        self.memory[at : at + len(data)] = np.frombuffer(data, np.uint8)

    # --- calls ----------------------------------------------------------------------------------------------------
    def call(self, number: int, *args: int) -> int:
        """A hypercall; the result as a signed number."""
        words = (ctypes.c_uint64 * 6)(*(value & MASK for value in args))
        result = self.library.harness_call(self.cpu, number, words)
        return ctypes.c_int64(result).value

    def call_parts(self, parts: int, number: int, *args: int) -> bool:
        """Execute so many parts of a hypercall that is preempted, at most; whether it came to its end."""
        words = (ctypes.c_uint64 * 6)(*(value & MASK for value in args))
        return bool(self.library.harness_call_parts(self.cpu, number, words, parts))

    def passes(self, cycles: int) -> None:
        """Let guest cycles pass, and what is due happen."""
        self.library.harness_pass(self.cpu, cycles)

    @property
    def cycles(self) -> int:
        """Guest cycles so far."""
        return int(self.library.harness_cycles(self.cpu))

    def audit(self) -> str | None:
        """What is wrong with the books of frames, if anything."""
        text = self.library.harness_audit(self.cpu)
        return None if text is None else text.decode()

    def console(self) -> bytes:
        buffer = ctypes.create_string_buffer(1 << 16)
        size = self.library.harness_console(buffer)
        return buffer.raw[:size]

    @property
    def crash_reason(self) -> str:
        return str(self.library.harness_crash(self.cpu).decode())
