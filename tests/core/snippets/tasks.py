"""Task switches, and what goes wrong in them before and after the point of no return (SDM vol. 3, chapter 7)."""

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
    CONFORMING,
    DATA16,
    DATA32,
    DATA32_3,
    EXECUTE_ONLY,
    GDT,
    IDT,
    LDT_SELECTOR,
    READ_ONLY,
    TASK_TARGET,
    TSS,
    TSS2,
    TSS2_SELECTOR,
    TSS16_SELECTOR,
    TSS_SELECTOR,
    State,
    assemble,
    descriptor,
    gate,
    task32,
)  # fmt: skip
from . import Snippet
from .gates import FREE, put
from .interrupts import each

WAYS = {"jmp": f".byte 0xea; .long 0; .word {TSS2_SELECTOR}; inc ebx; hlt",
        "call": f".byte 0x9a; .long 0; .word {TSS2_SELECTOR}; inc ebx; hlt", "int": "int 42; inc ebx; hlt"}  # fmt: skip
GATE_WAYS = {"jmp": f".byte 0xea; .long 0; .word {FREE}; hlt", "call": f".byte 0x9a; .long 0; .word {FREE}; hlt"}
# The upper halves of registers are undefined after a switch to a 16-bit task (SDM vol. 3, 7.6).
HALF_HIGH = "; ".join(f"movzx e{name}, {name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")) + "; hlt"
RETURN = "pushf; or dword ptr [esp], 0x4000; popf; iret; hlt"
FIELDS = {"es": 0x48, "cs": 0x4C, "ss": 0x50, "ds": 0x54, "fs": 0x58, "gs": 0x5C, "ldtr": 0x60}


def task(**fields: int) -> Callable[[State], None]:
    return lambda state: put(state, TSS2, task32(TASK_TARGET, **fields))


def word(offset: int, value: int) -> Callable[[State], None]:
    """A field of the new task's TSS."""
    return lambda state: put(state, TSS2 + offset, struct.pack("<I", value))


def tss_descriptor(access: int, limit: int = 0x67) -> Callable[[State], None]:
    return lambda state: put(state, GDT + TSS2_SELECTOR, descriptor(TSS2, limit, access))


def task_gate(selector: int, access: int = 0xE5) -> Callable[[State], None]:
    return lambda state: put(state, GDT + FREE, gate(selector, 0, access))


def link(selector: int) -> Callable[[State], None]:
    """The task to go back to."""
    return lambda state: put(state, TSS, struct.pack("<I", selector))


def code(source: str, bits: int = 32) -> Callable[[State], None]:
    """What the new task does."""
    return lambda state: put(state, TASK_TARGET, assemble(bits, [source])[0])


def faults_by_task(state: State) -> None:
    """#TS, #NP, #SS and #GP are another task's: what the SDM recommends, as the new task may be without a stack."""
    put(state, TSS3, task32(TASK_TARGET))
    put(state, GDT + FREE, descriptor(TSS3, 0x67, 0x89))
    for vector in range(10, 14):
        put(state, IDT + 8 * vector, gate(FREE, 0, 0x85))


def accessed_stack(state: State) -> None:
    """Whether CS or SS is loaded first is the processor's own affair."""
    put(state, GDT + (DATA32_3 & ~3), descriptor(0, 0xFFFFF, 0xC0F3))


TSS3 = 0x3A00
CS = (0, CODE32_1, CODE32_3, CONFORMING, DATA32, ABSENT, EXECUTE_ONLY, CODE16, 0x7FF8, 0x0C)
CS_OF_RING3 = (3, CODE32 | 3, CODE32_3, DATA32_3, ABSENT | 3, 0x7FFB, 0x0F)
OF_RING3 = (0, DATA32, DATA32_3, DATA32_3 & ~3, DATA32 | 3, CONFORMING)
SS = (0, READ_ONLY, ABSENT, CODE32, DATA32_3, DATA32 | 3, DATA16, 0x7FF8, 0x0C)
DS = (0, 3, READ_ONLY, ABSENT, CODE32, EXECUTE_ONLY, CONFORMING, DATA32 | 3, 0x7FF8, 0x0C, TSS_SELECTOR)

SNIPPETS = [
    *(Snippet(f"{way} to a task with {field} {selector:#x}", 32, WAYS[way], 0, each(word(FIELDS[field], selector),
          faults_by_task))
      for way, (field, selectors) in product(WAYS, (("cs", CS), ("ss", SS), ("ds", DS), ("gs", DS), ("ldtr", (
          0, 4, LDT_SELECTOR, LDT_SELECTOR | 3, DATA32, 0x7FF8, TSS_SELECTOR, 0x0C)))) for selector in selectors),
    *(Snippet(f"{way} to a ring-3 task with {field} {selector:#x}", 32, WAYS[way], 0,
              each(task(cs=CODE32_3, data=DATA32_3), word(FIELDS[field], selector), faults_by_task, accessed_stack))
      for way, (field, selectors) in product(("jmp", "call"), (("cs", CS_OF_RING3), ("ss", OF_RING3), ("ds",
      OF_RING3))) for selector in selectors),
    *(Snippet(f"{way} to a task with an LDT", 32, WAYS[way], 0, each(task(ldt=LDT_SELECTOR), word(FIELDS["ds"], 0x0F)))
      for way in WAYS),
    *(Snippet(f"{way} to a task with flags {flags:#x}", 32, WAYS[way], 0, task(eflags=flags))
      for way, flags in product(WAYS, (0, 0xFFFDFFFF & ~0x100, 0x4002, 0x3202, 0x240002))),
    *(Snippet(f"{way} to a V86 task at {eip:#x}", 32, WAYS[way], 0,
              each(task(eflags=0x23002), word(0x20, eip), word(FIELDS["cs"], TASK_TARGET >> 4), word(FIELDS["ss"],
                  0xE00), word(0x38, 0x80)))
      for way, eip in product(WAYS, (0, 0x10000))),
    *(Snippet(f"{way} to a task at {selector:#x}:{eip:#x}", 32, WAYS[way], 0, each(word(0x20, eip), word(FIELDS["cs"],
          selector), faults_by_task))
      for way, selector, eip in product(WAYS, (CODE16,), (0x10000, 0xFFFF0000 | TASK_TARGET))),
    *(Snippet(f"{way} to a task with the T flag", 32, WAYS[way], 0, word(0x64, 1)) for way in WAYS),
    *(Snippet(f"{way} to a task of descriptor {access:#x}, limit {limit:#x}", 32, WAYS[way], 0, tss_descriptor(access,
          limit))
      for way, (access, limit) in product(WAYS, ((0x8B, 0x67), (0x09, 0x67), (0x0B, 0x67), (0x89, 0x66), (0x89, 0x2B),
      (0x81, 0x2B),
                                                 (0x81, 0x2A), (0x89, 0), (0xE9, 0x67), (0x82, 0x67), (0x83, 0x67)))),
    *(Snippet(f"{way} from ring {cpl} to a task of {access:#x}", 32, WAYS[way], cpl, tss_descriptor(access))
      for way, cpl, access in product(("jmp", "call"), (1, 3), (0x89, 0xA9, 0xE9))),
    *(Snippet(f"{way} from ring {cpl} through a task gate of {access:#x} to {selector:#x}", 32, GATE_WAYS[way], cpl,
          task_gate(selector, access))
      for way, cpl, access, selector in product(GATE_WAYS, (0, 3), (0xE5, 0x85, 0x65), (TSS2_SELECTOR,
      TSS2_SELECTOR | 3, DATA32, 0x7FF8, 0, 0x0C, TSS_SELECTOR))),
    *(Snippet(f"{way} to a 16-bit task", 32, f".byte {opcode:#x}; .long 0; .word {TSS16_SELECTOR}", 0, code(HALF_HIGH,
          16))
      for way, opcode in (("jmp", 0xEA), ("call", 0x9A))),
    *(Snippet(f"{way} to a task that returns", 32, WAYS[way], 0, code("inc ecx; iret; hlt")) for way in WAYS),
    *(Snippet(f"iret to the task {selector:#x}", 32, RETURN, 0, link(selector))
      for selector in (0, TSS2_SELECTOR, TSS_SELECTOR, TSS16_SELECTOR, DATA32, CODE32, 0x7FF8, TSS2_SELECTOR | 4)),
    *(Snippet(f"iret to the task of descriptor {access:#x}, limit {limit:#x}", 32, RETURN, cpl,
          each(link(TSS2_SELECTOR), tss_descriptor(access, limit)))
      for (access, limit), cpl in product(((0x8B, 0x67), (0x8B, 0x66), (0x0B, 0x67), (0x89, 0x67), (0x83, 0x2B),
      (0x83, 0x2A)), (0, 3))),
    *(Snippet(f"iret to the task with {field} {selector:#x}", 32, RETURN, 0,
              each(link(TSS2_SELECTOR), tss_descriptor(0x8B), word(FIELDS[field], selector), faults_by_task))
      for field, selector in (("cs", 0), ("cs", ABSENT), ("cs", CODE32_3), ("ss", 0), ("ss", ABSENT), ("ds", ABSENT),
      ("ds", 0x7FF8), ("ldtr", DATA32))),
    *(Snippet(f"an exception by a task gate{what}", 32, "mov ax, 0x7ff8; mov ds, ax; hlt", cpl,
              each(lambda state: put(state, IDT + 8 * 13, gate(TSS2_SELECTOR, 0, 0x85)), change))
      for (what, change), cpl in product(
          (("", task()), (" to a 16-bit stack", each(word(0x50, DATA16), word(0x38, 0x1E000)))),
          (0, 1, 3))),
]  # fmt: skip

