"""Run the native oracle's cases on a virtual processor, under the same circumstances: CPL 3 of a small 64-bit kernel.

The processor is asked for little beside its registers; all the rest is done with instructions, so that only what a
guest sees is compared: a fault is seen in the frame that the processor pushes for its handler.
"""

from __future__ import annotations

import os
import shlex
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .native import (
    BY_BREAKPOINT,
    CODE,
    CODE_BYTES,
    CONSTANT,
    CONSTANT_BYTES,
    DATA,
    DATA_BYTES,
    FXSAVE_BYTES,
    LDT,
    NO_VECTOR,
    PAGE,
    POWER_UP_FXSAVE,
    REGISTERS_64,
    pristine,
)

MEMORY_BYTES = 1 << 20
_BOOT, _GDT, _IDT, _TSS, _LDT, _STATE, _HANDLERS, _STACK = (
    0x1000,
    0x2000,
    0x3000,
    0x4000,
    0x5000,
    0x6000,
    0x7000,
    0x9000,
)
_PML4, _PDPT, _PD, _LOW_TABLE, _CODE_TABLE, _DATA_TABLE, _KERNEL_PDPT, _KERNEL_PD = range(
    0xA000, 0x12000, PAGE
)
_CODE_AT, _DATA_AT, _CONSTANT_AT = 0x20000, 0x30000, 0x30000 + DATA_BYTES
_STACK_TOP = _STACK + PAGE - 64
_KERNEL = 0xFFFF_FFFF_8000_0000
"""Where the kernel's memory is, above its physical addresses: natively, too, the lower half is the user's."""
_TSS_SELECTOR, _LDT_SELECTOR = 0x40, 0x50
_GDT_ENTRIES = {
    0x10: 0x00AF9B000000FFFF,
    0x18: 0x00CF93000000FFFF,
    0x20: 0x00CFFB000000FFFF,
    0x28: 0x00CFF3000000FFFF,
    0x30: 0x00AFFB000000FFFF,
}
"""Flat segments where Linux has them: 64-bit code and data of the kernel, then 32-bit code, data, 64-bit code for users."""
_USER_GATES = (3, 4)
_WITH_ERROR_CODE = frozenset((8, 10, 11, 12, 13, 14, 17))
_PRESENT, _WRITABLE, _USER, _ACCESSED_DIRTY, _NO_EXECUTE = 1, 2, 4, 0x60, 1 << 63
_FXSAVE = _STATE + 64
_INT3, _REAL_MODE_CODE = 0xCC, 0x9B
_X87_AND_SSE = 3
_PRISTINE_DATA = pristine()[:DATA_BYTES]
_MOST_ITERATIONS = 100_000


class Processor(Protocol):
    """What is asked of a virtual processor, beside the other registers by their names.

    `read` and `write` are of guest-physical memory. `segment` gives selector, base, limit and access rights.
    `step` executes one instruction, or one iteration of a repeated one, and takes it to its handler if it faults.
    """

    rip: int
    rsp: int
    rflags: int
    cs: int
    cr2: int
    xcr0: int

    def read(self, address: int, length: int) -> bytes: ...
    def write(self, address: int, data: bytes) -> None: ...
    def segment(self, name: str) -> tuple[int, int, int, int]: ...
    def set_segment(self, name: str, selector: int, base: int, limit: int, access: int) -> None: ...
    def step(self) -> object: ...


class Simulated:
    """Cases on one `Processor`, which must have just been reset and have `MEMORY_BYTES` of memory."""

    def __init__(self, processor: Processor) -> None:
        self._cpu = processor
        symbols, image = _assemble()
        self._symbols = {name: _KERNEL + value for name, value in symbols.items()}
        processor.write(_BOOT, image)
        self._write_tables()
        processor.write(_CODE_AT, bytes([_INT3]) * CODE_BYTES)
        processor.write(_DATA_AT, pristine())
        processor.set_segment("cs", 0, 0, 0xFFFF, _REAL_MODE_CODE)
        processor.rip = symbols["boot"]
        processor.xcr0 = _X87_AND_SSE
        self._step_to("enter_bases")

    def run(self, case: np.void, fxsave: bytes = POWER_UP_FXSAVE) -> dict[str, Any]:
        """The state after one case, by the names of `native.RESULT`.

        `data` is what DATA then holds. `fxsave` is loaded before, and stored after a case `with_fxsave`.
        """
        cpu = self._cpu
        code_at = _CODE_AT + int(case["code_address"]) - CODE
        for patch in case["patches"]:
            if patch["length"]:
                content = patch["bytes"][: patch["length"]].tobytes()
                cpu.write(_DATA_AT + int(patch["address"]) - DATA, content)
        cpu.write(code_at, bytes(case["code"][: case["code_length"]]))
        cpu.write(_FXSAVE, fxsave)
        self._load(case)
        self._execute(case)
        after = self._store()
        if case["with_fxsave"]:
            cpu.rip = self._symbols["store_fxsave"]
            self._step_to("stored")
            after["fxsave"] = cpu.read(_FXSAVE, FXSAVE_BYTES)
        after["data"] = cpu.read(_DATA_AT, DATA_BYTES)
        cpu.write(_DATA_AT, _PRISTINE_DATA)
        cpu.write(code_at, bytes([_INT3]) * int(case["code_length"]))
        return after

    def _execute(self, case: np.void) -> None:
        """As natively: one instruction, or as many as it takes to get past what returns by a breakpoint."""
        cpu, rip, cs = self._cpu, int(case["rip"]), int(case["segments"]["cs"])
        for _ in range(_MOST_ITERATIONS):
            cpu.step()
            if case["return_by"] != BY_BREAKPOINT or cpu.rip != rip or cpu.cs != cs:
                return
        raise RuntimeError(f"still at its start after {_MOST_ITERATIONS} iterations")

    def _load(self, case: np.void) -> None:
        cpu, selectors = self._cpu, case["segments"]
        state = struct.pack("<4HQQ", *(int(selectors[name]) for name in ("ds", "es", "fs", "gs")),
                            int(case["fs_base"]), int(case["gs_base"]))  # fmt: skip
        self._cpu.write(_STATE, state)
        gpr = [int(value) for value in case["gpr"]]
        frame = (int(case["rip"]), int(selectors["cs"]), int(case["rflags"]), gpr[4], int(selectors["ss"]))
        self._cpu.write(_STACK, struct.pack("<5Q", *frame))
        cpu.rip = self._symbols["enter" if int(selectors["fs"]) else "enter_bases"]
        self._step_to("leave")
        for name, value in zip(REGISTERS_64, gpr, strict=True):
            setattr(cpu, name, value)
        cpu.rsp = _KERNEL + _STACK
        cpu.step()
        assert cpu.cs == selectors["cs"], f"not in user code after IRETQ: CS {cpu.cs:#x}, RIP {cpu.rip:#x}"
        cpu.rsp = gpr[4]  # IRET to a 16-bit stack leaves the upper half of ESP; the native kernel makes up for that

    def _store(self) -> dict[str, Any]:
        cpu = self._cpu
        after: dict[str, Any] = {name: getattr(cpu, name) for name in REGISTERS_64}
        for name in ("es", "ss", "ds", "fs", "gs"):
            after[name] = getattr(cpu, name)
        after |= {"fs_base": cpu.segment("fs")[1], "gs_base": cpu.segment("gs")[1]}
        after |= {"rip": cpu.rip, "cs": cpu.cs, "rflags": cpu.rflags}
        after |= {"vector": NO_VECTOR, "error_code": 0, "cr2": 0}
        if cpu.cs & 3 == 0:
            vector = (cpu.rip - _KERNEL - _HANDLERS) // 16
            words = 6 if vector in _WITH_ERROR_CODE else 5
            frame = struct.unpack(f"<{words}Q", cpu.read(_STACK_TOP - 8 * words, 8 * words))
            names = ("error_code", "rip", "cs", "rflags", "rsp", "ss")[6 - words :]
            after |= {"vector": vector} | dict(zip(names, frame, strict=True))
            after["cr2"] = cpu.cr2 if vector == 14 else 0
        else:
            self._back_to_ring_0()
        return after

    def _back_to_ring_0(self) -> None:
        """Execute an INT3 of the code pages. Where CS does not reach one, the fetch faults, which leads there, too."""
        self._cpu.rip = 0 if self._cpu.cs & 4 else CODE
        self._cpu.rflags &= ~0x100
        self._cpu.step()
        assert self._cpu.cs & 3 == 0, "INT3 did not leave user code"

    def _step_to(self, name: str) -> None:
        address = self._symbols[name]
        for _ in range(40):
            if self._cpu.rip == address:
                return
            self._cpu.step()
        raise RuntimeError(f"the processor did not come to {name}, but to {self._cpu.rip:#x}")

    def _write_tables(self) -> None:
        for selector, descriptor in _GDT_ENTRIES.items():
            self._cpu.write(_GDT + selector, struct.pack("<Q", descriptor))
        system_segments = ((_TSS_SELECTOR, 0x89, _TSS, 0x67), (_LDT_SELECTOR, 0x82, _LDT, 8 * len(LDT) - 1))
        for selector, kind, base, limit in system_segments:
            base += _KERNEL
            middle = base >> 16 & 0xFF, kind, 0, base >> 24 & 0xFF
            self._cpu.write(
                _GDT + selector, struct.pack("<HHBBBBQ", limit, base & 0xFFFF, *middle, base >> 32)
            )
        for index, entry in enumerate(LDT.values()):
            self._cpu.write(_LDT + 8 * index, struct.pack("<Q", entry.descriptor()))
        self._cpu.write(_TSS + 4, struct.pack("<Q", _KERNEL + _STACK_TOP))
        self._cpu.write(_TSS + 0x66, struct.pack("<H", 0x68))
        for vector in range(256):
            gate = 0xEE if vector in _USER_GATES else 0x8E
            handler = _KERNEL + _HANDLERS + 16 * vector
            parts = handler & 0xFFFF, 0x10, 0, gate, handler >> 16 & 0xFFFF, handler >> 32
            self._cpu.write(_IDT + 16 * vector, struct.pack("<HHBBHQ", *parts))
        table = _PRESENT | _WRITABLE | _USER | _ACCESSED_DIRTY
        self._cpu.write(_PML4, struct.pack("<Q", _PDPT | table))
        self._cpu.write(_PML4 + 8 * 511, struct.pack("<Q", _KERNEL_PDPT | table))
        self._cpu.write(_PDPT, struct.pack("<Q", _PD | table))
        self._cpu.write(_KERNEL_PDPT + 8 * 510, struct.pack("<Q", _KERNEL_PD | table))
        self._cpu.write(_KERNEL_PD, struct.pack("<Q", _LOW_TABLE | table))
        for linear, at in ((0, _LOW_TABLE), (CODE, _CODE_TABLE), (DATA, _DATA_TABLE)):
            self._cpu.write(_PD + (linear >> 21) * 8, struct.pack("<Q", at | table))
        kernel = _PRESENT | _WRITABLE | _ACCESSED_DIRTY
        for page in range(32):
            self._cpu.write(_LOW_TABLE + 8 * page, struct.pack("<Q", page * PAGE | kernel))
        user = _PRESENT | _USER | _ACCESSED_DIRTY
        for linear, at, size, table_at, rights in (
            (CODE, _CODE_AT, CODE_BYTES, _CODE_TABLE, user),
            (DATA, _DATA_AT, DATA_BYTES, _DATA_TABLE, user | _WRITABLE | _NO_EXECUTE),
            (CONSTANT, _CONSTANT_AT, CONSTANT_BYTES, _DATA_TABLE, user | _NO_EXECUTE),
        ):
            for page in range(size // PAGE):
                at_entry = table_at + ((linear >> 12) + page) % 512 * 8
                self._cpu.write(at_entry, struct.pack("<Q", at + page * PAGE | rights))


def _assemble() -> tuple[dict[str, int], bytes]:
    """Symbols and image of enter.S."""
    source = Path(__file__).with_name("enter.S")
    constants = {"PML4": _PML4, "GDT": _GDT, "IDT": _IDT, "STATE": _STATE, "FXSAVE": _FXSAVE, "PD": _PD, "KERNEL": _KERNEL,
                 "TSS_SELECTOR": _TSS_SELECTOR, "LDT_SELECTOR": _LDT_SELECTOR}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="hvmx-enter-") as directory:
        linked, image = Path(directory, "enter.elf"), Path(directory, "enter.bin")
        subprocess.run(
            [*shlex.split(os.environ.get("CC", "gcc")), *(f"-D{name}={value}" for name, value in constants.items()),
             "-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x1000,--build-id=none,-e,boot", "-o", linked, source],
            check=True)  # fmt: skip
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", linked, image], check=True)
        listing = subprocess.run(["nm", linked], check=True, capture_output=True, text=True).stdout
        symbols = {name: int(value, 16) for value, _, name in map(str.split, listing.splitlines())}
        return symbols, image.read_bytes()
