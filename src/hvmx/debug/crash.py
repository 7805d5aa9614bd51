"""What is known of a guest that crashed: registers, the instruction, the way there, the last exits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hvmx.exits import exit_name

from .code import code_bits, disassemble, linear_ip, read_linear

if TYPE_CHECKING:
    from hvmx.core.vcpu import Vcpu

DEEPEST = 32
"""Frames that a backtrace goes up."""

_GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr")
_CONTROL = ("cr0", "cr2", "cr3", "cr4", "efer")


def registers(vcpu: Vcpu) -> str:
    """All registers that tell where a guest is, some to a line."""
    lines = [f"rip {vcpu.rip:#018x}  rflags {vcpu.rflags:#x}  {code_bits(vcpu)}-bit code"]
    for start in range(0, len(_GENERAL), 4):
        lines.append(
            "  ".join(f"{name:<3} {getattr(vcpu, name):#018x}" for name in _GENERAL[start : start + 4])
        )
    for name in _SEGMENTS:
        selector, base, limit, access = vcpu.segment(name)
        lines.append(
            f"{name:<4} {selector:#06x}  base {base:#018x}  limit {limit:#010x}  access {access:#07x}"
        )
    lines.append("  ".join(f"{name} {getattr(vcpu, name):#x}" for name in _CONTROL))
    for name in ("gdtr", "idtr"):
        base, limit = getattr(vcpu, name)
        lines.append(f"{name} base {base:#018x}  limit {limit:#06x}")
    return "\n".join(lines)


def backtrace(vcpu: Vcpu) -> Iterator[int]:
    """Return addresses, innermost first, by the chain of frame pointers; it ends where that stops making sense."""
    bits = code_bits(vcpu)
    size, mask = bits // 8, (1 << bits) - 1
    base = 0 if bits == 64 else vcpu.segment("ss")[1]
    frame = vcpu.rbp & mask
    for _ in range(DEEPEST):
        words = read_linear(vcpu, base + frame, 2 * size)
        if frame == 0 or len(words) < 2 * size:
            return
        above, back = (int.from_bytes(words[at : at + size], "little") for at in (0, size))
        if back == 0:
            return
        yield back
        if above <= frame:  # frames of callers are higher on the stack
            return
        frame = above


def crash_report(vcpu: Vcpu, why: str) -> str:
    """The report in full, for people."""
    frames = [f"  {address:#018x}" for address in backtrace(vcpu)]
    exits = [
        f"  cycle {cycle}  rip {rip:#018x}  {exit_name(reason, number)}"
        for reason, number, rip, cycle in vcpu.last_exits()
    ]
    return "\n".join(
        (
            f"guest crash: {why}, at guest cycle {vcpu.cycles}",
            registers(vcpu),
            "instruction:",
            f"  {disassemble(vcpu, linear_ip(vcpu))}",
            "return addresses by frame pointers, innermost first:",
            *(frames or ["  none"]),
            "last exits, latest last:",
            *(exits or ["  none"]),
        )
    )
