"""Virtual-8086 mode: into it by IRET, what is sensitive there, and out of it by interrupts (SDM vol. 3, chapter 20)."""

from __future__ import annotations

from itertools import product

from ..machine import STUBS
from . import Snippet
from .gates import put

SEGMENTS = (0x11, 0x22, 0x33, 0x44)  # GS, FS, DS, ES


def entered(inside: str, *, flags: int = 0x20002, target: str = "offset 9f - 0x8000", before: str = "",
    stack: int = 0x100) -> str:
    """IRET from ring 0 to the code at label 9, in segment 0x800, with the stack in segment 0xC00."""
    pushes = "; ".join(f"push {value}" for value in (*SEGMENTS, 0xC00, stack, flags, 0x800))
    return f"{before}; {pushes}; push {target}; iret; hlt; .code16; 9: {inside}; hlt; .code32"


INSIDE = {
    "hlt": "nop", "cli": "cli", "sti": "sti", "pushf": "pushf", "popf": "push 0x7fd7; popf; pushf; pop ax; nop",
    "pushfd": "pushfd",
    "popfd": "push 0x203; pushd 0x3ed7; popfd; pushfd; pop eax", "int 32": "int 32", "int3": "int3",
    "int1": ".byte 0xf1",
    "into": "mov al, 0x7f; add al, 1; into", "int 41": "int 41", "int 44": "int 44", "int 46": "int 46",
    "int 48": "int 48",
    "int 200": "int 200", "iret": "push 0x7ed7; push 0x800; push offset 1f - 0x8000; iret; nop; 1: inc bx",
    "iretd": "pushd 0x3ed7; pushd 0x800; pushd offset 1f - 0x8000; iretd; nop; 1: inc bx",
    "in": "in al, 0x80; mov al, 1", "in refused": "in al, 0x81", "out": "out 0x80, eax",
    "mov ds": "mov ax, 0x1234; mov ds, ax; mov bx, ds",
    "les": "mov word ptr ds:[0x10], 0x55; mov word ptr ds:[0x12], 0x66; les bx, ds:[0x10]",
    "mov ss": "mov ax, 0xc10; mov ss, ax; push ax", "pop ss": "push 0xc10; pop ss; push bx",
    "ljmp": "ljmp 0x801:offset 1f - 0x8010; nop; 1: inc bx",
    "lcall": "lcall 0x801:offset 1f - 0x8010; nop; 1: inc bx",
    "lret": "push 0x801; push offset 1f - 0x8010; lret; nop; 1: inc bx",
    "lcalld": ".byte 0x66, 0x9a; .long 0x10000; .word 0x801", "jmp beyond": "mov eax, 0x10000; .byte 0x66; jmp ax",
    "lretd beyond": "pushd 0x801; pushd 0x10000; .byte 0x66; lret",
    "arpl": "arpl ax, bx", "lldt": "lldt ax", "sldt": "sldt ax", "str": "str ax", "ltr": "ltr ax",
    "lar": "lar ax, bx", "lsl": "lsl ax, bx",
    "verr": "verr ax", "verw": "verw ax",
    "mov cr0": "mov eax, cr0", "mov dr0": "mov eax, dr0", "clts": "clts", "lgdt": "lgdt ds:[0]",
    "sgdt": "sgdt ds:[0]", "smsw": "smsw ax",
    "lmsw": "lmsw ax", "invlpg": "invlpg ds:[0]", "wbinvd": "wbinvd", "rdmsr": "rdmsr", "rdtsc": "mov cx, 5",
    "sysenter": "sysenter",
    "sysexit": "sysexit", "ud2": "ud2", "beyond the limit": "mov ax, ds:[0xffff]",
    "beyond the stack's limit": "mov sp, 1; push ax",
    "far address": "mov ebx, 0x10000; mov al, [ebx]", "divide": "xor bl, bl; div bl",
    "bound": "mov word ptr ds:[0x10], 1; mov word ptr ds:[0x12], 2; xor bx, bx; bound bx, ds:[0x10]",
    "repeat": "mov cx, 4; mov si, 0; mov di, 0x20; rep movsw", "lock": ".byte 0xf0; nop",
    "single step": "pushf; pop ax; or ax, 0x100; push ax; popf; nop; nop",
}  # fmt: skip

SNIPPETS = [
    *(Snippet(f"{name} in V86 mode, IOPL {iopl}", 32, entered(source, flags=0x20002 | iopl << 12))
      for (name, source), iopl in product(INSIDE.items(), (0, 3))),
    *(Snippet(f"iret to V86 mode with flags {flags:#x}", 32, entered("nop", flags=flags))
      for flags in (0x20002, 0x23202, 0x27ED7 & ~0x100, 0x3E3ED7 & ~0x100, 0x20000, 0xFFFFFEFF)),
    Snippet("iret to a stack in the upper half of V86 mode", 32, entered("push ax", stack=0xDEAD0100)),
    *(Snippet(f"iret from ring 1 with VM, IOPL {iopl}", 32,
              "; ".join(f"push {value}" for value in (*SEGMENTS, 0x39, 0xE700, 0x20002 | iopl << 12, 0x31))
              + "; push offset 9f; iret; hlt; 9: nop; hlt", 1)
      for iopl in (0, 1)),
    Snippet("iret of 16 bits does not look at VM", 32,
        "pushw 0xffff; pushw 0x3002; pushw 8; pushw offset 9f; .byte 0x66; iret; hlt; 9: nop; hlt"),
    Snippet("out of V86 mode and back", 32, entered("int 32; inc bx"), 0, lambda state: put(state, STUBS + 16 * 32,
        b"\x41\xcf")),
    Snippet("iret with NT to V86 mode is to a task", 32, entered("nop",
        before="pushf; or dword ptr [esp], 0x4000; popf")),
]  # fmt: skip
