"""Run the native oracle's cases on Unicorn: a second implementation, for encodings that the host's processor lacks.

Unicorn's processor (QEMU's, of 2020) is not asked for faults: it looks at neither alignment nor segments, and raises no
#XM. So only cases that run to their end in hvmx are for it, and only those in 64-bit code, which need no descriptor
tables: what an instruction does with its operands is the same in every mode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from unicorn import UC_ARCH_X86, UC_MODE_64, UC_PROT_EXEC, UC_PROT_READ, Uc, UcError
from unicorn import x86_const as x86

from .native import (
    CODE,
    CODE_BYTES,
    CONSTANT,
    CONSTANT_BYTES,
    DATA,
    DATA_BYTES,
    FXSAVE_BYTES,
    PAGE,
    POWER_UP_FXSAVE,
    REGISTERS_64,
    pristine,
)

_IMAGE = 0x3000_0000
_STUB = _IMAGE + PAGE // 2
_FXRSTOR, _FXSAVE, _XSETBV = bytes.fromhex("480fae0e"), bytes.fromhex("480fae06"), bytes.fromhex("0f01d1")
"""FXRSTOR64 [RSI], FXSAVE64 [RSI], XSETBV."""
_INT3 = b"\xcc"
_CR4_OF_LINUX, _X87_AND_SSE = 0x40620, 3
_GENERAL = [int(getattr(x86, f"UC_X86_REG_{name.upper()}")) for name in REGISTERS_64]
_PRISTINE = pristine()


class Refused(Exception):
    """Unicorn did not run the instruction to its end."""


class Second:
    """Cases on Unicorn, one after the other."""

    def __init__(self) -> None:
        self._machine = machine = Uc(UC_ARCH_X86, UC_MODE_64)
        machine.ctl_set_cpu_model(x86.UC_CPU_X86_SKYLAKE_CLIENT)
        machine.mem_map(_IMAGE, PAGE)
        machine.mem_map(CODE, CODE_BYTES + PAGE, UC_PROT_READ | UC_PROT_EXEC)  # it looks behind the last instruction
        machine.mem_write(CODE, _INT3 * (CODE_BYTES + PAGE))
        machine.mem_map(DATA, DATA_BYTES)
        machine.mem_map(CONSTANT, CONSTANT_BYTES, UC_PROT_READ)
        machine.mem_write(DATA, _PRISTINE)
        machine.reg_write(x86.UC_X86_REG_CR4, _CR4_OF_LINUX)
        self._execute(_XSETBV, rax=_X87_AND_SSE, rcx=0, rdx=0)

    def _execute(self, code: bytes, **registers: int) -> None:
        for name, value in registers.items():
            self._machine.reg_write(_GENERAL[REGISTERS_64.index(name)], value)
        self._machine.mem_write(_STUB, code)
        self._machine.ctl_flush_tb()
        self._machine.emu_start(_STUB, 0, count=1)

    def run(self, case: np.void, fxsave: bytes = POWER_UP_FXSAVE) -> dict[str, Any]:
        """The state after a case in 64-bit code, as `Simulated.run` has it: without segments, `fxsave` always there.

        Refused if it ends otherwise than behind the instruction.
        """
        machine = self._machine
        for patch in case["patches"]:
            machine.mem_write(int(patch["address"]), patch["bytes"][: patch["length"]].tobytes())
        at, code = int(case["code_address"]), bytes(case["code"][: case["code_length"]])
        machine.mem_write(at, code)
        machine.mem_write(_IMAGE, fxsave)
        self._execute(_FXRSTOR, rsi=_IMAGE)
        machine.reg_write_batch(list(zip(_GENERAL, map(int, case["gpr"]), strict=True)))
        machine.reg_write(x86.UC_X86_REG_FS_BASE, int(case["fs_base"]))
        machine.reg_write(x86.UC_X86_REG_GS_BASE, int(case["gs_base"]))
        machine.reg_write(x86.UC_X86_REG_EFLAGS, int(case["rflags"]))
        machine.ctl_flush_tb()  # what was translated of earlier cases at the same place
        try:
            machine.emu_start(at, 0, count=1)
            return self._state(at)
        except UcError as error:
            raise Refused(str(error)) from error
        finally:
            machine.mem_write(DATA, _PRISTINE)
            machine.mem_write(at, _INT3 * len(code))

    def _state(self, start: int) -> dict[str, Any]:
        machine = self._machine
        after: dict[str, Any] = dict(zip(REGISTERS_64, machine.reg_read_batch(_GENERAL), strict=True))
        after["rip"] = machine.reg_read(x86.UC_X86_REG_RIP)
        after["rflags"] = machine.reg_read(x86.UC_X86_REG_EFLAGS)
        if after["rip"] == start:
            raise Refused("it came back with nothing done")
        after["data"] = bytes(machine.mem_read(DATA, DATA_BYTES))
        self._execute(_FXSAVE, rsi=_IMAGE)
        after["fxsave"] = bytes(machine.mem_read(_IMAGE, FXSAVE_BYTES))
        return after
