"""Call gates and the stacks that they and interrupts switch to (SDM vol. 3, 5.8)."""

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
    DATA16,
    DATA32,
    DATA32_1,
    EXECUTE_ONLY,
    EXPAND_DOWN,
    GATE_INNER,
    GATE_TARGET,
    GDT,
    READ_ONLY,
    SMALL,
    STACK0,
    TSS,
    TSS_SELECTOR,
    State,
    descriptor,
    gate,
)  # fmt: skip
from . import Snippet

HLT = b"\xf4"
FREE = 0x118  # the GDT's last entry
GATES = {"32 bits": 0x8C, "32 bits of ring 3": 0xEC, "16 bits of ring 3": 0xE4, "32 bits of ring 1": 0xAC,
         "absent": 0x6C, "absent of ring 0": 0x0C}  # fmt: skip
TARGETS = (CODE32, CODE32_1, CODE32_3, CONFORMING, DATA32, ABSENT, CODE16, EXECUTE_ONLY, 0, 3, 0x7FF8, 0x0C)
TARGETS64 = (CODE64, CODE64_3, CODE32, CONFORMING, DATA32, ABSENT, 0, 0x7FF8)
STACKS = (0, DATA32, DATA32_1, READ_ONLY, ABSENT, CODE32, 0x7FF8, DATA32 | 3, SMALL, DATA16, EXPAND_DOWN, 0x0C)


def put(state: State, at: int, data: bytes) -> None:
    """Write over memory of the initial state."""
    for start, old in state.memory.items():
        if start <= at and at + len(data) <= start + len(old):
            state.memory[start] = old[: at - start] + data + old[at - start + len(data) :]
            return
    state.memory[at] = data


def put_gate(selector: int, offset: int, access: int, parameters: int = 0) -> Callable[[State], None]:
    """In the free entry; a HLT is where it leads to."""

    def change(state: State) -> None:
        put(state, GDT + FREE, gate(selector, offset, access, parameters))
        put(state, offset, HLT)

    return change


def put_hlt(at: int) -> Callable[[State], None]:
    return lambda state: put(state, at, HLT)


def put_gate64(selector: int, offset: int, access: int, upper: int = 0) -> Callable[[State], None]:
    """In the place of GATE_INNER, which has room for the upper half."""
    raw = gate(selector, offset & 0xFFFFFFFF, access) + struct.pack("<II", offset >> 32, upper)
    return lambda state: put(state, GDT + (GATE_INNER & ~7), raw)


def put_stack(selector: int, pointer: int, limit: int = 0x6FF) -> Callable[[State], None]:
    """The ring-0 stack in the TSS, and the TSS's limit."""

    def change(state: State) -> None:
        put(state, TSS + 4, struct.pack("<II", pointer, selector))
        tr = state.segments["tr"]
        state.segments["tr"] = (tr[0], tr[1], limit, tr[3])

    return change


def put_stack64(pointer: int, limit: int = 0x6FF) -> Callable[[State], None]:
    def change(state: State) -> None:
        put(state, TSS + 4, struct.pack("<Q", pointer))
        tr = state.segments["tr"]
        state.segments["tr"] = (tr[0], tr[1], limit, tr[3])

    return change


def small_tss(state: State) -> None:
    """A 16-bit TSS with stacks for rings 0 and 1."""
    put(state, TSS, struct.pack("<5H", 0, STACK0, DATA32, 0xEC00, DATA32_1))
    put(state, GDT + TSS_SELECTOR, descriptor(TSS, 0x2B, 0x83))
    state.segments["tr"] = (TSS_SELECTOR, TSS, 0x2B, 0x83)


def far(operation: str, selector: int) -> str:
    return f".byte {0x9A if operation == 'lcall' else 0xEA:#x}; .long 0x12345678; .word {selector}; hlt"


def far64(operation: str, selector: int) -> str:
    return f"mov dword ptr [rsi], 0x12345678; mov word ptr [rsi + 4], {selector}; {operation} [rsi]; hlt"


SNIPPETS = [
    *(Snippet(f"{operation} through a gate, {name}, to {target:#x}", 32, far(operation, FREE | cpl), cpl,
              put_gate(target, GATE_TARGET, access, 3))
      for operation, (name, access), target, cpl in product(("lcall", "ljmp"), GATES.items(), TARGETS, (0, 1, 3))),
    *(Snippet(f"lcall through a gate, {name}, with {count} parameters", 32,
          "push 0x1111; push 0x2222; " + far("lcall", FREE | 3), 3,
              put_gate(CODE32, GATE_TARGET, access, count))
      for (name, access), count in product(list(GATES.items())[1:3], (0, 1, 2, 17, 31))),
    *(Snippet(f"{operation} through a gate of {access:#x} by RPL {rpl}", 32, far(operation, FREE | rpl), cpl,
              put_gate(CODE32, GATE_TARGET, access, 0))
      for operation, access, cpl, rpl in product(("lcall", "ljmp"), (0x8C, 0xAC, 0xEC), (0, 1, 3), (0, 1, 2, 3))),
    *(Snippet(f"{operation} through a gate to {selector:#x}:{offset:#x}", 32, far(operation, FREE | cpl), cpl,
              put_gate(selector, offset, 0xEC))
      for operation, selector, offset, cpl in product(("lcall", "ljmp"), (CODE32, CODE16), (0xFFFE, 0x10000, 0x19000),
      (0, 3))
      if (selector, offset) != (CODE32, 0x10000)),
    *(Snippet(f"{what} to the stack {selector:#x}:{pointer:#x}", 32, source, 3, put_stack(selector, pointer))
      for (what, source), selector, pointer in product(
          (("lcall", far("lcall", GATE_INNER)), ("int 32", "int 32; hlt"), ("ud2", "ud2"), ("gp",
           "mov ax, 8; mov ss, ax")),
          STACKS, (STACK0, 0x8, 0xF8)) if (selector, pointer) != (DATA32, 8)),
    *(Snippet(f"{what} with a TSS of limit {limit:#x}", 32, source, 3, put_stack(DATA32, STACK0, limit))
      for (what, source), limit in product((("lcall", far("lcall", GATE_INNER)), ("int 32", "int 32; hlt"), ("ud2",
      "ud2")),
                                           (3, 4, 7, 8, 11))),
    *(Snippet(f"{what} with a 16-bit TSS", 32, source, cpl, small_tss)
      for what, source, cpl in (("lcall", far("lcall", GATE_INNER), 3), ("int 32", "int 32; hlt", 3), ("int 41",
      "int 41", 3),
                                ("ud2", "ud2", 1), ("in", "in al, 0x80; mov al, 1; hlt", 3))),
    *(Snippet(f"{operation} through a gate of {access:#x} to {target:#x}", 64, far64(operation, GATE_INNER), cpl,
              put_gate64(target, GATE_TARGET, access))
      for operation, access, target, cpl in product(("call fword ptr", "jmp fword ptr"), (0x8C, 0xEC, 0x6C, 0xE4),
      TARGETS64, (0, 3))),
    *(Snippet(f"{operation} through a gate to {offset:#x}, upper {upper:#x}", 64, far64(operation, GATE_INNER), 0,
              put_gate64(CODE64, offset, 0xEC, upper))
      for operation, offset, upper in product(("call fword ptr", "jmp fword ptr"), (GATE_TARGET, 1 << 47,
      0xFFFF << 48, 1 << 63),
                                              (0, 0x100, 0x900, 0x1F00, 0xE000))),
    *(Snippet(f"{what} to the stack at {pointer:#x} in a TSS of limit {limit:#x}", 64, source, 3, put_stack64(pointer,
          limit))
      for (what, source), (pointer, limit) in product(
          (("call", far64("call fword ptr", GATE_INNER)), ("int 32", "int 32; hlt"), ("int 40", "int 40; hlt"),
           ("ud2", "ud2"),
           ("gp", "mov ax, 8; mov ss, ax")),
          ((STACK0, 0x6FF), (STACK0 - 4, 0x6FF), (STACK0 - 8, 0x6FF), (1 << 47, 0x6FF), (0xFFFF << 48, 0x6FF),
           (STACK0, 3),
           (STACK0, 10), (STACK0, 11), (STACK0, 0x2A), (STACK0, 0x2B)))),
    *(Snippet(f"{operation} of {width} bits through the table's gate {selector:#x}", 64,
              f"mov rax, 0x5678; mov [rsi], rax; mov dword ptr [rsi + 4], {selector}; mov qword ptr [rdi], rax;"
              f"mov word ptr [rdi + 8], {selector}; mov word ptr [rsi + 2], {selector};"
              + {16: f".byte 0x66; {operation} fword ptr [rsi]",
                  64: f".byte 0x48; {operation} fword ptr [rdi]"}[width] + "; hlt", cpl, put_hlt(0x5678))
      for operation, width, selector, cpl in product(("call", "jmp"), (16, 64), (0xB0, 0xC3, 0xF3, CODE64, CODE64_3,
      CODE32), (0, 3))),
]  # fmt: skip

