"""What instructions tell the handler of their exit, what the handler can answer, and what an exception in it leaves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hvmx.core.exit_info import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.cost import FRACTION
from hvmx.vocabulary import Control, ExitReason

from .machine import (
    CODE,
    DATA,
    MEMORY,
    TASK_TARGET,
    TSS,
    TSS2_SELECTOR,
    TSS_SELECTOR,
    State,
    assemble,
    world,
)

Handler = Callable[[Vcpu, Exit], None]


def _vcpu(state: State) -> Vcpu:
    cpu = Vcpu(MEMORY)
    for at, data in state.memory.items():
        cpu.write(at, data)
    cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer = state.cr0, state.cr3, state.cr4, state.efer
    cpu.gdtr, cpu.idtr = state.gdtr, state.idtr
    for name, segment in state.segments.items():
        cpu.set_segment(name, *segment)
    for name, value in state.registers.items():
        setattr(cpu, name, value)
    cpu.io_bitmap[:] = 0xFF
    return cpu


def _guest(source: str, bits: int = 32, cpl: int = 0) -> Vcpu:
    return _vcpu(world(bits, assemble(bits, [source + "; hlt"])[0], cpl=cpl))


def _seen(cpu: Vcpu, reason: int, answer: Handler | None = None) -> list[tuple[int, int, int, int, int, bool]]:
    """The exits of this reason as they come: rip, length, qualification, number, value, is_write."""
    seen = []

    def handler(vcpu: Vcpu, exit: Exit) -> None:
        seen.append((vcpu.rip, exit.length, exit.qualification, exit.number, exit.value, exit.is_write))
        if answer:
            answer(vcpu, exit)

    cpu.set_handler(reason, handler)
    return seen


@pytest.mark.parametrize(("source", "size", "qualification", "port", "value", "is_write"), [
    ("out 0x80, al", 2, 0x800040, 0x80, 0x12, True), ("out 0x80, ax", 3, 0x800041, 0x80, 0x3412, True),
    ("mov edx, 0xcf8; out dx, eax", 1, 0xCF80003, 0xCF8, 0x78563412, True),
    ("in al, 0x60", 2, 0x600048, 0x60, 0xFF, False), ("mov edx, 0x3f8; in eax, dx", 1, 0x3F8000B, 0x3F8, 0xFFFFFFFF, False),
])  # fmt: skip
def test_port_exits_are_qualified(
    source: str, size: int, qualification: int, port: int, value: int, is_write: bool
) -> None:
    cpu = _guest(source)
    cpu.rax = 0x78563412
    seen = _seen(cpu, ExitReason.IO_INSTRUCTION)
    cpu.run(cycles=10_000)
    assert [row[1:] for row in seen] == [(size, qualification, port, value, is_write)]


def test_a_handler_of_a_port_answers_with_exit_value() -> None:
    cpu = _guest("in al, 0x60; mov ebx, eax; in eax, 0x62")
    _seen(cpu, ExitReason.IO_INSTRUCTION, lambda vcpu, exit: setattr(exit, "value", 0x1122334455667788))
    cpu.run(cycles=10_000)
    assert cpu.rbx & 0xFF == 0x88 and cpu.rbx >> 8 == 0x10101
    assert cpu.rax == 0x55667788


def test_ports_out_of_the_bitmap_read_all_ones_without_an_exit() -> None:
    cpu = _guest("in ax, 0x60")
    cpu.io_bitmap[0x60 // 8] = 0
    cpu.run(cycles=10_000)
    assert cpu.rax & 0xFFFF == 0xFFFF and not cpu.exit_statistics()


def test_repeated_string_ports_move_one_item_an_exit() -> None:
    cpu = _guest("mov edx, 0x1f0; mov ecx, 3; mov edi, 0xa000; rep insw; mov esi, 0xa000; mov ecx, 2; rep outsb")
    items = iter((0x1111, 0x2222, 0x3333))
    seen = _seen(cpu, ExitReason.IO_INSTRUCTION, lambda vcpu, exit: None if exit.is_write else setattr(exit, "value", next(items)))
    cpu.run(cycles=10_000)
    assert cpu.read(DATA, 6) == bytes.fromhex("111122223333")
    assert (cpu.rcx, cpu.rdi, cpu.rsi) == (0, DATA + 6, DATA + 2)
    assert [row[2] for row in seen] == [0x1F00039] * 3 + [0x1F00030] * 2


def test_an_exception_in_a_handler_leaves_the_guest_before_the_instruction() -> None:
    cpu = _guest("mov ebx, 7; in al, 0x60; mov ecx, 9")

    def fail(vcpu: Vcpu, exit: Exit) -> None:
        raise KeyError("device")

    cpu.set_handler(ExitReason.IO_INSTRUCTION, fail)
    with pytest.raises(KeyError, match="device"):
        cpu.run(cycles=10_000)
    retired = cpu.instructions
    assert cpu.rip == CODE + 5 and cpu.rbx == 7 and cpu.rax == 0x1010101
    _seen(cpu, ExitReason.IO_INSTRUCTION)
    cpu.run(cycles=10_000)
    assert cpu.rcx == 9 and cpu.rax & 0xFF == 0xFF
    assert cpu.instructions == retired + 3


def test_a_handler_that_moves_rip_is_obeyed() -> None:
    cpu = _guest("cpuid; mov ebx, 1; hlt; nop")
    _seen(cpu, ExitReason.CPUID, lambda vcpu, exit: setattr(vcpu, "rip", CODE + 7))
    cpu.run(cycles=10_000)
    assert cpu.rip == CODE + 8 and cpu.rbx != 1


def test_an_injected_exception_is_delivered_in_place_of_the_instruction() -> None:
    cpu = _guest("mov ebx, 7; rdmsr")
    cpu.msr_bitmap[:] = 0xFF
    cpu.rcx = 0x10
    _seen(cpu, ExitReason.MSR_READ, lambda vcpu, exit: vcpu.inject(13, 0))
    cpu.run(cycles=10_000)
    assert cpu.rip == 0x4000 + 16 * 13 + 1
    assert int.from_bytes(cpu.read(cpu.rsp + 4, 4), "little") == CODE + 5


def test_msrs_in_the_bitmap_exit_and_others_do_not() -> None:
    cpu = _guest("mov ecx, 0x277; rdmsr; mov ebx, eax; mov ecx, 0xc0000102; rdmsr; mov eax, 5; xor edx, edx; wrmsr")
    cpu.msr_bitmap[1024 + 0x102 // 8] = 1 << (0x102 & 7)
    cpu.kernel_gs_base = 3
    reads = _seen(cpu, ExitReason.MSR_READ, lambda vcpu, exit: setattr(exit, "value", 0xAB))
    writes = _seen(cpu, ExitReason.MSR_WRITE)
    cpu.run(cycles=10_000)
    assert cpu.rbx == cpu.pat & 0xFFFFFFFF
    assert [(row[3], row[4]) for row in reads] == [(0xC0000102, 3)]
    assert not writes and cpu.kernel_gs_base == 5


def test_host_owned_control_register_bits_exit_when_changed() -> None:
    cpu = _guest("mov eax, cr0; or eax, 8; mov cr0, eax; clts; xor eax, 0x20; mov cr0, eax; mov ebx, cr0")
    cpu.cr0_mask, cpu.cr0_shadow = 0x20, 0x20
    seen = _seen(cpu, ExitReason.CR_ACCESS)
    cpu.run(cycles=10_000)
    assert [(row[2], row[3], row[5]) for row in seen] == [(0, 0, True)]
    assert cpu.rbx & 0x20, "the guest reads the shadow"


def test_loads_of_cr3_exit_when_asked_and_are_then_done() -> None:
    cpu = _guest("mov eax, 0x3000; mov cr3, eax; mov ebx, cr3")
    cpu.controls = Control.CR3_LOAD
    seen = _seen(cpu, ExitReason.CR_ACCESS)
    cpu.run(cycles=10_000)
    assert [(row[2], row[4]) for row in seen] == [(3, 0x3000)] and cpu.rbx == 0x3000


def test_rdtsc_reads_guest_cycles_and_exits_when_asked() -> None:
    cpu = _guest("rdtsc; mov ebx, eax; mov ecx, 1000; 1: loop 1b; rdtsc")
    cpu.run(cycles=100_000)
    assert 0 < cpu.rax - cpu.rbx <= cpu.cycles
    cpu = _guest("rdtsc")
    cpu.controls = Control.RDTSC
    _seen(cpu, ExitReason.RDTSC, lambda vcpu, exit: setattr(exit, "value", 0x1_0000_0002))
    cpu.run(cycles=10_000)
    assert (cpu.rax, cpu.rdx) == (2, 1)


def test_hlt_exits_when_asked() -> None:
    cpu = _guest("nop")
    cpu.controls = Control.HLT
    seen = _seen(cpu, ExitReason.HLT, lambda vcpu, exit: vcpu.halt())
    cpu.run(cycles=10_000)
    assert [row[:2] for row in seen] == [(CODE + 1, 1)] and cpu.halted


def test_vmcall_without_a_table_exits() -> None:
    cpu = _guest("mov eax, 5; vmcall; mov ebx, 1")
    seen = _seen(cpu, ExitReason.VMCALL)
    cpu.run(cycles=10_000)
    assert [row[3] for row in seen] == [5] and cpu.rbx == 1


def test_exceptions_in_the_bitmap_exit_before_the_guest_sees_them() -> None:
    cpu = _guest("mov ebx, 1; ud2; mov ebx, 2")
    cpu.exception_bitmap = 1 << 6
    seen = _seen(cpu, 0, lambda vcpu, exit: setattr(vcpu, "rip", vcpu.rip + 2))
    cpu.run(cycles=10_000)
    assert [(row[0], row[3]) for row in seen] == [(CODE + 5, 6)] and cpu.rbx == 2


def test_a_reflected_int3_returns_after_itself() -> None:
    cpu = _guest("int3")
    cpu.exception_bitmap = 1 << 3
    _seen(cpu, 0, lambda vcpu, exit: vcpu.inject(3))
    cpu.run(cycles=10_000)
    assert cpu.rip == 0x4000 + 16 * 3 + 1
    assert int.from_bytes(cpu.read(cpu.rsp, 4), "little") == CODE + 1


def test_exits_are_charged_their_cost() -> None:
    cpu = _guest("cpuid")
    _seen(cpu, ExitReason.CPUID)
    cpu.set_costs({}, {ExitReason.CPUID: 1000 * FRACTION})
    cpu.run(cycles=10_000)
    assert 1000 <= cpu.cycles <= 1010


def test_a_triple_fault_is_an_exit_and_stops_the_guest() -> None:
    cpu = _guest("xor eax, eax; push eax; push eax; lidt [esp]; ud2")
    seen = _seen(cpu, ExitReason.TRIPLE_FAULT)
    assert cpu.run(cycles=10_000) == 5
    assert len(seen) == 1 and seen[0][0] == CODE + 8


@pytest.mark.parametrize(("source", "size", "origin"), [
    (f".byte 0x9a; .long 0; .word {TSS2_SELECTOR}", 7, 0), (f".byte 0xea; .long 0; .word {TSS2_SELECTOR}", 7, 2),
    ("int 42", 2, 3),
], ids=["call", "jmp", "int"])  # fmt: skip
def test_task_switches_exit_before_they_happen_and_can_be_refused(source: str, size: int, origin: int) -> None:
    cpu = _guest(source)
    cpu.controls = Control.TASK_SWITCH
    refused = RuntimeError("not now")

    def refuse(vcpu: Vcpu, exit: Exit) -> None:
        raise refused

    seen = _seen(cpu, ExitReason.TASK_SWITCH, refuse)
    with pytest.raises(RuntimeError):
        cpu.run(cycles=10_000)
    assert (cpu.rip, cpu.segment("tr")[0]) == (CODE, TSS_SELECTOR)
    assert seen == [(CODE, size, origin << 30 | TSS2_SELECTOR, TSS2_SELECTOR, 0, False)]
    seen = _seen(cpu, ExitReason.TASK_SWITCH)
    cpu.run(cycles=10_000)
    assert (len(seen), cpu.segment("tr")[0]) == (1, TSS2_SELECTOR)
    assert cpu.rip == TASK_TARGET + 1
    assert int.from_bytes(cpu.read(TSS + 0x20, 4), "little") == CODE + size, "where the old task goes on"


def test_a_return_to_the_calling_task_exits_too() -> None:
    cpu = _guest(f".byte 0x9a; .long 0; .word {TSS2_SELECTOR}; inc ebx")
    cpu.write(TASK_TARGET, b"\xcf")
    cpu.controls = Control.TASK_SWITCH
    seen = _seen(cpu, ExitReason.TASK_SWITCH)
    before = cpu.rbx
    cpu.run(cycles=10_000)
    assert [row[2] >> 30 for row in seen] == [0, 1] and seen[1][3] == TSS_SELECTOR
    assert cpu.rbx == before + 1


def test_an_exit_says_nothing_of_the_one_before() -> None:
    cpu = _guest("mov edx, 0x3f8; in al, dx; mov eax, [0xf0000000]; cpuid")
    cpu.cr0 &= 0x7FFFFFFF
    seen = []

    def look(vcpu: Vcpu, exit: Exit) -> None:
        seen.append((exit.reason, exit.port, exit.guest_physical, exit.guest_linear, exit.width, exit.error_code))

    for reason in (ExitReason.IO_INSTRUCTION, ExitReason.EPT_MISCONFIG, ExitReason.CPUID):
        cpu.set_handler(reason, look)
    cpu.rax = 0
    cpu.run(cycles=10_000)
    assert seen == [
        (ExitReason.IO_INSTRUCTION, 0x3F8, 0, 0, 1, 0),
        (ExitReason.EPT_MISCONFIG, 0, 0xF0000000, 0xF0000000, 4, 0),
        (ExitReason.CPUID, 0xFFFFFFFF, 0, 0, 0, 0),
    ]


def _move_on(vcpu: Vcpu, exit: Exit) -> None:
    """What a hypervisor does that has emulated an instruction."""
    vcpu.rip += exit.length


@pytest.mark.parametrize("source", [
    "in eax, 0x60", "mov ecx, 0xc0000102; rdmsr", "rdtsc", "mov eax, cr3", "mov eax, dr6", "rdrand eax",
    "mov eax, [0xf0000000]", "lodsd",
])  # fmt: skip
def test_what_a_handler_wrote_stays_when_it_moved_rip_past_the_instruction(source: str) -> None:
    cpu = _guest(source + "; mov ebx, eax")
    cpu.controls = Control.RDTSC | Control.CR3_STORE | Control.MOV_DR | Control.RDRAND
    cpu.msr_bitmap[:] = 0xFF
    cpu.rsi = 0xF0000000
    cpu.cr0 &= 0x7FFFFFFF
    exits = []

    def emulate(vcpu: Vcpu, exit: Exit) -> None:
        exits.append(exit.reason)
        vcpu.rax = 0x12345678
        _move_on(vcpu, exit)

    for reason in (
        ExitReason.CR_ACCESS, ExitReason.DR_ACCESS, ExitReason.IO_INSTRUCTION, ExitReason.MSR_READ, ExitReason.RDTSC,
        ExitReason.EPT_MISCONFIG, ExitReason.RDRAND,
    ):  # fmt: skip
        cpu.set_handler(reason, emulate)
    cpu.run(cycles=10_000)
    assert len(exits) == 1 and cpu.rbx == 0x12345678
    assert cpu.rsi == 0xF0000000


@pytest.mark.parametrize("source", ["mov [0xf0000000], eax", "add [0xf0000000], eax", "call [0xf0000000]", "rep stosd"])
def test_a_handler_of_an_address_may_move_on_without_the_access(source: str) -> None:
    cpu = _guest(f"mov edi, 0xf0000000; mov ecx, 2; {source}; mov ebx, 7")
    cpu.cr0 &= 0x7FFFFFFF
    seen = _seen(cpu, ExitReason.EPT_MISCONFIG, _move_on)
    before = cpu.rsp
    cpu.run(cycles=10_000)
    assert (len(seen), cpu.rbx, cpu.rsp, cpu.instructions) == (1, 7, before, 5)


def test_a_handler_of_a_page_may_send_its_fetch_elsewhere() -> None:
    cpu = _guest("jmp $+0x3000")
    cpu.cr0 &= 0x7FFFFFFF
    cpu.controls = Control.EPT
    cpu.write(CODE + 0x2000, b"\xf4")

    def answer(vcpu: Vcpu, exit: Exit) -> None:
        if vcpu.rip == CODE + 0x3000:
            vcpu.rip = CODE + 0x2000

    cpu.set_handler(ExitReason.EPT_VIOLATION, answer)
    cpu.run(cycles=10_000)
    assert cpu.rip == CODE + 0x2001


@pytest.mark.parametrize("source", ["mov eax, [0xf0000000]", "mov [0xf0000000], eax", "add [0xf0000000], eax",
                                    "push dword ptr [0xf0000000]", "mov eax, [0xeffffffe]"])  # fmt: skip
def test_an_exception_injected_for_an_access_returns_to_its_instruction(source: str) -> None:
    cpu = _guest(f"nop; mov ebx, 2; {source}; mov ebx, 3")
    cpu.cr0 &= 0x7FFFFFFF
    seen = _seen(cpu, ExitReason.EPT_MISCONFIG, lambda vcpu, exit: vcpu.inject(13, 0))
    before = cpu.rsp
    cpu.run(cycles=10_000)
    assert len(seen) == 1 and cpu.rip == 0x4000 + 16 * 13 + 1 and cpu.rbx == 2
    assert cpu.rsp == before - 16
    assert int.from_bytes(cpu.read(cpu.rsp + 4, 4), "little") == CODE + 6
    assert cpu.instructions == 3, "nop, mov, and the handler's hlt"


@pytest.mark.parametrize(("source", "qualification"), [
    ("lmsw ax", 0x0009_0030), ("lmsw [0xa000]", 0x0009_0070), ("clts", 0x20), ("mov cr0, ebx", 0x300),
])  # fmt: skip
def test_accesses_to_cr0_are_qualified(source: str, qualification: int) -> None:
    cpu = _guest(source)
    cpu.write(DATA, b"\x09\0")
    cpu.cr0_mask, cpu.cr0_shadow = 8, 8 if source == "clts" else 0
    cpu.rax, cpu.rbx = 9, cpu.cr0 | 8
    seen = _seen(cpu, ExitReason.CR_ACCESS)
    cpu.run(cycles=10_000)
    assert [row[2] for row in seen] == [qualification]


def test_control_register_bits_of_the_host_stay_as_they_are_without_an_exit() -> None:
    cpu = _guest("mov eax, cr0; mov ebx, eax; mov cr0, eax; clts; lmsw ax; mov eax, cr4; mov ecx, eax; mov cr4, eax")
    cpu.cr0 |= 0x28
    cpu.cr4 |= 0x40
    cpu.cr0_mask, cpu.cr0_shadow = 0x28, 0
    cpu.cr4_mask, cpu.cr4_shadow = 0x40, 0
    cpu.run(cycles=10_000)
    assert not cpu.exit_statistics()
    assert cpu.cr0 & 0x28 == 0x28 and cpu.cr4 & 0x40
    assert not cpu.rbx & 0x28 and not cpu.rcx & 0x40


@pytest.mark.parametrize(("source", "reason"), [
    ("mov ecx, 0xc0000080; mov eax, 2; xor edx, edx; wrmsr", ExitReason.MSR_WRITE),
    ("mov eax, 0x80000000; mov cr0, eax", ExitReason.CR_ACCESS),
    ("mov eax, 0x80000000; mov cr4, eax", ExitReason.CR_ACCESS),
    ("mov eax, cr4; or eax, 8; mov cr4, eax; mov eax, dr5", ExitReason.DR_ACCESS),
])  # fmt: skip
def test_an_exit_comes_before_the_fault_of_what_it_is_about(source: str, reason: int) -> None:
    cpu = _guest(source)
    cpu.msr_bitmap[:] = 0xFF
    cpu.controls = Control.MOV_DR
    cpu.cr0_mask = cpu.cr4_mask = 0xFFFFFFF7
    cpu.cr0_shadow, cpu.cr4_shadow = cpu.cr0, cpu.cr4
    cpu.cr0_shadow, before = cpu.cr0, (cpu.cr0, cpu.cr4, cpu.cr0, cpu.cr4, cpu.efer)

    def claim(vcpu: Vcpu, exit: Exit) -> None:
        if exit.number in (0, 4):
            setattr(vcpu, f"cr{exit.number}_shadow", exit.value)

    seen = _seen(cpu, reason, claim if reason == ExitReason.CR_ACCESS else None)
    cpu.run(cycles=10_000)
    at = seen[0][0]
    vector = 6 if reason == ExitReason.DR_ACCESS else 13
    assert len(seen) == 1 and cpu.rip == 0x4000 + 16 * vector + 1
    returns_to = cpu.rsp if vector == 6 else cpu.rsp + 4
    assert int.from_bytes(cpu.read(returns_to, 4), "little") == at
    after = (cpu.cr0, cpu.cr4 & ~8, cpu.cr0_shadow, cpu.cr4_shadow, cpu.efer)
    assert after == before, "what cannot be done changes nothing, and nor does what the handler took it for"


def test_what_a_handler_makes_of_a_control_register_is_checked_too() -> None:
    cpu = _guest("mov eax, 0x3000; mov cr3, rax", 64)
    cpu.controls = Control.CR3_LOAD
    _seen(cpu, ExitReason.CR_ACCESS, lambda vcpu, exit: setattr(exit, "value", 1 << 62))
    cpu.run(cycles=10_000)
    assert cpu.rip == 0x4000 + 16 * 13 + 1 and cpu.cr3 < 1 << 40


def test_msrs_that_no_bitmap_has_exit_always() -> None:
    cpu = _guest("mov ecx, 0x4b564d00; rdmsr; mov ebx, eax; mov ecx, 0xc0010015; wrmsr; mov ecx, 0x2000; rdmsr")
    reads = _seen(cpu, ExitReason.MSR_READ, lambda vcpu, exit: setattr(exit, "value", 5))
    writes = _seen(cpu, ExitReason.MSR_WRITE)
    cpu.run(cycles=10_000)
    assert [row[3] for row in reads + writes] == [0x4B564D00, 0x2000, 0xC0010015]
    assert cpu.rbx == 5


def test_debug_register_exits_carry_what_is_moved() -> None:
    cpu = _guest("mov eax, 0x1234; mov dr2, eax; mov ebx, dr2")
    cpu.controls = Control.MOV_DR
    seen = _seen(cpu, ExitReason.DR_ACCESS, lambda vcpu, exit: None if exit.is_write else setattr(exit, "value", 0x99))
    cpu.run(cycles=10_000)
    assert [row[2:] for row in seen] == [(0x002, 2, 0x1234, True), (0x312, 2, 0x1234, False)]
    assert cpu.rbx == 0x99


@pytest.mark.parametrize(("source", "qualification"), [
    ("lgdt [ebx+16]", 16), ("sgdt [ebx-8]", 2**64 - 8), ("lidt [0xa000]", DATA), ("sidt [ebx]", 0), ("str eax", 0),
    ("sldt [ebx+0x100]", 0x100), ("lldt ax", 0), (f"mov word ptr [ebx+4], {TSS2_SELECTOR}; ltr [ebx+4]", 4),
])  # fmt: skip
def test_descriptor_table_exits_have_the_displacement_and_can_be_refused(source: str, qualification: int) -> None:
    cpu = _guest(source)
    cpu.controls = Control.DESCRIPTOR_TABLE
    cpu.rax, cpu.rbx = 0, DATA
    cpu.write(DATA, bytes.fromhex("ff0000900000") * 8)
    before = [cpu.read(at, 0x200) for at in (DATA, cpu.gdtr[0])]

    def refuse(vcpu: Vcpu, exit: Exit) -> None:
        raise KeyError("not now")

    seen = [_seen(cpu, reason, refuse) for reason in (ExitReason.GDTR_IDTR, ExitReason.LDTR_TR)]
    with pytest.raises(KeyError):
        cpu.run(cycles=10_000)
    assert [row[2] for row in seen[0] + seen[1]] == [qualification]
    if "mov" not in source:
        assert [cpu.read(at, 0x200) for at in (DATA, cpu.gdtr[0])] == before
    for reason in (ExitReason.GDTR_IDTR, ExitReason.LDTR_TR):
        _seen(cpu, reason)
    cpu.run(cycles=10_000)
    assert cpu.rip < CODE + 0x20 and cpu.counters()["exceptions"] == 0, "the instruction is executed when it may be"


CONTROLS = [
    (Control.HLT, "hlt", ExitReason.HLT),
    (Control.INVLPG, "invlpg [rbx]", ExitReason.INVLPG),
    (Control.RDPMC, "rdpmc", ExitReason.RDPMC),
    (Control.RDTSC, "rdtsc", ExitReason.RDTSC),
    (Control.RDTSC, "rdtscp", ExitReason.RDTSCP),
    (Control.CR3_LOAD, "mov cr3, rsi", ExitReason.CR_ACCESS),
    (Control.CR3_STORE, "mov rax, cr3", ExitReason.CR_ACCESS),
    (Control.CR8_LOAD, "mov cr8, rcx", ExitReason.CR_ACCESS),
    (Control.CR8_STORE, "mov rax, cr8", ExitReason.CR_ACCESS),
    (Control.MOV_DR, "mov rax, dr6", ExitReason.DR_ACCESS),
    (Control.MOV_DR, "mov dr0, rax", ExitReason.DR_ACCESS),
    (Control.PAUSE, "pause", ExitReason.PAUSE_INSTRUCTION),
    (Control.WBINVD, "wbinvd", ExitReason.WBINVD),
    (Control.DESCRIPTOR_TABLE, "sgdt [rbx]", ExitReason.GDTR_IDTR),
    (Control.DESCRIPTOR_TABLE, "lidt [rbx]", ExitReason.GDTR_IDTR),
    (Control.DESCRIPTOR_TABLE, "str eax", ExitReason.LDTR_TR),
    (Control.DESCRIPTOR_TABLE, "lldt cx", ExitReason.LDTR_TR),
    (Control.RDRAND, "rdrand eax", ExitReason.RDRAND),
    (Control.RDSEED, "rdseed eax", ExitReason.RDSEED),
]


@pytest.mark.parametrize(("control", "source", "reason"), CONTROLS)
def test_each_control_makes_its_instructions_exit_and_no_other_does(control: int, source: str, reason: int) -> None:
    everything = sum({bit for bit, _, _ in CONTROLS})
    for controls, times in ((control, 1), (everything & ~control, 0)):
        cpu = _guest(source + "; int3", 64)
        cpu.controls = controls
        cpu.rbx, cpu.rcx, cpu.rsi = DATA, 0, cpu.cr3
        cpu.write(DATA, bytes(16))
        cpu.exception_bitmap = 1 << 3 | 1 << 13  # the end; RDPMC without counters
        seen = _seen(cpu, reason)
        cpu.set_handler(ExitReason.EXCEPTION_NMI, lambda vcpu, exit: vcpu.stop())
        cpu.run(cycles=10_000)
        assert len(seen) == times
        assert set(cpu.exit_statistics()) <= {ExitReason.EXCEPTION_NMI, reason}
        for row in seen:
            assert row[0] == CODE and row[1] == len(assemble(64, [source])[0])


@pytest.mark.parametrize(
    ("source", "reason"),
    [("cpuid", ExitReason.CPUID), ("invd", ExitReason.INVD), ("xor ecx, ecx; xsetbv", ExitReason.XSETBV)],
)
def test_what_exits_always_asks_no_control(source: str, reason: int) -> None:
    cpu = _guest(source)
    cpu.cr4 |= 1 << 18
    seen = _seen(cpu, reason)
    cpu.run(cycles=10_000)
    assert len(seen) == 1 and cpu.counters()["exceptions"] == 0


def test_invlpg_is_qualified_by_its_linear_address() -> None:
    cpu = _guest("invlpg fs:[ebx+8]")
    cpu.controls = Control.INVLPG
    cpu.set_segment("fs", 16, 0x100000, 0xFFFFFFFF, 0xC093)
    cpu.rbx = 0x2000
    seen = _seen(cpu, ExitReason.INVLPG)
    cpu.run(cycles=10_000)
    assert [row[2] for row in seen] == [0x102008]


@pytest.mark.parametrize(("source", "reason", "linear"), [
    ("mov edx, 0x1f0; mov edi, 0xa000; insb", ExitReason.IO_INSTRUCTION, DATA),
    ("mov edx, 0x1f0; mov esi, 0xa004; outsd", ExitReason.IO_INSTRUCTION, DATA + 4),
    ("in al, 0x60", ExitReason.IO_INSTRUCTION, 0),
    ("mov eax, [0x400000]", ExitReason.EXCEPTION_NMI, 0x400000),
    ("ud2", ExitReason.EXCEPTION_NMI, 0),
    ("lmsw [0xa000]", ExitReason.CR_ACCESS, DATA),
    ("lmsw ax", ExitReason.CR_ACCESS, 0),
])
def test_the_linear_address_is_that_of_the_exit(source: str, reason: int, linear: int) -> None:
    cpu = _guest(source, 64)
    cpu.cr2 = 0x1234
    cpu.exception_bitmap = 1 << 14 | 1 << 6
    cpu.cr0_mask, cpu.cr0_shadow = 6, 6
    cpu.write(DATA, bytes(16))
    cpu.rax = 0
    seen = []

    def look(vcpu: Vcpu, exit: Exit) -> None:
        seen.append(exit.guest_linear)
        vcpu.stop()

    cpu.set_handler(reason, look)
    cpu.run(cycles=10_000)
    assert seen == [linear]
