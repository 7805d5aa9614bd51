"""Control, debug, descriptor-table and task registers, and the instructions that look at descriptors."""

from __future__ import annotations

from itertools import product

from . import Snippet
from .segments import SELECTORS
from .virtual8086 import entered

CR0 = (0x11, 0x31, 0x10, 0x30, 0x80000011, 0x80000010, 0x20000011, 0x40000011, 0x60000011, 0x50011, 0xFFC0 | 0x31,
    0x1000000031)
CR4 = (0, 0x20, 0x220, 0x10, 0x30, 0x1000000020, 0x800000020, 0x8020, 0x80000020, 0x1020, 0x100020)
LOOKS = ("lar", "lsl")

SNIPPETS = [
    *(Snippet(f"{name} {selector:#x}", bits, f"mov eax, {selector}; mov ecx, 0x55555555; {name} ecx, eax; hlt", 0)
      for name, selector, bits in product(LOOKS, SELECTORS, (32, 64))),
    *(Snippet(f"{name} {selector:#x}", bits,
          f"mov eax, {selector}; mov ecx, 0x55555555; {name} ecx, eax; int 32; hlt", 3)
      for name, selector, bits in product(LOOKS, SELECTORS, (32, 64))),
    *(Snippet(f"{name} of {width} bits, {selector:#x}", bits,
          f"mov eax, {selector}; mov ecx, 0x55555555; {prefix}{name} {operands}; hlt")
      for name, selector, (bits, width, prefix, operands) in product(
          LOOKS, (0x08, 0x10, 0x70, 0x100, 0x80, 0x7FF8), ((32, 16, "", "cx, ax"), (64, 16, "", "cx, ax"), (64, 64,
              "", "rcx, rax")))),
    *(Snippet(f"{name} {selector:#x}", bits, f"mov eax, {selector}; {name} ax; setz cl; int 32; hlt", cpl)
      for name, selector, (bits, cpl) in product(("verr", "verw"), SELECTORS, ((32, 0), (32, 1), (32, 3), (64, 0),
      (64, 3)))),
    *(Snippet(f"arpl {first:#x}, {second:#x}", 32, f"mov eax, {first}; mov ecx, {second}; arpl ax, cx; hlt")
      for first, second in product((0, 1, 3, 0x13), (0, 1, 2, 3))),
    *(Snippet(f"mov cr0, {value:#x}", 32, f"mov eax, {value & 0xFFFFFFFF}; mov cr0, eax; mov ecx, cr0; jmp 1f; 1: hlt")
      for value in CR0 if value >> 32 == 0 and not value & 0x80000000 and value & 1),
    *(Snippet(f"mov cr0, {value:#x}", 32, f"mov eax, {value}; mov cr0, eax; hlt") for value in (0x80000010,
          0x80000000)),
    *(Snippet(f"mov cr0, {value:#x}", 64, f"mov rax, {value}; mov cr0, rax; mov rcx, cr0; hlt")
      for value in (0x80000011, 0x80000031, 0x80050033, 0x31, 0x80000030, 0xA0000031, 0xC0000031, 0xE0000031,
      0x180000031, 0x8000FFF1)),
    *(Snippet(f"mov cr4, {value:#x}", bits, f"mov {a}, {value}; mov cr4, {a}; mov {c}, cr4; hlt")
      for (bits, a, c), value in product(((32, "eax", "ecx"), (64, "rax", "rcx")),
      CR4) if bits == 64 or value < 1 << 32),
    *(Snippet(f"mov cr3, {value:#x}", 64, f"mov rax, {value}; mov cr3, rax; mov rcx, cr3; hlt")
      for value in (0x10000, 0x10018, 0x10FFF, 1 << 52 | 0x10000, 1 << 63 | 0x10000, 1 << 51 | 0x10000)),
    *(Snippet(f"mov cr2, {value:#x}", 64,
          f"mov rax, {value}; mov cr2, rax; mov rcx, cr2; hlt") for value in (0x123456789, 1 << 47, 1 << 63)),
    *(Snippet(f"mov cr8, {value:#x}", 64,
          f"mov rax, {value}; mov cr8, rax; mov rcx, cr8; xor eax, eax; mov cr8, rax; hlt") for value in (0, 7, 15,
          16, 1 << 32)),
    *(Snippet(f"mov {'from' if read else 'to'} {register}", bits,
          f"mov {a}, cr0; .byte 0x0f, {0x20 if read else 0x22:#x}, {0xC0 | number << 3:#x}; hlt")
      for (bits, a), read, (register, number) in product(((32, "eax"), (64, "rax")), (True, False), (("cr1", 1),
      ("cr5", 5), ("cr6", 6), ("cr7", 7)))
      ),
    *(Snippet(f"mov dr{number}, {value:#x}", bits,
          f"mov {a}, {value}; mov dr{number}, {a}; mov {c}, dr{number}; xor eax, eax; mov dr7, {a}; hlt")
      for (bits, a, c), number, value in product(((32, "eax", "ecx"), (64, "rax", "rcx")), (0, 3, 6, 7),
                                                 (0, 0x12345078, 0xFFFF17F0, 0xFFFFD400, 0x07F0, 0x1FFFFFFFF, 1 << 47,
                                                  1 << 63))
      if bits == 64 or value < 1 << 32),
    *(Snippet(f"mov dr{number}, with DE {de}", bits,
          f"mov {a}, {8 * de + (0x220 if bits == 64 else 0)}; mov cr4, {a};"
          f"mov {c}, dr{number}; mov dr{number}, {c}; hlt")
      for (bits, a, c), number, de in product(((32, "eax", "ecx"), (64, "rax", "rcx")), (4, 5), (0, 1))),
    *(Snippet(f"{source} with general detection", bits, f"mov eax, 0x2000; mov dr7, {a}; {source.format(a)}; hlt")
      for (bits, a), source in product(((32, "eax"), (64, "rax")), ("mov {}, dr0", "mov dr6, {}", "mov dr7, {}"))),
    *(Snippet(f"lmsw {value:#x}", bits, f"mov eax, {value}; lmsw ax; mov {c}, cr0; smsw ebx; hlt")
      for (bits, c), value in product(((32, "ecx"), (64, "rcx")), (0, 1, 0xF, 0xFFF0, 0xFFFF))),
    *(Snippet(f"clts, ring {cpl}", bits, "clts; hlt", cpl) for bits, cpl in ((32, 0), (32, 3), (64, 0), (64, 3))),
    *(Snippet(f"{store}, {what}", bits, f"{prefix}{store} [{a}]; int 32; hlt", cpl)
      for (bits, a, cpl), store, (what, prefix) in product(((32, "esi", 0), (32, "esi", 3), (64, "rsi", 0), (64,
      "rsi", 3)), ("sgdt", "sidt"),
                                                           (("plain", ""), ("prefixed", ".byte 0x66; ")))),
    *(Snippet(f"{store} of {width}", bits, f"mov rax, -1; {store} {register}; hlt".replace("rax",
          "rax" if bits == 64 else "eax"))
      for bits, store, (width, register) in product((32, 64), ("sldt", "str", "smsw"), (("word", "ax"), ("long",
      "eax")))),
    *(Snippet(f"{load} {base:#x}, {what}", bits,
          f"mov {a}, {base}; mov [{s} + 2], {a}; mov word ptr [{s}], 0x1234;"
          f"{prefix}{load} [{s}]; sgdt [{d}]; sidt [{d} + 16]; hlt")
      for (bits, a, s, d), load, (what, prefix), base in product(((32, "eax", "esi", "edi"), (64, "rax", "rsi",
      "rdi")), ("lgdt", "lidt"),
                                                                 (("plain", ""), ("prefixed", ".byte 0x66; ")),
                                                                  (0x12345678, 1 << 47, 0xFFFF8000 << 32))
      if bits == 64 or base < 1 << 32),
    *(Snippet(f"{source}, ring 3", bits, source.format(*registers) + "; hlt", 3)
      for (bits, registers), source in product(((32, ("esi", "eax")), (64, ("rsi", "rax"))), (
          "lgdt [{0}]", "lidt [{0}]", "lldt ax", "ltr ax", "lmsw ax", "mov cr0, {1}", "mov {1}, cr3", "mov {1}, dr7",
          "mov dr0, {1}", "invlpg [{0}]", "hlt", "cli", "sti",
          "invd", "wbinvd", "rdmsr", "wrmsr", "in al, 0x81", "in al, 0x80; mov al, 1", "in ax, 0x80", "out 0x80, eax",
          "mov dx, 0x7fff; in al, dx", "mov dx, 0x81; insb", "mov dx, 0x81; rep outsb"))),
    *(Snippet(f"{name} with AC {'set' if set_before else 'clear'}, CR4.SMAP {'set' if smap else 'clear'}", bits,
          (f"pushf; or dword ptr [{s}], 0x40000; popf; " if set_before else "")
          + (f"mov {a}, cr4; or {a}, 0x200000; mov cr4, {a}; " if smap else "") + f"{name}; pushf; pop {a}; hlt")
      for (bits, a, s), name, set_before, smap in product(((32, "eax", "esp"), (64, "rax", "rsp")), ("stac", "clac"),
                                                          (False, True), (False, True))),
    *(Snippet(f"{prefix}{name}", bits, f"{prefix}{name}; {'int 33' if cpl else 'hlt'}", cpl)
      for (bits, cpl), name, prefix in product(((16, 0), (32, 0), (32, 3), (64, 0), (64, 3)), ("stac", "clac"),
                                               ("", ".byte 0x66; ", ".byte 0xf0; "))),
    *(Snippet(f"{name} in V86 mode", 32, entered(name)) for name in ("stac", "clac")),
    *(Snippet(f"ltr {selector:#x}", 64, f"mov eax, {selector}; ltr ax; str ecx; hlt") for selector in SELECTORS),
    *(Snippet(f"lldt {selector:#x}", 64, f"mov eax, {selector}; lldt ax; sldt ecx; hlt") for selector in SELECTORS),
]  # fmt: skip
