"""One virtual processor of the host's own KVM, as an oracle: the same state and memory in, the same state out.

Only what the tests of the core need: registers, segments, control registers, memory at 0, and a run
that ends with HLT or a triple fault. Linux's Documentation/virt/kvm/api.rst describes the calls.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import signal
import struct
from pathlib import Path

from .machine import GENERAL, MSRS, SEGMENTS, State

KVM_CREATE_VM = 0xAE01
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_GET_SUPPORTED_CPUID = 0xC008AE05
KVM_CREATE_VCPU = 0xAE41
KVM_SET_TSS_ADDR = 0xAE47
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_RUN = 0xAE80
KVM_GET_REGS = 0x8090AE81
KVM_SET_REGS = 0x4090AE82
KVM_GET_SREGS = 0x8138AE83
KVM_SET_SREGS = 0x4138AE84
KVM_GET_MSRS = 0xC008AE88
KVM_SET_MSRS = 0x4008AE89
KVM_SET_CPUID2 = 0x4008AE90
KVM_GET_DEBUGREGS = 0x8080AEA1
KVM_SET_DEBUGREGS = 0x4080AEA2

EXIT_HLT = 5
EXIT_SHUTDOWN = 8

_REGS = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"]
_SREGS_SEGMENTS = ["cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr"]
_SEGMENT = struct.Struct("<QIHBBBBBBBBBB")
_TABLE = struct.Struct("<QH6x")
_CONTROL = struct.Struct("<7Q")
CPUID_ENTRIES = 128
SECONDS_PER_RUN = 0.5

DEVICE = Path("/dev/kvm")


class KvmRefused(Exception):
    """KVM could not run the guest: where it emulates system code in software, it does not know all of it."""


def _time_out(number: int, frame: object) -> None:
    raise KvmRefused(f"KVM did not come back within {SECONDS_PER_RUN} s")


def missing() -> str:
    """Why this host cannot be asked; empty if it can."""
    if not DEVICE.exists():
        return "no /dev/kvm"
    return "" if os.access(DEVICE, os.R_OK | os.W_OK) else "/dev/kvm may not be opened"


def _segment_from(fields: tuple[int, ...]) -> tuple[int, int, int, int]:
    base, limit, selector, kind, present, dpl, db, s, long_mode, granular, available, unusable, _ = fields
    access = (kind | s << 4 | dpl << 5 | present << 7 | available << 12 | long_mode << 13 | db << 14
              | granular << 15 | unusable << 16)  # fmt: skip
    return selector, base, limit, access


def _segment_to(segment: tuple[int, int, int, int]) -> bytes:
    selector, base, limit, access = segment
    present, db, s, long_mode, granular, available, unusable = (access >> bit & 1 for bit in (7, 14, 4, 13, 15, 12, 16))
    return _SEGMENT.pack(base, limit, selector, access & 15, present, access >> 5 & 3, db, s, long_mode, granular,
                         available, unusable, 0)  # fmt: skip


class Kvm:
    """A virtual machine with one processor and `size` bytes of memory, used for one run after another."""

    def __init__(self, size: int) -> None:
        self._system = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        self._vm = fcntl.ioctl(self._system, KVM_CREATE_VM, 0)
        fcntl.ioctl(self._vm, KVM_SET_TSS_ADDR, 0x7FFBD000)
        self.memory = mmap.mmap(-1, size)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        fcntl.ioctl(self._vm, KVM_SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, size, address))
        self._vcpu = fcntl.ioctl(self._vm, KVM_CREATE_VCPU, 0)
        shared = fcntl.ioctl(self._system, KVM_GET_VCPU_MMAP_SIZE, 0)
        self._run = mmap.mmap(self._vcpu, shared)
        leaves = bytearray(8 + 40 * CPUID_ENTRIES)
        struct.pack_into("<I", leaves, 0, CPUID_ENTRIES)
        fcntl.ioctl(self._system, KVM_GET_SUPPORTED_CPUID, leaves)
        fcntl.ioctl(self._vcpu, KVM_SET_CPUID2, leaves)

    def run(self, state: State) -> State:
        """The state after the guest has halted or shut down."""
        self.memory[:] = bytes(len(self.memory))
        for at, data in state.memory.items():
            self.memory[at : at + len(data)] = data
        sregs = bytearray(312)
        fcntl.ioctl(self._vcpu, KVM_GET_SREGS, sregs)
        at = 0
        for name in _SREGS_SEGMENTS:
            sregs[at : at + 24] = _segment_to(state.segments[name])
            at += 24
        for base, limit in (state.gdtr, state.idtr):
            _TABLE.pack_into(sregs, at, base, limit)
            at += 16
        apic_base = _CONTROL.unpack_from(sregs, at)[6]
        _CONTROL.pack_into(sregs, at, state.cr0, state.cr2, state.cr3, state.cr4, 0, state.efer, apic_base)
        fcntl.ioctl(self._vcpu, KVM_SET_SREGS, bytes(sregs))
        fcntl.ioctl(self._vcpu, KVM_SET_REGS, struct.pack("<18Q", *(state.registers[name] for name in _REGS)))
        fcntl.ioctl(self._vcpu, KVM_SET_DEBUGREGS, struct.pack("<16Q", *state.dr, state.dr6, state.dr7, *([0] * 10)))
        for number in MSRS:
            fcntl.ioctl(self._vcpu, KVM_SET_MSRS, struct.pack("<IIIIQ", 1, 0, number, 0, state.msrs.get(number, 0)))
        before = signal.signal(signal.SIGALRM, _time_out)
        signal.setitimer(signal.ITIMER_REAL, SECONDS_PER_RUN)
        try:
            fcntl.ioctl(self._vcpu, KVM_RUN, 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        reason = struct.unpack_from("<I", self._run, 8)[0]
        if reason not in (EXIT_HLT, EXIT_SHUTDOWN):
            raise KvmRefused(f"KVM left the guest for reason {reason}")
        return self._state(reason == EXIT_SHUTDOWN)

    def _state(self, shut_down: bool) -> State:
        regs, sregs, debug = bytearray(144), bytearray(312), bytearray(128)
        fcntl.ioctl(self._vcpu, KVM_GET_REGS, regs)
        fcntl.ioctl(self._vcpu, KVM_GET_SREGS, sregs)
        fcntl.ioctl(self._vcpu, KVM_GET_DEBUGREGS, debug)
        segments = {
            name: _segment_from(_SEGMENT.unpack_from(sregs, 24 * index)) for index, name in enumerate(_SREGS_SEGMENTS)
        }
        cr0, cr2, cr3, cr4, _, efer, _ = _CONTROL.unpack_from(sregs, 224)
        registers = dict(zip(_REGS, struct.unpack("<18Q", regs)))
        return State(
            registers={name: registers[name] for name in (*GENERAL, "rip", "rflags")},
            segments={name: segments[name] for name in SEGMENTS},
            gdtr=_TABLE.unpack_from(sregs, 192),
            idtr=_TABLE.unpack_from(sregs, 208),
            cr0=cr0, cr2=cr2, cr3=cr3, cr4=cr4, efer=efer,
            dr=struct.unpack_from("<4Q", debug), dr6=struct.unpack_from("<Q", debug, 32)[0],
            dr7=struct.unpack_from("<Q", debug, 40)[0], msrs={number: self._msr(number) for number in MSRS},
            memory={0: bytes(self.memory)},
            shut_down=shut_down,
        )  # fmt: skip

    def _msr(self, number: int) -> int:
        one = bytearray(struct.pack("<IIIIQ", 1, 0, number, 0, 0))
        fcntl.ioctl(self._vcpu, KVM_GET_MSRS, one)
        return int(struct.unpack_from("<Q", one, 16)[0])
