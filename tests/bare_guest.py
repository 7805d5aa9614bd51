"""A processor in flat 32-bit mode, before instructions that are given in hexadecimal."""

from __future__ import annotations

from hvmx import Machine

START = 0x1000
FLAT_CODE32, FLAT_DATA32 = 0xC09B, 0xC093


def bare(code: str, memory: int | str = "1M", *, board: bool = False, paging: str = "ept", seed: int = 0) -> Machine:
    machine = Machine(memory, board=board, paging=paging, seed=seed)
    cpu = machine.cpu
    cpu.write(START, bytes.fromhex(code))
    cpu.cr0 |= 1
    cpu.set_segment("cs", 8, 0, 0xFFFF_FFFF, FLAT_CODE32)
    for name in ("ss", "ds", "es"):
        cpu.set_segment(name, 16, 0, 0xFFFF_FFFF, FLAT_DATA32)
    cpu.rip, cpu.rsp = START, 0x8000
    return machine
