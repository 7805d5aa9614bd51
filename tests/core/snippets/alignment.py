"""Alignment checks (SDM vol. 3, 6.15, interrupt 17): in ring 3 with CR0.AM and EFLAGS.AC, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from ..machine import DATA, State
from . import Snippet

AM, AC = 0x40000, 0x40000


def checked(am: bool, ac: bool) -> Callable[[State], None]:
    def change(state: State) -> None:
        state.cr0 |= AM if am else 0
        state.registers["rflags"] |= AC if ac else 0

    return change


# With {b} at an address that is odd by `off`, {s} the stack pointer and {a} rAX.
ACCESSES = {
    "word": "mov ax, [{b}]", "long": "mov eax, [{b}]", "byte": "mov al, [{b}]", "store": "mov [{b}], eax",
    "word store": "mov [{b}], ax",
    "both": "add dword ptr [{b}], 1", "xchg": "xchg [{b}], eax", "locked": "lock inc dword ptr [{b}]",
    "movs": "mov esi, {n}; movsd",
    "stos": "mov edi, {n}; stosw", "rep lods": "mov esi, {n}; mov ecx, 2; rep lodsd", "cmps": "mov edi, {n}; cmpsd",
    "push": "lea {s}, [{b}]; push {a}",
    "pop": "lea {s}, [{b}]; pop {a}", "call": "lea {s}, [{b}]; call 1f; 1: nop", "ret": "lea {s}, [{b}]; ret",
    "pushf": "lea {s}, [{b}]; pushf",
    "bt": "bt dword ptr [{b}], 33", "bts": "bts dword ptr [{b}], 3", "movzx": "movzx eax, word ptr [{b}]",
    "cmpxchg": "cmpxchg [{b}], ecx",
    "cmpxchg8b": "cmpxchg8b [{b}]", "mov to a segment": "mov fs, [{b}]", "mov of a segment": "mov [{b}], ds",
    "far pointer": "lfs eax, [{b}]",
    "shift": "shl dword ptr [{b}], 1", "test": "test dword ptr [{b}], 1", "enter": "lea {s}, [{b}]; enter 8, 0",
    "leave": "lea {r}, [{b}]; leave", "sgdt": "sgdt [{b}]", "prefetch": "prefetcht0 [{b}]",
    "lret": "lea {s}, [{b}]; .byte 0xcb", "iret": "lea {s}, [{b}]; iretd",
}  # fmt: skip


def source(bits: int, code: str, off: int, cpl: int) -> str:
    b, s, a, r = ("rdx", "rsp", "rax", "rbp") if bits == 64 else ("edx", "esp", "eax", "ebp")
    code = code.format(b=b, s=s, a=a, r=r, n=DATA + 0x40 + off)
    return f"mov {b}, {DATA + 0x40 + off}; {code}; {'int 32' if cpl else 'hlt'}"


SNIPPETS = [
    *(Snippet(f"{name} off by {off}", bits, source(bits, code, off, 3), 3, checked(True, True))
      for bits, (name, code), off in product((32, 64), ACCESSES.items(), (0, 1, 2, 4))),
    *(Snippet(f"{name} off by 1, AM {am}, AC {ac}", bits,
          source(bits, code, 1, cpl), cpl, checked(am, ac))
      for (bits, cpl), name, (am, ac) in product(((32, 0), (32, 1), (32, 3), (64, 0), (64, 3)), ("long", "push"), ((0,
      0), (0, 1), (1, 0), (1, 1)))
      for code in (ACCESSES[name],)),
]  # fmt: skip
