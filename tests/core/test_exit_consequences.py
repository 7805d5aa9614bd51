"""What the handler of an exit has done counts before the next instruction, whichever way the guest is run."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import pytest

from hvmx.core.exit_info import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.exits import ExitReason
from hvmx.machine import StopKind
from hvmx.platform import Platform

from .cut_guest import MMIO_AT, PIECES, CutGuest, assembled, cut_cycles, program
from .machine import CODE, STUBS

PAGINGS = ("ept", "shadow")
TRANSLATE_AFTER = (None, 0)
WAYS = ("step", "run", "run(1)")
VECTOR, PORT = 0x30, 0x5800
CODE_AFTER = "\n.rept 40\n inc ebx\n.endr\n cli\n hlt\n"

# What comes before, and the instruction that exits.
INSTRUCTIONS = {
    "a write to device memory": (f"mov edi, {MMIO_AT}; xor eax, eax", "mov [rdi], eax"),
    "a read of device memory": (f"mov edi, {MMIO_AT}", "mov eax, [rdi]"),
    "a read and a write": (f"mov edi, {MMIO_AT}; xor eax, eax", "add [rdi], eax"),
    "a store to a page nobody touched": ("inc eax", "mov [0x32000], eax"),
    "a load from a page nobody touched": ("inc eax", "mov eax, [0x32ff0]"),
    "a push to a page nobody touched": ("mov esp, 0x33000", "push rax"),
    "a port written": (f"mov edx, {PORT}", "out dx, al"),
    "a port read": (f"mov edx, {PORT}", "in eax, dx"),
    "REP OUTS": (f"mov edx, {PORT}; mov esi, 0xb000; mov ecx, 5; lodsb", "rep outsb"),
    "REP INS": (f"mov edx, {PORT}; mov edi, 0xb000; mov ecx, 5; stosb", "rep insb"),
    "REP STOS to device memory": (f"mov edi, {MMIO_AT}; mov ecx, 5; xor eax, eax", "rep stosb"),
    "REP STOS to a page nobody touched": ("mov edi, 0x32000; mov ecx, 50; xor eax, eax", "rep stosb"),
    "RDMSR": ("mov ecx, 0xc0000080", "rdmsr"),
    "WRMSR": ("mov ecx, 0xc0000080; rdmsr", "wrmsr"),
    "a move to CR0": ("mov rax, cr0; xor rax, 0x10000", "mov cr0, rax"),
    "CPUID": ("xor eax, eax", "cpuid"),
}


class Board(Platform):
    """One line of interrupts, and one device."""

    def __init__(self, cpu: Vcpu) -> None:
        self.cpu = cpu
        self.called: list[tuple[int, int]] = []
        self.due: int | None = None

    def acknowledge_interrupt(self) -> int:
        self.cpu.set_interrupt(False)
        return VECTOR

    def advance(self, cycle: int) -> None:
        self.called.append((self.cpu.rip, cycle))
        self.due = None

    def next_event(self) -> int | None:
        return self.due


class Acting:
    """A guest in which the first exit of one instruction has a consequence."""

    def __init__(
        self, name: str, paging: str, translate_after: int | None, act: Callable[[Vcpu], None], ways: str
    ) -> None:
        before, instruction = INSTRUCTIONS[name]
        head = f"sti\n{before}\n".replace(";", "\n")
        self.guest = CutGuest(head + instruction + CODE_AFTER, paging, translate_after, board=False)
        self.machine, self.cpu, self.way = self.guest.machine, self.guest.machine.cpu, ways
        self.machine.exits.on_ports(PORT, 1, lambda cpu, exit: None)
        self.cpu.platform = self.board = Board(self.cpu)
        self.at = CODE + len(assembled(head))
        self.next = self.at if "REP" in name else CODE + len(assembled(head + instruction))
        self.acts = 0
        for reason in ExitReason:
            handler = self.cpu.handler(reason)
            if handler is not None:
                self.cpu.set_handler(reason, self._acting(handler, act))

    def _acting(self, handler: Any, act: Callable[[Vcpu], None]) -> Any:
        def answer(cpu: Vcpu, exit: Exit) -> None:
            handler(cpu, exit)
            if cpu.rip == self.at and exit.reason != ExitReason.EXTERNAL_INTERRUPT:
                self.acts += 1
                if self.acts == 1:
                    act(cpu)

        return answer

    def run(self) -> None:
        while True:
            if self.way == "step":
                stop = self.machine.step()
            else:
                stop = self.machine.run(cycles=10_000_000 if self.way == "run" else 1)
            if stop.kind is StopKind.HALTED:
                return
            assert stop.kind in (StopKind.CYCLES, StopKind.STEP), stop

    def noted(self) -> list[tuple[int, int]]:
        """(vector, RIP) of each exception and interrupt that the guest took."""
        events: list[tuple[int, int, int, int]] = self.guest.end()["of the guest"]
        return [(vector, rip) for _, vector, rip, _ in events]


def every_way(test: Callable[..., None]) -> Callable[..., None]:
    for name, values in (("way", WAYS), ("translate_after", TRANSLATE_AFTER), ("paging", PAGINGS)):
        test = pytest.mark.parametrize(name, values)(test)
    return pytest.mark.parametrize("name", INSTRUCTIONS)(test)


@every_way
def test_an_interrupt_is_taken_before_the_next_instruction(
    name: str, paging: str, translate_after: int | None, way: str
) -> None:
    acting = Acting(name, paging, translate_after, lambda cpu: cpu.set_interrupt(True), way)
    acting.run()
    assert acting.acts
    assert acting.noted() == [(VECTOR, acting.next)]


@every_way
def test_an_nmi_is_taken_before_the_next_instruction(
    name: str, paging: str, translate_after: int | None, way: str
) -> None:
    acting = Acting(name, paging, translate_after, lambda cpu: cpu.raise_nmi(), way)
    acting.run()
    assert acting.noted() == [(2, acting.next)]


@every_way
def test_an_interrupt_beside_an_injected_fault_comes_before_its_handlers_first_instruction(
    name: str, paging: str, translate_after: int | None, way: str
) -> None:
    def act(cpu: Vcpu) -> None:
        cpu.inject(14, 0)
        cpu.raise_nmi()

    acting = Acting(name, paging, translate_after, act, way)
    acting.run()
    assert acting.noted()[:2] == [(2, STUBS + 14 * 16), (14, acting.at)]


@every_way
def test_a_stop_counts_before_the_next_instruction(
    name: str, paging: str, translate_after: int | None, way: str
) -> None:
    acting = Acting(name, paging, translate_after, lambda cpu: cpu.stop(), way)
    with pytest.raises(AssertionError, match="REQUESTED"):
        acting.run()
    assert acting.acts and acting.cpu.rip == acting.next


@every_way
def test_a_nearer_deadline_counts_before_the_next_instruction(
    name: str, paging: str, translate_after: int | None, way: str
) -> None:
    def act(cpu: Vcpu) -> None:
        acting.board.due = cpu.cycles + 1
        cpu.reschedule()

    acting = Acting(name, paging, translate_after, act, way)
    acting.run()
    assert [rip for rip, _ in acting.board.called] == [acting.next]


@pytest.mark.parametrize("translate_after", TRANSLATE_AFTER)
@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_time_that_a_handler_lets_pass_ends_the_run_before_the_next_instruction(
    name: str, paging: str, translate_after: int | None
) -> None:
    acting = Acting(name, paging, translate_after, lambda cpu: cpu.charge(10_000_000), "run")
    assert acting.machine.run(cycles=10_000_000).kind is StopKind.CYCLES
    assert acting.acts and acting.cpu.rip == acting.next


@pytest.mark.parametrize("translate_after", TRANSLATE_AFTER)
@pytest.mark.parametrize("paging", PAGINGS)
def test_of_sixty_writes_in_a_row_to_a_device_that_stops_one_is_made(
    paging: str, translate_after: int | None
) -> None:
    source = f"mov edi, {MMIO_AT}\nxor eax, eax\n.rept 60\nmov [rdi], eax\n.endr\ncli\nhlt"
    guest = CutGuest(source, paging, translate_after)
    device = guest.machine.cpu.handler(ExitReason.EPT_MISCONFIG)
    assert device is not None
    writes = []

    def write(cpu: Vcpu, exit: Exit) -> None:
        writes.append(cpu.rip)
        device(cpu, exit)
        cpu.stop()

    guest.machine.cpu.set_handler(ExitReason.EPT_MISCONFIG, write)
    for count in range(1, 61):
        assert guest.machine.run().kind is StopKind.REQUESTED
        assert len(writes) == count
    assert guest.machine.run().kind is StopKind.HALTED


@pytest.mark.parametrize("translate_after", TRANSLATE_AFTER)
@pytest.mark.parametrize("paging", PAGINGS)
def test_a_run_of_one_cycle_executes_one_instruction_where_none_overlap(
    paging: str, translate_after: int | None
) -> None:
    source = f"mov edi, {MMIO_AT}\n.rept 60\nmov [rdi], eax\ninc ebx\n.endr\ncli\nhlt"
    guest = CutGuest(source, paging, translate_after, profile="p4-672")
    guest.machine.run(cycles=1)  # the exit of the first fetch takes the cycle
    assert guest.machine.cpu.instructions == 0
    for count in range(1, 122):
        assert guest.machine.run(cycles=1).kind is StopKind.CYCLES
        assert guest.machine.cpu.instructions == count


@pytest.mark.parametrize("translate_after", TRANSLATE_AFTER)
@pytest.mark.parametrize("paging", PAGINGS)
def test_a_run_of_one_cycle_executes_at_most_what_is_dispatched_in_one(paging: str, translate_after: int | None) -> None:
    guest = CutGuest(".rept 60\ninc ebx\ninc edi\n.endr\ncli\nhlt", paging, translate_after)
    guest.machine.run(cycles=1)  # the exit of the first fetch takes the cycle
    while (before := guest.machine.cpu.instructions) < 120:
        assert guest.machine.run(cycles=1).kind is StopKind.CYCLES
        assert 1 <= guest.machine.cpu.instructions - before <= guest.machine.profile.pipeline.dispatch.value


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("name", [name for name in PIECES if name != "HLT"])
def test_a_run_ends_within_the_instruction_in_which_its_cycles_pass(name: str, paging: str) -> None:
    source = program([name], None)
    guest = CutGuest(source, paging, None)
    borders = [0]
    while guest.machine.step().kind is StopKind.STEP:
        borders.append(guest.machine.cycles)
    for cycles in cut_cycles(source, paging)[:: max(1, len(borders) // 15)]:
        if 0 < cycles <= borders[-1]:
            guest = CutGuest(source, paging, 0)
            guest.machine.run(cycles=cycles)
            # Earlier than the instruction, after the exit of its fetch.
            last = borders[bisect_left(borders, cycles)]
            assert cycles <= guest.machine.cycles <= last, (
                f"run(cycles={cycles}) ends at {guest.machine.cycles}"
            )


@pytest.mark.parametrize("way", WAYS)
def test_the_stop_that_an_instruction_asks_for_is_returned_once(way: str) -> None:
    guest = CutGuest("mov al, 1\nout 0x92, al\n.rept 9\ninc ebx\n.endr\ncli\nhlt", "ept", None)
    stops = []
    while not stops or stops[-1] is not StopKind.HALTED:
        stop = (
            guest.machine.step()
            if way == "step"
            else guest.machine.run(cycles=1 if way == "run(1)" else None)
        )
        if stop.kind not in (StopKind.STEP, StopKind.CYCLES):
            stops.append(stop.kind)
    assert stops == [StopKind.RESET, StopKind.HALTED]


class HostError(Exception):
    """What a handler raises."""


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("piece", ["an NMI in a shadow", "faults"])
def test_an_event_whose_delivery_a_handler_broke_off_is_counted_and_paid_for_once(
    piece: str, paging: str
) -> None:
    figures = []
    for raising in (False, True):
        guest = CutGuest(program([piece], None), paging, None)
        raised: set[tuple[int, ...]] = set()
        reason = ExitReason.EPT_VIOLATION if paging == "ept" else ExitReason.EXCEPTION_NMI
        handler = guest.machine.cpu.handler(reason)
        assert handler is not None

        def answer(
            cpu: Vcpu,
            exit: Exit,
            handler: Any = handler,
            raised: set[tuple[int, ...]] = raised,
            raising: bool = raising,
        ) -> None:
            # The gates, the stack, the tables: everything that a delivery touches first.
            if raising and (cpu.instructions, exit.guest_linear) not in raised:
                raised.add((cpu.instructions, exit.guest_linear))
                raise HostError
            handler(cpu, exit)

        guest.machine.cpu.set_handler(reason, answer)
        while True:
            try:
                assert guest.machine.run().kind is StopKind.HALTED
                break
            except HostError:
                continue
        assert bool(raised) == raising
        end = guest.end()
        figures.append(
            {
                name: end[name]
                for name in ("guest_cycles", "instructions", "interrupts", "exceptions", "of the guest")
            }
        )
    assert figures[0] == figures[1]


STORES = (
    "add [rdi], eax", "adc dword ptr [rdi], 5", "inc word ptr [rdi]", "dec qword ptr [rdi]", "neg byte ptr [rdi]", "not dword ptr [rdi]",
    "shl dword ptr [rdi], 3", "rcr word ptr [rdi], cl", "shld [rdi], eax, cl", "ror byte ptr [rdi], 1", "bts [rdi], ecx",
    "btr qword ptr [rdi], 3", "xadd [rdi], eax", "xchg [rdi], rax", "cmpxchg [rdi], ebx", "cmpxchg8b [rdi]", "cmpxchg16b [rdi]",
    "mov [rdi], al", "mov word ptr [rdi], 5", "mov [rdi + 0xffc], rax", "setc [rdi]", "stosb", "movsd", "pop qword ptr [rdi]", "push rax",
    "call 1f", "call [rdi]", "enter 8, 1", "movnti [rdi], eax", "movups [rdi], xmm0", "movhps [rdi], xmm0",
    "fst dword ptr [rdi]", "fstp tbyte ptr [rdi]", "fistp qword ptr [rdi]", "fnstcw [rdi]", "fnstenv [rdi]", "fnsave [rdi]", "fxsave [rdi]",
    "sgdt [rdi]", "smsw [rdi]", "stmxcsr [rdi]", "mov ss:[rdi], ds", "pushfq", "maskmovdqu xmm0, xmm1", "and [rdi], rax", "lock dec dword ptr [rdi]",
)  # fmt: skip


@pytest.mark.parametrize("instruction", STORES)
def test_an_instruction_whose_exit_raises_has_not_happened(instruction: str) -> None:
    stack = instruction.split(maxsplit=1)[0] in ("push", "call", "enter", "pushfq")
    head = f"fninit\nfld1\nmov edi, {MMIO_AT}\nmov esi, 0xb000\nstc\nmov eax, 0x33\nmov ecx, 5\npcmpeqd xmm1, xmm1\n"
    head += f"mov rsp, {MMIO_AT + 0x100}\n" if stack else "mov esp, 0x3000\n"
    guest = CutGuest(f"{head}{instruction}\n1: mov esp, 0x3000\n{CODE_AFTER}", "ept", None)
    cpu, at = guest.machine.cpu, CODE + len(assembled(head))
    device = cpu.handler(ExitReason.EPT_MISCONFIG)
    assert device is not None
    refusing = True

    def answer(cpu: Vcpu, exit: Exit) -> None:
        if exit.is_write and refusing:
            raise HostError
        exit.value = 0x7F

    cpu.set_handler(ExitReason.EPT_MISCONFIG, answer)
    while cpu.rip != at:
        assert guest.machine.step().kind is StopKind.STEP
    before, retired = cpu.registers(), cpu.instructions
    for _ in range(3):
        with pytest.raises(HostError):
            guest.machine.run()
        assert cpu.registers() == before
        assert cpu.instructions == retired
    refusing = False
    assert guest.machine.step().kind is StopKind.STEP
    assert (cpu.rip != at, cpu.instructions) == (True, retired + 1)
