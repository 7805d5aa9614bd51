"""No handler of an operation grows the host's stack: each passes control on by a jump, not by a call.

Every encoding that goes on to the next operation is run in a loop, in a thread whose stack has no room for one return
address for each instruction. A handler that calls ends in a segmentation fault; so this runs in a process of its own,
which says beforehand what it is about to run.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hvmx.cost import FRACTION
from hvmx.isa import Row, rows

core = pytest.importorskip("hvmx.core.vcpu", reason="the core is not built")
decode = pytest.importorskip("hvmx.core.decode.decoder", reason="the core is not built").decode_py

INSTRUCTIONS = 1 << 14
STACK_BYTES = 128 << 10  # at most 8 bytes, the size of a return address, for each of INSTRUCTIONS
MEMORY, CODE, DATA, STACK, TABLES = 16 << 20, 0x1000, 0x8000, 8 << 20, 0x100000
SMAP_OSXSAVE_OSFXSR_PAE = 0x240220
CONDITIONAL = b"\x75\x00"  # JNZ to the next instruction: what fuses with a branch is run so, too
BRANCHES = {
    16: ("e80200ebfbc3", "b80010ffe0", "e80200ebfbc20000"),
    32: ("e802000000ebf9c3", "b800100000ffe0", "e802000000ebf9c20000", "b800100000ffd0"),
    64: ("e802000000ebf9c3", "b800100000ffe0", "e802000000ebf9c20000", "b800100000ffd0"),
}
"""Loops of CALL and RET, and of indirect JMP and CALL."""

LEAVING = {
    "call_far", "cpuid", "hlt", "int", "int1", "int3", "invd", "invpcid", "iret", "jmp_far", "lds", "lss", "ltr", "monitor",
    "mov_from_tr", "mov_to_cr", "mov_to_tr", "mwait", "rdmsr", "rdpmc", "ret_far", "rsm", "syscall", "sysenter", "sysexit", "sysret", "ud0",
    "ud1", "ud2", "vmcall", "vmmcall", "wrmsr", "xsetbv",
}  # fmt: skip
"""Families that here fault, exit or return to the run loop: they pass control to no next operation."""


def machine(bits: int) -> Any:
    """A processor in ring 0 at CODE, with flat segments (in 64-bit mode, an identity mapping in large pages)."""
    cpu = core.Vcpu(memory_bytes=MEMORY)
    if bits == 64:
        cpu.write(TABLES, struct.pack("<Q", TABLES + 0x1003))
        cpu.write(TABLES + 0x1000, struct.pack("<Q", TABLES + 0x2003))
        cpu.write(TABLES + 0x2000, struct.pack("<8Q", *(page << 21 | 0xE3 for page in range(8))))
        cpu.cr3, cpu.efer = TABLES, 0x500
    cpu.cr4 = SMAP_OSXSAVE_OSFXSR_PAE
    cpu.cr0 = {16: 0x10, 32: 0x11, 64: 0x80000011}[bits]
    cpu.fcw = 0x37F  # no x87 exception is met
    cpu.idtr = 0, 0  # an exception ends the run
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        code = name == "cs"
        access = {16: 0x93, 32: 0xC093, 64: 0xC093 if not code else 0xA093}[bits] | 8 * code
        cpu.set_segment(name, 8, 0, 0xFFFF if bits == 16 else 0xFFFFFFFF, access)
    if bits == 16:
        cpu.set_segment("ss", 0x2000, 0x20000, 0xFFFF, 0x93)
    cpu.write(DATA, struct.pack("<2I", 1, 0x7FFFFFFF))  # a divisor, and bounds around 1
    cpu.rdx = 0
    cpu.rax, cpu.rbx, cpu.rsi, cpu.rdi = 1, 1, 0x200000, 0x400000
    cpu.rsp = cpu.rbp = STACK if bits > 16 else 0xF000
    cpu.rip = CODE
    return cpu


def encodings(row: Row, bits: int) -> Iterator[bytes]:
    """A row in every operand size, with a register, flat memory, and memory in a segment that has to be checked."""
    escape = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")[row.map]
    mandatory = bytes.fromhex("" if row.prefix in ("NP", "NFx") else row.prefix)
    reg = int(row.modrm) << 3 if row.modrm.isdigit() else 0
    absolute = {16: bytes([reg | 6]), 32: bytes([reg | 5]), 64: bytes([reg | 4, 0x25])}[bits]
    memory = absolute + struct.pack("<I" if bits > 16 else "<H", DATA)
    immediate = bytes(10) if any(operand[0] in "JO" for operand in row.operands) else b"\1" + bytes(9)
    operands = [bytes.fromhex(row.modrm)] if len(row.modrm) == 2 else [bytes([0xC3 | reg]), memory]
    for prefix in (b"", b"\x66", b"\x64", b"\xf3"):
        for rex in (b"", b"\x48") if bits == 64 else (b"",):
            for opcode in row.opcodes:
                for operand in operands if row.modrm else [b""]:
                    code = prefix + mandatory + rex + escape + bytes([opcode]) + operand + immediate
                    insn = decode(code, bits)
                    if insn and insn["row"] is row:
                        yield code[: insn["length"]]


def runs(bits: int, loop: bytes) -> bool:
    """Run `loop` for INSTRUCTIONS instructions; False if it ends before, by an exception or exit without a handler."""
    cpu = machine(bits)
    cpu.write(CODE, loop)
    try:
        # Without a profile an instruction costs one to three units.
        cpu.run(cycles=-(-3 * INSTRUCTIONS // FRACTION))
    except RuntimeError:
        return False
    return bool(cpu.instructions >= INSTRUCTIONS)


def run_all(bits: int) -> None:
    """Every loop of one width, announced on standard output; then the families that were in one."""
    families = set()
    for row in rows():
        if bits not in row.modes:
            continue
        for code in dict.fromkeys(encodings(row, bits)):
            for body in (code * 8, (code + CONDITIONAL) * 8):
                print(row.family, body.hex(), flush=True)
                back = -(len(body) + (3 if bits == 16 else 5))
                jump = b"\xe9" + struct.pack("<h" if bits == 16 else "<i", back)
                if runs(bits, body + jump):
                    families.add(row.family)
    for loop in BRANCHES[bits]:
        print("branch", loop, flush=True)
        if runs(bits, bytes.fromhex(loop)):
            families.add(loop)
    print("families", *sorted(families))


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_no_handler_grows_the_stack(bits: int) -> None:
    child = subprocess.run(
        [sys.executable, Path(__file__), str(bits)], check=False, capture_output=True, text=True, timeout=300
    )
    last = child.stdout.splitlines()[-1].split()
    assert child.returncode == 0, (
        f"the handler of {last[0]!r} (loop of {last[1]}, {bits}-bit code) does not end in a jump: its last call must "
        f"be in tail position, with no local's address taken, and be compiled with -foptimize-sibling-calls.\n"
        f"status {child.returncode}\n{child.stderr}"
    )
    assert last[0] == "families", f"no end to the list of loops:\n{child.stderr}"
    known = {
        row.family for row in rows() if bits in row.modes and (bits > 16 or "prot" not in row.attributes)
    }
    due = known - LEAVING | set(BRANCHES[bits])
    missing = sorted(due - set(last[1:]))
    assert not missing, f"not run {INSTRUCTIONS} times in a row, so not tested: {missing}"


if __name__ == "__main__":
    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=run_all, args=(int(sys.argv[1]),))
    thread.start()
    thread.join()
