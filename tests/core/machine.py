"""States of a whole processor with memory, run by hvmx; and the small worlds in which snippets of code are tried.

A world is a processor state with a GDT, an IDT whose handlers are one HLT each, a TSS and stacks, in which a snippet is
placed. What an exception pushed stays on the stack and RIP says which handler was reached, so that two final states
with memory tell all there is to tell.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy
from elftools.elf.elffile import ELFFile

from hvmx.core.vcpu import Vcpu
from hvmx.hvm.controls import msr_access
from hvmx.isa.levels import DEFAULT_LEVEL, Level
from hvmx.vocabulary import CoreStop, ExitReason

GENERAL = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"]
SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"]

Segment = tuple[int, int, int, int]
"""Selector, base, limit in bytes, access rights as in the VMCS."""


@dataclass
class State:
    """All of a processor that a snippet can change, and memory (by guest-physical address)."""

    registers: dict[str, int]
    segments: dict[str, Segment]
    gdtr: tuple[int, int]
    idtr: tuple[int, int]
    memory: dict[int, bytes]
    cr0: int = 0x10
    cr2: int = 0
    cr3: int = 0
    cr4: int = 0
    efer: int = 0
    dr: tuple[int, ...] = (0, 0, 0, 0)
    dr6: int = 0xFFFF0FF0
    dr7: int = 0x400
    msrs: dict[int, int] = field(default_factory=dict)
    shut_down: bool = False


MEMORY = 0x40000
GDT, LDT, IDT, TSS, TSS2, TSS16, STUBS, CODE, DATA = 0x1000, 0x1800, 0x2000, 0x3000, 0x3800, 0x3C00, 0x4000, 0x8000, 0xA000
TABLES = 0x10000
STACK0, STACK1, STACK3, STACK_IST, STACK_TASK = 0xF000, 0xEC00, 0xE800, 0xE400, 0xE000
STOP_HALTED, STOP_SHUTDOWN = CoreStop.HALTED, CoreStop.SHUTDOWN


def descriptor(base: int, limit: int, access: int) -> bytes:
    """Eight bytes of a segment descriptor; `limit` is the field, `access` as in the VMCS."""
    value = limit & 0xFFFF | (base & 0xFFFFFF) << 16 | (access & 0xF0FF) << 40 | (limit >> 16 & 15) << 48 | base >> 24 << 56
    return struct.pack("<Q", value & (1 << 64) - 1)


def gate(selector: int, offset: int, access: int, parameters: int = 0) -> bytes:
    """Eight bytes of a call, interrupt, trap or task gate; `parameters` is also the IST index."""
    return struct.pack("<HHBBH", offset & 0xFFFF, selector, parameters, access, offset >> 16 & 0xFFFF)


# The GDT, by selector. Rights: 9A code, 92 data; +60 DPL 3, +20 DPL 1; C000 32-bit with pages, A000 64-bit.
CODE32, DATA32, CODE16, DATA16, CODE64 = 0x08, 0x10, 0x18, 0x20, 0x28
CODE32_1, DATA32_1, CODE32_3, DATA32_3, CODE64_3 = 0x31, 0x39, 0x43, 0x4B, 0x53
CONFORMING, ABSENT, READ_ONLY, EXPAND_DOWN, EXECUTE_ONLY = 0x58, 0x60, 0x68, 0x70, 0x78
TSS_SELECTOR, TSS2_SELECTOR, TSS16_SELECTOR, LDT_SELECTOR = 0x80, 0x90, 0x98, 0xA0
GATE_SAME, GATE_INNER, GATE_INNER1, GATE_16, GATE_TASK, GATE_ABSENT = 0xB0, 0xC3, 0xD3, 0xE3, 0xEB, 0xF3
SMALL, DATA16_3, CODE16_3 = 0x100, 0x10B, 0x113
GATE_TARGET, TASK_TARGET = CODE + 0x1000, CODE + 0x1800


def gdt_bytes(bits: int) -> bytes:
    table = bytearray(0x120)

    def put(selector: int, raw: bytes) -> None:
        table[selector & ~7 : (selector & ~7) + len(raw)] = raw

    for selector, access in (
        (CODE32, 0xC09B), (DATA32, 0xC093), (CODE64, 0xA09B), (CODE32_1, 0xC0BB), (DATA32_1, 0xC0B3), (CODE32_3, 0xC0FB),
        (DATA32_3, 0xC0F2), (CODE64_3, 0xA0FB), (CONFORMING, 0xC09E), (ABSENT, 0xC012), (READ_ONLY, 0xC090),
        (EXECUTE_ONLY, 0xC098),
    ):  # fmt: skip
        put(selector, descriptor(0, 0xFFFFF, access))
    put(CODE16, descriptor(0, 0xFFFF, 0x9B))
    put(DATA16, descriptor(0, 0xFFFF, 0x93))
    put(CODE16_3, descriptor(0, 0xFFFF, 0xFB))
    put(DATA16_3, descriptor(0, 0xFFFF, 0xF3))
    put(EXPAND_DOWN, descriptor(0, 0xFFF, 0x4096))
    put(SMALL, descriptor(DATA, 0xFF, 0x4092))
    wide = bits == 64
    put(TSS_SELECTOR, descriptor(TSS, 0x6FF, 0x8B) + bytes(8 * wide))
    put(TSS2_SELECTOR, descriptor(TSS2, 0x67, 0x89))
    put(TSS16_SELECTOR, descriptor(TSS16, 0x2B, 0x81))
    put(LDT_SELECTOR, descriptor(LDT, 0x17, 0x82) + bytes(8 * wide))
    target = CODE64 if wide else CODE32
    put(GATE_SAME, gate(target, GATE_TARGET, 0x8C) + bytes(8 * wide))
    put(GATE_INNER, gate(target, GATE_TARGET, 0xEC, 0 if wide else 3) + bytes(8 * wide))
    if not wide:
        put(GATE_INNER1, gate(CODE32_1, GATE_TARGET, 0xEC, 2))
    put(GATE_16, gate(CODE32, GATE_TARGET, 0xE4, 2))
    put(GATE_TASK, gate(TSS2_SELECTOR, 0, 0xE5))
    put(GATE_ABSENT, gate(target, GATE_TARGET, 0x6C) + bytes(8 * wide))
    return bytes(table)


def _tss32() -> bytes:
    tss = bytearray(0x700)
    struct.pack_into("<IIIII", tss, 4, STACK0, DATA32, STACK1, DATA32_1, 0)
    struct.pack_into("<H", tss, 0x66, 0x68)
    tss[0x68 + (0x80 >> 3)] = 0x02  # port 0x81 is refused
    return bytes(tss)


def _tss64() -> bytes:
    tss = bytearray(0x700)
    struct.pack_into("<QQQ", tss, 4, STACK0, STACK1, 0)
    struct.pack_into("<Q", tss, 0x24, STACK_IST)
    struct.pack_into("<H", tss, 0x66, 0x68)
    tss[0x68 + (0x80 >> 3)] = 0x02  # port 0x81 is refused
    return bytes(tss)


def task32(eip: int, *, cs: int = CODE32, data: int = DATA32, eflags: int = 2, ldt: int = 0, cr3: int = 0) -> bytes:
    """A 32-bit TSS of a task that has not run yet."""
    registers = (0x11, 0x22, 0x33, 0x44, STACK_TASK, 0x66, 0x77, 0x88)
    segments = (data, cs, data, data, data, data)
    return struct.pack("<I3QI2I8I6III", 0, STACK0 | DATA32 << 32, STACK1 | DATA32_1 << 32, 0, cr3, eip, eflags,
                       *registers, *segments, ldt, 0x68 << 16)  # fmt: skip


def task16(ip: int) -> bytes:
    """A 16-bit TSS of a task that has not run yet."""
    return struct.pack("<H6H2H8H4HH", 0, STACK0, DATA32, STACK1, DATA32_1, 0, 0, ip, 2,
                       1, 2, 3, 4, STACK_TASK, 6, 7, 8, DATA16, CODE16, DATA16, DATA16, 0)  # fmt: skip


def idt_bytes(bits: int) -> bytes:
    entries = []
    for vector in range(64):
        # Vectors from 32 on may be called from ring 3; the odd ones of them are trap gates.
        access = (0xEE if vector >= 32 else 0x8E) | (vector >= 32 and vector & 1)
        stub = STUBS + 16 * vector
        if bits == 64:
            entries.append(gate(CODE64, stub, access, 1 if vector == 40 else 0) + bytes(8))
        elif vector == 41:
            entries.append(gate(CODE32_1, stub, access))
        elif vector == 42:
            entries.append(gate(TSS2_SELECTOR, 0, 0xE5))
        elif vector == 44:
            entries.append(gate(CODE32, stub, 0xE6))
        elif vector == 46:
            entries.append(gate(CODE32, stub, 0x6E))
        elif vector == 48:
            entries.append(gate(DATA32, stub, 0xEE))
        else:
            entries.append(gate(CODE32, stub, access))
    return b"".join(entries)


def _stubs() -> bytes:
    return (b"\xf4" + b"\x90" * 15) * 64


def world(bits: int, code: bytes, *, cpl: int = 0) -> State:
    """Registers with recognisable values, `code` at CODE, at this privilege level. `bits` 16 is real-address mode."""
    registers = {name: 0x1010101 * (index + 1) for index, name in enumerate(GENERAL)}
    registers |= {"rsp": STACK3 if cpl == 3 else STACK0 - 0x100, "rip": CODE, "rflags": 2}
    registers |= {"rsi": DATA, "rdi": DATA + 0x100, "rbp": DATA + 0x200}
    memory = {STUBS: _stubs(), CODE: code, DATA: bytes(range(256)), GATE_TARGET: b"\xf4", TASK_TARGET: b"\xf4"}
    if bits == 16:
        memory[0] = b"".join(struct.pack("<HH", STUBS + 16 * vector, 0) for vector in range(64))
        return State(
            registers=registers,
            segments=dict.fromkeys(("es", "ss", "ds", "fs", "gs"), (0, 0, 0xFFFF, 0x93))
            | {"cs": (0, 0, 0xFFFF, 0x93), "ldtr": (0, 0, 0xFFFF, 0x82), "tr": (0, 0, 0xFFFF, 0x8B)},
            gdtr=(GDT, 0x11F),
            idtr=(0, 0x3FF),
            memory=memory | {GDT: gdt_bytes(32)},
        )  # fmt: skip
    code_selector = {(32, 0): CODE32, (32, 1): CODE32_1, (32, 3): CODE32_3, (64, 0): CODE64, (64, 3): CODE64_3}[bits, cpl]
    data_selector = {0: DATA32, 1: DATA32_1, 3: DATA32_3}[cpl]
    rights = cpl << 5
    flat = (data_selector, 0, 0xFFFFFFFF, 0xC093 | rights)
    segments = dict.fromkeys(("es", "ss", "ds", "fs", "gs"), flat) | {
        "cs": (code_selector, 0, 0xFFFFFFFF, (0xC09B if bits == 32 else 0xA09B) | rights),
        "ldtr": (LDT_SELECTOR, LDT, 0x17, 0x82),
        "tr": (TSS_SELECTOR, TSS, 0x6FF, 0x8B),
    }
    memory |= {GDT: gdt_bytes(bits), IDT: idt_bytes(bits), LDT: bytes(8) + descriptor(DATA, 0xFFFFF, 0xC0F2)}
    memory |= {TSS: _tss32() if bits == 32 else _tss64()}
    memory |= {TSS2: task32(TASK_TARGET), TSS16: task16(TASK_TARGET)}
    state = State(registers=registers, segments=segments, gdtr=(GDT, 0x11F), idtr=(IDT, 64 * 8 * (bits // 32) - 1),
                  memory=memory, cr0=0x31, msrs=dict(SYSTEM_CALL_MSRS))  # fmt: skip
    if bits == 64:
        # One 2 MiB page for all, for user code too: PML4, page-directory-pointer table, page directory.
        memory[TABLES] = struct.pack("<Q", TABLES + 0x1000 | 7)
        memory[TABLES + 0x1000] = struct.pack("<Q", TABLES + 0x2000 | 7)
        memory[TABLES + 0x2000] = struct.pack("<Q", 0x87)
        return replace(state, cr0=0x80000031, cr3=TABLES, cr4=0x220, efer=0xD01)
    return state


SYSTEM_CALL_MSRS = {
    0x174: CODE32, 0x175: STACK1, 0x176: GATE_TARGET, 0xC0000081: CODE64 << 32 | 0x40 << 48, 0xC0000082: GATE_TARGET,
    0xC0000084: 0x700, 0xC0000102: 0x123456789,
}  # fmt: skip
MSRS = (0x174, 0x175, 0x176, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102)


def assemble(bits: int, sources: Sequence[str]) -> list[bytes]:
    """The bytes of each piece of GNU assembler source (Intel syntax), all of them placed at CODE."""
    pieces = (f".section .piece{n}, \"ax\"\n.code{bits}\n{source}\n" for n, source in enumerate(sources))
    places = (f".piece{n} {CODE:#x} : {{ *(.piece{n}) }}" for n in range(len(sources)))
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "pieces.s").write_text(".intel_syntax noprefix\n" + "".join(pieces))
        (base / "places.ld").write_text("SECTIONS {\n" + "\n".join(places) + "\n}\n")
        subprocess.run(["as", "--64" if bits == 64 else "--32", "-o", base / "o", base / "pieces.s"], check=True)
        subprocess.run(
            ["ld", "-m", "elf_x86_64" if bits == 64 else "elf_i386", "--no-check-sections", "-T", base / "places.ld",
             "-o", base / "elf", base / "o"],
            check=True,
        )  # fmt: skip
        with (base / "elf").open("rb") as file:
            elf = ELFFile(file)
            return [elf.get_section_by_name(f".piece{n}").data() for n in range(len(sources))]


def run_hvmx(state: State, level: Level = DEFAULT_LEVEL) -> State:
    """The state after hvmx has run the guest until it halts or shuts down."""
    cpu = Vcpu(MEMORY, level)
    cpu.set_handler(ExitReason.TRIPLE_FAULT, lambda vcpu, exit: None)
    for reason in (31, 32):  # MSRs that no bitmap has
        cpu.set_handler(reason, msr_access)
    for at, data in state.memory.items():
        cpu.write(at, data)
    cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer = state.cr0, state.cr3, state.cr4, state.efer
    cpu.gdtr, cpu.idtr = state.gdtr, state.idtr
    cpu.dr0, cpu.dr1, cpu.dr2, cpu.dr3 = state.dr
    cpu.dr6, cpu.dr7 = state.dr6, state.dr7
    there = [number for number in MSRS if cpu.has_msr(number)]
    for number in there:
        cpu.set_msr(number, state.msrs.get(number, 0))
    for name, segment in state.segments.items():
        cpu.set_segment(name, *segment)
    for name, value in state.registers.items():
        setattr(cpu, name, value)
    stop = cpu.run(cycles=100_000)
    if stop not in (STOP_HALTED, STOP_SHUTDOWN):
        raise RuntimeError(f"the guest neither halted nor shut down: stop {stop}, rip {cpu.rip:#x}")
    return State(
        registers={name: getattr(cpu, name) for name in (*GENERAL, "rip", "rflags")},
        segments={name: cpu.segment(name) for name in SEGMENTS},
        gdtr=cpu.gdtr, idtr=cpu.idtr, cr0=cpu.cr0, cr2=cpu.cr2, cr3=cpu.cr3, cr4=cpu.cr4, efer=cpu.efer,
        dr=(cpu.dr0, cpu.dr1, cpu.dr2, cpu.dr3), dr6=cpu.dr6, dr7=cpu.dr7, msrs={number: cpu.msr(number) for number in there},
        memory={0: cpu.read(0, MEMORY)},
        shut_down=stop == STOP_SHUTDOWN,
    )  # fmt: skip


def _segment_text(segment: Segment) -> str:
    return "{:#x} base {:#x} limit {:#x} rights {:#x}".format(*segment)


def differences(ours: State, theirs: State, whose: str) -> list[str]:
    """A line for each difference; empty when the two agree. Where one of them has marked a segment unusable, only its
    selector is compared: processors differ in what else they keep of a null one."""
    lines = []

    def compare(what: str, a: object, b: object) -> None:
        if a != b:
            a, b = (hex(v) if isinstance(v, int) else v for v in (a, b))
            lines.append(f"{what}: hvmx {a}, {whose} {b}")

    compare("shut down", ours.shut_down, theirs.shut_down)
    if ours.shut_down and theirs.shut_down:
        return lines
    for name in ours.registers:
        compare(name, ours.registers[name], theirs.registers[name])
    for name in ours.segments:
        a, b = ours.segments[name], theirs.segments[name]
        if a[3] & 0x10000 or b[3] & 0x10000:
            compare(name, a[0], b[0])
        else:
            compare(name, _segment_text(a), _segment_text(b))
    for name in ("gdtr", "idtr", "cr0", "cr2", "cr3", "cr4", "efer", "dr", "dr6", "dr7"):
        compare(name, getattr(ours, name), getattr(theirs, name))
    for number in MSRS:
        compare(f"MSR {number:#x}", ours.msrs[number], theirs.msrs[number])
    a, b = ours.memory[0], theirs.memory[0]
    different = numpy.flatnonzero(numpy.frombuffer(a, numpy.uint8) != numpy.frombuffer(b, numpy.uint8))
    for at in different[:16].tolist():
        compare(f"[{at:#x}]", a[at], b[at])
    return lines
