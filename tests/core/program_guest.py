"""Programs as lists of instructions, and guests in which they meet all that memory can be.

A program is a list of instructions that name each other by number, so that any of them can be left out. Its guest has
paging (pages that alias in the TLB, that are absent, read-only, ROM, a device or the code itself, or not accessed yet)
and exception handlers that write down all that they find and go on behind the instruction.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any

from iced_x86 import Decoder, Encoder, Formatter, FormatterSyntax, Instruction

from hvmx.core.exit_info import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.cost import load_profile
from hvmx.vocabulary import ExitReason

from .machine import CODE, CODE16, DATA, DATA16, GENERAL, SEGMENTS, SMALL, STUBS, assemble, world

MEMORY, PAGE = 0x26000, 0x1000
HANDLER, LOG_END, LOG_LEFT, COUNTERS = 0x5000, 0x5FF0, 0x5FF8, 0x6000
STACK, LOG, NEXT, FRAME1, FRAME2, ROM, DEVICE, TABLES = 0xE800, 0x16000, 0x18000, 0x1C000, 0x1D000, 0x1E000, 0x1F000, 0x20000
CODE_BYTES, CODE_TAIL, RECORDS = 2 * PAGE, CODE + 0x1F80, 40
WRITABLE, USER, ACCESSED, DIRTY, GLOBAL = 2, 4, 0x20, 0x40, 0x100
# Linear pages besides those that are one to one; what is congruent modulo 2 MiB shares an entry of the TLB.
PAGES = {
    CODE: (CODE, WRITABLE | USER), CODE + PAGE: (CODE + PAGE, WRITABLE | USER), DATA: (DATA, WRITABLE | USER | ACCESSED | DIRTY),
    DATA + PAGE: (DATA + PAGE, WRITABLE | USER | GLOBAL), DATA + 2 * PAGE: (DATA + 2 * PAGE, WRITABLE | USER),
    DATA + 3 * PAGE: (DATA + 3 * PAGE, USER), 0xE000: (0xE000, WRITABLE | USER), COUNTERS: (COUNTERS, WRITABLE | USER),
    0x208000: (CODE, WRITABLE | USER), 0x20A000: (FRAME1, WRITABLE | USER), 0x20B000: (DATA + PAGE, WRITABLE | USER),
    0x20D000: (FRAME1, WRITABLE), 0x40A000: (FRAME2, WRITABLE | USER | ACCESSED), 0x40B000: (ROM, WRITABLE | USER),
    0x40C000: (DEVICE, WRITABLE | USER),
}  # fmt: skip
ABSENT = 0x20C000
PROFILE = load_profile("skylake")
# Counters of what the host has decoded, translated and dropped: the guest cannot tell, and they depend on where runs end.
OF_THE_HOST = ("blocks_decoded", "blocks_translated", "code_flushes")

_SAVED = ["rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"]
_HANDLERS = {
    64: "; ".join(f"push {name}" for name in _SAVED) + f"""; mov rax, cr2; push rax; cld; mov rsi, rsp; mov rdi, [{LOG_END}]
        mov ecx, 23; rep movsq; mov [{LOG_END}], rdi; dec dword ptr [{LOG_LEFT}]; jz 9f; mov rax, [rsp + 0x80]; dec eax
        cmp eax, 1; jbe 1f; mov rax, [rsp + 0x90]; sub rax, {CODE}; cmp rax, {CODE_BYTES}; jae 9f
        movzx eax, word ptr [{NEXT} + rax * 2]; test eax, eax; jz 9f; mov [rsp + 0x90], rax
        1: and dword ptr [rsp + 0xa0], ~0x40100; pop rax; """
        + "; ".join(f"pop {name}" for name in reversed(_SAVED)) + "; add rsp, 16; iretq; 9: hlt; jmp 9b",
    32: f"""pushad; mov eax, cr2; push eax; cld; mov esi, esp; mov edi, [{LOG_END}]; mov ecx, 16; rep movsd
        mov [{LOG_END}], edi; dec dword ptr [{LOG_LEFT}]; jz 9f; mov eax, [esp + 36]; dec eax; cmp eax, 1; jbe 1f
        mov eax, [esp + 44]; sub eax, {CODE}; cmp eax, {CODE_BYTES}; jae 9f; movzx eax, word ptr [{NEXT} + eax * 2]
        test eax, eax; jz 9f; mov [esp + 44], eax; 1: and dword ptr [esp + 52], ~0x40100; pop eax; popad; add esp, 8
        iretd; 9: hlt; jmp 9b""",
}  # fmt: skip
seen_of = attrgetter("rip", "rflags", "cr2", "cycles", "instructions", *GENERAL)
NAMES = (*GENERAL, "rip", "rflags", "cr0", "cr2", "cr3", "cr4", "efer", "dr6", "dr7", "halted", "cycles", "halted_cycles", "instructions",
         "mxcsr", "fcw", "fsw", "ftw", *(f"st{n}" for n in range(8)), *(f"xmm{n}" for n in range(16)))  # fmt: skip
_values = attrgetter(*NAMES)
_WITH_ERROR_CODE = (8, 10, 11, 12, 13, 14, 17)


@cache
def _handlers(bits: int) -> bytes:
    return assemble(bits, [_HANDLERS[bits]])[0]


def _stubs() -> bytes:
    """What the gates of `machine.world` lead to: vectors and error codes pushed, all go to one handler."""
    stubs = b""
    for vector in range(64):
        stub = (b"" if vector in _WITH_ERROR_CODE else b"\x6a\0") + bytes([0x6A, vector, 0xE9])
        stubs += (stub + struct.pack("<i", HANDLER - (STUBS + 16 * vector + len(stub) + 4))).ljust(16, b"\x90")
    return stubs


def _tables(bits: int) -> dict[int, bytes]:
    """Page tables: all memory one to one for the supervisor, and PAGES."""
    size, span = (8, 9) if bits == 64 else (4, 10)
    tables = {TABLES + 0x3000 + n * PAGE: bytearray(PAGE) for n in range(3)}
    one_to_one = {page: (page, WRITABLE) for page in range(0, MEMORY, PAGE) if page != ABSENT}
    for linear, (frame, rights) in (one_to_one | PAGES).items():
        table, entry = divmod(linear >> 12, 1 << span)
        tables[TABLES + 0x3000 + table * PAGE][entry * size : (entry + 1) * size] = (frame | rights | 1).to_bytes(size, "little")
    leaves = b"".join((table | 7).to_bytes(size, "little") for table in tables)
    upper = {TABLES: struct.pack("<Q", TABLES + 0x1007), TABLES + 0x1000: struct.pack("<Q", TABLES + 0x2007)}
    return {at: bytes(table) for at, table in tables.items()} | (
        upper | {TABLES + 0x2000: leaves} if bits == 64 else {TABLES: leaves}
    )


class Label:
    """The number of an instruction, once it is known."""

    at = 1 << 30


@dataclass
class Item:
    """An instruction. What `label` names is where it branches, or its immediate or memory operand (of a `patch` the
    operand is in the immediate of what is named)."""

    instruction: Instruction
    label: Label | None = None
    use: str = "branch"

    def has_what_it_names(self, kept: Collection[int]) -> bool:
        """Whether it works where only the instructions `kept` are left. A branch then goes to the next one that is, but
        a patch needs the very instruction that it changes."""
        return self.use != "patch" or self.label is not None and self.label.at in kept


@dataclass
class Program:
    bits: int
    cpl: int
    origin: int
    items: list[Item]
    registers: dict[str, int]
    data: bytes

    def assembled(self, kept: Collection[int]) -> dict[int, bytes]:
        """The bytes of each instruction by its address, of the instructions `kept`; a HLT ends them."""
        encoder = Encoder(self.bits)
        numbers = [n for n in sorted(kept) if self.items[n].has_what_it_names(kept)]
        starts: dict[int, int] = {}
        immediates: dict[int, int] = {}
        code: dict[int, bytes] = {}
        for final in (False, True):
            at = self.origin
            code.clear()
            for number in numbers:
                item = self.items[number]
                if item.label is not None:
                    named = next((n for n in numbers if n >= item.label.at), -1)
                    target = (immediates if item.use == "patch" else starts)[named] if final else at
                    self._refer(item, target)
                starts[number] = at
                encoder.encode(item.instruction, at)
                immediates[number] = at + encoder.get_constant_offsets().immediate_offset
                code[at] = encoder.take_buffer()
                at += len(code[at])
            starts[-1] = at
        code[at] = b"\xf4"
        return code

    @staticmethod
    def _refer(item: Item, target: int) -> None:
        if item.use == "branch":
            item.instruction.near_branch64 = target
        elif item.use == "immediate":
            item.instruction.immediate32 = target
        else:
            item.instruction.memory_displacement = target

    def listing(self, kept: Collection[int]) -> str:
        formatter, lines = Formatter(FormatterSyntax.INTEL), []
        for at, data in self.assembled(kept).items():
            lines.append(f"{at:#x}: {data.hex():<24} {formatter.format(Decoder(self.bits, data, ip=at).decode())}")
        return "\n".join(lines)


@dataclass
class Record:
    """What the exception handler of a guest found."""

    vector: int
    error: int
    rip: int
    rflags: int
    cr2: int
    registers: dict[str, int]


def records(cpu: Vcpu, bits: int) -> list[Record]:
    """What the exception handler wrote down, the earliest first."""
    size, words = (8, 23) if bits == 64 else (4, 16)
    names = list(reversed(_SAVED)) if bits == 64 else ["rdi", "rsi", "rbp", "rsp", "rbx", "rdx", "rcx", "rax"]
    found = []
    for at in range(LOG, int.from_bytes(cpu.read(LOG_END, 4), "little"), size * words):
        cr2, *values = struct.unpack(f"<{words}{'Q' if bits == 64 else 'I'}", cpu.read(at, size * words))
        vector, error, rip, _, rflags = values[len(names) : len(names) + 5]
        found.append(Record(vector, error, rip, rflags, cr2, dict(zip(names, values, strict=False))))
    return found


def image(bits: int, cpl: int, code: Mapping[int, bytes], data: bytes) -> bytes:
    """Memory with `code`, instructions by their addresses, and four pages of `data`, which other pages begin with, too."""
    wide = 64 if bits == 64 else 32
    memory, following = bytearray(MEMORY), bytearray(2 * CODE_BYTES)
    for at, instruction in code.items():
        struct.pack_into("<H", following, 2 * (at - CODE), at + len(instruction))
    parts = world(wide, b"", cpl=cpl).memory | {STUBS: _stubs(), HANDLER: _handlers(wide), DATA: data, NEXT: bytes(following)}
    parts |= _tables(wide) | {FRAME1: data[:PAGE], FRAME2: data[PAGE : 2 * PAGE], ROM: data[2 * PAGE : 3 * PAGE]}
    parts |= {CODE: b"\xf4" * CODE_BYTES, LOG_END: struct.pack("<QI", LOG, RECORDS)}
    for at, content in (*parts.items(), *code.items()):
        memory[at : at + len(content)] = content
    return bytes(memory)


def guest(bits: int, cpl: int, memory: bytes, registers: Mapping[str, int], exits: list[object], *, walk: bool = True) -> Vcpu:
    """A processor with this memory. What its device is asked is written to `exits`, with what can be seen there; without
    `walk` page walks take no time."""
    wide = 64 if bits == 64 else 32
    state = world(wide, b"", cpl=cpl)
    cpu = Vcpu(MEMORY)
    PROFILE.apply(cpu)
    if not walk:
        cpu.set_costs({name: figure.units for name, figure in PROFILE.instructions.items()}, {})
    cpu.set_handler(ExitReason.TRIPLE_FAULT, lambda vcpu, exit: None)

    def device(vcpu: Vcpu, exit: Exit) -> None:
        exits.append((exit.guest_linear, exit.guest_physical, exit.width, exit.is_write, exit.value, exit.length, seen_of(vcpu)))
        if not exit.is_write:
            exit.value = len(exits) * 0x0102030405060788 & (1 << 8 * exit.width) - 1

    cpu.set_handler(ExitReason.EPT_MISCONFIG, device)
    cpu.write(0, memory)
    cpu.add_rom(ROM, memory[ROM : ROM + PAGE])
    cpu.add_hole(DEVICE, PAGE)
    cpu.cr3, cpu.cr4, cpu.efer, cpu.cr0 = TABLES, 0x2A0 if wide == 64 else 0x280, state.efer, 0x80050031
    cpu.gdtr, cpu.idtr = state.gdtr, state.idtr
    for name, segment in state.segments.items():
        cpu.set_segment(name, *segment)
    if bits == 16:
        cpu.set_segment("cs", CODE16, 0, 0xFFFF, 0x9B)
        cpu.set_segment("ss", DATA16, 0, 0xFFFF, 0x93)
    if bits == 64:
        cpu.fs_base, cpu.gs_base = DATA + 0x40, 0x20AFF0
    else:
        cpu.set_segment("fs", SMALL, DATA, 0xFF, 0x4093 | cpl << 5)
        cpu.set_segment("gs", SMALL, DATA + PAGE - 8, 0xFFFFFFFF, 0xC093 | cpl << 5)
    for name, value in registers.items():
        setattr(cpu, name, value)
    return cpu


def outcome(cpu: Vcpu, stop: int, seen: list[object], exits: list[object]) -> dict[str, Any]:
    """All of a guest that can be observed, by name, without counts of what hvmx has translated: no guest can tell."""
    result: dict[str, Any] = dict(zip(NAMES, _values(cpu), strict=True))
    result |= {name: cpu.segment(name) for name in SEGMENTS}
    result |= {f"count of {name}": count for name, count in cpu.counters().items() if "translat" not in name}
    return result | {"stop": stop, "on the way": seen, "device": exits, "memory": cpu.read(0, MEMORY)}


def differences(ours: dict[str, Any], theirs: dict[str, Any], besides: Collection[str] = ()) -> list[str]:
    """What differs, a line each; empty when nothing does."""
    lines = []
    for name, value in ours.items():
        other = theirs[name]
        if value == other or name in besides or name.removeprefix("count of ") in besides:
            continue
        if isinstance(value, int):
            lines.append(f"{name}: {value:#x}, interpreted {other:#x}")
        elif name == "memory":
            places = [at for at in range(MEMORY) if value[at] != other[at]]
            lines += [f"[{at:#x}]: {value[at]:#x}, interpreted {other[at]:#x}" for at in places[:16]]
        elif isinstance(value, list):
            at = next((n for n, (a, b) in enumerate(zip(value, other)) if a != b), min(len(value), len(other)))
            lines.append(f"{name}, {at}: {_hexadecimal(value[at : at + 1])}, interpreted {_hexadecimal(other[at : at + 1])}")
        else:
            lines.append(f"{name}: {_hexadecimal(value)}, interpreted {_hexadecimal(other)}")
    return lines


def _hexadecimal(value: object) -> str:
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(_hexadecimal, value)) + ")"
    return hex(value) if isinstance(value, int) else str(value)
