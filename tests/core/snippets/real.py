"""Real-address mode, and the ways out of it (SDM vol. 3, chapter 20, and 9.9)."""

from __future__ import annotations

from itertools import product

from ..machine import GDT, IDT, State, gdt_bytes, idt_bytes
from . import Snippet
from .gates import put
from .interrupts import cut_idt

TO_PROTECTED = "lidt cs:[offset 8f]; mov eax, cr0; or al, 1; mov cr0, eax;"
UNREAL = TO_PROTECTED + "mov bx, 0x10; mov ds, bx; and al, 0xfe; mov cr0, eax; "
TABLES = f"; .org 0x100; 8: .word 0x1ff; .long {IDT}"

SOURCES = {
    "int": "int 32; hlt", "int3": "int3; hlt", "int1": ".byte 0xf1; hlt",
    "into": "mov al, 0x7f; add al, 1; into; hlt", "divide": "xor bl, bl; div bl",
    "ud2": "ud2", "bound": "mov word ptr [si], 1; mov word ptr [si + 2], 2; xor bx, bx; bound bx, [si]",
    "iret": "push 0x7ed7; push 0; push offset 1f; iret; nop; 1: inc bx; hlt",
    "iretd": "pushd 0x3f7ed7; pushd 0xffff0000; pushd offset 1f; iretd; nop; 1: inc bx; hlt",
    "iretd beyond": "pushd 2; pushd 0; pushd 0x10000; iretd; hlt",
    "lret": "push 0x10; push offset 1f - 0x100; lret; nop; 1: inc bx; hlt",
    "lretd": "pushd 0xabcd0010; pushd offset 1f - 0x100; .byte 0x66; lret; nop; 1: inc bx; hlt",
    "lret 8": "push 0x10; push offset 1f - 0x100; lret 8; nop; 1: inc bx; hlt",
    "lretd beyond": "pushd 0; pushd 0x10000; .byte 0x66; lret; hlt",
    "ljmp": "ljmp 0x10:offset 1f - 0x100; nop; 1: inc bx; hlt",
    "lcall": "lcall 0x10:offset 1f - 0x100; nop; 1: inc bx; hlt",
    "ljmpd beyond": ".byte 0x66, 0xea; .long 0x10000; .word 0",
    "lcalld beyond": ".byte 0x66, 0x9a; .long 0x10000; .word 0",
    "mov ds": "mov ax, 0x3000; mov ds, ax; mov al, ds:[0x900]; hlt",
    "mov ss": "mov ax, 0x100; mov ss, ax; push ax; hlt", "pop es": "push 0x1234; pop es; hlt",
    "lds": "mov word ptr [si], 0x55; mov word ptr [si + 2], 0x66; lds bx, [si]; hlt",
    "mov from the limit": "mov ax, ds:[0xffff]; hlt", "mov beyond": "mov ebx, 0x10000; mov al, [ebx]; hlt",
    "stack at 1": "mov sp, 1; push ax; hlt",
    "stack at 0": "mov sp, 0; push ax; hlt", "pop at the limit": "mov sp, 0xffff; pop ax; hlt",
    "run over the limit": "jmp 0xffff", "arpl": "arpl ax, bx", "lldt": "lldt ax", "sldt": "sldt ax", "str": "str ax",
    "ltr": "ltr ax", "lar": "lar ax, bx", "verr": "verr ax",
    "smsw": "smsw eax; hlt", "lmsw": "mov ax, 0xfffe; lmsw ax; mov eax, cr0; hlt",
    "clts": "mov ax, 8; lmsw ax; clts; mov eax, cr0; hlt",
    "sgdt": "sgdt [si]; hlt", "sidt": "sidt [si]; hlt", "sysenter": "sysenter", "sysexit": "sysexit",
    "lgdt of 24 bits": "mov dword ptr [si], 0xff; mov dword ptr [si + 2], 0x12345678; lgdt [si]; sgdt [di]; hlt",
    "lgdt of 32 bits":
        "mov dword ptr [si], 0xff; mov dword ptr [si + 2], 0x12345678; .byte 0x66; lgdt [si]; .byte 0x66; sgdt [di]; hlt",
    "pushf": "pushf; pop ax; pushfd; pop ebx; hlt", "popf": "push 0x7ed7; popf; pushf; pop ax; hlt",
    "popfd": "pushd 0x3c7ed7; popfd; pushfd; pop eax; hlt",
    "push sp": "push sp; pop ax; hlt", "pusha": "pusha; hlt", "lock": ".byte 0xf0; nop",
    "cr0 with PG": "mov eax, 0x80000000; mov cr0, eax; hlt",
    "cr0 with NW": "mov eax, 0x20000000; mov cr0, eax; hlt", "repeat": "mov cx, 3; rep movsd; hlt",
    "repeat to the limit": "mov cx, 3; mov di, 0xfffd; rep movsw; hlt",
    "single step": "pushf; pop ax; or ax, 0x100; push ax; popf; nop; nop; hlt",
    "protected": TO_PROTECTED
        + "ljmp 8:1f; .code32; 1: mov ax, 0x10; mov ds, ax; mov ss, ax; mov ebx, [0x8000]; int 32; hlt; .code16" + TABLES,
    "protected of 16 bits":
        TO_PROTECTED + "ljmp 0x18:1f; 1: mov ax, 0x20; mov ds, ax; mov ss, ax; int 33; hlt" + TABLES,
    "protected without a jump":
        TO_PROTECTED + "mov ax, 0x10; mov ds, ax; mov ebx, 0x10000; mov ecx, [ebx]; inc edx; hlt" + TABLES,
    "unreal": UNREAL + "mov ebx, 0x10000; mov ecx, [ebx]; mov dx, ds; hlt" + TABLES,
    "unreal with another selector":
        UNREAL + "mov bx, 0x1000; mov ds, bx; mov ebx, 0x10000; mov ecx, [ebx]; hlt" + TABLES,
    "protected to a conforming segment": TO_PROTECTED + "ljmp 0x58:1f; .code32; 1: hlt; .code16" + TABLES,
    "protected to nothing": TO_PROTECTED + "ljmp 0x10:1f; 1: hlt" + TABLES,
}  # fmt: skip


def _tables(state: State) -> None:
    put(state, IDT, idt_bytes(32))
    put(state, GDT, gdt_bytes(32))


SNIPPETS = [
    *(Snippet(f"{name}", 16, source, 0, _tables) for name, source in SOURCES.items()),
    *(Snippet(f"{name} with an IDT of limit {limit:#x}", 16, source, 0, cut_idt(limit))
      for (name, source), limit in product((("int 32", "int 32; hlt"), ("#UD", "ud2"), ("#DE", "xor bl, bl; div bl")),
                                           (0x83, 0x82, 0x1B, 0x1A, 0x37, 0x23, 0x22, 0x3, 0x2, 0))),
]  # fmt: skip
