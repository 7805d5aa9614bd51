"""Scripts of port accesses, carried out by QEMU's ISA PC and by the board, to compare what a guest reads."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from missing import missing

from hvm.rig import Rig

_SCRIPT_OFFSET = 0x4000
_ACCESS_CYCLES = 1000
_DEBUG_CONSOLE, _DEBUG_EXIT = 0xE9, 0xF4


@dataclass(frozen=True)
class Out:
    """Write a byte."""

    port: int
    value: int


@dataclass(frozen=True)
class In:
    """Read a byte; the comparison sees the bits of `mask`."""

    port: int
    mask: int = 0xFF


@dataclass(frozen=True)
class Wait:
    """Read until the bits of `mask` are `value`."""

    port: int
    mask: int
    value: int


@dataclass(frozen=True)
class Interrupt:
    """Open the interrupt window for at most one interrupt: reads (1, vector), or (0, 0)."""


Script = list[Out | In | Wait | Interrupt]


def _encode(script: Script) -> bytes:
    code = bytearray()
    for step in script:
        if isinstance(step, Out):
            code += bytes((1, *step.port.to_bytes(2, "little"), step.value))
        elif isinstance(step, In):
            code += bytes((2, *step.port.to_bytes(2, "little")))
        elif isinstance(step, Wait):
            code += bytes((3, *step.port.to_bytes(2, "little"), step.mask, step.value))
        else:
            code.append(4)
    return bytes(code) + b"\0"


def _masked(script: Script, read: bytes) -> list[int]:
    masks = []
    for step in script:
        if isinstance(step, In):
            masks.append(step.mask)
        elif isinstance(step, Interrupt):
            masks += [0xFF, 0xFF]
    assert len(read) == len(masks), f"{len(read)} bytes read by a script of {len(masks)}"
    return [value & mask for value, mask in zip(read, masks, strict=True)]


def tool(name: str) -> str:
    """The path of a program; without it the test is skipped, or fails in CI."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed")
    return path


def assemble(folder: Path) -> bytes:
    """The ROM without a script, 64 KiB."""
    source, linked, rom = Path(__file__).with_name("probe.S"), folder / "probe.o", folder / "probe.rom"
    subprocess.run([tool("as"), "--32", "-o", linked, source], check=True)
    subprocess.run([tool("objcopy"), "-O", "binary", linked, rom], check=True)
    return rom.read_bytes()


def on_qemu(rom: bytes, script: Script, folder: Path) -> list[int]:
    """What the script reads on QEMU's `isapc`."""
    code = _encode(script)
    image, told = folder / "script.rom", folder / "told"
    image.write_bytes(rom[:_SCRIPT_OFFSET] + code + rom[_SCRIPT_OFFSET + len(code) :])
    command: list[str | Path] = [
        tool("qemu-system-i386"), "-M", "isapc", "-accel", "tcg", "-m", "1M", "-bios", image,
        "-icount", "shift=0,sleep=off",  # its clock counts instructions: what is read does not hang on the host's load
        "-display", "none", "-nodefaults", "-serial", "null", "-monitor", "none", "-debugcon", f"file:{told}",
        "-device", f"isa-debug-exit,iobase={_DEBUG_EXIT:#x},iosize=4",
    ]  # fmt: skip
    status = subprocess.run(command, timeout=60, check=False, stdin=subprocess.DEVNULL).returncode
    assert status == 1, f"qemu ended with {status}, not by the script's end"
    return _masked(script, told.read_bytes())


def on_board(script: Script) -> list[int]:
    """What the script reads on the board, with a fixed time for each access."""
    rig = Rig(memory_bytes=1 << 20, debugcon=_DEBUG_CONSOLE)
    clock, board = rig.clock, rig.board
    read = bytearray()

    def spend() -> None:
        rig.wait(_ACCESS_CYCLES)

    for step in script:
        spend()
        if isinstance(step, Out):
            board.ports.write(step.port, 1, step.value)
        elif isinstance(step, In):
            read.append(board.ports.read(step.port, 1))
        elif isinstance(step, Wait):
            deadline = clock.cycles + 10 * clock.hz
            while board.ports.read(step.port, 1) & step.mask != step.value:
                spend()
                assert clock.cycles < deadline, f"{step} does not end within ten guest seconds"
        elif board.pic.output:
            read += bytes((1, board.acknowledge_interrupt()))
        else:
            read += b"\0\0"
    return _masked(script, bytes(read))
