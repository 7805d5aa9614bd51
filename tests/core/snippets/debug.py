"""Debug exceptions: single steps, breakpoints on instructions, data and ports (SDM vol. 3, 17.2 and 17.3)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from ..machine import DATA, STUBS, State
from . import Snippet
from .gates import put
from .interrupts import each
from .virtual8086 import entered

DB = 1
STEPPED = {
    "nop": "nop; nop", "int 32": "int 32; nop", "int3": "int3; nop", "int1": ".byte 0xf1; nop", "ud2": "ud2",
    "mov ss": "mov eax, ss; mov ss, eax; nop; nop",
    "sti": "sti; nop; nop", "cli": "cli; nop", "pushf": "pushf; nop",
    "jmp": "jmp 1f; nop; 1: nop; nop", "call": "call 1f; 1: nop",
    "fault": "xor ecx, ecx; div ecx", "repeat": "mov ecx, 3; rep stosb; nop",
    "repeat once": "mov ecx, 1; rep stosb; nop", "repeat never": "xor ecx, ecx; rep stosb; nop",
    "rep outs": "mov ecx, 3; mov edx, 0x80; rep outsb; nop", "rep cmps": "mov ecx, 3; repe cmpsb; nop",
    "lret": "nop; nop", "clts": "clts; nop", "mov dr6": "mov {a}, 0xffff0ff0; mov dr6, {a}; nop",
    "loop": "mov ecx, 2; 1: loop 1b; nop", "out": "out 0x80, al; nop", "string": "movsd; nop",
}  # fmt: skip
# MOV SS with TF set has no trap: the instruction after it has one of its own, or none.
AFTER_MOV_SS = {
    "nop": "nop; nop", "int 32": "int 32", "int3": "int3", "int1": ".byte 0xf1", "ud2": "ud2", "divide": "div dl",
    "sti": "sti; nop", "popf": "popf; nop; nop", "call": "call 1f; 1: nop", "out": "out 0x80, al; nop",
    "pushf": "pushf; nop", "fault": "mov ds, dx; mov fs, bx",
}  # fmt: skip
FAR_AFTER_MOV_SS = {
    32: {"iret": ("pushf; push cs; push offset 1f; ", "iret; 1: nop"), "lret": ("push cs; push offset 1f; ", "lret; 1: nop"),
         "lcall": ("", ".byte 0x9a; .long 1f; .word 8; 1: nop"), "a gate": ("", ".byte 0x9a; .long 0; .word 0xb0"),
         "sysenter": ("", "sysenter")},
    64: {"iret": ("mov rbx, rsp; push 0x10; push rbx; pushf; push 0x28; push offset 1f; ", "iretq; 1: nop"),
         "lret": ("push 0x28; push offset 1f; ", ".byte 0x48, 0xcb; 1: nop"), "sysenter": ("", "sysenter")},
}  # fmt: skip
TRAP = "pushf; or dword ptr [{s}], 0x100; popf; "
A = {32: "eax", 64: "rax"}
S = {32: "esp", 64: "rsp"}


def form(bits: int, code: str) -> str:
    return code.format(a=A[bits], s=S[bits])


def breakpoints(dr7: int, *addresses: int, dr6: int = 0xFFFF0FF0, cr4: int = 0, flags: int = 2) -> Callable[[State],
    None]:
    def change(state: State) -> None:
        state.dr = tuple([*addresses, 0, 0, 0, 0][:4])
        state.dr7, state.dr6 = dr7 | 0x400, dr6
        state.cr4 |= cr4
        state.registers["rflags"] = flags

    return change


EXECUTE, WRITE, PORT, ACCESS = 0, 1, 2, 3
LENGTHS = {1: 0, 2: 1, 4: 3, 8: 2}


def on(kind: int, length: int = 1, *, number: int = 0, enable: int = 1) -> int:
    return enable << 2 * number | (kind | LENGTHS[length] << 2) << 16 + 4 * number


TOUCH = {
    "read": "mov eax, [{d}]", "write": "mov [{d}], eax", "both": "add dword ptr [{d}], 1",
    "byte before": "mov al, [{d} - 1]", "byte": "mov al, [{d}]", "byte within": "mov al, [{d} + 1]",
    "byte at 2": "mov [{d} + 2], al",
    "byte at 3": "mov [{d} + 3], al", "byte at 4": "mov [{d} + 4], al", "byte at 7": "mov [{d} + 7], al",
    "byte at 8": "mov [{d} + 8], al", "word across": "mov [{d} - 1], ax", "long across": "mov [{d} - 3], eax",
    "movs": "mov edi, {n}; movsd",
    "rep movs": "mov edi, {n} - 4; mov ecx, 4; rep movsd", "rep stos": "mov edi, {n} - 4; mov ecx, 4; rep stosd",
    "rep lods": "mov esi, {n} - 2; mov ecx, 5; rep lodsb", "push": "lea {s}, [{d} + 8]; push {a}",
    "pop": "lea {s}, [{d}]; pop {a}",
    "call": "lea {s}, [{d} + 8]; call 1f; 1: nop", "xchg": "xchg [{d}], eax",
    "cmpxchg that fails": "mov eax, 0; cmpxchg [{d}], ecx", "fault": "mov eax, [{d}]; ud2",
    "two": "mov [{d}], eax; mov [{d}], ecx", "mov ss": "mov eax, ss; mov [{d}], eax; mov ss, [{d}]; nop; nop",
}  # fmt: skip
WATCHED = DATA + 0x20


def touch(bits: int, code: str) -> str:
    register = "rbp" if bits == 64 else "ebp"
    return f"mov {register}, {WATCHED}; {code.format(d=register, n=WATCHED, s=S[bits], a=A[bits])}; nop; hlt"


REPEATED = {"rep movs", "rep stos", "rep lods"}


def without_resume_flag(bits: int) -> Callable[[State], None]:
    """The handler of #DB clears what was pushed of it: 1 after an iteration (SDM vol. 3, 17.3.1.1), 0 in Bochs."""
    code = b"\xc7\x44\x24\x12\0\0\0\0\xf4" if bits == 64 else b"\x66\xc7\x44\x24\x0a\0\0\xf4"
    return lambda state: put(state, STUBS + 16 * DB, code)


def without_value(state: State) -> None:
    """The handler of #DB clears AL: what was read from a port depends on the machine, not on the processor."""
    put(state, STUBS + 16 * DB, b"\xb0\0\xf4")


RUNS = {"nops": "nop; nop; nop; nop; hlt", "mov ss": "mov eax, ss; mov ss, eax; nop; nop; hlt",
    "jump": "jmp 1f; nop; 1: nop; hlt", "ud2": "nop; ud2", "int": "nop; int 32",
    "repeat": "mov cl, 3; movzx ecx, cl; rep stosb; hlt"}

TRAP16 = "pushf; pop ax; or ax, 0x100; push ax; popf; mov ss, cx; "


def after_mov_ss(bits: int, before: str, code: str) -> str:
    return f"mov ecx, ss; xor edx, edx; mov ebx, 0x7ff8; pushf; {before}{form(bits, TRAP)}mov ss, ecx; {code}"


def over_pop_ss(code: str) -> str:
    return f"push ss; {TRAP.format(s='esp')}pop ss; {code}"


def with_selector(state: State) -> None:
    """What MOV SS loads from under a breakpoint."""
    put(state, WATCHED, b"\x10\0\0\0")


SNIPPETS = [
    *(Snippet(f"single step over mov ss, then {name}", bits, after_mov_ss(bits, "", code) + "; hlt")
      for bits, (name, code) in product((32, 64), AFTER_MOV_SS.items())),
    *(Snippet(f"single step over mov ss, then {name}", bits, after_mov_ss(bits, *codes) + "; hlt")
      for bits in (32, 64) for name, codes in FAR_AFTER_MOV_SS[bits].items()),
    *(Snippet(f"single step over mov ss, then {name}, ring 3", bits, after_mov_ss(bits, "", code) + "; int 33", 3)
      for bits, (name, code) in product((32, 64), (("int 32", "int 32"), ("ud2", "ud2"), ("nop", "nop; nop"),
      ("sysenter", "sysenter")))),
    *(Snippet(f"single step over pop ss, then {name}", 32, over_pop_ss(code) + "; hlt")
      for name, code in (("nop", "nop; nop"), ("int 32", "int 32"), ("ud2", "ud2"))),
    *(Snippet(f"single step over mov ss, then {name}", 16, f"mov cx, ss; {TRAP16}{code}; hlt")
      for name, code in (("nop", "nop; nop"), ("int 32", "int 32"), ("ud2", "ud2"))),
    *(Snippet(f"single step over mov ss, then {name} in V86 mode", 32, entered(f"mov cx, ss; {TRAP16}{code}", flags=0x23002))
      for name, code in (("nop", "nop; nop"), ("int 32", "int 32"), ("ud2", "ud2"))),
    *(Snippet(f"{name} with dr6 {dr6:#x}", bits, f"{form(bits, code)}; hlt", 0, breakpoints(dr7, 0x8001, dr6=dr6))
      for bits, dr6, (name, code, dr7) in product((32, 64), (0xFFFF0FF0, 0xFFFF4FF8), (
          ("int1", ".byte 0xf1", 0), ("single step", TRAP + "nop", 0), ("general detect", "nop; mov {a}, dr6", 0x2000)))),
    *(Snippet(f"general detect after mov ss with a breakpoint, dr6 {dr6:#x}", bits,
          form(bits, f"mov ebp, {WATCHED}; mov ss, [ebp]; mov {{a}}, dr6; hlt"), 0,
          each(breakpoints(on(ACCESS, 4) | 0x2000, WATCHED, dr6=dr6), with_selector))
      for bits, dr6 in product((32, 64), (0xFFFF0FF0, 0xFFFF4FF8))),
    *(Snippet(f"single step over {name}", bits, form(bits, TRAP + code) + "; hlt") for bits, (name,
          code) in product((32, 64), STEPPED.items())),
    *(Snippet(f"single step over {name}, ring 3", bits, form(bits, TRAP + code) + "; int 33", 3)
      for bits, (name, code) in product((32, 64), STEPPED.items()) if name in ("nop", "int 32", "int3", "ud2",
      "repeat", "fault", "jmp")),
    *(Snippet(f"single step over {name}", 64, form(64, TRAP + code), cpl) for name, code, cpl in (
        ("sysenter", "sysenter", 3), ("syscall", "syscall", 3), ("iret to ring 3",
         "mov rax, 0x4b; push rax; push rsp; pushf; mov rax, 0x53; push rax; lea rax, [rip + 1f]; push rax; iretq;"
         + "1: nop; nop", 0))),
    *(Snippet(f"breakpoint on the instruction at {at} of {name}", bits, code, 0, breakpoints(on(EXECUTE,
          enable=enable), 0x8000 + at))
      for bits, (name, code), at, enable in product((32, 64), RUNS.items(), range(1, 5), (1,))),
    *(Snippet(f"breakpoint with dr7 {dr7:#x}", bits, "nop; nop; nop; hlt", 0, breakpoints(dr7, 0x8001, 0x8001, 0x8002,
          0x8001))
      for bits, dr7 in product((32, 64), (0, 1, 2, 3, 0x4, 0xC, 0x10, 0x41, 0xFF, 0x301, 0x10001, 0x2001))),
    *(Snippet(f"breakpoint with dr6 {dr6:#x}", bits, "nop; nop; hlt", 0, breakpoints(1, 0x8001, dr6=dr6))
      for bits, dr6 in product((32, 64), (0xFFFF0FF0, 0xFFFF6FFF, 0xFFFF4FF8))),
    *(Snippet(f"breakpoint with RF on the {'first' if at == 0 else 'second'}", bits, "nop; nop; hlt", 0,
          breakpoints(1, 0x8000 + at, flags=0x10002)) for bits, at in product((32, 64), (0, 1))),
    *(Snippet(f"{'write' if kind == WRITE else 'access'} breakpoint of {length} bytes, {name}", bits, touch(bits,
          code), 0,
              each(breakpoints(on(kind, length), WATCHED), *([without_resume_flag(bits)] if name in REPEATED else [])))
      for bits, kind, length, (name, code) in product((32, 64), (WRITE, ACCESS), (1, 2, 4, 8),
      TOUCH.items()) if bits == 64 or length != 8),
    *(Snippet(f"breakpoint on {length} ports at {port:#x}, {name}{'' if de else ', without DE'}", 32,
          f"{code}; mov eax, 0; nop; hlt", 0, each(breakpoints(on(PORT, length), port, cr4=8 * de), without_value))
      for port, length, de, (name, code) in product((0x80, 0x81, 0x83), (1, 4), (0, 1), (("out", "out 0x80, al"),
      ("out of 32 bits", "out 0x80, eax"), ("in", "in al, 0x81")))),
    *(Snippet(f"two breakpoints, {name} at {at}", bits, code, 0, breakpoints(on(EXECUTE) | on(WRITE, 4,
          number=1) | on(ACCESS, 4, number=2), 0x8000 + at, WATCHED, WATCHED + 4))
      for bits, at, (name, code) in product((32, 64), (5, 7), (("write then nop",
      f"mov ebp, {WATCHED}; mov [ebp], eax; nop; hlt"),))),
    *(Snippet(f"write breakpoint on the stack of {name}", bits, code, 0, breakpoints(on(WRITE, 4), at)) for bits,
          name, code, at in (
        (32, "int 32", "int 32", 0xEEF8), (32, "ud2", "ud2", 0xEEF8), (64, "int 32", "int 32", 0xEEE0), (64, "ud2",
         "ud2", 0xEEE0))),
]  # fmt: skip
