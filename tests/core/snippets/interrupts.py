"""INT n and exceptions through every kind of gate, in rings 0, 1 and 3 (SDM vol. 3, 6.12 to 6.15)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import product

from ..machine import (
    ABSENT,
    CODE16,
    CODE32,
    CODE32_1,
    CODE32_3,
    CODE64,
    CODE64_3,
    CONFORMING,
    DATA32,
    GATE_ABSENT,
    IDT,
    STUBS,
    TSS,
    State,
    gate,
)  # fmt: skip
from . import Snippet
from .gates import far, far64, put, put_hlt

VECTORS = (*range(32, 50), 63, 64, 255)
UD, DF, NP, GP = 6, 8, 11, 13


def put_vector(vector: int, selector: int, access: int, *, offset: int | None = None) -> Callable[[State], None]:
    place = STUBS + 16 * vector if offset is None else offset
    return lambda state: put(state, IDT + 8 * vector, gate(selector, place, access))


def put_vector64(vector: int, selector: int, access: int, *, ist: int = 0,
    offset: int | None = None) -> Callable[[State], None]:
    place = STUBS + 16 * vector if offset is None else offset
    raw = gate(selector, place & 0xFFFFFFFF, access, ist) + struct.pack("<II", place >> 32, 0)
    return lambda state: put(state, IDT + 16 * vector, raw)


def cut_idt(limit: int) -> Callable[[State], None]:
    def change(state: State) -> None:
        state.idtr = (state.idtr[0], limit)

    return change


def each(*changes: Callable[[State], None]) -> Callable[[State], None]:
    def change(state: State) -> None:
        for one in changes:
            one(state)

    return change


def put_ist(number: int, pointer: int) -> Callable[[State], None]:
    return lambda state: put(state, TSS + 28 + 8 * number, struct.pack("<Q", pointer))


TYPES = (0x8E, 0x8F, 0x86, 0x87, 0x0E, 0x8C, 0x8A, 0x80, 0xEE, 0xCE, 0x85)
TARGETS = (CODE32, CODE32_1, CODE32_3, CONFORMING, DATA32, ABSENT, CODE16, 0, 0x7FF8, 0x0C)
TARGETS64 = (CODE64, CODE64_3, CODE32, CONFORMING, DATA32, ABSENT, 0, 0x7FF8)
FAULTS = {"#UD": (UD, "ud2"), "int 50": (50, "int 50; hlt"), "#NP": (NP, far("lcall", GATE_ABSENT))}
FAULTS64 = FAULTS | {"#NP": (NP, far64("call fword ptr", GATE_ABSENT))}

SNIPPETS = [
    *(Snippet(f"int {vector}", bits, f"int {vector}; hlt", cpl)
      for vector, (bits, cpl) in product(VECTORS, ((32, 0), (32, 1), (32, 3), (64, 0), (64,
      3))) if bits == 64 or vector != 42),
    *(Snippet(name, bits, source, cpl)
      for (name, source), (bits, cpl) in product(
          (("int3", "int3; hlt"), ("int1", ".byte 0xf1; hlt"), ("int 1", "int 1; hlt"), ("int 3", ".byte 0xcd, 3; hlt"),
           ("overflow", "mov al, 0x7f; add al, 1; .byte 0xce; hlt"), ("no overflow", "xor eax, eax; .byte 0xce; hlt"),
           ("divide", "xor ecx, ecx; div ecx")),
          ((32, 0), (32, 1), (32, 3), (64, 0), (64, 3))) if not (bits == 64 and "overflow" in name and cpl == 3)
      if name != "no overflow" or cpl == 0),
    *(Snippet(f"{name} through a gate of {access:#x} to {target:#x}", 32, source, cpl, put_vector(vector, target,
          access))
      for (name, (vector, source)), access, target, cpl in product(FAULTS.items(), TYPES, (CODE32, CODE32_1), (0, 1,
      3)) if access != 0x85),
    *(Snippet(f"{name} through a gate to {target:#x}", 32, source, cpl, put_vector(vector, target, 0xEE))
      for (name, (vector, source)), target, cpl in product(FAULTS.items(), TARGETS, (0, 1, 3))),
    *(Snippet(f"{name} through a gate to {selector:#x}:{offset:#x}", 32, source, cpl, each(put_vector(vector,
          selector, 0xEE, offset=offset), put_hlt(offset)))
      for (name, (vector, source)), (selector, offset), cpl in product(
          FAULTS.items(), ((CODE16, 0x10000), (CODE16, 0xFFFE), (CODE16, 0x14060)), (0, 3))),
    *(Snippet(f"{name} with an IDT of limit {limit:#x}", 32, source, cpl, cut_idt(limit))
      for (name, (_, source)), limit, cpl in product(FAULTS.items(), (0x36, 0x37, 0x6E, 0x6F, 0x47, 0), (0, 3))),
    *(Snippet(f"{name} twice is {second}", 32, source, cpl, put_vector(vector, selector, access))
      for (name, (vector, source)), (second, selector, access), cpl in product(
          FAULTS.items(), (("#GP", 0x7FF8, 0x8E), ("#NP", CODE32, 0x0E), ("#NP of the segment", ABSENT, 0x8E)), (0,
              3))),
    *(Snippet(f"{name} without a way to {what}", 32, source, cpl, each(put_vector(vector, CODE32, 0x0E),
          put_vector(other, CODE32, 0x0E)))
      for (name, (vector, source)), (what, other), cpl in product(FAULTS.items(), (("#NP", NP), ("#DF", DF), ("#GP",
      GP)), (0, 3))),
    *(Snippet(f"{name} through a gate of {access:#x} to {target:#x}", 64, source, cpl, put_vector64(vector, target,
          access))
      for (name, (vector, source)), access, target, cpl in product(FAULTS64.items(), TYPES, (CODE64,), (0, 3))),
    *(Snippet(f"{name} through a gate to {target:#x}", 64, source, cpl, put_vector64(vector, target, 0xEE))
      for (name, (vector, source)), target, cpl in product(FAULTS64.items(), TARGETS64, (0, 3))),
    *(Snippet(f"{name} to {offset:#x}", 64, source, cpl, put_vector64(vector, CODE64, 0xEE, offset=offset))
      for (name, (vector, source)), offset, cpl in product(FAULTS64.items(), (1 << 47, 0xFFFF << 48), (0, 3))),
    *(Snippet(f"{name} on IST {ist} at {pointer:#x}", 64, source, cpl,
              each(put_vector64(vector, CODE64, 0xEE, ist=ist), put_ist(ist, pointer)))
      for (name, (vector, source)), ist, pointer, cpl in product(FAULTS64.items(), (1, 3, 7), (0xE408, 0xE40F), (0,
      3))),
    *(Snippet(f"{name} with an IDT of limit {limit:#x}", 64, source, cpl, cut_idt(limit))
      for (name, (_, source)), limit, cpl in product(FAULTS64.items(), (0x6E, 0x6F, 0xDE, 0xDF, 0x8F, 0), (0, 3))),
]  # fmt: skip
