"""A handler that is given to `exits.on` is called; an exit is counted and costs the same, whoever answers it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from pv.kernel import assemble

from hvmx import ExitReason, Machine, StopKind
from hvmx.boot import XenImage, prepare
from hvmx.cost import FRACTION
from hvmx.debug.trace import trace_exits
from hvmx.hvm import controls
from hvmx.hvm.device import Device
from hvmx.platform import Platform
from hvmx.pv import start_of_day

if TYPE_CHECKING:
    from hvmx.core.exit_info import Exit
    from hvmx.core.vcpu import Vcpu
    from hvmx.pv.xen import Call

START = 0x1000
FLAT_CODE32, FLAT_DATA32, FLAT_CODE64 = 0xC09B, 0xC093, 0xA09B
RING3 = 0x60
"""The DPL in a segment's rights."""


class Seen(Exception):
    """Raised by a handler that was called."""


def refuse(vcpu: Vcpu, exit: Exit) -> None:
    raise Seen


def bare(code: str, *, board: bool = False, paging: str = "ept") -> Machine:
    """Flat 32-bit mode, before the instructions given in hexadecimal."""
    machine = Machine("1M", board=board, paging=paging)
    cpu = machine.cpu
    cpu.write(START, bytes.fromhex(code))
    cpu.cr0 |= 1
    cpu.set_segment("cs", 8, 0, 0xFFFF_FFFF, FLAT_CODE32)
    for name in ("ss", "ds", "es"):
        cpu.set_segment(name, 16, 0, 0xFFFF_FFFF, FLAT_DATA32)
    cpu.rip, cpu.rsp = START, 0x8000
    return machine


# --- every reason -------------------------------------------------------------------------------------------------------
def a_device_is_due(machine: Machine) -> None:
    machine.cpu.deadline = machine.cpu.cycles + 100


class SpuriousController(Platform):
    """An interrupt controller whose output was high for nothing."""

    def __init__(self, cpu: Vcpu) -> None:
        self._cpu = cpu

    def acknowledge_interrupt(self) -> int:
        self._cpu.set_interrupt(False)
        return -1


def an_interrupt_waits(machine: Machine) -> None:
    machine.cpu.platform = SpuriousController(machine.cpu)
    machine.cpu.set_interrupt(True)


def exits_with(control: int) -> Callable[[Machine], None]:
    def set_control(machine: Machine) -> None:
        machine.cpu.controls |= control

    return set_control


def breakpoints_exit(machine: Machine) -> None:
    machine.cpu.exception_bitmap |= 1 << 3


def xsave_is_on(machine: Machine) -> None:
    machine.cpu.cr4 |= 1 << 18


def as_it_is(machine: Machine) -> None:
    pass


OCCURS = {
    ExitReason.EXCEPTION_NMI: ("cc", breakpoints_exit),
    ExitReason.EXTERNAL_INTERRUPT: ("ebfe", a_device_is_due),
    ExitReason.TRIPLE_FAULT: ("0f0b", as_it_is),
    ExitReason.INTERRUPT_WINDOW: ("90 fb 90 90 ebfe", an_interrupt_waits),
    ExitReason.TASK_SWITCH: ("ea 00000000 2000", as_it_is),  # jmp 0x20:0, which the GDT has a TSS for
    ExitReason.CPUID: ("0fa2", as_it_is),
    ExitReason.HLT: ("f4", as_it_is),
    ExitReason.INVD: ("0f08", as_it_is),
    ExitReason.INVLPG: ("0f0138", exits_with(controls.INVLPG)),
    ExitReason.RDPMC: ("0f33", exits_with(controls.RDPMC)),
    ExitReason.RDTSC: ("0f31", exits_with(controls.RDTSC)),
    ExitReason.VMCALL: ("b801000000 0f01c1", as_it_is),
    ExitReason.CR_ACCESS: ("b811000040 0f22c0", as_it_is),
    ExitReason.DR_ACCESS: ("0f23c0", as_it_is),
    ExitReason.IO_INSTRUCTION: ("e460", as_it_is),
    ExitReason.MSR_READ: ("b977020000 0f32", as_it_is),
    ExitReason.MSR_WRITE: ("b977020000 0f30", as_it_is),
    ExitReason.PAUSE_INSTRUCTION: ("f390", exits_with(controls.PAUSE)),
    ExitReason.GDTR_IDTR: ("0f0100", exits_with(controls.DESCRIPTOR_TABLE)),
    ExitReason.LDTR_TR: ("0f00c8", exits_with(controls.DESCRIPTOR_TABLE)),
    ExitReason.EPT_VIOLATION: ("a100300000", as_it_is),
    ExitReason.EPT_MISCONFIG: ("a10000d4fe", as_it_is),
    ExitReason.RDTSCP: ("0f01f9", exits_with(controls.RDTSC)),
    ExitReason.WBINVD: ("0f09", as_it_is),
    ExitReason.XSETBV: ("0f01d1", xsave_is_on),
    ExitReason.RDRAND: ("0fc7f0", exits_with(controls.RDRAND)),
    ExitReason.INVPCID: ("660f388200", exits_with(controls.INVLPG)),
    ExitReason.RDSEED: ("0fc7f8", exits_with(controls.RDSEED)),
}


def before(reason: ExitReason) -> Machine:
    """A guest that exits for this reason."""
    code, arrange = OCCURS[reason]
    machine = bare(code + "f4")
    machine.cpu.write(0x4000, bytes(0x20) + 0x0000_8900_5000_0067.to_bytes(8, "little"))
    machine.cpu.gdtr = (0x4000, 0x27)
    machine.cpu.set_segment("tr", 0x18, 0x6000, 0x67, 0x8B)
    arrange(machine)
    return machine


@pytest.mark.parametrize("reason", ExitReason, ids=lambda reason: reason.name)
def test_every_reason_that_on_takes_is_called(reason: ExitReason) -> None:
    machine = before(reason)
    machine.exits.on(reason, refuse)
    with pytest.raises(Seen):
        machine.run(cycles=1_000_000)
    assert reason not in machine.exits.statistics(), "what raised is no exit yet"


@pytest.mark.parametrize("reason", ExitReason, ids=lambda reason: reason.name)
def test_an_exit_is_paid_for_when_its_handler_returns_however_often_it_raised_before(reason: ExitReason) -> None:
    machines = before(reason), before(reason)
    for machine, raises in zip(machines, (0, 3)):
        price, answer = 1000 * FRACTION, machine.cpu.handler(reason)
        machine.cpu.set_costs({}, dict.fromkeys(ExitReason, price), exception=price)
        end = machine.cpu.cycles + 100_000
        for _ in range(raises):
            machine.exits.on(reason, refuse)
            with pytest.raises(Seen):
                machine.run(cycles=end - machine.cpu.cycles)
        machine.exits.on(reason, answer)
        machine.run(cycles=end - machine.cpu.cycles)
    told = [of_the_guest(machine) for machine in machines]
    assert told[0]["exits"][reason.name]["guest_cycles_max"] >= 1000
    assert told[0] == told[1]


def devices_interrupt(machine: Machine) -> None:
    machine.cpu.controls |= controls.EXTERNAL_INTERRUPT
    a_device_is_due(machine)


PV_OCCURS = {
    ExitReason.EXCEPTION_NMI: ("int3", breakpoints_exit),
    ExitReason.EXTERNAL_INTERRUPT: ("1: jmp 1b", devices_interrupt),
    ExitReason.CPUID: ("cpuid", as_it_is),
    ExitReason.RDTSC: ("rdtsc", exits_with(controls.RDTSC)),
    ExitReason.IO_INSTRUCTION: (
        "mov $6, %edi; lea iopl(%rip), %rsi; hypercall 33; in $0x80, %al",
        as_it_is,
    ),
    ExitReason.PAUSE_INSTRUCTION: ("pause", exits_with(controls.PAUSE)),
    ExitReason.GDTR_IDTR: ("sgdt -64(%rsp)", exits_with(controls.DESCRIPTOR_TABLE)),
    ExitReason.LDTR_TR: ("sldt %eax", exits_with(controls.DESCRIPTOR_TABLE)),
    ExitReason.EPT_VIOLATION: ("nop", exits_with(controls.EPT)),
    ExitReason.RDTSCP: ("rdtscp", exits_with(controls.RDTSC)),
    ExitReason.RDRAND: ("rdrand %eax", exits_with(controls.RDRAND)),
    ExitReason.RDSEED: ("rdseed %eax", exits_with(controls.RDSEED)),
}


def pv_guest(code: str, data: str = "") -> Machine:
    machine = Machine("16M", board=False)
    machine.load(assemble(code + "\n", data=data), pv=True)
    return machine


@pytest.mark.parametrize("reason", PV_OCCURS, ids=lambda reason: reason.name)
def test_every_reason_that_on_takes_of_a_pv_guest_is_called(reason: ExitReason) -> None:
    code, arrange = PV_OCCURS[reason]
    machine = pv_guest(code, "iopl: .long 1\n")
    machine.exits.on(reason, refuse)
    arrange(machine)
    with pytest.raises(Seen):
        machine.run(cycles=1_000_000)


@pytest.mark.parametrize("reason", sorted(set(ExitReason) - set(PV_OCCURS)), ids=lambda reason: reason.name)
def test_a_reason_that_a_pv_guest_has_not_is_refused_by_name(reason: ExitReason) -> None:
    machine = pv_guest("")
    with pytest.raises(ValueError, match=f"a PV guest has no exit {reason.name}"):
        machine.exits.on(reason, refuse)
    machine = Machine("16M")
    before = machine.exits.on(reason, refuse)
    image = assemble("")
    with pytest.raises(ValueError, match=f"handler of {reason.name}"):
        machine.load(image, pv=True)
    assert before is not None
    machine.exits.on(reason, before)
    machine.load(image, pv=True)
    assert machine.run().kind is StopKind.POWEROFF


def test_addresses_of_devices_are_refused_to_a_pv_guest() -> None:
    machine = Machine("16M")
    machine.exits.on_mmio(0xFED4_0000, 4, refuse)
    image = assemble("")
    with pytest.raises(ValueError, match="handler of EPT_MISCONFIG"):
        machine.load(image, pv=True)
    machine.exits.off_mmio(0xFED4_0000, 4)
    machine.load(image, pv=True)
    with pytest.raises(ValueError, match="a PV guest has no exit EPT_MISCONFIG"):
        machine.exits.on_mmio(0xFED4_0000, 4, refuse)


# --- VMCALL -------------------------------------------------------------------------------------------------------------
NOTHING, PAIRING = 1, 9
"""Of KVM's calls: one that does nothing, and one that tells the time."""
VMCALL, VMMCALL = "0f01c1", "0f01d9"
EPERM, ENOSYS = -1 & 0xFFFF_FFFF, -1000 & 0xFFFF_FFFF


def calling(*numbers: int, instruction: str = VMCALL) -> Machine:
    """A guest that makes these calls with RBX = 0x2000 and halts."""
    calls = "".join(f"b8{number.to_bytes(4, 'little').hex()}{instruction}" for number in numbers)
    machine = bare(f"bb00200000 31c9 {calls} f4")
    machine.hypercalls.set_costs({NOTHING: 70 * FRACTION, 80: 30 * FRACTION})
    return machine


def of_the_guest(machine: Machine) -> dict[str, Any]:
    """The statistics without host time and hvmx's own work."""

    def strip(figures: dict[str, Any]) -> dict[str, Any]:
        return {
            name: strip(value) if isinstance(value, dict) else value
            for name, value in figures.items()
            if not name.startswith(("host_", "blocks_", "code_"))
        }

    return strip(machine.statistics())


@pytest.mark.parametrize("instruction", [VMCALL, VMMCALL])
def test_calls_that_c_functions_answer_are_exits_by_their_numbers(instruction: str) -> None:
    machine = calling(NOTHING, PAIRING, NOTHING, instruction=instruction)
    assert machine.run().kind is StopKind.HALTED
    price = machine.profile.exits[ExitReason.VMCALL].cycles
    row = machine.exits.statistics()[ExitReason.VMCALL]
    assert (row.count, row.guest_cycles) == (3, 3 * price + 2 * 70)
    assert (row.guest_cycles_min, row.guest_cycles_max) == (price, price + 70)
    assert {number: (one.count, one.guest_cycles) for number, one in row.detail.items()} == {
        NOTHING: (2, 2 * (price + 70)),
        PAIRING: (1, price),
    }
    assert set(row.as_json(ExitReason.VMCALL)["detail"]) == {"hypercall 1", "hypercall 9"}
    assert machine.exits.total == sum(one.count for one in machine.exits.statistics().values())


@pytest.mark.parametrize("instruction", [VMCALL, VMMCALL])
def test_a_handler_of_vmcall_gets_all_calls_and_may_leave_them_to_the_table(instruction: str) -> None:
    numbers = (NOTHING, PAIRING, 99)
    machine = calling(*numbers, instruction=instruction)
    seen: list[tuple[int, int, int, int, int]] = []

    def handler(vcpu: Vcpu, exit: Exit) -> None:
        seen.append((vcpu.rip, exit.length, exit.qualification, exit.number, vcpu.rax))
        before(vcpu, exit)

    before = machine.exits.on(ExitReason.VMCALL, handler)
    assert before is not None
    assert machine.run().kind is StopKind.HALTED
    assert seen == [(START + 12 + 8 * index, 3, 0, number, number) for index, number in enumerate(numbers)]
    assert machine.cpu.rax == ENOSYS
    machine = calling(NOTHING)
    machine.exits.on(ExitReason.VMCALL, lambda vcpu, exit: setattr(vcpu, "rax", 0x5A))
    machine.run()
    assert machine.cpu.rax == 0x5A and machine.hypercalls.counts() == {}


@pytest.mark.parametrize("way", ["handler", "trace", "steps"])
def test_who_answers_a_call_is_nothing_to_the_guest(way: str) -> None:
    """By C, by way of Python, stepping: the same registers, memory, cycles and counts."""
    ran: list[Machine] = []
    for other in (False, True):
        machine = calling(NOTHING, PAIRING, 80, 99, NOTHING, 1 << 31)
        machine.hypercalls.register(80, lambda call: call.charge(1000) or 7)
        if other and way == "handler":
            before = machine.exits.on(ExitReason.VMCALL, lambda vcpu, exit: before(vcpu, exit))  # noqa: B023
        if other and way == "trace":
            trace_exits(machine, io.StringIO())
        if other and way == "steps":
            while not machine.cpu.halted:
                machine.step()
        machine.run()
        ran.append(machine)
    c, python = ran
    assert python.state_hash() == c.state_hash()
    assert python.cycles == c.cycles and python.cpu.instructions == c.cpu.instructions
    assert of_the_guest(python) == of_the_guest(c)


def test_counts_are_right_whenever_they_are_read() -> None:
    """Also within a call that a Python function answers, and when a number's price changes between its calls."""
    machine = calling(NOTHING, NOTHING, 80, NOTHING, 80, NOTHING)
    counts: list[int] = []

    def look(call: Call) -> int:
        row = machine.exits.statistics()[ExitReason.VMCALL]
        counts.append(row.count)
        machine.hypercalls.set_costs({NOTHING: 5 * len(counts) * FRACTION})
        return 0

    machine.hypercalls.register(80, look)
    machine.run()
    assert counts == [2, 4], "calls that have ended"
    row = machine.exits.statistics()[ExitReason.VMCALL]
    price = machine.profile.exits[ExitReason.VMCALL].cycles
    assert row.detail[NOTHING].guest_cycles == 4 * price + 2 * 70 + 5 + 10
    assert (row.detail[NOTHING].guest_cycles_min, row.detail[NOTHING].guest_cycles_max) == (
        price + 5,
        price + 70,
    )
    assert (row.count, row.detail[NOTHING].count, row.detail[80].count) == (6, 4, 2)


def test_a_handler_is_taken_back() -> None:
    machine = calling(NOTHING)
    before = machine.exits.on(ExitReason.VMCALL, refuse)
    with pytest.raises(Seen):
        machine.run()
    assert machine.cpu.rip == START + 12 and machine.cpu.rax == NOTHING
    assert before is not None and machine.exits.on(ExitReason.VMCALL, before) is refuse
    assert machine.run().kind is StopKind.HALTED
    row = machine.exits.statistics()[ExitReason.VMCALL]
    assert (machine.cpu.rax, row.count, row.host_ns) == (0, 1, 0), "answered in C again"


def test_the_table_of_another_machine_is_no_handler() -> None:
    tables = [machine.exits.on(ExitReason.VMCALL, answer) for machine in (calling(), calling())]
    machine = calling(NOTHING)
    assert tables[0] is not None
    with pytest.raises(ValueError, match="another machine"):
        machine.exits.on(ExitReason.VMCALL, tables[0])
    machine.exits.on(ExitReason.VMCALL, lambda vcpu, exit: tables[1] and tables[1](vcpu, exit))
    with pytest.raises(ValueError, match="another machine"):
        machine.run()


def test_traces_have_a_line_for_each_call() -> None:
    machine, lines = calling(NOTHING, 99), io.StringIO()
    trace_exits(machine, lines)
    machine.run()
    calls = [line.split()[1:] for line in lines.getvalue().splitlines() if "VMCALL" in line]
    assert calls == [
        [f"{START + at:#018x}", "VMCALL", "hypercall", number] for at, number in ((12, "1"), (20, "99"))
    ]


@pytest.mark.parametrize("instruction", [VMCALL, VMMCALL])
def test_a_call_above_ring_0_is_counted_and_not_permitted(instruction: str) -> None:
    machine = calling(NOTHING, instruction=instruction)
    for name, rights in (("cs", FLAT_CODE32), ("ss", FLAT_DATA32)):
        machine.cpu.set_segment(name, 0x1B if name == "cs" else 0x23, 0, 0xFFFF_FFFF, rights | RING3)
    machine.run(cycles=10_000)
    assert machine.cpu.rax == EPERM
    assert machine.exits.statistics()[ExitReason.VMCALL].detail[NOTHING].count == 1
    assert machine.hypercalls.counts() == {}


def test_a_number_beyond_32_bits_is_no_small_one() -> None:
    machine = bare("48b80100000001000000 0f01c1 f4")  # mov rax, 0x1_0000_0001; vmcall
    machine.cpu.cr4 |= 0x20
    machine.cpu.write(0x9000, (0xA007).to_bytes(8, "little"))
    machine.cpu.write(0xA000, (0xB007).to_bytes(8, "little"))
    machine.cpu.write(0xB000, (0x87).to_bytes(8, "little"))
    machine.cpu.cr3 = 0x9000
    machine.cpu.efer = 0x500
    machine.cpu.cr0 |= 0x8000_0000
    machine.cpu.set_segment("cs", 8, 0, 0xFFFF_FFFF, FLAT_CODE64)
    machine.run()
    assert machine.cpu.rax == -1000 & (1 << 64) - 1
    assert list(machine.exits.statistics()[ExitReason.VMCALL].detail) == [0xFFFF_FFFF]
    assert machine.hypercalls.counts() == {"beyond the table": 1}


def test_vmcall_of_a_pv_guest_is_undefined() -> None:
    for instruction in ("vmcall", "vmmcall"):
        stop = pv_guest(instruction).run()
        assert (stop.kind, "#UD" in stop.reason) == (StopKind.CRASHED, True), stop


# --- what an access costs -----------------------------------------------------------------------------------------------
DEVICE = 0xFED4_0000


def answer(vcpu: Vcpu, exit: Exit) -> None:
    exit.value = 0


def pass_on(machine: Machine, reason: ExitReason) -> None:
    before = machine.exits.on(reason, lambda vcpu, exit: before(vcpu, exit))
    assert before is not None


WHO = ["nobody", "a range", "the handler of the rest", "a handler that hands on"]


def cost_of(kind: str, who: str, board: bool = True, in_kernel: bool | None = None, port: int = 0x80) -> int:
    """Guest cycles of one access of a port or address that `who` answers."""
    machine = bare(f"e4{port:02x} f4" if kind == "port" else "a10000d4fe f4", board=board)
    reason = ExitReason.IO_INSTRUCTION if kind == "port" else ExitReason.EPT_MISCONFIG
    options = {} if in_kernel is None else {"in_kernel": in_kernel}
    if who == "a range":
        if kind == "port":
            machine.exits.on_ports(port, 1, answer, **options)
        else:
            machine.exits.on_mmio(DEVICE, 4, answer, **options)
    elif who == "the handler of the rest":
        machine.exits.on(reason, answer)
    elif who == "a handler that hands on":
        pass_on(machine, reason)
    machine.run()
    (row,) = (row for exit, row in machine.exits.statistics().items() if exit is reason)
    assert row.count == 1
    return row.guest_cycles


@pytest.mark.parametrize("board", [True, False], ids=["board", "no board"])
@pytest.mark.parametrize("kind", ["port", "address"])
def test_an_access_costs_the_same_whoever_answers(kind: str, board: bool) -> None:
    profile = Machine("1M").profile
    reason = ExitReason.IO_INSTRUCTION if kind == "port" else ExitReason.EPT_MISCONFIG
    kernel = round(profile.exits[reason].cycles)
    user = kernel + round(profile.user_device.cycles)
    assert {who: cost_of(kind, who, board) for who in WHO} == dict.fromkeys(WHO, user)
    assert cost_of(kind, "a range", board, in_kernel=False) == user
    assert cost_of(kind, "a range", board, in_kernel=True) == kernel


@pytest.mark.parametrize(("port", "in_kernel"), [
    (0x20, True), (0x21, True), (0xA0, True), (0xA1, True), (0x40, True), (0x43, True), (0x61, True),
    (0x60, False), (0x64, False), (0x70, False), (0x71, False), (0x92, False), (0x22, False),
])  # fmt: skip
def test_the_boards_devices_are_where_kvm_and_qemu_have_them(port: int, in_kernel: bool) -> None:
    profile = Machine("1M").profile
    kernel = round(profile.exits[ExitReason.IO_INSTRUCTION].cycles)
    expected = kernel if in_kernel else kernel + round(profile.user_device.cycles)
    for who in ("nobody", "the handler of the rest", "a handler that hands on"):
        assert cost_of("port", who, port=port) == expected, who
    assert cost_of("port", "nobody", board=False, port=port) == kernel + round(profile.user_device.cycles)


def test_a_range_that_is_given_back_costs_what_it_did() -> None:
    def cycles(arrange: Callable[[Machine], None], code: str) -> int:
        machine = bare(code + "f4", board=True)
        arrange(machine)
        machine.run()
        return machine.cycles

    def give_back(machine: Machine) -> None:
        machine.exits.on_ports(0x3F, 4, answer)
        machine.exits.off_ports(0x3F, 4)
        machine.exits.on_mmio(DEVICE, 4, answer, in_kernel=True)
        machine.exits.on_mmio(DEVICE + 4, 4, answer, in_kernel=True)
        machine.exits.off_mmio(DEVICE, 4)

    for code in ("e440", "e43f", "a10000d4fe"):
        assert cycles(give_back, code) == cycles(as_it_is, code)
    assert cycles(give_back, "a10400d4fe") < cycles(as_it_is, "a10400d4fe")


class Zeros(Device):
    """Reads zero."""

    def read(self, offset: int, width: int) -> int:
        return 0

    def write(self, offset: int, width: int, value: int) -> None:
        """Nothing."""

    def reset(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("kind", ["port", "address"])
def test_a_device_that_is_added_later_costs_what_its_place_does(kind: str) -> None:
    def cost(in_kernel: bool | None, handled: bool | None = None, given_back: bool = False) -> int:
        machine = bare("e480 f4" if kind == "port" else "a10000d4fe f4", board=True)
        assert machine.board is not None
        if handled is not None and kind == "port":
            machine.exits.on_ports(0x7F, 2, answer, in_kernel=handled)
        elif handled is not None:
            machine.exits.on_mmio(DEVICE, 4, answer, in_kernel=handled)
        bus, place = (machine.board.ports, 0x80) if kind == "port" else (machine.board.mmio, DEVICE)
        if in_kernel is not None:
            bus.add(place, 4, Zeros(), "zeros", in_kernel=in_kernel)
        if given_back and kind == "port":
            machine.exits.off_ports(0x7F, 2)
        elif given_back:
            machine.exits.off_mmio(DEVICE, 4)
        machine.run()
        return machine.cycles

    user, kernel = cost(False), cost(True)
    assert user == cost(None) > kernel
    assert cost(True, handled=False) == user, "a handler's range says itself where its device is"
    assert cost(False, handled=True) == kernel
    assert cost(True, handled=False, given_back=True) == kernel


def test_ram_gives_way_to_a_device_that_is_added_later() -> None:
    machine = bare("8b1d00000800 f4", board=True)  # mov ebx, [0x80000]; hlt
    machine.cpu.ebx = 1
    machine.cpu.write(0x80000, b"\x11\x22\x33\x44")
    assert machine.board is not None
    machine.board.mmio.add(0x80000, 4, Zeros(), "zeros")
    machine.run()
    assert machine.cpu.ebx == 0


def test_a_dom0s_ports_cost_the_emulation_alone() -> None:
    code = "mov $6, %edi; lea iopl(%rip), %rsi; hypercall 33; in $0x80, %al; in $0x40, %al"
    machine = pv_guest(code, "iopl: .long 1\n")
    machine.exits.on_ports(0x80, 1, answer, in_kernel=False)
    machine.run()
    row = machine.exits.statistics()[ExitReason.IO_INSTRUCTION]
    emulation = round(machine.profile.paravirtual.emulation.cycles)
    assert (row.count, row.guest_cycles_min, row.guest_cycles_max) == (2, emulation, emulation)


def pv_cycles(code: str, privileged: bool = True) -> int:
    """Guest cycles of a PV guest that may use ports and executes this."""
    prelude = "mov $6, %edi; lea iopl(%rip), %rsi; hypercall 33\n"
    machine = Machine("16M", board=False)
    image = assemble(prelude + code + "\n", data="iopl: .long 1\n")
    if privileged:
        machine.load(image, pv=True)
    else:
        prepared = prepare(image, memory_bytes=16 << 20, pv=True)
        assert isinstance(prepared, XenImage)
        machine.domain = start_of_day(
            machine.cpu, prepared, frequency=machine.profile.hz, epoch=0, console=len, privileged=False
        )
        machine.profile.apply(machine.cpu, pv=True)
    assert machine.run().kind is StopKind.POWEROFF
    return machine.cycles


@pytest.mark.parametrize(("code", "privileged"), [
    ("in $0x80, %al", True), ("in $0x80, %al", False), ("out %al, $0x80", True), ("out %al, $0x80", False),
    ("mov %cr0, %rbx", True), ("cli", True), ("sti", True),
])  # fmt: skip
def test_what_is_emulated_for_a_pv_guest_costs_the_emulation_whoever_answers(
    code: str, privileged: bool
) -> None:
    profile = Machine("1M").profile
    once, twice = (pv_cycles(";".join([code] * times), privileged) for times in (1, 2))
    price = round(profile.exception.cycles + profile.paravirtual.emulation.cycles)
    assert price <= twice - once <= price + 1


def test_xens_leaves_of_cpuid_cost_what_the_others_do() -> None:
    forced = ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2"
    costs = {
        leaf: pv_cycles(f"mov ${leaf:#x}, %eax; {forced}; mov ${leaf:#x}, %eax; {forced}")
        - pv_cycles(f"mov ${leaf:#x}, %eax; {forced}; mov ${leaf:#x}, %eax")
        for leaf in (0, 7, 0x4000_0000, 0x4000_0001)
    }
    assert len(set(costs.values())) == 1 and costs[0] > 500, costs


# --- hypercalls in Python that raise ------------------------------------------------------------------------------------
def state_of(machine: Machine) -> tuple[object, ...]:
    cpu = machine.cpu
    return (
        cpu.registers(),
        cpu.cycles,
        cpu.instructions,
        cpu.counters()["hypercalls"],
        machine.hypercalls.counts(),
    )


@pytest.mark.parametrize("kind", ["vmcall", "pv", "pv in a multicall"])
def test_a_hypercall_that_raises_has_not_happened(kind: str) -> None:
    """Whole, and stepped: before the instruction each time; and the run goes on as if it had not been. What came before
    the call is complete: that takes its time, whether the call is answered or not."""

    def prepared(function: Callable[[Call], int]) -> Machine:
        if kind == "vmcall":
            machine = calling(NOTHING, 80)
        elif kind == "pv":
            machine = pv_guest(
                "mov $0x33, %ecx; mov $0x44, %r11d; mov $5, %edi; hypercall 80\n mov %rax, %rbx"
            )
        else:
            machine = pv_guest(
                "lea calls(%rip), %rdi; mov $2, %esi; hypercall 13\n mov calls+8(%rip), %rbx",
                "calls: .quad 80, 0, 5, 0, 0, 0, 0, 0\n .quad 17, 0, 0, 0, 0, 0, 0, 0\n",
            )
        machine.hypercalls.register(80, function)
        return machine

    def refuse_call(call: Call) -> int:
        call.charge(12345)
        raise Seen if failing else AssertionError

    good = prepared(lambda call: 7)
    good.run()
    failing, other = True, prepared(refuse_call)
    with pytest.raises(Seen):
        other.run()
    before = state_of(other)
    for again in (other.run, other.step, lambda: other.run(cycles=1_000_000), other.cpu.run):
        with pytest.raises(Seen):
            again()
        assert state_of(other) == before
    steps = prepared(refuse_call)
    for _ in range(100):
        was = state_of(steps)
        try:
            steps.step()
        except Seen:
            break
    assert state_of(steps)[0] == was[0] == before[0]
    assert state_of(steps)[1:3] == before[1:3] and steps.cpu.instructions == was[2]
    assert 0 <= steps.cycles - was[1] <= steps.profile.pipeline_tables().window
    stood = state_of(steps)
    with pytest.raises(Seen):
        steps.step()
    assert state_of(steps) == stood

    answers = iter((None, "x", 1 << 80, 7))

    def answer_late(call: Call) -> int:
        value: Any = next(answers)
        return value

    late = prepared(answer_late)
    for error in (TypeError, ValueError, OverflowError):
        with pytest.raises(error):
            late.run()
    late.run()
    assert state_of(late) == state_of(good)
    assert of_the_guest(late) == of_the_guest(good)


def test_a_multicall_goes_on_with_the_call_that_raised() -> None:
    """What the list's first calls have done is not done again."""
    made: list[int] = []
    machines = []
    for failures in (0, 2):
        left = [failures]

        def answer_call(call: Call) -> int:
            call.charge(1000)
            made.append(call.args[0])
            if call.args[0] == 6 and left[0]:  # noqa: B023
                left[0] -= 1  # noqa: B023
                raise Seen
            return call.args[0] + 100

        entries = "".join(f".quad 80, 0, {argument}, 0, 0, 0, 0, 0\n" for argument in (5, 6, 7))
        machine = pv_guest(
            "lea calls(%rip), %rdi; mov $3, %esi; hypercall 13\n mov %rax, %rbp\n"
            "mov calls+8(%rip), %r12; mov calls+72(%rip), %r13; mov calls+136(%rip), %r14",
            "calls: " + entries,
        )
        machine.hypercalls.register(80, answer_call)
        for _ in range(failures):
            with pytest.raises(Seen):
                machine.run()
        assert machine.run().kind is StopKind.POWEROFF
        cpu = machine.cpu
        assert (cpu.rbp, cpu.r12, cpu.r13, cpu.r14) == (0, 105, 106, 107)
        assert machine.hypercalls.counts()["hypercall 80"] == 3
        machines.append(machine)
    assert made == [5, 6, 7, 5, 6, 6, 6, 7]
    assert machines[1].cycles - machines[0].cycles < 1000, "two ways in more, and no call twice"


@pytest.mark.parametrize("kind", ["vmcall", "pv"])
def test_a_hypercall_may_inject_an_exception_in_its_place(kind: str) -> None:
    seen: list[int] = []
    machine = calling(80) if kind == "vmcall" else pv_guest("hypercall 80")
    machine.hypercalls.register(80, lambda call: machine.cpu.inject(6) or 7)
    machine.cpu.exception_bitmap |= 1 << 6

    def look(vcpu: Vcpu, exit: Exit) -> None:
        seen.append(vcpu.rip)
        raise Seen

    call = machine.cpu.rip
    machine.exits.on(ExitReason.EXCEPTION_NMI, look)
    with pytest.raises(Seen):
        machine.run()
    assert seen == [machine.cpu.rip] and machine.cpu.rip > call
    assert machine.cpu.rax == 80


def test_a_hypercall_that_stops_the_machine_stops_it_before_the_next_instruction() -> None:
    machine = pv_guest("hypercall 80\n mov $9, %ebx")
    machine.hypercalls.register(80, lambda call: machine.stop() or 7)
    assert machine.run().kind is StopKind.REQUESTED
    assert machine.cpu.rax == 7 and machine.cpu.rbx != 9
    assert machine.run().kind is StopKind.POWEROFF
    assert machine.cpu.rbx == 9


def test_what_a_console_refuses_is_written_again() -> None:
    """Text of several pieces: each comes out once, whatever the sink raises between them."""
    got: list[bytes] = []
    refusals = [True, False, True, True, False]

    def sink(data: bytes) -> None:
        if refusals and refusals.pop(0):
            raise Seen
        got.append(data)

    machine = Machine("16M", board=False, serial=sink)
    code = "xor %edi, %edi; mov $1200, %esi; lea text(%rip), %rdx; hypercall 18\n mov %rax, %rbx\n"
    machine.load(assemble(code, data='text: .rept 300\n .ascii "abcd"\n .endr\n'), pv=True)
    for _ in range(3):
        with pytest.raises(Seen):
            machine.run()
    assert machine.run().kind is StopKind.POWEROFF
    assert b"".join(got) == b"abcd" * 300 and machine.cpu.rbx == 0


@pytest.mark.parametrize(
    ("kind", "no_such_call"), [("vmcall", -1000 & 0xFFFF_FFFF), ("pv", -38 & (1 << 64) - 1)]
)
def test_no_such_call_is_the_abis_own_number(kind: str, no_such_call: int) -> None:
    """Without a function, and where a function has not what was asked of it; counted either way."""
    for number in (80, 81):
        machine = calling(number) if kind == "vmcall" else pv_guest(f"hypercall {number}\n mov %rax, %rbx")
        machine.hypercalls.register(80, lambda call: -38)
        machine.run()
        assert (machine.cpu.rax if kind == "vmcall" else machine.cpu.rbx) == no_such_call
        assert machine.hypercalls.unanswered == 1
