"""Page faults and their error codes, accessed and dirty bits, in all three kinds of paging (SDM vol. 3, chapter 4)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import product

from ..machine import TABLES, State
from . import Snippet

PAGES, SUBJECT, OTHER = 64, 0x20, 0x21
PRESENT, WRITABLE, USER, ACCESSED, DIRTY, LARGE, GLOBAL, NO_EXECUTE = 1, 2, 4, 0x20, 0x40, 0x80, 0x100, 1 << 63
USER_PAGES = (0x8, 0xA, 0x18)  # code, data and stack of ring 3
CR0_PG, CR0_WP, CR4_PSE, CR4_PAE, CR4_PGE, CR4_SMEP, CR4_SMAP = 1 << 31, 0x10000, 0x10, 0x20, 0x80, 1 << 20, 1 << 21
NXE, AC = 0x800, 0x40000
LEVELS = {"32-bit": 2, "PAE": 3, "64-bit": 4}


def paged(kind: str, *, entry: int = 7, upper: int = 7, cr0: int = CR0_WP, cr4: int = 0, efer: int = NXE,
    flags: int = 2,
          cpl: int = 0, large: int = 0) -> Callable[[State], None]:  # fmt: skip
    """Identical mapping by 4 KB pages, of which `entry` is the subject's; `upper` is that of the last table before.

    `large` is a last table's entry of its own, without pages.
    """
    levels = LEVELS[kind]
    size, table = (4, "<I") if levels == 2 else (8, "<Q")
    last = TABLES + 0x1000 * (levels - 1)

    def change(state: State) -> None:
        for level in range(levels - 1):
            pointer = TABLES + 0x1000 * (level + 1) | (upper if level == levels - 2 else 1 if kind == "PAE" else 7)
            state.memory[TABLES + 0x1000 * level] = struct.pack(table,
                large or pointer) if level == levels - 2 else struct.pack(table, pointer)
        if not large:
            entries = bytearray(PAGES * size)
            for page in range(PAGES):
                user = page in USER_PAGES and cpl == 3
                struct.pack_into(table, entries, page * size, page << 12 | PRESENT | WRITABLE | (USER if user else 0))
            struct.pack_into(table, entries, SUBJECT * size, SUBJECT << 12 ^ entry)
            state.memory[last] = bytes(entries)
        # What runs there stops, by a call from ring 3.
        state.memory[SUBJECT << 12] = b"\xcd\x20" if cpl == 3 else b"\xf4"
        state.memory[OTHER << 12] = b"\x55\x66\x77\x88"
        if cpl == 3:
            state.registers["rsp"] = 0x18F00
        state.registers["rflags"] = flags
        state.cr0 = 0x31 | CR0_PG | cr0
        state.cr3 = TABLES
        state.cr4 = cr4 | {"32-bit": 0x10, "PAE": 0x20, "64-bit": 0x220}[kind]
        state.efer = efer | (0x501 if kind == "64-bit" else 0)

    return change


AT = hex(SUBJECT << 12)
ACCESSES = {"read": f"mov eax, ds:[{AT}]", "write": f"mov ds:[{AT}], eax", "execute": f"mov eax, {AT}; call {{a}}",
    "both": f"add dword ptr ds:[{AT}], 1"}
STOP = {0: "hlt", 3: "int 33"}
KINDS = {"32-bit": 32, "PAE": 32, "64-bit": 64}
ENTRIES = {"absent": 0, "of the supervisor, read-only": 1, "of the supervisor": 3, "of the user, read-only": 5,
    "of the user": 7,
           "of the user, accessed": 0x27, "of the user, dirty": 0x67, "with spare bits": 0xE07}  # fmt: skip
WIDE_ENTRIES = {"no-execute": NO_EXECUTE | 7, "no-execute, read-only": NO_EXECUTE | 5,
    "absent, no-execute": NO_EXECUTE, "reserved": 1 << 51 | 7,
                "reserved, absent": 1 << 51, "reserved, of the supervisor": 1 << 51 | 3,
                "ignored bits": 0x7F << 52 | 7}  # fmt: skip


def source(access: str, bits: int, cpl: int) -> str:
    return f"{ACCESSES[access].format(a='rax' if bits == 64 else 'eax')}; {STOP[cpl]}"


def simple(bits: int, code: str) -> str:
    if bits == 64:
        code = code.replace("push eax", "push rax").replace("pop dword", "pop qword")
    return f"mov ebx, {AT}; {code}; hlt"


MIDDLE = {
    "push": "lea esp, [ebx + 0x1000 + 2]; push eax", "push at the start": "lea esp, [ebx + 2]; push eax",
    "call": "lea esp, [ebx + 2]; call 1f; 1: nop",
    "enter": "lea esp, [ebx + 6]; enter 8, 0", "enter of level 3": "lea esp, [ebx + 6]; enter 8, 3",
    "pop to it": "push 5; pop dword ptr [ebx]",
    "write across": "mov [ebx - 2], eax", "read across": "mov eax, [ebx - 2]",
    "write across to the next": "mov [ebx + 0xffe], eax",
    "xchg": "xchg [ebx], eax", "cmpxchg that fails": "mov eax, 5; cmpxchg [ebx], ecx",
    "bts": "bts dword ptr [ebx], 3", "lock inc": "lock inc dword ptr [ebx]",
    "rep movs into it": "lea esi, [ebx - 0x40]; lea edi, [ebx - 6]; mov ecx, 4; rep movsd",
    "rep stos down": "lea edi, [ebx + 0x1004]; mov ecx, 4; std; rep stosd; cld",
    "rep movs out of it": "lea esi, [ebx - 6]; lea edi, [ebx - 0x40]; mov ecx, 4; rep movsd",
    "int": "lea esp, [ebx + 2]; int 33", "pushf": "lea esp, [ebx + 2]; pushf",
    "lret": "lea esp, [ebx - 4]; .byte 0xcb", "iret": "lea esp, [ebx - 4]; iretd", "sgdt": "sgdt [ebx - 2]",
    "mov to ss": "mov ss, [ebx]",
    "far jump": "jmp fword ptr [ebx - 2]", "test only": "test dword ptr [ebx], 1",
    "shift by nothing": "mov cl, 0; shl dword ptr [ebx], cl", "prefetch": "prefetcht0 [ebx]",
    "invlpg": "invlpg [ebx]", "maskmov": "xor eax, eax; cmovc eax, [ebx]", "lea": "lea eax, [ebx]",
}  # fmt: skip
MIDDLE32 = {"pusha": "lea esp, [ebx + 10]; pusha", "popa": "lea esp, [ebx - 10]; popa",
    "bound": "mov eax, 5; bound eax, [ebx - 4]"}


def repointed(bits: int, flush: str) -> str:
    """Another page behind the address: seen after the flush."""
    entry = TABLES + 0x1000 * (3 if bits == 64 else 1) + SUBJECT * (8 if bits == 64 else 4)
    return f"mov ecx, ds:[{AT}]; mov dword ptr ds:[{entry}], {OTHER << 12 | 0x107}; {flush}; mov edx, ds:[{AT}]; hlt"


FLUSHES = {"invlpg": "invlpg ds:[{at}]", "cr3": "mov {a}, cr3; mov cr3, {a}",
    "cr4": "mov {a}, cr4; xor {a}, 0x80; mov cr4, {a}", "cr0": "mov {a}, cr0; xor {a}, 0x10000; mov cr0, {a}"}

SNIPPETS = [
    *(Snippet(f"{access} in a page {name}, {kind} paging{', without WP' if not wp else ''}", bits, source(access,
          bits, cpl), cpl, paged(kind, entry=entry, cr0=wp, cpl=cpl))
      for (kind, bits), access, (name, entry), cpl, wp in product(KINDS.items(), ACCESSES, ENTRIES.items(), (0, 3),
      (0, CR0_WP))),
    *(Snippet(f"{access} in a page {name}, {kind} paging{', without NXE' if not nxe else ''}", bits, source(access,
          bits, cpl), cpl, paged(kind, entry=entry, efer=nxe, cpl=cpl))
      for (kind, bits), access, (name, entry), cpl, nxe in product(list(KINDS.items())[1:], ACCESSES,
      WIDE_ENTRIES.items(), (0, 3), (0, NXE))),
    *(Snippet(f"{access} in a page {name}, {kind} paging, with {what}", bits, source(access, bits, cpl), cpl,
              paged(kind, entry=entry, cr4=cr4, flags=flags, cpl=cpl))
      for (kind, bits), access, (name, entry), cpl, (what, cr4, flags) in product(
          KINDS.items(), ACCESSES, list(ENTRIES.items())[1:5], (0, 3),
          (("SMEP", CR4_SMEP, 2), ("SMAP", CR4_SMAP, 2), ("SMAP and AC", CR4_SMAP, AC | 2)))),
    *(Snippet(f"{access} through a table with {upper:#x}, {kind} paging", bits, source(access, bits, cpl), cpl,
          paged(kind, entry=7, upper=upper, cpl=cpl))
      for (kind, bits), access, upper in product(KINDS.items(), ("read", "write"), (3, 0x23, 0x27, 0x43, 0x107))
      for cpl in (0,)),
    *(Snippet(f"{name} at an absent page, {kind} paging", bits, simple(bits, code), 0, paged(kind, entry=0))
      for (kind, bits), (name, code) in product(KINDS.items(), MIDDLE.items())),
    *(Snippet(f"{name} at an absent page, {kind} paging", bits, simple(bits, code), 0, paged(kind, entry=0))
      for (kind, bits), (name, code) in product(list(KINDS.items())[:2], MIDDLE32.items())),
    *(Snippet(f"{name} at a read-only page, {kind} paging", bits, simple(bits, code), 0, paged(kind, entry=1))
      for (kind, bits), (name, code) in product(KINDS.items(), MIDDLE.items()) if name not in ("iret", "lret",
      "far jump", "mov to ss", "rep stos down")),
    *(Snippet(f"another page after {name}, {kind} paging", bits, repointed(bits,
          flush.format(a="rax" if bits == 64 else "eax", at=AT)), 0, paged(kind, cr4=cr4))
      for (kind, bits), (name, flush), cr4 in product((("32-bit", 32), ("64-bit", 64)), FLUSHES.items(), (CR4_PGE,))),
    *(Snippet(f"{access} in a large page {entry:#x}, {kind} paging", bits, source(access, bits, 0), 0, paged(kind,
          large=entry))
      for (kind, bits), access, entry in product(KINDS.items(), ("read", "write"), (0x83, 0x87, 0xA3, 0xE3, 0x183))),
]  # fmt: skip
