"""What a comparison says at a glance is what the machines have: asked of them otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bare_guest import bare
from pv.harness import LEAF, WRITABLE
from pv.kernel import assemble
from tables import assert_fits_80_columns, printed

from hvmx import Machine, guests
from hvmx.cli import Status, main
from hvmx.comparison import resources
from hvmx.comparison.compatibility import MOST_TRIED, Offer, offer, uses_of
from hvmx.comparison.interface import MSR_RANGES, Kind, interface_of
from hvmx.comparison.outcome import Comparison, Outcome
from hvmx.comparison.resources import resources_of
from hvmx.comparison.side_by_side import compare
from hvmx.comparison.ways import BY_NAME
from hvmx.exits import ExitReason
from hvmx.hvm.console import null_sink
from hvmx.hvm.debug_console import DebugConsole
from hvmx.report.glance import glance_tables
from hvmx.report.glance_details import DETAILS

WAYS = list(BY_NAME)


@pytest.fixture(scope="module")
def outcomes(comparison: Comparison) -> dict[str, Outcome]:
    return comparison.of()


def ran(image: bytes) -> Machine:
    """A PV machine at the end of its run."""
    machine = Machine("16M")
    machine.load(image, pv=True)
    machine.run()
    return machine


# --- the interface ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["ept", "shadow", "pv"])
def test_a_port_is_reachable_if_the_bus_answers_it(way: str, outcomes: dict[str, Outcome]) -> None:
    board = Machine("1M").board
    assert board is not None
    for port in range(1 << 16):
        board.ports.read(port, 1)
    answered = (1 << 16) - len(board.ports.unmapped_reads)
    assert outcomes[way].interface.reachable(Kind.PORTS) == answered > 20


@pytest.mark.parametrize("way", ["ept", "shadow", "pv"])
def test_every_exit_that_occurred_was_one_that_could(way: str, outcomes: dict[str, Outcome]) -> None:
    could = {service.name: service for service in outcomes[way].interface.of(Kind.EXITS)}
    assert len(could) < len(ExitReason)
    for reason, row in outcomes[way].exits.items():
        assert could[reason.name].requests == row.count


@pytest.mark.parametrize(("way", "less"), [("ept", "INVLPG"), ("shadow", "EPT_VIOLATION"), ("pv", "HLT")])
def test_what_no_control_makes_exit_is_not_reachable(way: str, less: str, outcomes: dict[str, Outcome]) -> None:
    assert less not in {service.name for service in outcomes[way].interface.of(Kind.EXITS)}


def test_hypercalls_are_pvs_and_a_guest_without_hypervisor_reaches_nothing(outcomes: dict[str, Outcome]) -> None:
    reached = {way: outcome.interface.reached(Kind.HYPERCALLS) for way, outcome in outcomes.items()}
    assert reached == {"ept": 0, "shadow": 0, "pv": len(outcomes["pv"].hypercalls), "native": 0}
    assert outcomes["native"].interface.services == ()


def test_an_msr_is_reachable_for_pv_if_a_kernel_can_read_it(outcomes: dict[str, Outcome]) -> None:
    names = {service.name for service in outcomes["pv"].interface.of(Kind.MSRS)}
    for number in (0x10, 0x1B, 0x277, 0xC0000080, 0x174, 0xC0000081, 0xC0000082):
        tried = offer(ExitReason.MSR_READ, number) is Offer.YES
        assert tried == (f"MSR {number:#x}" in names), f"{number:#x}"


def test_an_msr_that_passes_the_bitmap_is_no_request() -> None:
    machine = bare("b9 00 01 00 c0  0f 32  b9 80 00 00 c0  0f 32  f4")  # rdmsr of FS base and of EFER; hlt
    machine.run()
    services = {service.name: service for service in interface_of(machine, BY_NAME["ept"]).of(Kind.MSRS)}
    assert "MSR 0xc0000100" not in services
    assert services["MSR 0xc0000080"].requests == 1


def test_an_msr_that_there_is_not_is_a_request_refused() -> None:
    machine = bare("b9 99 99 00 00  0f 32")  # mov ecx, 0x9999; rdmsr
    machine.run()
    assert not any(0x9999 in numbers for numbers in MSR_RANGES)
    assert interface_of(machine, BY_NAME["ept"]).refused["MSRs that there are not"] == 1


def test_ports_without_a_device_are_requests_refused() -> None:
    machine = bare("e6 80  e4 81  f4", "2M", board=True)  # out 0x80, al; in al, 0x81; hlt
    machine.run()
    assert interface_of(machine, BY_NAME["ept"]).refused["ports without a device"] == 2


def test_hypercalls_that_are_answered_by_an_error_are_counted_and_what_iret_returns_is_no_error() -> None:
    machine = ran(assemble(
        """
        mov $0x1000, %edi                   # mmu_update by a list that is not mapped: -EFAULT
        mov $1, %esi
        xor %edx, %edx
        mov $0x7ff0, %r10d                  # DOMID_SELF
        hypercall 1
        mov %rax, %r12
        mov $200, %eax                      # no such hypercall: -ENOSYS
        syscall
        mov %rax, %r13
        xor %edi, %edi                      # xen_version is answered
        hypercall 17
        lea stack_end(%rip), %rcx
        push $0xe02b                        # SS, RSP, RFLAGS, CS, RIP; flags, RCX, R11, RAX = -38
        push %rcx
        push $0x200
        push $0xe030
        lea 1f(%rip), %rax
        push %rax
        push $0
        push $0
        push $0
        push $-38
        mov $23, %eax
        syscall
1:      mov %rax, %r14
        """
    ))  # fmt: skip
    signed = [value - (1 << 64) for value in (machine.cpu.r12, machine.cpu.r13, machine.cpu.r14)]
    assert signed == [-14, -38, -38]
    assert (machine.hypercalls.refused, machine.hypercalls.unanswered) == (2, 1)
    assert interface_of(machine, BY_NAME["pv"]).refused["hypercalls"] == 2


def test_an_instruction_that_xen_does_not_emulate_is_a_request_refused_and_an_msr_that_it_does_is_reached() -> None:
    machine = ran(assemble("mov $0x1b, %ecx; rdmsr; rdmsr; hlt"))
    interface = interface_of(machine, BY_NAME["pv"])
    assert interface.refused["privileged instructions"] == 1
    assert {service.name: service.requests for service in interface.of(Kind.MSRS) if service.requests} == {"MSR 0x1b": 2}


def test_a_file_is_behind_what_was_reached_if_something_in_it_was(outcomes: dict[str, Outcome]) -> None:
    for way in ("ept", "shadow", "pv"):
        interface = outcomes[way].interface
        assert 0 < interface.reached_lines < interface.reachable_lines < interface.core_lines
    uart, mmu = "src/hvmx/hvm/uart.py", "cext/xen/mmu.c"
    files = {way: {service.file for service in outcomes[way].interface.services if service.requests} for way in WAYS}
    assert uart in files["ept"] and uart not in files["pv"]
    assert mmu in files["pv"] and mmu not in files["ept"]


# --- compatibility ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reason", "number", "expected"),
    [
        (ExitReason.CPUID, 0, Offer.YES),
        (ExitReason.RDTSC, 0, Offer.YES),
        (ExitReason.WBINVD, 0, Offer.YES),
        (ExitReason.CR_ACCESS, 3, Offer.YES),
        (ExitReason.CR_ACCESS, 8, Offer.NO),
        (ExitReason.DR_ACCESS, 7, Offer.YES),
        (ExitReason.MSR_WRITE, 0xC0000080, Offer.YES),
        (ExitReason.MSR_WRITE, 0xC0000082, Offer.NO),
        (ExitReason.HLT, 0, Offer.NO),
        (ExitReason.INVLPG, 0, Offer.NO),
        (ExitReason.GDTR_IDTR, 0, Offer.NO),
        (ExitReason.IO_INSTRUCTION, 0x61, Offer.DOM0),
        (ExitReason.EPT_MISCONFIG, 0xFEC00000, Offer.NO),
        (ExitReason.TASK_SWITCH, 0, Offer.NO),
    ],
)  # fmt: skip
def test_pv_offers_what_xen_emulates(reason: ExitReason, number: int, expected: Offer) -> None:
    assert offer(reason, number) is expected


def test_what_an_unmodified_guest_used_and_pv_lacks_is_named() -> None:
    # in al, 0x61; in al, 0x81; cpuid; invd; hlt
    machine = bare("e4 61  e4 81  0f a2  0f 08  f4", "2M", board=True)
    machine.run()
    uses = {use.name: (use.count, use.pv) for use in uses_of(machine, BY_NAME["ept"])}
    assert uses == {
        "port 0x61": (1, Offer.DOM0),
        "ports without a device": (1, Offer.DOM0),
        "CPUID": (1, Offer.YES),
        "INVD": (1, Offer.NO),
        "HLT": (1, Offer.NO),
    }


def test_what_is_counted_with_others_is_not_tried() -> None:
    # mov edi, 0x100000; mov ecx, 33000; 1: mov eax, [edi]; add edi, 0x1000; loop 1b: so many that no more are told apart
    pages = "bf 00 00 10 00  b9 e8 80 00 00  8b 07  81 c7 00 10 00 00  e2 f6"
    machine = bare(f"{pages}  e4 61  b9 1b 00 00 00  0f 32  f4", "256M", board=True)  # in al, 0x61; rdmsr; hlt
    machine.run()
    uses = {use.name: (use.count, use.pv) for use in uses_of(machine, BY_NAME["ept"])}
    assert uses == {
        "IO_INSTRUCTION others": (1, Offer.UNTRIED),
        "MSR_READ others": (1, Offer.UNTRIED),
        "HLT": (1, Offer.NO),
    }
    interface = interface_of(machine, BY_NAME["ept"])
    assert interface.reached(Kind.PORTS) == interface.reached(Kind.MSRS) == interface.refusals == 0


def test_a_guest_that_asks_for_very_many_msrs_is_told_of_the_most_frequent() -> None:
    # mov edi, 2 * MOST_TRIED; 1: mov ecx, edi; rdmsr; dec edi; jnz 1b; hlt
    machine = bare(f"bf {(2 * MOST_TRIED).to_bytes(4, 'little').hex()}  89 f9  0f 32  4f  75 f9  f4")
    machine.exits.on(ExitReason.MSR_READ, lambda vcpu, exit: None)
    machine.run()
    found = [use for use in uses_of(machine, BY_NAME["ept"]) if use.name.startswith("RDMSR")]
    assert len(found) > 3 * MOST_TRIED // 2
    assert sum(use.pv is not Offer.UNTRIED for use in found) == MOST_TRIED


def test_mmio_is_reached_by_an_unmodified_guest_and_offered_to_no_pv_guest() -> None:
    machine = bare("a1 00 00 c0 fe  f4", "2M", board=True)  # mov eax, [0xfec00000]; hlt
    assert machine.board is not None
    for base, name in ((0xFEC00000, "the one"), (0xFED00000, "the other")):
        machine.board.mmio.add(base, 0x20, DebugConsole(null_sink), name)
    machine.run()
    services = interface_of(machine, BY_NAME["ept"]).of(Kind.MMIO)
    assert [(service.name, service.used, service.requests) for service in services] == [
        ("the one", 1, 1), ("the other", 0, 0),
    ]  # fmt: skip
    assert services[0].file == "src/hvmx/hvm/debug_console.py"
    assert {use.name: use.pv for use in uses_of(machine, BY_NAME["ept"])}["the one"] is Offer.NO


def test_what_pv_lacks_is_named_at_a_glance(outcomes: dict[str, Outcome]) -> None:
    text = " ".join(printed(*glance_tables(outcomes)).split())
    lacking = [use.name for use in outcomes["ept"].uses if use.pv is Offer.NO]
    assert "HLT" in lacking and len(lacking) < 6
    assert all(name in text for name in lacking)


def test_a_way_that_is_refused_says_why() -> None:
    comparison = compare(guests.image("hvm64"), ways=["ept", "pv"])
    assert list(comparison.of()) == ["ept"]
    assert "XEN_VERSION note" in " ".join(printed(*glance_tables(comparison.of(), comparison.refusals)).split())


# --- resources ----------------------------------------------------------------------------------------------------------
def test_nested_page_tables_are_those_of_the_pages_that_were_mapped(outcomes: dict[str, Outcome]) -> None:
    pages = outcomes["ept"].exits[ExitReason.EPT_VIOLATION].detail
    tables = sum(len({page >> shift for page in pages}) for shift in (21, 30, 39, 48))
    assert outcomes["ept"].resources.nested_tables == tables
    assert all(outcomes[way].resources.nested_tables == 0 for way in WAYS if way != "ept")


def test_shadow_page_tables_mirror_the_page_tables_that_were_walked() -> None:
    code = (
        "c7 05 00 00 10 00 23 00 20 00"  # the directory's entry 0: the table at 0x200000
        "c7 05 04 00 20 00 63 10 00 00"  # the table's entry 1: the page at 0x1000
        "b8 00 00 10 00  0f 22 d8"  # cr3
        "0f 20 c0  0d 00 00 00 80  0f 22 c0"  # cr0.pg
        "90 f4"
    )
    machine = bare(code, "4M", paging="shadow")
    machine.run()
    assert resources_of(machine).shadow_tables == 2


def test_typed_page_tables_are_those_of_the_start_of_day_and_those_that_are_pinned() -> None:
    """Each once, also where it is below two roots; and no more when the pin is taken away."""
    root, level3, level2, *leaves = new_tables = range(1, 6)
    machine = Machine("16M")
    call = "lea {}(%rip), %rdi; mov $1, %esi; xor %edx, %edx; mov $0x7ff0, %r10d; hypercall 26; mov %rax, {}\n"
    operations = f"pin: .quad 3, {root}, 0\nunpin: .quad 4, {root}, 0\n"
    image = assemble(call.format("pin", "%r12") + call.format("unpin", "%r13"), data=operations)
    machine.load(image, pv=True)
    first = machine.cpu.cr3 >> 12
    words = machine.memory.view("<u8").reshape(-1, 512)
    table = LEAF & ~WRITABLE
    assert words[first, 511] & 1
    words[root, 0], words[root, 511] = level3 << 12 | table, words[first, 511]  # the last is the kernel's own half
    words[level3, 0] = level2 << 12 | table
    words[level2, :2] = [leaf << 12 | table for leaf in leaves]
    before = tables_below(machine, first, 4)
    assert resources_of(machine).typed_tables == len(before)
    unanswered = machine.cpu.r12 = machine.cpu.r13 = 1
    while machine.cpu.r12 == unanswered:
        machine.step()
    pinned = before | tables_below(machine, root, 4)
    assert resources_of(machine).typed_tables == len(pinned) == len(before) + len(new_tables)
    while machine.cpu.r13 == unanswered:
        machine.step()
    assert resources_of(machine).typed_tables == len(before)
    assert machine.cpu.r12 == machine.cpu.r13 == 0


def tables_below(machine: Machine, frame: int, level: int) -> set[int]:
    """The page tables of the domain's own, found by a walk over all present entries."""
    assert machine.domain is not None
    found = {frame}
    if level > 1:
        for entry in machine.memory[frame << 12 : (frame + 1) << 12].view("<u8"):
            child = (int(entry) & 0x000F_FFFF_FFFF_F000) >> 12
            if int(entry) & 1 and child < machine.domain.xen.frame(0) + 1:
                found |= tables_below(machine, child, level - 1)
    return found


def test_state_is_of_devices_and_of_domains(outcomes: dict[str, Outcome]) -> None:
    assert all(outcome.resources.device_state > 500 for outcome in outcomes.values())
    assert {way for way in WAYS if outcomes[way].resources.domain_state} == {"pv"}
    assert outcomes["pv"].resources.frame_table == (128 << 20) // 0x1000 * 8


def test_host_time_is_split_into_what_it_is_and_memory_beyond_the_guests_is_little(outcomes: dict[str, Outcome]) -> None:
    for way, outcome in outcomes.items():
        assert 0 < outcome.host.exit_seconds < outcome.host.seconds, way
        assert 0 < outcome.host.other_seconds < outcome.host.seconds, way
        assert 0 < (outcome.host.core_memory or 0) < 32 << 20, way
    assert {way for way in WAYS if outcomes[way].host.hypercall_seconds} == {"pv"}


def test_memory_of_a_host_that_does_not_tell_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resources, "PAGEMAP", tmp_path / "pagemap")
    outcomes = compare(ways=["pv"], workloads=["cpuid"]).of()
    assert outcomes["pv"].host.core_memory is None
    (line,) = (line for line in printed(*glance_tables(outcomes)).splitlines() if "memory of the core" in line)
    assert line.split()[-1] == "-"


# --- the whole ----------------------------------------------------------------------------------------------------------
def test_all_but_the_hosts_figures_is_the_same_at_each_run(comparison: Comparison) -> None:
    again = compare()
    assert again == comparison
    for one, other in zip(again, comparison, strict=True):
        assert (one.uses, one.interface, one.resources) == (other.uses, other.interface, other.resources)
        assert one.host != other.host


def test_json_has_what_the_tables_are_of(outcomes: dict[str, Outcome]) -> None:
    data = json.loads(json.dumps(outcomes["pv"].as_json()))
    assert data["interface"]["reached"]["hypercalls"] == outcomes["pv"].interface.reached(Kind.HYPERCALLS)
    assert data["resources"]["typed_tables"] == outcomes["pv"].resources.typed_tables
    assert set(data["host"]) == {"seconds", "exit_seconds", "hypercall_seconds", "other_seconds", "core_memory"}
    hvm = outcomes["ept"].as_json()
    assert {"name": "HLT", "count": 1, "pv": "no"} in hvm["uses"]


FIGURE = r"[+-]?[\d,]+(\.\d+)?( [kMGTPE])?%?(/[\d,]+)?|[\d,]+ (nested|shadow|typed)"


def test_each_row_has_a_figure_for_each_way_or_says_that_there_is_none(outcomes: dict[str, Outcome]) -> None:
    at_a_glance, _, host = glance_tables(outcomes)
    sections: dict[str, int] = {}
    for table, heading in ((at_a_glance, ""), (host, "Host")):
        for name, *cells in zip(*(column.cells for column in table.columns), strict=True):
            if not str(name).startswith(" "):
                heading = str(name)
                assert not any(cells), heading
                continue
            sections[heading] = sections.get(heading, 0) + 1
            assert len(cells) == len(WAYS)
            assert all(cell == "-" or re.fullmatch(FIGURE, str(cell)) for cell in cells), f"{name}: {cells}"
            assert set(cells) != {"-"}, name
    assert list(sections) == ["Performance", "Compatibility", "Security", "Resources", "Host"]
    assert min(sections.values()) > 2
    lines = [line.rstrip() for line in printed(*glance_tables(outcomes)).splitlines()]
    assert [line for line in lines if line in sections] == list(sections)[:-1]


def test_more_than_the_fewest_has_its_sign(outcomes: dict[str, Outcome]) -> None:
    (line,) = (line for line in printed(*glance_tables(outcomes)).splitlines() if "more than the fewest" in line)
    cycles = [outcome.guest_cycles for outcome in outcomes.values()]
    assert line.split()[4:] == [f"{100 * (count / min(cycles) - 1):+,.0f}%" for count in cycles]


@pytest.mark.parametrize("row", ["glance", *DETAILS])
def test_the_tables_fit_80_columns(row: str, outcomes: dict[str, Outcome]) -> None:
    assert_fits_80_columns(printed(*(glance_tables(outcomes) if row == "glance" else DETAILS[row](outcomes))))


def test_the_details_of_a_row_come_instead_of_the_other_tables(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--ways", "ept,pv", "--details", "compatibility", "cpuid"]) == Status.GOOD
    text = capfd.readouterr().out
    assert "offered to PV" in text and "At a glance" not in text
    for image in ("hvm64", "pv64"):
        assert f"Ways to run {Path(guests.image(image)).name}" in text


def test_details_are_tables(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--json", "--details", "security"]) == Status.BAD_OPTION
    assert "--details are tables" in capfd.readouterr().err
