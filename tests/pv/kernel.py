"""Small Xen PV kernels, assembled for one test each."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

VIRT_BASE = 0xFFFFFFFF80000000

HEAD = """
    .macro note type, content:vararg
    .align 4
    .long 4, 2f - 1f, \\type
    .asciz "Xen"
1:  \\content
2:
    .endm
    .section .note.Xen, "a", @note
    note 6, .asciz "test"
    note 5, .asciz "xen-3.0"
    note 8, .asciz "generic"
    note 9, .asciz "yes"
    note 3, .quad {base:#x}
    note 1, .quad _start
    {notes}
    .macro hypercall number
    mov $\\number, %eax
    syscall
    .endm
    .text
    .globl _start
_start:
    lea stack_end(%rip), %rsp
    mov %rsi, start_info(%rip)
"""
TAIL = """
shut_down:
    mov $2, %edi
    lea poweroff(%rip), %rsi
    hypercall 29
    ud2
    .data
    .align 8
start_info: .quad 0
poweroff: .long 0
    .bss
    .align 4096
    .skip 8192
stack_end:
"""
SCRIPT = """
ENTRY(_start)
PHDRS {{ all PT_LOAD FLAGS(7); note PT_NOTE FLAGS(4); }}
SECTIONS {{
    . = {base:#x};
    .all : AT(0) {{ *(.text) *(.data) }} :all
    .note : AT(ADDR(.note) - {base:#x}) {{ *(.note.Xen) }} :all :note
    .bss : AT(ADDR(.bss) - {base:#x}) {{ *(.bss) }} :all
    /DISCARD/ : {{ *(*) }}
}}
"""


def assemble(code: str, *, data: str = "", notes: str = "", base: int = VIRT_BASE) -> bytes:
    """An ELF image of a kernel that runs ``code`` and powers off; what it found is for the test to see in registers.

    ``start_info`` is the variable that holds the address of start_info.
    """
    source = HEAD.format(base=base, notes=notes) + code + TAIL + ".data\n" + data
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "kernel.S").write_text(source)
        (directory / "kernel.ld").write_text(SCRIPT.format(base=base))
        command = [
            "gcc", "-nostdlib", "-static", "-no-pie", directory / "kernel.S", f"-Wl,-T,{directory / 'kernel.ld'}",
            "-Wl,--build-id=none", "-Wl,--no-warn-rwx-segments", "-o", directory / "kernel",
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return (directory / "kernel").read_bytes()
