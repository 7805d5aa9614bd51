"""Programs of the suite in the model: a bare processor, without a system, that calls them as native_child.c does."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hvmx.boot.cpu import CODE32, CODE64, CR4_PAE, DATA32, DATA_SEGMENTS, EFER_LMA, EFER_LME, RFLAGS_FIXED
from hvmx.core.exit_info import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.cost import Profile
from hvmx.cost.native import CODE_ADDRESS, DATA_ADDRESS, STACK_ADDRESS, STACK_BYTES
from hvmx.exits import ExitReason
from hvmx.machine import Machine, StopKind

from .suite import Program

CPU = "x86-64-v2"
"""The level that programs are written for, whatever the profile's."""

CALLS = 12
"""Calls of a program in a row; caches and predictors are cold in the first."""

COUNTED = 8
"""Of these, how many are counted: the last ones."""

LIMIT = 100_000_000
"""Guest cycles that a call may take before something must be wrong with it."""

_FRAME = 4 << 20  # page frames, and large pages of either width, begin at multiples of this
_TABLES, _MEMORY = 0x1000, 4 * _FRAME
_END = CODE_ADDRESS + (1 << 20)  # of a call: the HLT that its return address points at
_HLT = b"\xf4"
_RET = b"\xc3"
_CR0 = 1 << 31 | 1 << 16 | 1 << 5 | 1 << 4 | 1 << 1 | 1  # PG, WP, NE, ET, MP, PE
_CR4_PSE, _CR4_SSE = 1 << 4, 1 << 9 | 1 << 10
_PRESENT, _LARGE = 0x63, 0xE3  # present, writable, accessed, dirty; of a large page

# What a process has under Linux: all exceptions masked, an x87 that computes with 64 bits and has nothing in its stack.
_FCW, _FTW, _MXCSR = 0x37F, 0xFFFF, 0x1F80
_GENERAL = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", *(f"r{n}" for n in range(8, 16)))


class ModelError(Exception):
    """A program did not run to its end in the model."""


@dataclass(frozen=True)
class Predicted:
    """What the model says of a program."""

    guest_cycles: float
    """Of one call, without the call."""
    instructions: float
    """Of one call; a repeated string instruction is one."""
    results: tuple[int, ...]
    """Checksums, call by call."""


def predict(program: Program, profile: Profile) -> Predicted:
    """Call the program a few times in one machine. ``ModelError`` where it does not come to its end."""
    called = _calls(program.name, program.image(), program.bits, profile)
    # What it costs to come to the HLT and out of it is the same for a program that does nothing.
    nothing = _calls("nothing", _RET, program.bits, profile)[-1]
    counted = called[-COUNTED:]
    return Predicted(
        guest_cycles=sum(call.guest_cycles for call in counted) / COUNTED - nothing.guest_cycles,
        instructions=sum(call.instructions for call in counted) / COUNTED - 1,  # HLT
        results=tuple(call.result for call in called),
    )


@dataclass(frozen=True)
class _Call:
    guest_cycles: int
    instructions: int
    result: int


def _calls(name: str, image: bytes, bits: int, profile: Profile) -> list[_Call]:
    machine = Machine(_MEMORY, profile, cpu=CPU, board=False)
    machine.exits.on(ExitReason.HLT, _stop)
    cpu = machine.cpu
    _map(cpu, bits)
    cpu.write(_FRAME + CODE_ADDRESS % _FRAME, image)
    cpu.write(_FRAME + _END % _FRAME, _HLT)
    calls: list[_Call] = []
    for _ in range(CALLS):
        _enter(cpu, bits)
        cycles, instructions = cpu.cycles, cpu.instructions
        stop = machine.run(cycles=LIMIT)
        if stop.kind is not StopKind.REQUESTED or cpu.rip != _END + len(_HLT):
            raise ModelError(f"{name}: ended in the model by {stop.kind.name.lower()} at {cpu.rip:#x} in call {len(calls) + 1}")
        result = cpu.rax if bits == 64 else cpu.eax
        calls.append(_Call(cpu.cycles - cycles, cpu.instructions - instructions, result))
    return calls


def _stop(cpu: Vcpu, exit: Exit) -> None:
    cpu.stop()


def _map(cpu: Vcpu, bits: int) -> None:
    """Code, stack and data at their addresses, a large page each, in flat segments."""
    pages = {CODE_ADDRESS: _FRAME, STACK_ADDRESS: 2 * _FRAME, DATA_ADDRESS: 3 * _FRAME}
    if bits == 64:
        root, pointers = _TABLES, _TABLES + 0x1000
        cpu.write(root, struct.pack("<Q", pointers | _PRESENT))
        for address, frame in pages.items():
            directory = _TABLES + 0x2000 + (address >> 30 << 12)
            cpu.write(pointers + (address >> 30) * 8, struct.pack("<Q", directory | _PRESENT))
            cpu.write(directory + (address >> 21 & 511) * 8, struct.pack("<Q", frame | _LARGE))
        cpu.cr4, cpu.efer = CR4_PAE | _CR4_SSE, EFER_LME | EFER_LMA
    else:
        for address, frame in pages.items():
            cpu.write(_TABLES + (address >> 22) * 4, struct.pack("<I", frame | _LARGE))
        cpu.cr4 = _CR4_PSE | _CR4_SSE
    cpu.cr3 = _TABLES
    cpu.cr0 = _CR0
    cpu.set_segment("cs", 0x10, 0, 0xFFFFFFFF, CODE64 if bits == 64 else CODE32)
    for name in DATA_SEGMENTS:
        cpu.set_segment(name, 0x18, 0, 0xFFFFFFFF, DATA32)
    cpu.fcw, cpu.ftw, cpu.mxcsr = _FCW, _FTW, _MXCSR


def _enter(cpu: Vcpu, bits: int) -> None:
    """At the first instruction of a call, the stack being aligned as it is in the child process."""
    for name in _GENERAL:
        setattr(cpu, name, 0)
    frame = struct.pack("<Q", _END) if bits == 64 else struct.pack("<II", _END, DATA_ADDRESS)
    below = 24 if bits == 64 else 68
    cpu.write(2 * _FRAME + STACK_BYTES - below, frame)
    cpu.rsp = STACK_ADDRESS + STACK_BYTES - below
    if bits == 64:
        cpu.rdi = DATA_ADDRESS
    else:
        cpu.eax = DATA_ADDRESS
    cpu.rflags = RFLAGS_FIXED
    cpu.rip = CODE_ADDRESS
