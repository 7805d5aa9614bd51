"""Descriptors and gates drawn at random, and everything that loads, looks at or goes through one of them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from ..machine import (
    ABSENT,
    CODE16,
    CODE32,
    CODE32_1,
    CODE32_3,
    CODE64,
    CODE64_3,
    CONFORMING,
    DATA,
    DATA32,
    DATA32_1,
    DATA32_3,
    GATE_INNER,
    GATE_TARGET,
    GDT,
    IDT,
    LDT,
    READ_ONLY,
    STUBS,
    TSS2,
    State,
    descriptor,
    gate,
)  # fmt: skip
from . import Snippet
from .gates import put

COUNT, GATE_COUNT, SEED = 1500, 500, 6
SELECTOR = GATE_INNER & ~7
LEVELS = ((32, 0), (32, 1), (32, 3), (64, 0), (64, 3))
SELECTORS = (0, CODE32, CODE32_1, CODE32_3, CODE64, CODE64_3, CODE16, CONFORMING, CONFORMING | 3, DATA32, DATA32_1,
    DATA32_3, ABSENT, READ_ONLY,
             0x0F, 0x7FF8)  # fmt: skip
GATES = (4, 5, 6, 7, 12, 14, 15)
LOADS = ("mov ds, ax", "mov es, ax", "mov fs, ax", "mov gs, ax", "mov ss, ax")
LOOKS = ("lar ecx, eax", "lsl ecx, eax", "verr ax", "verw ax")


def _raw(draw: random.Random, source: str) -> bytes:
    """16 bytes, of which the second half counts in long mode."""
    access = draw.choice((0x80, 0x80, 0x80, 0)) | draw.choice((0, 0x20, 0x60)) | draw.choice((0, 0x10,
        0x10)) | draw.randrange(16)
    kind = access & 15
    looked_at = "lar" in source or "lsl" in source  # by Bochs at the type in the upper half, too: known_differences.py
    upper = struct.pack("<II", 0, draw.choice((0,) if looked_at else (0, 0, 0, 0x100, 0x1F00, 0xA000)))
    if not access & 0x10 and kind in GATES:
        return gate(draw.choice(SELECTORS), GATE_TARGET, access, draw.choice((0, 0, 3))) + upper
    flags = draw.choice((0, 0x4000, 0x8000, 0xC000, 0xC000, 0xA000, 0xE000))
    if access & 0x18 == 0x18:  # code: Bochs pushes before it finds that a call leads beyond the limit
        base, limits = 0, (0xFFFF, 0xFFFFF)
    else:
        base, limits = DATA if access & 0x10 else LDT if kind == 2 else TSS2, (0, 0x66, 0x67, 0xFFF, 0xFFFF, 0xFFFFF)
    return descriptor(base, draw.choice(limits), access | flags) + upper


def _source(draw: random.Random, bits: int, cpl: int) -> str:
    selector = SELECTOR | draw.choice((0, cpl, cpl, 3))
    stop = "int 33" if cpl else "hlt"
    way = draw.randrange(7)
    stack = draw.choice((DATA32, DATA32_1, DATA32_3, 0, SELECTOR | cpl))
    flags = draw.choice((2, 0x3202, 0x4002 if bits == 32 else 2))
    if way == 0:
        return f"mov eax, {selector}; {draw.choice(LOADS)}; {stop}"
    if way == 1:
        return f"mov eax, {selector}; mov ecx, 0x55555555; {draw.choice(LOOKS)}; setz dl; {stop}"
    if way == 2:
        return f"mov eax, {selector}; {draw.choice(('ltr', 'lldt'))} ax; {stop}"
    if way in (3, 4):
        if bits == 32:
            return f".byte {draw.choice((0x9A, 0xEA)):#x}; .long 1f; .word {selector}; 1: {stop}"
        way64 = draw.choice(("call", "jmp"))
        return f"mov dword ptr [rsi], offset 1f; mov word ptr [rsi + 4], {selector}; {way64} fword ptr [rsi]; 1: {stop}"
    a = "rax" if bits == 64 else "eax"
    pushes = [stack, 0xE7F0, *([flags] if way == 6 else []), selector]
    code = "; ".join(f"mov {a}, {value}; push {a}" for value in pushes) + f"; mov {a}, offset 1f; push {a}; "
    back = {(32, 5): "lret", (64, 5): ".byte 0x48, 0xcb", (32, 6): "iret", (64, 6): "iretq"}[bits, way]
    return f"{code}{back}; 1: {draw.choice(('hlt', stop))}"


def _change(at: int, raw: bytes, bits: int) -> Callable[[State], None]:
    return lambda state: put(state, at, raw[: 8 * bits // 32])


def _snippets() -> list[Snippet]:
    draw = random.Random(SEED)
    snippets = []
    for number in range(COUNT):
        bits, cpl = draw.choice(LEVELS)
        source = _source(draw, bits, cpl)
        snippets.append(Snippet(f"descriptor {number}", bits, source, cpl, _change(GDT + SELECTOR, _raw(draw, source), bits)))
    return snippets


def _interrupts() -> list[Snippet]:
    """INT and a fault of it through gates of any type and level to any segment."""
    draw = random.Random(SEED)
    snippets = []
    for number in range(GATE_COUNT):
        bits, cpl = draw.choice(LEVELS)
        access = draw.choice((0x80, 0x80, 0x80, 0)) | draw.choice((0, 0x20, 0x60, 0x60)) | draw.choice((0, 0, 0, 0x10))
        access |= draw.choice((5, 6, 7, 14, 14, 15, 15, draw.randrange(16)))
        vector, source = draw.choice(((50, f"int 50; {'int 33' if cpl else 'hlt'}"), (6, "ud2")))
        raw = gate(draw.choice(SELECTORS), STUBS + 16 * vector, access, draw.choice((0, 0, 1)))
        change = _change(IDT + vector * bits // 4, raw + bytes(8), bits)
        snippets.append(Snippet(f"gate {number}", bits, source, cpl, change))
    return snippets


SNIPPETS = [*_snippets(), *_interrupts()]
