"""Runs what a loader prepared on QEMU's machine: the guest must accept it, without hvmx's own processor.

Each segment is put into QEMU's memory as it is; a ROM at the reset vector, assembled here, loads the prepared
processor state and jumps. What the guest then says on its serial port is the verdict.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from hvmx.boot import Prepared

ROM_BYTES = 0x10000

TRAMPOLINE = """
        .code16
        .globl start
start:  cli
        cs lgdtl gdtr
        movl $CR4, %eax
        movl %eax, %cr4
        movl $CR3, %eax
        movl %eax, %cr3
        movl $EFER, %eax
        testl %eax, %eax
        jz 1f
        movl $0xc0000080, %ecx
        xorl %edx, %edx
        wrmsr
1:      movl $CR0, %eax
        movl %eax, %cr0
        ljmpl $CS, $0xffff0000 + flat

        # The same octets in 32- and 64-bit mode.
        .code32
flat:   movl $DS, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %fs
        movl %eax, %gs
        movl %eax, %ss
        movl $RSP, %esp
        movl $RIP, %edi
        movl $RBX, %ebx
        movl $RSI, %esi
        movl $RAX, %eax
        jmp *%edi
gdtr:   .word GDT_LIMIT
        .long GDT_BASE
        .org 0xfff0
        .code16
        jmp start
        .org 0x10000
"""


def _trampoline(machine: Prepared, directory: Path) -> Path:
    cpu = machine.cpu
    values = {name.upper(): value for name, value in cpu.registers.items() if name not in ("rflags",)}
    values = {"RAX": 0, "RBX": 0, "RSI": 0} | values
    values |= {"CS": cpu.segments["cs"].selector, "DS": cpu.segments["ds"].selector}
    values |= {"GDT_BASE": cpu.gdtr.base, "GDT_LIMIT": cpu.gdtr.limit, "EFER": cpu.registers["efer"] & ~0x400}
    source, rom = directory / "trampoline.S", directory / "trampoline.rom"
    source.write_text(TRAMPOLINE)
    defines = [f"-D{name}={value:#x}" for name, value in values.items()]
    command = ["gcc", "-m32", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-Ttext=0"]
    command += ["-Wl,--oformat=binary", "-Wl,-e,start", *defines, "-o", str(rom), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    assert rom.stat().st_size == ROM_BYTES
    return rom


def qemu_command(machine: Prepared, directory: Path, *, memory_bytes: int) -> list[str | Path]:
    """QEMU with the prepared guest, its first serial port on standard input and output; files go to ``directory``."""
    options = "-nodefaults -display none -no-reboot -serial stdio"
    command: list[str | Path] = ["qemu-system-x86_64", "-m", f"{memory_bytes >> 20}M", *options.split()]
    command += ["-bios", _trampoline(machine, directory)]
    for index, segment in enumerate(machine.memory):
        path = directory / f"segment{index}"
        path.write_bytes(segment.data)
        command += ["-device", f"loader,file={path},addr={segment.physical:#x},force-raw=on"]
    return command


def serial_output(
    machine: Prepared,
    directory: Path,
    *,
    memory_bytes: int,
    until: str,
    options: list[str],
    seconds: float = 60,
) -> str:
    """What the guest writes to its first serial port, up to and with the line that holds ``until``."""
    for tool in ("qemu-system-x86_64", "gcc"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} to run the prepared guest with")
    command = [*qemu_command(machine, directory, memory_bytes=memory_bytes), *options]
    return output_of(command, until, seconds)


def output_of(command: list[str | Path], until: str, seconds: float = 60) -> str:
    """What ``command``, a QEMU with its serial port on standard output, says there, up to that line."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as qemu:
        assert qemu.stdout is not None and qemu.stderr is not None
        output, end = b"", time.monotonic() + seconds
        try:
            while until.encode() not in output.rpartition(b"\n")[0]:
                ready, _, _ = select.select([qemu.stdout], [], [], max(end - time.monotonic(), 0))
                octets = os.read(qemu.stdout.fileno(), 0x10000) if ready else b""
                if not octets:
                    why = "QEMU ended" if ready else f"{seconds} s passed"
                    qemu.kill()
                    said = (output + b"\nQEMU: " + qemu.stderr.read()).decode(errors="replace")
                    pytest.fail(f"{why} before the guest wrote {until!r}; it wrote:\n{said}")
                output += octets
        finally:
            qemu.kill()
    return output.decode(errors="replace").replace("\r\n", "\n")
