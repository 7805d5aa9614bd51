"""Bochs and QEMU's translator as oracles for whole processor states: many of them in one run of the emulator.

The emulator starts a ROM of monitor/ and the batch of states, and writes to the debug console what each guest has
changed. The layouts are those of monitor/monitor.c, which sees only the low halves of CR2 and the debug registers.
"""

from __future__ import annotations

import os
import pty
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .machine import GENERAL, MEMORY, MSRS, Segment, State

MONITOR = Path(__file__).parent / "monitor"
ROM_BYTES, MEMORY_MB = 2 << 20, 128
BATCH = (1 << 32) - ROM_BYTES
STATES_PER_RUN = 3000  # as many as have room in the ROM, at some 600 bytes
TIMEOUT_SECONDS = 300
STATE, NEXT, SHUT_DOWN = 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE
_HEADING = b"\nRESULTS\n"

# The save area, from its start at 0xfe00 of system management memory (AMD's APM vol. 2, table 10-1).
_SEGMENTS = {"es": 0, "cs": 0x10, "ss": 0x20, "ds": 0x30, "fs": 0x40, "gs": 0x50, "ldtr": 0x70, "tr": 0x90}
_GDTR, _IDTR, _EFER = 0x60, 0x80, 0xD0
_CR4, _CR3, _CR0, _DR7, _DR6 = 0x148, 0x150, 0x158, 0x160, 0x168
_FLAGS, _IP, _LAST_GENERAL = 0x170, 0x178, 0x1F8
_SAVE_BYTES = 0x200
_UNUSABLE, _VALID, _BUSY = 0x10000, 0x100, 2
_TAIL = struct.Struct(f"<5Q{len(MSRS)}Q")
_REGISTERS = {"rflags": _FLAGS, "rip": _IP} | {name: _LAST_GENERAL - 8 * n for n, name in enumerate(GENERAL)}


def _encode(state: State) -> bytes:
    area = bytearray(_SAVE_BYTES)
    for name, (selector, base, limit, access) in state.segments.items():
        rights = 0 if access & _UNUSABLE else access & 0xF0FF | _VALID
        if name == "tr":
            rights &= ~_BUSY  # QEMU keeps the type of before LTR
        struct.pack_into("<HHIQ", area, _SEGMENTS[name], selector, rights, limit, base)
    for at, (base, limit) in ((_GDTR, state.gdtr), (_IDTR, state.idtr)):
        struct.pack_into("<4xIQ", area, at, limit, base)
    words = {_EFER: state.efer, _CR4: state.cr4, _CR3: state.cr3, _CR0: state.cr0, _DR7: state.dr7, _DR6: state.dr6}
    for at, value in (words | {_REGISTERS[name]: value for name, value in state.registers.items()}).items():
        struct.pack_into("<Q", area, at, value)
    return area + _TAIL.pack(state.cr2, *state.dr, *(state.msrs.get(number, 0) for number in MSRS))


def _segment(area: bytes, name: str) -> Segment:
    selector, rights, limit, base = struct.unpack_from("<HHIQ", area, _SEGMENTS[name])
    if name == "tr":
        rights |= _BUSY
    return selector, base, limit, rights & 0xF0FF | (0 if rights & 0x80 else _UNUSABLE)


def _table(area: bytes, at: int) -> tuple[int, int]:
    limit, base = struct.unpack_from("<4xH2xQ", area, at)
    return base, limit


def _decode(area: bytes, memory: bytes) -> State:
    def word(at: int) -> int:
        return int.from_bytes(area[at : at + 8], "little")

    cr2, *rest = _TAIL.unpack_from(area, _SAVE_BYTES)
    return State(
        registers={name: word(at) for name, at in _REGISTERS.items()},
        segments={name: _segment(area, name) for name in _SEGMENTS},
        gdtr=_table(area, _GDTR), idtr=_table(area, _IDTR),
        cr0=word(_CR0), cr2=cr2, cr3=word(_CR3), cr4=word(_CR4), efer=word(_EFER),
        dr=tuple(rest[:4]), dr6=word(_DR6), dr7=word(_DR7),
        msrs=dict(zip(MSRS, rest[4:])),
        memory={0: memory},
    )  # fmt: skip


def _batch(states: Sequence[State]) -> bytes:
    """The states in the layout of `struct batch`. Data that several states have in common is stored once."""
    content = bytearray(4 + 12 * len(states))
    places: dict[bytes, int] = {}

    def place(data: bytes) -> int:
        if data not in places:
            content.extend(bytes(-len(content) % 8))
            places[data] = BATCH + len(content)
            content.extend(data)
        return places[data]

    struct.pack_into("<I", content, 0, len(states))
    for number, state in enumerate(states):
        chunks = [struct.pack("<III", at, len(data), place(data)) for at, data in state.memory.items()]
        job = struct.pack("<III", place(bytes(_encode(state))), place(b"".join(chunks)), len(chunks))
        content[4 + 12 * number : 16 + 12 * number] = job
    return bytes(content)


def _results(states: Sequence[State], output: bytes) -> Iterator[State]:
    """From after each heading, the reports in the order of the states; Bochs's debugger writes between sections."""
    count = 0
    for section in output.split(_HEADING)[1:]:
        words = (word for (word,) in struct.iter_unpack("<I", section[: len(section) & ~3]))
        while count < len(states) and next(words, NEXT) == count:
            yield _changed(states[count], words)
            count += 1
    if count < len(states):
        raise RuntimeError(f"the emulator stopped in state {count}")


def _changed(state: State, words: Iterator[int]) -> State:
    """The state with what the monitor reports of it."""
    area, memory = bytearray(_encode(state)), bytearray(MEMORY)
    for at, data in state.memory.items():
        memory[at : at + len(data)] = data
    shut_down = False
    while (at := next(words, NEXT)) != NEXT:
        if at == SHUT_DOWN:
            shut_down = True
        elif at >= STATE:
            struct.pack_into("<I", area, at - STATE, next(words, 0))
        else:
            struct.pack_into("<I", memory, at, next(words, 0))
    return replace(_decode(area, bytes(memory)), shut_down=shut_down)


@cache
def _monitor() -> bytes:
    with TemporaryDirectory(prefix="hvmx-monitor-") as folder:
        elf, rom = Path(folder, "elf"), Path(folder, "rom")
        subprocess.run(
            ["gcc", "-m32", "-Os", "-Wall", "-Werror", "-ffreestanding", "-fno-pie", "-fno-stack-protector",
             "-fcf-protection=none", "-mgeneral-regs-only", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none",
             "-Wl,-T,rom.ld", "-o", elf, "rom.S", "monitor.c"],
            cwd=MONITOR, check=True,
        )  # fmt: skip
        sections = ["-j", ".text", "-j", ".rom", "--gap-fill", "0"]
        subprocess.run(["objcopy", "-O", "binary", *sections, elf, rom], check=True)
        return rom.read_bytes()


def _output(command: Sequence[str | Path], **options: Any) -> bytes:
    """What the emulator has written, be it that it did not come to an end."""
    try:
        return subprocess.run(command, check=False, stdout=subprocess.PIPE, timeout=TIMEOUT_SECONDS, **options).stdout
    except subprocess.TimeoutExpired as late:
        return late.stdout or b""


def _bochs(folder: Path) -> bytes:
    (folder / "bochsrc").write_text(
        f"romimage: file={folder}/rom, address={BATCH:#x}\n"
        f"memory: guest={MEMORY_MB}, host={MEMORY_MB}\n"
        "cpu: model=broadwell_ult, ips=1000000, reset_on_triple_fault=1\n"
        "display_library: term\n"
        "plugin_ctrl: speaker=0\n"
        "port_e9_hack: enabled=1\n"
        "clock: sync=none\n"
        "panic: action=fatal\n"
        f"log: {folder}/log\n"
    )
    (folder / "rc").write_text("continue\n" * STATES_PER_RUN)  # the debugger stops at each guest that shuts down
    controller, terminal = pty.openpty()  # the text display wants a terminal
    try:
        return _output(
            ["bochs", "-q", "-f", folder / "bochsrc", "-rc", folder / "rc"],
            stdin=terminal, stderr=terminal, env={**os.environ, "TERM": "xterm"},
        )  # fmt: skip
    finally:
        os.close(terminal)
        os.close(controller)


def _qemu(folder: Path) -> bytes:
    options = f"-accel tcg -M pc -cpu max,vendor=GenuineIntel -m {MEMORY_MB} -display none -nodefaults"
    devices = "-device isa-debugcon,iobase=0xe9,chardev=console -device isa-debug-exit,iobase=0xf4"
    console = f"-icount shift=4,sleep=off -bios {folder}/rom -chardev stdio,id=console"
    command = ["qemu-system-x86_64", *options.split(), *devices.split(), *console.split()]
    return _output(command, stdin=subprocess.DEVNULL)


_PROGRAMS: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "Bochs": ("bochs", _bochs),
    "QEMU": ("qemu-system-x86_64", _qemu),
}
NAMES = tuple(_PROGRAMS)


def missing(name: str) -> str:
    """Why the emulator cannot be asked; empty if it can."""
    program = _PROGRAMS[name][0]
    return "" if shutil.which(program) else f"{program} is not installed"


def run_all(name: str, states: Sequence[State]) -> Iterator[State]:
    """The states after each guest has halted or shut down."""
    for start in range(0, len(states), STATES_PER_RUN):
        yield from _run(name, states[start : start + STATES_PER_RUN])


def _run(name: str, states: Sequence[State]) -> Iterator[State]:
    with TemporaryDirectory(prefix="hvmx-states-") as directory:
        folder = Path(directory)
        monitor = _monitor()
        (folder / "rom").write_bytes(_batch(states).ljust(ROM_BYTES - len(monitor), b"\0") + monitor)
        yield from _results(states, _PROGRAMS[name][1](folder))
