"""IRET and far RET in 64-bit code and in compatibility mode (SDM vol. 2, IRET and RET)."""

from __future__ import annotations

from itertools import product

from ..machine import (
    CODE16,
    CODE32,
    CODE32_3,
    CODE64,
    CODE64_3,
    CONFORMING,
    DATA,
    DATA32,
    DATA32_3,
    READ_ONLY,
)
from . import Snippet

CODES = (0, 3, CODE64, CODE64 | 3, CODE64_3, CODE32, CODE32_3, CODE16, CONFORMING, CONFORMING | 3, DATA32, 0x60, 0x7FF8)
STACKS = (0, 1, 3, DATA32, DATA32_3, DATA32 | 3, READ_ONLY, 0x60, 0x7FF8)
# Of these, none of the oracles follows the SDM: a null stack of RPL 1 or 3 is #GP(0), an absent stack is #SS.
SAME_LEVEL, UNCLEAR = (CODE64, CODE32, CODE16, CONFORMING), (1, 3, 0x60)
FLAGS = (2, 0x3ED7, 0x257ED7, 0x20002, 0x4002)


def iret64(code: int, stack: int, flags: int, *, target: str = "offset 1f", pointer: str = "0xe7f0",
    size: str = "q") -> str:
    pushed = [str(stack), pointer, str(flags), str(code), target]
    if size == "q":
        return "; ".join(f"movabs rax, {value}; push rax" for value in pushed) + "; iretq; 1: hlt"
    stores = "; ".join(f"mov dword ptr [rsp + {4 * index}], {value}" for index, value in enumerate(reversed(pushed)))
    return f"sub rsp, 20; {stores}; iretd; 1: hlt"


def lret64(code: int, stack: int, size: str) -> str:
    if size == "q":
        pushes = f"push {stack}; mov rax, 0xe7f0; push rax; push {code}; lea rax, [rip + 1f]; push rax"
        return f"{pushes}; .byte 0x48, 0xcb; 1: hlt"
    stores = f"mov dword ptr [rsp + 12], {stack}; mov dword ptr [rsp + 8], 0xe7f0; mov dword ptr [rsp + 4], {code}"
    return f"sub rsp, 16; {stores}; mov dword ptr [rsp], offset 1f; .byte 0xcb; 1: hlt"


LEAVES = {  # for ring 3, where label 1 is
    "iret": f"push {DATA32_3}; push 0xe7f0; push 2; push {{code}}; push offset 1f; iretq",
    "lret": f"push {DATA32_3}; push 0xe7f0; push {{code}}; push offset 1f; .byte 0x48, 0xcb",
}
BASES = {"ds": None, "es": None, "fs": 0xC0000100, "gs": 0xC0000101}


def with_segment(name: str, selector: int, how: str) -> str:
    """Out to ring 3, where the segment is looked at, with a selector in it and, where an MSR is its base, DATA there."""
    base = f"mov ecx, {BASES[name]}; mov eax, {DATA}; xor edx, edx; wrmsr; " if BASES[name] else ""
    return (f"mov eax, {selector}; mov {name}, eax; {base}{LEAVES[how].format(code=CODE64_3)};"
            f"1: mov eax, {name}:[0x10]; mov ebx, {name}; int 33")  # fmt: skip


TO_COMPATIBILITY = f"mov dword ptr [rsi], offset 1f; mov word ptr [rsi + 4], {CODE32}; jmp fword ptr [rsi]; .code32; 1:"
SNIPPETS = [
    *(Snippet(f"{how} to ring 3 with {selector:#x} in {name}", 64, with_segment(name, selector, how))
      for how, name, selector in product(LEAVES, BASES, (0, 3, DATA32, DATA32_3, CODE64_3, CONFORMING, 0x100))),
    *(Snippet(f"iret{size} to {code:#x}:{stack:#x}", 64, iret64(code, stack, 2, size=size), cpl)
      for size, code, stack, cpl in product("qd", CODES, STACKS, (0, 3))
      if not (cpl == 0 and code in SAME_LEVEL and (stack in UNCLEAR or size == "d" and stack == 0))),
    *(Snippet(f"iretq to {code:#x} with flags {flags:#x}", 64, iret64(code, stack, flags), cpl)
      for flags, (code, stack, cpl) in product(FLAGS, ((CODE64, DATA32, 0), (CODE64_3, DATA32_3, 0), (CODE32_3,
      DATA32_3, 0), (CODE64_3, DATA32_3, 3)))),
    *(Snippet(f"iretq to {code:#x}:{target} with the stack at {pointer}", 64, iret64(code, stack, 2, target=target,
          pointer=pointer))
      for target, pointer, (code, stack) in product(("0x800000000000", "0x7fffffffffff", "0x100000000 + offset 1f",
      "offset 1f"),
                                                    ("0x800000000000", "0xffff800000001000", "0x1234567890"),
                                                    ((CODE64, DATA32), (CODE32, DATA32), (CODE64_3, DATA32_3),
                                                     (CODE16, DATA32)))),
    *(Snippet(f"lret{size} to {code:#x}:{stack:#x}, ring {cpl}", 64, lret64(code, stack, size), cpl)
      for size, code, stack, cpl in product("ql", CODES, (0, 3, DATA32, DATA32_3, READ_ONLY), (0, 3))),
    *(Snippet(f"iret of {bits} bits with NT", 64, f"pushf; or dword ptr [rsp], 0x4000; popf; {name}") for bits,
          name in ((64, "iretq"), (32, "iretd"), (16, "iretw"))),
    *(Snippet(f"{name} in compatibility mode", 64,
              f"{TO_COMPATIBILITY} {source}; hlt; .code64")
      for name, source in (
          ("int 32", "int 32"), ("int 40", "int 40"), ("int3", "int3"), ("ud2", "ud2"), ("inc",
           "inc eax; push eax; mov ebx, esp"), ("hlt", "nop"), ("into", "mov al, 127; add al, 1; into"),
          ("lcall of a gate", ".byte 0x9a; .long 0; .word 0xb0"), ("ljmp of a gate",
           ".byte 0xea; .long 0; .word 0xb0"), ("lcall of an absent gate", ".byte 0x9a; .long 0; .word 0xf0"),
          ("ljmp to 64 bits", f".byte 0xea; .long 2f; .word {CODE64}; 2: .byte 0x48; nop"), ("lcall to 64 bits",
           f".byte 0x9a; .long 2f; .word {CODE64}; 2: .byte 0x48; nop"),
          ("lret to 64 bits", f"push {CODE64}; push offset 2f; lret; 2: .byte 0x48; nop"), ("iret to 64 bits",
           f"push {DATA32}; push 0xe7f0; push 2; push {CODE64}; push offset 2f; iret; 2: .byte 0x48; nop"),
          ("iret to 32 bits", f"push 2; push {CODE32}; push offset 2f; iret; 2: nop"), ("iret to ring 3",
           f"push {DATA32_3}; push 0xe7f0; push 2; push {CODE32_3}; push offset 2f; iret; 2: nop"),
          ("iret with VM", f"push {DATA32}; push 0xe7f0; push 0x20002; push {CODE32}; push offset 2f; iret; 2: nop"),
           ("iret with NT", "pushf; or dword ptr [esp], 0x4000; popf; iret"),
          ("ltr", "mov ax, 0x80; ltr ax"), ("lldt", "mov ax, 0xa0; lldt ax; sldt ebx"), ("mov ss, 0",
           "xor eax, eax; mov ss, ax"), ("mov ds, 0", "xor eax, eax; mov ds, ax; mov eax, [esi]"),
          ("sysenter", "sysenter"), ("syscall", "syscall"), ("sysexit",
           "mov edx, offset 2f; mov ecx, 0xe700; .byte 0x0f, 0x35; 2: nop"), ("mov cr8",
           ".byte 0x44, 0x0f, 0x20, 0xc0"), ("limit", "mov eax, 0x100; mov fs, ax; mov ebx, fs:[0xfd]"),
          ("task", ".byte 0xea; .long 0; .word 0x90"), ("task gate", ".byte 0x9a; .long 0; .word 0xe8"),
           ("mov cr0 without PG", "mov eax, 0x31; mov cr0, eax; jmp 2f; 2: mov ecx, cr0"))),
]  # fmt: skip
