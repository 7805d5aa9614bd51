"""SYSENTER, SYSEXIT, SYSCALL, SYSRET and SWAPGS (SDM vol. 3, 5.8.7 and 5.8.8)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from ..machine import CODE32, CODE64, GATE_TARGET, State
from . import Snippet

SYSENTER_CS, STAR, SFMASK = 0x174, 0xC0000081, 0xC0000084


def msrs(values: dict[int, int], *, efer: int = 0, flags: int = 2) -> Callable[[State], None]:
    def change(state: State) -> None:
        state.msrs.update(values)
        state.efer ^= efer
        state.registers["rflags"] = flags

    return change


SYSRET = {"l": ".byte 0x0f, 0x07", "q": ".byte 0x48, 0x0f, 0x07"}
FLAGS = (2, 0x3202, 0x40ED7, 0x4202)

SNIPPETS = [
    *(Snippet(f"sysenter, CS {selector:#x}, flags {flags:#x}", bits, "sysenter", cpl, msrs({SYSENTER_CS: selector},
          flags=flags))
      for (bits, cpl), selector, flags in product(((32, 0), (32, 3), (64, 0), (64, 3)), (0, 3, CODE32, CODE32 | 3,
      0x28, 0xFFF8), FLAGS)),
    *(Snippet(f"sysexit, CS {selector:#x}, flags {flags:#x}", bits,
          "mov edx, offset 1f; mov ecx, 0xe700; .byte 0x0f, 0x35; hlt; 1: hlt", cpl, msrs({SYSENTER_CS: selector},
          flags=flags))
      for (bits, cpl), selector, flags in product(((32, 0), (32, 3), (64, 0), (64, 3)), (0, 3, CODE32, 0x30, 0x33),
      FLAGS)),
    *(Snippet(f"sysexit of 64 bits to {target:#x}, stack {stack:#x}", 64,
          f"mov rdx, {target}; mov rcx, {stack}; .byte 0x48, 0x0f, 0x35", cpl, msrs({SYSENTER_CS: 0x30}))
      for target, stack, cpl in product((GATE_TARGET, 1 << 47), (0xE700, 0x1000000E700, 1 << 47), (0, 3))),
    *(Snippet(f"sysexit to the high {register}", 64,
          f"mov rdx, {GATE_TARGET}; mov rcx, 0xe700; bts {register}, 40; .byte 0x0f, 0x35", 0,
          msrs({SYSENTER_CS: 0x30}))
      for register in ("rdx", "rcx")),
    *(Snippet(f"syscall, flags {flags:#x}, mask {mask:#x}", 64, "syscall", cpl, msrs({SFMASK: mask}, flags=flags))
      for cpl, flags, mask in product((0, 3), FLAGS, (0, 0x700, 0x47700, 0xFFFFFFFF))),
    *(Snippet("syscall without SCE", 64, "syscall", cpl, msrs({}, efer=1)) for cpl in (0, 3)),
    *(Snippet(f"syscall with STAR {selector:#x}", 64, "syscall", 3,
          msrs({STAR: selector << 32 | 0x40 << 48})) for selector in (0, 3, CODE64 | 3, 0xFFFF)),
    *(Snippet(f"sysret{suffix}, STAR {selector:#x}, flags {flags:#x}", 64,
          f"mov rcx, offset 1f; mov r11, {flags}; {SYSRET[suffix]}; 1: hlt", cpl,
              msrs({STAR: CODE64 << 32 | selector << 48}))
      for suffix, selector, flags, cpl in product(("q", "l"), (0x40, 0x43, 0), (2, 0, 0x257ED7, 0xFFFFFEFF), (0, 3))),
    *(Snippet(f"sysretq to {target:#x}", 64, f"mov rcx, {target}; mov r11, 2; {SYSRET['q']}",
          0) for target in (1 << 47, 0xFFFF << 48)),
    *(Snippet(f"sysret{suffix} without SCE", 64, f"mov rcx, offset 1f; mov r11, 2; {SYSRET[suffix]}; 1: hlt", 0,
          msrs({}, efer=1)) for suffix in "ql"),
    *(Snippet(f"{name} in 32-bit code", 32, source, cpl) for (name, source), cpl in product((("syscall", "syscall"),
          ("sysret", SYSRET["l"])), (0, 3))),
    *(Snippet("swapgs", bits, ".byte 0x0f, 0x01, 0xf8; hlt", cpl) for bits, cpl in ((32, 0), (64, 0), (64, 3))),
]  # fmt: skip
