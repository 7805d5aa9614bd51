"""RDRAND and RDSEED: numbers that only the machine's seed makes, the same on every host and in every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from bare_guest import START, bare

from hvmx import ExitReason, Machine, StopKind
from hvmx.hvm import controls

if TYPE_CHECKING:
    from hvmx.core.exit_info import Exit
    from hvmx.core.vcpu import Vcpu

SPLITMIX64_OF_0 = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
"""The first numbers of the generator from seed 0, as its published implementations give them."""
ARITHMETIC_FLAGS = 0x8D5


def drawing(code: str, seed: int = 0) -> Machine:
    """With something in RBX, of which a draw of 16 bits leaves the upper part."""
    machine = bare(code, seed=seed)
    machine.cpu.rbx = 0x0123_4567
    return machine


RDRAND_EAX, RDSEED_ECX, RDRAND_BX, HLT = "0fc7f0", "0fc7f9", "660fc7f3", "f4"


def test_each_instruction_is_the_next_draw_of_the_one_generator() -> None:
    machine = drawing(RDRAND_EAX + RDSEED_ECX + RDRAND_BX + HLT)
    assert machine.run(100_000).kind is StopKind.HALTED
    first, second, third = SPLITMIX64_OF_0
    cpu = machine.cpu
    assert (cpu.rax, cpu.rcx) == (first & 0xFFFF_FFFF, second & 0xFFFF_FFFF)
    assert cpu.rbx == 0x0123_0000 | third & 0xFFFF, "a 16-bit destination keeps the rest of its register"
    assert cpu.rflags & ARITHMETIC_FLAGS == 1, "CF alone: there was a number"
    assert machine.statistics()["random_draws"] == 3


def test_64_bit_code_gets_all_of_a_draw() -> None:
    machine = drawing(HLT)
    cpu = machine.cpu
    tables = 0x8000
    for at, entry in ((0, tables + 0x1003), (0x1000, tables + 0x2003), (0x2000, 0x83)):
        cpu.write(tables + at, entry.to_bytes(8, "little"))
    cpu.cr3, cpu.cr4, cpu.efer, cpu.cr0 = tables, 0x20, 0x500, 0x8000_0011
    cpu.set_segment("cs", 8, 0, 0xFFFF_FFFF, 0xA09B)
    cpu.write(START, bytes.fromhex("49 0fc7f0 f4"))  # rdrand r8
    assert machine.run(100_000).kind is StopKind.HALTED
    assert cpu.r8 == SPLITMIX64_OF_0[0]


def test_the_seed_decides_and_nothing_else() -> None:
    hashes = []
    for seed in (5, 5, 6):
        machine = drawing(RDRAND_EAX + HLT, seed)
        machine.run(100_000)
        hashes.append((machine.cpu.rax, machine.state_hash()))
    assert hashes[0] == hashes[1]
    assert hashes[0][0] != hashes[2][0] and hashes[0][1] != hashes[2][1]


def test_the_generator_is_part_of_the_state_hash() -> None:
    assert drawing(HLT, 1).state_hash() != drawing(HLT, 2).state_hash()


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(ValueError, match="64 bits"):
        Machine("1M", board=False, seed=seed)


@pytest.mark.parametrize(
    ("code", "control", "reason"),
    [("0fc7f1", controls.RDRAND, ExitReason.RDRAND), ("0fc7f9", controls.RDSEED, ExitReason.RDSEED)],
    ids=["rdrand", "rdseed"],
)
def test_draws_exit_where_the_controls_say_so(code: str, control: int, reason: ExitReason) -> None:
    machine = drawing(code + HLT)
    machine.cpu.controls |= control
    seen = []

    def note(vcpu: Vcpu, exit: Exit) -> None:
        seen.append((exit.number, exit.width, exit.value))
        exit.value = 0x1234

    machine.exits.on(reason, note)
    assert machine.run(100_000).kind is StopKind.HALTED
    assert seen == [(1, 4, SPLITMIX64_OF_0[0] & 0xFFFF_FFFF)], "register, bytes, the number"
    assert machine.cpu.rcx == 0x1234, "what the handler leaves is what the guest gets"


def test_a_draw_whose_handler_raises_did_not_happen() -> None:
    machine = drawing(RDRAND_EAX + HLT)
    machine.cpu.controls |= controls.RDRAND

    def refuse(vcpu: Vcpu, exit: Exit) -> None:
        raise LookupError("not today")

    before = machine.exits.on(ExitReason.RDRAND, refuse)
    with pytest.raises(LookupError):
        machine.run(100_000)
    assert machine.statistics()["random_draws"] == 0
    assert before is not None
    machine.exits.on(ExitReason.RDRAND, before)
    machine.run(100_000)
    assert machine.cpu.rax == SPLITMIX64_OF_0[0] & 0xFFFF_FFFF
