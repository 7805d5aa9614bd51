"""Kernels that print words, run by hvmx and by Xen itself: the hypervisor of Debian's package, with the kernel as its dom0,
in QEMU."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from guests import guest

from .kernel import assemble

MEMORY = "128M"
LIMIT_SECONDS = 60
END = b"END\n"

PRINT = """
    lea end(%rip), %rdx
    mov $4, %esi
    call print
    jmp shut_down
show:                               # RAX in hexadecimal, behind a space
    lea text(%rip), %rdi
    movb $' ', (%rdi)
    mov $16, %ecx
1:  rol $4, %rax
    mov %al, %dl
    and $15, %dl
    add $'0', %dl
    cmp $'9', %dl
    jbe 2f
    add $'a' - '9' - 1, %dl
2:  inc %rdi
    mov %dl, (%rdi)
    dec %ecx
    jnz 1b
    lea text(%rip), %rdx
    mov $17, %esi
print:                              # ESI bytes at RDX
    xor %edi, %edi
    hypercall 18
    ret
end_line:
    lea line_end(%rip), %rdx
    mov $1, %esi
    jmp print
"""
DATA = """
text: .skip 32
line_end: .ascii "\\n"
end: .ascii "END\\n"
    .align 8
"""
CALLS = """
    lea calls(%rip), %r12
1:  mov (%r12), %eax
    mov 8(%r12), %rdi
    mov 16(%r12), %rsi
    mov 24(%r12), %rdx
    mov 32(%r12), %r10
    syscall
    call show
    mov 40(%r12), %rax
    test %rax, %rax
    jz 2f
    mov (%rax), %rax
2:  call show
    call end_line
    add $48, %r12
    lea calls_end(%rip), %rax
    cmp %rax, %r12
    jb 1b
"""


class Call(NamedTuple):
    """One hypercall; a string is what the assembler makes a number of."""

    name: str
    number: int
    arguments: tuple[int | str, ...]
    out: int | str = 0
    """Where the word is that is looked at afterwards; 0: nowhere."""


def kernel(code: str, data: str) -> bytes:
    """A kernel that runs `code`, which prints words by `show` and lines by `end_line`, and ends."""
    return assemble(code + PRINT, data=DATA + data)


def rows_of(calls: list[Call]) -> list[str]:
    """The data that CALLS goes through: it makes the calls, and prints their answers and the words to be looked at."""
    rows = [(call.number, *(*call.arguments, 0, 0, 0, 0)[:4], call.out) for call in calls]
    return ["calls:", *("    .quad " + ", ".join(map(str, row)) for row in rows), "calls_end:"]


def calling_kernel(calls: list[Call], data: str) -> bytes:
    return kernel(CALLS, "\n".join([*rows_of(calls), data]))


def words(console: bytes) -> list[tuple[int, ...]]:
    """The lines of words, as signed numbers."""
    found = re.findall(rb"^((?: [0-9a-f]{16})+)\r?$", console, flags=re.MULTILINE)
    return [
        tuple(int.from_bytes(bytes.fromhex(word), "big", signed=True) for word in line.decode().split())
        for line in found
    ]


def differences(names: Iterable[str], by_hvmx: list[tuple[int, ...]], by_xen: list[tuple[int, ...]]) -> list[str]:
    """The lines, each with its name, that the two have not alike."""
    return [
        f"{name}: {[hex(word) for word in ours]} by hvmx, {[hex(word) for word in theirs]} by Xen"
        for name, ours, theirs in zip(names, by_hvmx, by_xen)
        if ours != theirs
    ]


def run_by_hvmx(image: bytes, directory: Path) -> list[tuple[int, ...]]:
    path = directory / "kernel.elf"
    path.write_bytes(image)
    command = [sys.executable, "-m", "hvmx", "run", "--pv", "--memory", MEMORY, "--quiet", path]
    result = subprocess.run(command, capture_output=True, check=False, timeout=LIMIT_SECONDS)
    assert END in result.stdout, result.stdout[-1000:] + result.stderr[-3000:]
    return words(result.stdout)


def run_by_xen(image: bytes, directory: Path) -> list[tuple[int, ...]]:
    """Ends QEMU at the kernel's last line: without ACPI Xen does not turn the machine off."""
    hypervisor = directory / "xen.elf"
    hypervisor.write_bytes(gzip.decompress(guest("xen").read_bytes()))
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    path = directory / "kernel.elf"
    path.write_bytes(image)
    machine = ["-accel", "tcg", "-M", "pc", "-cpu", "max,vendor=GenuineIntel", "-m", "512", "-no-reboot"]
    devices = ["-nodefaults", "-display", "none", "-serial", "stdio"]
    command_line = f"console=com1 com1=115200,8n1 dom0_mem={MEMORY} loglvl=none guest_loglvl=none"
    boot = ["-kernel", hypervisor, "-append", command_line, "-initrd", path]
    command = ["qemu-system-x86_64", *machine, *devices, *boot]
    output = directory / "console"
    with output.open("wb") as file, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file) as process:
        try:
            deadline = time.monotonic() + LIMIT_SECONDS
            while END not in output.read_bytes().replace(b"\r", b""):
                said = output.read_bytes()[-2000:].decode("latin-1")
                assert time.monotonic() < deadline and process.poll() is None, said
                time.sleep(0.05)
        finally:
            process.kill()
    return words(output.read_bytes())
