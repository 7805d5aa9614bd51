"""Loading segment registers, LDTR and TR, and far transfers without gates, over many selectors."""

from __future__ import annotations

from . import Snippet

SELECTORS = (0, 3, 0x08, 0x0B, 0x10, 0x13, 0x18, 0x20, 0x30, 0x39, 0x43, 0x4B, 0x48, 0x58, 0x60, 0x68, 0x6B, 0x70,
    0x78, 0x80,
             0x90, 0xA0, 0xB0, 0xC0, 0xE8, 0x100, 0x103, 0x118, 0x11C, 0x120, 0x7FF8, 0x04, 0x0C, 0x0F, 0x17,
                 0x1C)  # fmt: skip
RETURN_SELECTORS = (0, 0x08, 0x31, 0x43, 0x10, 0x58, 0x5B, 0x60)
RETURN_STACKS = (0x10, 0x39, 0x4B, 0, 0x68, 0x63, 0x10B)

SNIPPETS = [
    *(Snippet(f"mov {name}, {selector:#x}", bits, f"mov eax, {selector}; mov {name}, ax; mov ebx, 1; hlt", cpl)
      for bits, cpl in ((32, 0), (32, 3), (64, 0)) for name in ("ds", "ss", "fs") for selector in SELECTORS),
    *(Snippet(f"{name} {selector:#x}", 32, f"mov eax, {selector}; {name} ax; s{name[1:]} ecx; hlt")
      for name in ("lldt",
      "ltr") for selector in SELECTORS if name == "lldt" or selector & 4 == 0 and selector != 0x90),
    *(Snippet(f"ljmp {selector:#x}", 32, f".byte 0xea; .long 1f; .word {selector}; 1: hlt")
      for selector in SELECTORS if selector not in (0x90, 0x98, 0xE8)),
    *(Snippet(f"lcall {selector:#x}", 32, f".byte 0x9a; .long 1f; .word {selector}; 1: hlt", cpl)
      for cpl in (0, 1) for selector in SELECTORS if selector & ~3 not in (0x90, 0x98, 0xB0, 0xC0, 0xE8)),
    *(Snippet(f"lret to {selector:#x}:{stack:#x}", 32,
              f"push {stack}; push 0xe7f0; push {selector}; push offset 1f; lret; 1: hlt", cpl)
      for cpl in (0, 1) for selector in RETURN_SELECTORS for stack in RETURN_STACKS),
    *(Snippet(f"iret to {selector:#x}:{stack:#x} with flags {flags:#x}", 32,
              f"push {stack}; push 0xe7f0; push {flags}; push {selector}; push offset 1f; iret; 1: hlt", cpl)
      for cpl in (0, 1) for selector in RETURN_SELECTORS for stack in RETURN_STACKS for flags in (0x3ED7, 0x2)),
]  # fmt: skip
