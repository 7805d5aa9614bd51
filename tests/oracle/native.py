"""Run single user-mode instructions on the processor that the tests run on, each from a given state.

`Native().run(cases)` takes an array of `CASE` and gives an array of `RESULT` and the memory that each
case changed. `case()` fills one from keywords. native.c, which does it, is compiled on first use.

The addresses below 4 GiB are the same for 64-bit and compatibility mode. Everything else there is
unmapped, so an access elsewhere is a #PF:

    CODE      2 pages, read and execute; all INT3 but for the instruction under test
    DATA      2 pages, read and write
    CONSTANT  1 page, read only; right behind DATA, so an operand may lie across both

DATA and CONSTANT hold `pristine()` at the start of each case, with the case's patches in DATA.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import select
import shlex
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, cast, final

import numpy as np
import numpy.typing as npt

PAGE = 4096
CODE, CODE_BYTES = 0x1000_0000, 2 * PAGE
DATA, DATA_BYTES = 0x2000_0000, 2 * PAGE
CONSTANT, CONSTANT_BYTES = DATA + DATA_BYTES, PAGE

BY_BREAKPOINT, BY_TRAP = 0, 1
"""How control comes back after the instruction; native.c says which is for what."""
NO_VECTOR, SYSTEM_CALL = 0xFFFF, 0x100

CODE32_SELECTOR, DATA_SELECTOR, CODE64_SELECTOR = 0x23, 0x2B, 0x33
"""The user segments that Linux's GDT holds for every process: flat, DPL 3."""

REGISTERS_64 = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")  # fmt: skip
GPR_INDEX = {name: index for index, name in enumerate(REGISTERS_64)}
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
FXSAVE_BYTES = 512
PATCHES, PATCH_BYTES = 2, 48
POWER_UP_FXSAVE = struct.pack("<HH20xI", 0x37F, 0, 0x1F80).ljust(FXSAVE_BYTES, b"\0")
"""The image after FNINIT, MXCSR at its value after reset, and all registers zero."""
HANG_SECONDS = 1.0
BATCH = 4096

_SEGMENTS = [(name, "<u2") for name in SEGMENTS]
_PATCH = [("address", "<u8"), ("length", "<u4"), ("bytes", "u1", (PATCH_BYTES,)), ("unused", "<u4")]
CASE = np.dtype(
    [("gpr", "<u8", (16,)), ("rip", "<u8"), ("rflags", "<u8"), ("fs_base", "<u8"), ("gs_base", "<u8"),
     ("code_address", "<u8"), ("segments", _SEGMENTS), ("return_by", "u1"), ("with_fxsave", "u1"), ("code_length", "u1"),
     ("code", "u1", (15,)), ("unused", "u1", (2,)), ("patches", _PATCH, (PATCHES,))])  # fmt: skip
RESULT = np.dtype(
    [("gpr", "<u8", (16,)), ("rip", "<u8"), ("rflags", "<u8"), ("fs_base", "<u8"), ("gs_base", "<u8"),
     ("cr2", "<u8"), ("error_code", "<u8"), ("segments", _SEGMENTS), ("vector", "<u2"), ("unused", "<u2"),
     ("changed_offset", "<u4"), ("changed_length", "<u4"), ("heap_offset", "<u4"), ("unused2", "<u4")])  # fmt: skip

Cases = npt.NDArray[np.void]


class NativeUnavailable(Exception):
    """This host cannot run the oracle: not x86-64 Linux, or without what native.c needs."""


class NativeFailure(Exception):
    """The helper died or hung; the message names the instruction that it was running."""


@dataclass(frozen=True)
class LdtEntry:
    """A DPL 3 segment for modify_ldt. `limit` is in bytes, or in pages where `in_pages`."""

    base: int
    limit: int
    bits32: bool = True
    code: bool = False
    read_only: bool = False
    expand_down: bool = False
    in_pages: bool = False
    present: bool = True

    def user_desc(self, index: int) -> bytes:
        """struct user_desc of asm/ldt.h."""
        contents = 2 if self.code else int(self.expand_down)
        flags = (self.bits32 | contents << 1 | self.read_only << 3 | self.in_pages << 4
                 | (not self.present) << 5 | 1 << 6)  # fmt: skip
        return struct.pack("<4I", index, self.base, self.limit, flags)

    def descriptor(self) -> int:
        """The 8 bytes in the descriptor table that the kernel makes of it (accessed, DPL 3, AVL set)."""
        kind = 0x11 | self.code << 3 | self.expand_down << 2 | (not self.read_only) << 1
        access = kind | 3 << 5 | self.present << 7
        return (self.limit & 0xFFFF | (self.base & 0xFFFFFF) << 16 | access << 40 | (self.limit >> 16) << 48
                | 1 << 52 | self.bits32 << 54 | self.in_pages << 55 | (self.base >> 24) << 56)  # fmt: skip


LDT: dict[str, LdtEntry] = {
    "data": LdtEntry(DATA, DATA_BYTES - 1),
    "half": LdtEntry(DATA, DATA_BYTES // 2 - 1),
    "read_only": LdtEntry(DATA, DATA_BYTES - 1, read_only=True),
    "expand_down": LdtEntry(DATA, DATA_BYTES // 2 - 1, expand_down=True),
    "expand_down16": LdtEntry(DATA, DATA_BYTES // 2 - 1, expand_down=True, bits32=False),
    "data16": LdtEntry(DATA, DATA_BYTES - 1, bits32=False),
    "code16": LdtEntry(CODE, CODE_BYTES - 1, bits32=False, code=True),
    "code32": LdtEntry(CODE, CODE_BYTES - 1, code=True),
    "execute_only": LdtEntry(CODE, CODE_BYTES - 1, code=True, read_only=True),
    "not_present": LdtEntry(DATA, DATA_BYTES - 1, present=False),
    "flat": LdtEntry(0, 0xFFFFF, in_pages=True),
}
"""The local descriptor table of every case, by name; `ldt_selector` gives the selectors."""


_LDT_BASES = {index: entry.base for index, entry in enumerate(LDT.values())}


def ldt_selector(name: str, rpl: int = 3) -> int:
    """The selector of a segment in `LDT`."""
    return list(LDT).index(name) << 3 | 4 | rpl


def segment_base(selector: int) -> int:
    """The base of a segment of `LDT`; 0 for those of the GDT, which are flat, and where there is no segment."""
    return _LDT_BASES.get(selector >> 3, 0) if selector & 4 else 0


def pristine() -> bytes:
    """What DATA and CONSTANT hold before each case: every byte depends on its address."""
    address = np.arange(DATA_BYTES + CONSTANT_BYTES, dtype=np.uint64)
    mixed = (address + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return bytes((mixed >> np.uint64(56)).astype(np.uint8))


def case(
    code: bytes,
    bits: int = 64,
    *,
    at: int = CODE + 64,
    rflags: int = 0x202,
    rsp: int = DATA + PAGE,
    fs_base: int = 0,
    gs_base: int = 0,
    return_by: int = BY_BREAKPOINT,
    patches: tuple[tuple[int, bytes], ...] = (),
    **registers: int,
) -> np.void:
    """One element of `CASE`: `code` at the linear address `at`, with `patches` (address, content) in DATA.

    `registers` are 64-bit general registers and segment selectors by name. In 64-bit mode FS and GS are
    null with the given bases, in 32-bit mode they are DATA_SELECTOR. 16-bit mode is CS = `LDT["code16"]`.
    Raises KeyError for an unknown register, ValueError for a patch that does not fit.
    """
    made = np.zeros((), CASE)
    thread = 0 if bits == 64 else DATA_SELECTOR
    code_segment = {16: ldt_selector("code16"), 32: CODE32_SELECTOR, 64: CODE64_SELECTOR}[bits]
    selectors = {"es": DATA_SELECTOR, "cs": code_segment, "ss": DATA_SELECTOR, "ds": DATA_SELECTOR,
                 "fs": thread, "gs": thread}  # fmt: skip
    made["gpr"][4] = rsp
    for name, value in registers.items():
        if name in selectors:
            selectors[name] = value
        else:
            made["gpr"][GPR_INDEX[name]] = value
    for name, value in selectors.items():
        made["segments"][name] = value
    made["code_address"], made["rip"] = at, at - segment_base(selectors["cs"])
    made["rflags"], made["fs_base"], made["gs_base"] = rflags, fs_base, gs_base
    made["code_length"], made["return_by"] = len(code), return_by
    made["code"][: len(code)] = np.frombuffer(code, np.uint8)
    if len(patches) > PATCHES:
        raise ValueError(f"{len(patches)} patches, a case holds {PATCHES}")
    for patch, (address, content) in zip(made["patches"], patches, strict=False):
        if not (
            DATA <= address and address + len(content) <= DATA + DATA_BYTES and len(content) <= PATCH_BYTES
        ):
            raise ValueError(f"a patch of {len(content)} bytes at {address:#x} does not fit")
        patch["address"], patch["length"] = address, len(content)
        patch["bytes"][: len(content)] = np.frombuffer(content, np.uint8)
    return cast(np.void, made[()])


@dataclass(frozen=True)
class Outcome:
    """What `Native.run` gives: `states` is an array of `RESULT`, one a case."""

    states: Cases
    heap: npt.NDArray[np.uint8]
    fxsave: npt.NDArray[np.uint8] | None = None

    def changed(self, index: int) -> tuple[int, bytes]:
        """Offset in DATA and new content of the span from the first to the last byte that case `index` changed."""
        state = self.states[index]
        start = int(state["heap_offset"])
        content = self.heap[start : start + int(state["changed_length"])].tobytes()
        return (int(state["changed_offset"]), content) if content else (0, b"")


class _UserDesc(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint32 * 4)]


class _Shared(ctypes.Structure):
    """struct shared of native.c."""

    _fields_ = (
        [(name, ctypes.c_uint32) for name in ("case_bytes", "result_bytes", "ldt_count", "current")]
        + [(name, ctypes.c_uint64)
           for name in ("cases", "results", "fxsave_in", "fxsave_out", "heap", "code_address", "code_bytes",
                        "data_address", "data_bytes", "constant_address", "constant_bytes",
                        "data", "constant", "code")]
        + [("ldt", _UserDesc * 16)])  # fmt: skip


@final
class Native:
    """The helper process, a context manager. Raises NativeUnavailable where it cannot work."""

    def __init__(self) -> None:
        if platform.machine() != "x86_64" or platform.system() != "Linux":
            raise NativeUnavailable("the host is not x86-64 Linux")
        self._directory = tempfile.TemporaryDirectory(prefix="hvmx-native-")
        self._program = Path(self._directory.name) / "native"
        self._compile()
        parts = {"header": PAGE, "code": CODE_BYTES, "data": DATA_BYTES, "constant": CONSTANT_BYTES,
                 "cases": BATCH * CASE.itemsize, "results": BATCH * RESULT.itemsize,
                 "fxsave_in": BATCH * FXSAVE_BYTES, "fxsave_out": BATCH * FXSAVE_BYTES,
                 "heap": BATCH * DATA_BYTES}  # fmt: skip
        offsets, total = {}, 0
        for name, size in parts.items():
            offsets[name] = total
            total += -(-size // PAGE) * PAGE
        self._file = os.memfd_create("hvmx-native")
        os.truncate(self._file, total)
        self._memory = mmap.mmap(self._file, total)
        self._array = np.frombuffer(self._memory, np.uint8)
        self._header = _Shared.from_buffer(self._memory)
        for name in offsets.keys() - {"header"}:
            setattr(self._header, name, offsets[name])
        self._header.case_bytes, self._header.result_bytes = CASE.itemsize, RESULT.itemsize
        self._header.code_address, self._header.code_bytes = CODE, CODE_BYTES
        self._header.data_address, self._header.data_bytes = DATA, DATA_BYTES
        self._header.constant_address, self._header.constant_bytes = CONSTANT, CONSTANT_BYTES
        self._header.ldt_count = len(LDT)
        for index, entry in enumerate(LDT.values()):
            self._header.ldt[index] = _UserDesc.from_buffer_copy(entry.user_desc(index))
        self._part("data", DATA_BYTES + CONSTANT_BYTES)[:] = np.frombuffer(pristine(), np.uint8)
        self._helper: subprocess.Popen[bytes] | None = None
        try:
            self.run(np.array([case(b"\x90")]))
        except NativeFailure as failure:
            self.close()
            raise NativeUnavailable(str(failure)) from failure

    def __enter__(self) -> Native:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the helper and drop its files."""
        self._stop()
        os.close(self._file)
        self._directory.cleanup()

    def run(self, cases: Cases, fxsave: npt.NDArray[np.uint8] | None = None) -> Outcome:
        """Execute each case; `fxsave` (n, 512) is loaded and stored for the cases with `with_fxsave`.

        Raises NativeFailure, naming the instruction, where the helper dies or makes no progress.
        """
        states, heaps, after, heap_start = np.zeros(len(cases), RESULT), [], [], 0
        for start in range(0, len(cases), BATCH):
            batch = cases[start : start + BATCH]
            count = len(batch)
            self._part("cases", batch.nbytes)[:] = np.ascontiguousarray(batch).view(np.uint8)
            if fxsave is not None:
                self._part("fxsave_in", count * FXSAVE_BYTES)[:] = fxsave[start : start + count].reshape(-1)
            self._run_batch(batch)
            done = self._part("results", count * RESULT.itemsize).view(RESULT).copy()
            used = int(
                (done["heap_offset"] + done["changed_length"])[done["changed_length"] > 0].max(initial=0)
            )
            heaps.append(self._part("heap", used).copy())
            done["heap_offset"] += np.uint32(heap_start)
            heap_start += used
            states[start : start + count] = done
            if fxsave is not None:
                after.append(
                    self._part("fxsave_out", count * FXSAVE_BYTES).reshape(count, FXSAVE_BYTES).copy()
                )
        heap = np.concatenate(heaps) if heaps else np.zeros(0, np.uint8)
        return Outcome(states, heap, np.concatenate(after) if after else None)

    def _part(self, name: str, size: int) -> npt.NDArray[np.uint8]:
        start = getattr(self._header, name)
        return self._array[start : start + size]

    def _compile(self) -> None:
        source = Path(__file__).with_name("native.c")
        command = [*shlex.split(os.environ.get("CC", "gcc")), "-O2", "-Wall", "-Wextra", "-mno-red-zone", "-mfsgsbase",
                   "-fno-stack-protector", "-fcf-protection=none", "-o", str(self._program), str(source)]  # fmt: skip
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError as error:
            raise NativeUnavailable(f"no C compiler: {error}") from error

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._program, str(self._file), str(len(self._memory))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            pass_fds=[self._file])  # fmt: skip

    def _stop(self) -> str:
        """End the helper, if there is one; what it had to say."""
        if self._helper is None:
            return ""
        self._helper.kill()
        _, message = self._helper.communicate()
        status, self._helper = self._helper.returncode, None
        return message.decode(errors="replace").strip() or f"status {status}"

    def _run_batch(self, batch: Cases) -> None:
        if self._helper is None:
            self._helper = self._start()
        assert self._helper.stdin and self._helper.stdout
        self._header.current = 0
        with contextlib.suppress(BrokenPipeError):
            self._helper.stdin.write(struct.pack("<I", len(batch)))
        seen = -1
        while not select.select([self._helper.stdout], [], [], HANG_SECONDS)[0]:
            if self._header.current == seen:
                self._fail(batch, "hung")
            seen = self._header.current
        if len(self._helper.stdout.read(4)) != 4:
            self._fail(batch, "died")

    def _fail(self, batch: Cases, what: str) -> NoReturn:
        culprit = batch[min(self._header.current, len(batch) - 1)]
        code = bytes(culprit["code"][: culprit["code_length"]]).hex(" ")
        raise NativeFailure(f"the helper {what} at case {self._header.current}: {code} ({self._stop()})")
