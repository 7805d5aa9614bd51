"""Crash reports: registers, the instruction, a backtrace, the last exceptions and exits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hvmx.exits import exit_name
from hvmx.vocabulary import EXCEPTIONS, EXCEPTIONS_WITH_ERROR

from .code import code_bits, disassemble, linear_ip, read_linear

if TYPE_CHECKING:
    from hvmx.core.vcpu import Vcpu

DEEPEST = 32
"""The most frames of a backtrace."""

_DOUBLE_FAULT, _PAGE_FAULT = 8, 14
_CR0_PE = 1
# Types of events in IDT-vectoring information (SDM vol. 3, 24.9.3); bits 8-10.
_EXTERNAL_INTERRUPT = 0

_GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16)))
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr")
_CONTROL = ("cr0", "cr2", "cr3", "cr4", "efer")


def registers(vcpu: Vcpu) -> str:
    """The registers, several on a line."""
    lines = [f"rip {vcpu.rip:#018x}  rflags {vcpu.rflags:#x}  {code_bits(vcpu)}-bit code"]
    for start in range(0, len(_GENERAL), 3):
        lines.append(
            "  ".join(f"{name:<3} {getattr(vcpu, name):#018x}" for name in _GENERAL[start : start + 3])
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
    """Return addresses, innermost first, by the chain of frame pointers, up to one that is not plausible."""
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


def _event(vector: int, kind: int) -> str:
    if kind == _EXTERNAL_INTERRUPT:
        return f"interrupt {vector:#x}"
    return EXCEPTIONS.get(vector, f"exception {vector:#x}")


def exceptions(vcpu: Vcpu) -> Iterator[str]:
    """The last exceptions, one on a line: below each one those that its delivery raised, up to a triple fault."""
    has_errors = vcpu.cr0 & _CR0_PE  # in real-address mode there are no error codes (SDM vol. 3, 20.1.4)
    for vector, error, address, rip, cycle, vectoring in vcpu.last_exceptions():
        text = EXCEPTIONS.get(vector, f"exception {vector:#x}")
        if vector in EXCEPTIONS_WITH_ERROR and has_errors:
            text += f" error {error:#x}"
        if vector == _PAGE_FAULT:
            text += f" address {address:#x}"
        if vectoring and vector == _DOUBLE_FAULT:
            text += ", of those two"
        elif vectoring:
            text += f", delivering {_event(vectoring & 0xFF, vectoring >> 8 & 7)}"
        yield f"cycle {cycle}  rip {rip:#018x}  {text}"


def last_exits(vcpu: Vcpu) -> Iterator[str]:
    """The last exits: a line for each reason and number, with its last occurrence."""
    for reason, number, rip, cycle, count, first in vcpu.last_exits():
        often = f", {count:,} since cycle {first}" if count > 1 else ""
        yield f"cycle {cycle}  rip {rip:#018x}  {exit_name(reason, number)}{often}"


def crash_report(vcpu: Vcpu, why: str) -> str:
    """The full report, for people."""
    frames = [f"  {address:#018x}" for address in backtrace(vcpu)]
    raised = [f"  {line}" for line in exceptions(vcpu)]
    exits = [f"  {line}" for line in last_exits(vcpu)]
    return "\n".join(
        (
            f"guest crash: {why}, at guest cycle {vcpu.cycles}",
            registers(vcpu),
            "instruction:",
            f"  {disassemble(vcpu, linear_ip(vcpu))}",
            "return addresses by frame pointers, innermost first:",
            *(frames or ["  none"]),
            "last exceptions, latest last:",
            *(raised or ["  none"]),
            "last exits, each where it was last, latest last:",
            *(exits or ["  none"]),
        )
    )
