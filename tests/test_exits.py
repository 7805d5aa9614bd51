"""A handler that is given to `exits.on` is called; an exit is counted and costs the same, whoever answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from bare_guest import bare
from exit_guests import Seen, answer, of_the_guest, pv_guest, refuse
from pv.kernel import assemble

from hvmx import ExitReason, Machine, StopKind
from hvmx.boot import XenImage, prepare
from hvmx.cost import FRACTION
from hvmx.hvm import controls
from hvmx.hvm.device import Device
from hvmx.platform import Platform
from hvmx.pv import start_of_day

if TYPE_CHECKING:
    from hvmx.core.vcpu import Vcpu

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


# --- what an access costs -----------------------------------------------------------------------------------------------
DEVICE = 0xFED4_0000


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


def test_a_dom0s_ports_cost_the_emulation_and_the_access() -> None:
    """Whoever answers: there is no device in user space."""
    code = "mov $6, %edi; lea iopl(%rip), %rsi; hypercall 33; in $0x80, %al; in $0x40, %al"
    machine = pv_guest(code, "iopl: .long 1\n")
    machine.exits.on_ports(0x80, 1, answer, in_kernel=False)
    machine.run()
    row = machine.exits.statistics()[ExitReason.IO_INSTRUCTION]
    price = round(machine.profile.paravirtual.emulation.cycles + machine.profile.instructions["io"].cycles)
    assert (row.count, row.guest_cycles_min, row.guest_cycles_max) == (2, price, price)


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


@pytest.mark.parametrize(("code", "privileged", "accesses_a_port"), [
    ("in $0x80, %al", True, True), ("in $0x80, %al", False, False),
    ("out %al, $0x80", True, True), ("out %al, $0x80", False, False),
    ("mov %cr0, %rbx", True, False), ("cli", True, False), ("sti", True, False),
])  # fmt: skip
def test_what_is_emulated_for_a_pv_guest_costs_the_emulation_and_a_dom0s_port_its_access(
    code: str, privileged: bool, accesses_a_port: bool
) -> None:
    profile = Machine("1M").profile
    once, twice = (pv_cycles(";".join([code] * times), privileged) for times in (1, 2))
    access = profile.instructions["io"].cycles if accesses_a_port else 0
    price = round(profile.exception.cycles + profile.paravirtual.emulation.cycles + access)
    assert price <= twice - once <= price + 1


def test_xens_leaves_of_cpuid_cost_what_the_others_do() -> None:
    forced = ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2"
    costs = {
        leaf: pv_cycles(f"mov ${leaf:#x}, %eax; {forced}; mov ${leaf:#x}, %eax; {forced}")
        - pv_cycles(f"mov ${leaf:#x}, %eax; {forced}; mov ${leaf:#x}, %eax")
        for leaf in (0, 7, 0x4000_0000, 0x4000_0001)
    }
    assert len(set(costs.values())) == 1 and costs[0] > 500, costs
