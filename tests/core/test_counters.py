"""Performance counters: two of the P6 family, two of the Pentium (SDM vol. 3, chapter 18; vol. 2, RDPMC)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from hvmx import ExitReason, Machine, StopKind
from hvmx.isa.levels import LEVELS

from .machine import STUBS, assemble, run_hvmx, world
from .snippets.gates import put

CESR, CTR0, CTR1, PERFCTR0, PERFCTR1, SELECT0, SELECT1 = 0x11, 0x12, 0x13, 0xC1, 0xC2, 0x186, 0x187
USER, SYSTEM, ENABLE = 1 << 16, 1 << 17, 1 << 22
RETIRED, CYCLES = 0xC0, 0x79
BOTH = USER | SYSTEM


def write(msr: int, value: int) -> str:
    return f"mov ecx, {msr}; mov eax, {value & 0xFFFFFFFF}; mov edx, {value >> 32}; wrmsr; "


def machine(source: str, cpu: str = "pentium2") -> Machine:
    """A bare machine at the start of a piece of 32-bit code, in ring 0."""
    made = Machine("2M", cpu=cpu, board=False)
    made.load(assemble(32, [source])[0], load_address=0x10000, bits=32)
    return made


def run(source: str, cpu: str = "pentium2") -> Machine:
    made = machine(source + "; hlt", cpu)
    assert made.run(cycles=1_000_000).kind is StopKind.HALTED, "an exception, for which this guest has no handler"
    return made


@pytest.mark.parametrize("counter", [0, 1])
def test_retired_instructions_are_those_between_the_selection_and_the_reading(counter: int) -> None:
    start = write(SELECT1, BOTH | RETIRED) + write(SELECT0, ENABLE | BOTH | RETIRED)
    cpu = run(f"{start} mov ecx, {counter}; nop; nop; rdpmc").cpu
    assert (cpu.eax, cpu.edx) == (3, 0)


def test_a_repeated_string_instruction_is_one() -> None:
    start = "mov edi, 0x20000; " + write(SELECT0, ENABLE | BOTH | RETIRED) + "mov ecx, 1000; "
    assert run(start + "rep stosb; xor ecx, ecx; rdpmc").cpu.eax == 3


def test_cycles_pass_as_for_the_time_stamp_counter() -> None:
    read = "rdtsc; mov {0}, eax; xor ecx, ecx; rdpmc; mov {1}, eax; "
    work = "mov ecx, 500; 1: imul eax, ecx; loop 1b; "
    cpu = run(write(SELECT0, ENABLE | BOTH | CYCLES) + read.format("esi", "edi") + work + read.format("ebx", "ebp")).cpu
    assert abs((cpu.ebp - cpu.edi) - (cpu.ebx - cpu.esi)) <= 1
    assert cpu.ebp - cpu.edi > 500


def test_halted_cycles_do_not_count() -> None:
    halted = machine(write(SELECT0, ENABLE | BOTH | CYCLES) + "sti; hlt")
    halted.cpu.deadline = 1 << 40
    assert halted.run(cycles=100_000).kind is StopKind.CYCLES
    assert halted.cpu.halted_cycles > 80_000
    assert 0 < halted.cpu.msr(PERFCTR0) <= halted.cpu.cycles - halted.cpu.halted_cycles


def test_a_counter_counts_at_the_privilege_levels_that_it_is_told() -> None:
    code = (write(SELECT1, SYSTEM | RETIRED) + write(SELECT0, ENABLE | USER | RETIRED)
            + "push 0x4b; push 0xe800; push 2; push 0x43; push offset 1f; iret; 1: nop; nop; nop; nop; int 33")  # fmt: skip
    state = world(32, assemble(32, [code])[0])
    put(state, STUBS + 16 * 33, assemble(32, ["xor ecx, ecx; rdpmc; mov ebx, eax; inc ecx; rdpmc; hlt"])[0])
    after = run_hvmx(state, LEVELS["pentium2"])
    assert after.registers["rbx"] == 5, "four NOPs, and INT, which began in ring 3"
    assert after.registers["rax"] == 6 + 4, "of ring 0: up to IRET, and in the handler"


def test_what_is_not_enabled_does_not_count_and_a_stopped_counter_keeps_what_it_has() -> None:
    assert run(write(SELECT0, BOTH | RETIRED) + "nop; xor ecx, ecx; rdpmc").cpu.eax == 0
    code = write(SELECT0, ENABLE | BOTH | RETIRED) + "nop; " + write(SELECT0, BOTH | RETIRED) + "nop; xor ecx, ecx; rdpmc"
    assert run(code).cpu.eax == 5


@pytest.mark.parametrize("event", [
    0x2E, 0xC4, RETIRED | 0x100, RETIRED | 1 << 18, CYCLES | 1 << 24, CYCLES | 1 << 24 | 1 << 23,
])  # fmt: skip
def test_an_event_that_is_not_counted_stays_0_and_is_listed(event: int) -> None:
    ran = run(write(SELECT0, ENABLE | BOTH | event) + "nop; nop; xor ecx, ecx; rdpmc")
    assert ran.cpu.eax == 0
    assert ran.statistics()["uncounted_events"] == [f"{event & 0xFF:#x}"]


def test_events_that_are_counted_and_no_event_are_not_listed() -> None:
    code = write(SELECT0, ENABLE | BOTH | RETIRED) + write(SELECT1, BOTH | CYCLES) + write(SELECT1, 0x2E)
    assert run(code).statistics()["uncounted_events"] == []


@pytest.mark.parametrize(("value", "held"), [
    (5, 5), (0x7FFFFFFF, 0x7FFFFFFF), (0x80000000, 0xFF80000000), (0x1234567812345678, 0x12345678), (0xFFFFFFFF, 0xFFFFFFFFFF),
])  # fmt: skip
@pytest.mark.parametrize("msr", [PERFCTR0, PERFCTR1])
def test_a_write_extends_the_sign_of_32_bits_to_40(msr: int, value: int, held: int) -> None:
    cpu = run(write(msr, value) + f"rdmsr; mov ebx, eax; mov esi, edx; mov ecx, {msr - PERFCTR0}; rdpmc").cpu
    assert (cpu.edx << 32 | cpu.eax, cpu.esi << 32 | cpu.ebx) == (held, held)
    assert cpu.msr(msr) == held


def test_a_counter_wraps_at_40_bits() -> None:
    code = write(PERFCTR0, 0xFFFFFFFE) + write(SELECT0, ENABLE | BOTH | RETIRED) + "nop; nop; xor ecx, ecx; rdpmc"
    cpu = run(code).cpu
    assert (cpu.edx, cpu.eax) == (0, 1)


@pytest.mark.parametrize(("msr", "value"), [(SELECT0, 1 << 21), (SELECT1, 1 << 21), (SELECT0, 1 << 32)])
def test_reserved_bits_of_a_selection_are_refused(msr: int, value: int) -> None:
    assert machine(write(msr, value)).run().kind is StopKind.TRIPLE_FAULT


@pytest.mark.parametrize(("cpu", "index"), [("pentium2", 2), ("pentium2", 0x80000000), ("x86-64-v1", 0), ("x86-64-v2", 0)])
def test_rdpmc_refuses_a_counter_that_is_not_there(cpu: str, index: int) -> None:
    refused = machine(f"mov ecx, {index}; rdpmc; hlt", cpu)
    refused.cpu.exception_bitmap = 1 << 13
    vectors: list[int] = []
    refused.exits.on(ExitReason.EXCEPTION_NMI, lambda vcpu, exit: (vectors.append(exit.vector), vcpu.stop()))
    refused.run(cycles=100_000)
    assert vectors[:1] == [13]


@pytest.mark.parametrize("allowed", [False, True])
def test_ring_3_reads_counters_where_cr4_pce_says_so(allowed: bool) -> None:
    state = world(32, assemble(32, ["xor ecx, ecx; rdpmc; int 33"])[0], cpl=3)
    state.cr4 = allowed << 8
    assert run_hvmx(state, LEVELS["pentium2"]).registers["rip"] == STUBS + 16 * (33 if allowed else 13) + 1


# --- however it is run --------------------------------------------------------------------------------------------------------
LOOP = write(SELECT0, ENABLE | BOTH | CYCLES) + write(SELECT1, SYSTEM | RETIRED) + """
    mov edi, 0x20000; mov ebx, 60
1:  xor ecx, ecx; rdpmc; stosd; inc ecx; rdpmc; stosd; mov eax, ebx; mul eax; push eax; pop edx
    mov ecx, 0xc1; rdmsr; stosd; dec ebx; jnz 1b; hlt"""


def whole(guest: Machine) -> None:
    guest.run()


def interpreted(guest: Machine) -> None:
    guest.cpu.translate_after = None
    guest.run()


def translated(guest: Machine) -> None:
    guest.cpu.translate_after = 0
    guest.run()


def sliced(guest: Machine, cycles: int) -> None:
    while guest.run(cycles=cycles).kind is StopKind.CYCLES:
        guest.cpu.msr(PERFCTR0)  # looking changes nothing


def stepped(guest: Machine) -> None:
    while not guest.cpu.halted:
        guest.step()
        guest.cpu.msr(PERFCTR1)


@pytest.mark.parametrize("way", [interpreted, translated, stepped, partial(sliced, cycles=1), partial(sliced, cycles=7777)])
def test_readings_are_the_same_however_the_guest_is_run(way: Callable[[Machine], None]) -> None:
    expected, got = machine(LOOP), machine(LOOP)
    whole(expected)
    way(got)
    assert got.cpu.cycles == expected.cpu.cycles
    assert got.cpu.read(0x20000, 60 * 12) == expected.cpu.read(0x20000, 60 * 12)
    assert got.state_hash() == expected.state_hash()


# --- the Pentium's ------------------------------------------------------------------------------------------------------------
EXECUTED, EITHER = 0x16, 3 << 6


@pytest.mark.parametrize("counter", [0, 1])
def test_a_pentium_counts_executed_instructions(counter: int) -> None:
    cpu = run(write(CESR, (EXECUTED | EITHER) << 16 * counter) + f"nop; nop; mov ecx, {CTR0 + counter}; rdmsr", "pentium").cpu
    assert (cpu.eax, cpu.edx) == (3, 0)
    assert cpu.msr(CTR0 + (1 - counter)) == 0


def test_a_pentium_counts_at_the_levels_that_it_is_told_and_what_is_delivered() -> None:
    code = (write(CESR, (EXECUTED | 2 << 6) << 16 | EXECUTED | 1 << 6)
            + "push 0x4b; push 0xe800; push 2; push 0x43; push offset 1f; iret; 1: nop; nop; ud2")  # fmt: skip
    state = world(32, assemble(32, [code])[0])
    put(state, STUBS + 16 * 6, assemble(32, ["mov cl, 0x13; rdmsr; mov ebx, eax; dec ecx; rdmsr; hlt"])[0])
    after = run_hvmx(state, LEVELS["pentium"])
    assert after.registers["rbx"] == 3, "two NOPs and the exception of UD2"
    assert after.registers["rax"] == 6 + 4


@pytest.mark.parametrize("selection", [0x17 | EITHER, EXECUTED | EITHER | 1 << 8])
def test_an_event_or_duration_that_a_pentium_does_not_count_stays_0_and_is_listed(selection: int) -> None:
    ran = run(write(CESR, selection) + f"nop; mov ecx, {CTR0}; rdmsr", "pentium")
    assert ran.cpu.eax == 0
    assert ran.statistics()["uncounted_events"] == [f"{selection & 0x3F:#x}"]


def test_a_pentium_holds_40_bits_and_refuses_reserved_ones() -> None:
    assert run(write(CTR1, 0xFFFF_1234_8765_4321), "pentium").cpu.msr(CTR1) == 0x34_8765_4321
    for bit in (10, 15, 26, 31, 32):
        assert machine(write(CESR, 1 << bit), "pentium").run().kind is StopKind.TRIPLE_FAULT, f"bit {bit}"
