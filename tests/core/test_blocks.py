"""Code that runs in blocks, where flags that nobody reads are left out, ends as it does step by step."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from hvmx.core.vcpu import Vcpu
from hvmx.vocabulary import ExitReason

from .machine import CODE, GENERAL, MEMORY, STUBS, assemble, world

PROGRAMS = 5_000 if os.environ.get("HVMX_NIGHTLY") == "1" else 400
SEED = int(os.environ.get("HVMX_SEED", "1"))
LENGTH = 14
UNMAPPED = {32: "dword ptr fs:[0x10]", 64: "qword ptr [0x300000]"}
"""An operand that faults: FS is made null in 32-bit mode, and 64-bit mode has a page at 0 only."""
BINARY = ("add", "adc", "sub", "sbb", "cmp", "or", "and", "xor", "test")
SHIFTS = ("rol", "ror", "rcl", "rcr", "shl", "shr", "sar")
CONDITIONS = ("o", "no", "c", "nc", "z", "nz", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
POINTERS = ("rsp", "rbp", "rsi", "rdi")  # point into memory, so they stay


class Programs:
    """Random programs of integer instructions for one width, as assembler text."""

    def __init__(self, bits: int, seed: int) -> None:
        self.bits = bits
        self.rng = random.Random(seed * 100 + bits)
        self.names = {
            8: ("al", "cl", "dl", "bl", "ah", "bh"),
            16: ("ax", "cx", "dx", "bx"),
            32: ("eax", "ecx", "edx", "ebx"),
            64: ("rax", "rcx", "rdx", "rbx", "r8", "r12"),
        }

    def memory(self, size: int) -> str:
        base = self.rng.choice(("rsi", "rdi", "rbp") if self.bits == 64 else ("esi", "edi", "ebp"))
        kind = {8: "byte", 16: "word", 32: "dword", 64: "qword"}[size]
        return f"{kind} ptr [{base} + {self.rng.randrange(0, 0x80)}]"

    def instruction(self) -> str:
        rng = self.rng
        size = rng.choice((8, 16, 32, 32, self.bits, self.bits))
        register, other = rng.choice(self.names[size]), rng.choice(self.names[size])
        immediate = str(rng.choice((0, 1, 2, 0x7F, -1, -128, rng.randrange(-128, 128))))
        source = rng.choice((other, other, immediate, self.memory(size)))
        target = rng.choice((register, register, register, self.memory(size)))
        if "ptr" in target and "ptr" in source:
            source = other
        wide = self.names[self.bits]
        choice = rng.randrange(100)
        if choice < 40:
            operation = rng.choice(BINARY)
            if operation == "test" and "ptr" in source:
                source = other
            return f"{operation} {target}, {source}"
        if choice < 58:
            return f"{rng.choice(SHIFTS)} {target}, {rng.choice(('cl', '0', '1', '7', '8', '31', '33', '63'))}"
        if choice < 68:
            return f"{rng.choice(('inc', 'dec', 'neg', 'not'))} {target}"
        if choice < 80:
            return f"mov {target}, {source}"
        if choice < 84:
            return f"lea {rng.choice(wide)}, [{rng.choice(wide)} + {rng.choice(wide)} * 4 + 3]"
        if choice < 88:
            return f"set{rng.choice(CONDITIONS)} {rng.choice(self.names[8])}"
        if choice < 90:
            return f"cmov{rng.choice(CONDITIONS)} {rng.choice(wide)}, {rng.choice(wide)}"
        if choice < 96:
            return f"j{rng.choice(CONDITIONS)} 1f; {rng.choice(BINARY)} {register}, {other}; 1: nop"
        if choice < 98:
            return f"imul {rng.choice(wide)}, {rng.choice(wide)}"
        if choice < 99:
            return f"push {wide[0]}; push {wide[1]}; pop {wide[2]}; pop {wide[1]}"
        return f"mov {wide[0]}, {UNMAPPED[self.bits]}"

    def program(self) -> str:
        return "; ".join(self.instruction() for _ in range(LENGTH)) + "; hlt"


def guest(bits: int, code: bytes, rng: random.Random) -> Vcpu:
    """A processor before `code`, with registers and flags of any value."""
    state = world(bits, code)
    cpu = Vcpu(MEMORY)
    cpu.set_handler(ExitReason.TRIPLE_FAULT, lambda vcpu, exit: None)
    for at, data in state.memory.items():
        cpu.write(at, data)
    cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer = state.cr0, state.cr3, state.cr4, state.efer
    cpu.gdtr, cpu.idtr = state.gdtr, state.idtr
    for name, segment in state.segments.items():
        cpu.set_segment(name, *segment)
    if bits == 32:
        cpu.set_segment("fs", 0, 0, 0, 0x10000)
    for name, value in state.registers.items():
        if name not in (*POINTERS, "rip", "rflags") and name in (GENERAL if bits == 64 else GENERAL[:8]):
            value = rng.choice((0, 1, 1 << (bits - 1), (1 << bits) - 1, rng.getrandbits(bits)))
        setattr(cpu, name, value)
    cpu.rflags = 2 | rng.getrandbits(12) & 0x8D5
    return cpu


def outcome(cpu: Vcpu) -> dict[str, Any]:
    named = {name: getattr(cpu, name) for name in (*GENERAL, "rip", "rflags", "cr2", "instructions", "cycles")}
    return named | {"memory": cpu.read(0, MEMORY)}


@pytest.mark.parametrize("bits", [32, 64])
def test_blocks_end_as_single_steps_do(bits: int) -> None:
    programs = Programs(bits, SEED)
    sources = [programs.program() for _ in range(PROGRAMS)]
    faults = 0
    for index, (source, code) in enumerate(zip(sources, assemble(bits, sources), strict=True)):
        whole, stepped = (guest(bits, code, random.Random(index)) for _ in range(2))
        whole.run(cycles=100_000)
        while not stepped.halted:
            stepped.step()
        one, other = outcome(whole), outcome(stepped)
        different = {name: (one[name], other[name]) for name in one if one[name] != other[name]}
        assert not different, f"in one run and in steps differ: {different}\n{source}"
        faults += STUBS <= whole.rip < CODE
    assert 0 < faults < PROGRAMS / 2, f"{faults} of {PROGRAMS} programs fault"
