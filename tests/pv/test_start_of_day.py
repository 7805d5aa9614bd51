"""What a domain finds at its first instruction, and the bundled guest from there to its end."""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from hvmx import ExitReason, Machine, StopKind
from hvmx.boot import ImageError, XenImage, prepare
from hvmx.core.vcpu import Vcpu
from hvmx.pv import Domain, start_of_day
from hvmx.pv.start_of_day import START_INFO

from .kernel import VIRT_BASE, assemble

MEMORY = 16 << 20
PAGE = 0x1000
RAMDISK = bytes(range(256)) * 40
P2M_BASE = 0x8000000000
FIELDS = [
    "magic",
    "nr_pages",
    "shared_info",
    "flags",
    "store_mfn",
    "store_evtchn",
    "console_mfn",
    "console_evtchn",
    "pt_base",
    "nr_pt_frames",
    "mfn_list",
    "mod_start",
    "mod_len",
    "cmd_line",
    "first_p2m_pfn",
    "nr_p2m_frames",
]


class Started:
    """A machine at its first instruction, seen through the guest's own page tables."""

    def __init__(
        self, image: bytes, *, privileged: bool = True, append: str = "", ramdisk: bytes = b""
    ) -> None:
        self.machine = Machine(MEMORY, board=False)
        parsed = prepare(image, memory_bytes=MEMORY, pv=True, command_line=append, initrd=ramdisk or None)
        assert isinstance(parsed, XenImage)
        self.domain: Domain = start_of_day(
            self.machine.cpu,
            parsed,
            frequency=10**9,
            epoch=0,
            console=lambda text: None,
            privileged=privileged,
        )
        self.words = self.machine.memory.view(np.uint64)
        values = START_INFO.unpack(self.read(self.machine.cpu.rsi, START_INFO.size))
        self.info = dict(zip(FIELDS, values, strict=True))

    def entry(self, address: int) -> int:
        """The page-table entry that maps a virtual address."""
        entry = int(self.machine.cpu.cr3)
        for shift in (39, 30, 21, 12):
            entry = int(self.words[((entry & 0xFFFFFFFFFF000) >> 3) + (address >> shift & 511)])
            assert entry & 1, f"{address:#x} is not mapped (level {(shift - 12) // 9 + 1})"
        return entry

    def read(self, address: int, size: int) -> bytes:
        """Guest memory at a virtual address."""
        result = b""
        while len(result) < size:
            at = address + len(result)
            part = min(size - len(result), PAGE - at % PAGE)
            physical = (self.entry(at) & 0xFFFFFFFFFF000) + at % PAGE
            result += self.machine.memory[physical : physical + part].tobytes()
        return result

    def frame_of(self, page: int) -> int:
        """What the domain's own list says."""
        return struct.unpack("<Q", self.read(self.info["mfn_list"] + page * 8, 8))[0]


def test_start_info_describes_the_domain() -> None:
    for privileged, flags in ((True, 3), (False, 0)):
        guest = Started(assemble(""), append="one two", privileged=privileged)
        info = guest.info
        assert info["magic"].rstrip(b"\0") == b"xen-3.0-x86_64"
        assert info["cmd_line"].rstrip(b"\0") == b"one two"
        assert info["flags"] == flags
        assert info["pt_base"] % PAGE == 0
        assert guest.entry(info["pt_base"]) & 0xFFFFFFFFFF000 == guest.machine.cpu.cr3
        for name in ("store_mfn", "console_mfn", "store_evtchn", "console_evtchn"):
            assert bool(info[name]) is not privileged, f"{name} of a {'dom0' if privileged else 'domU'}"
        assert info["nr_pages"] * PAGE < MEMORY


def test_the_list_of_frames_and_the_machines_table_are_each_others_inverse() -> None:
    guest = Started(assemble(""))
    frames = [guest.frame_of(page) for page in range(guest.info["nr_pages"])]
    assert len(set(frames)) == len(frames)
    m2p = np.frombuffer(guest.read(0xFFFF800000000000, (MEMORY // PAGE) * 8), np.uint64)
    assert [int(m2p[frame]) for frame in frames] == list(range(len(frames)))
    assert frames != sorted(frames), "machine frames in ascending order hide a guest's mistakes"


def test_all_is_mapped_from_the_base_on_page_tables_read_only_and_with_room_behind() -> None:
    guest = Started(assemble(""))
    tables = range(guest.info["pt_base"], guest.info["pt_base"] + guest.info["nr_pt_frames"] * PAGE, PAGE)
    stack_end = guest.machine.cpu.rsp
    end = stack_end + (512 << 10)
    assert stack_end == tables.stop + PAGE
    for address in range(VIRT_BASE, end, PAGE):
        entry = guest.entry(address)
        assert bool(entry & 2) is (address not in tables), f"{address:#x}: {entry:#x}"
        assert entry >> 12 & 0xFFFFFFFFFF == guest.frame_of((address - VIRT_BASE) // PAGE)


@pytest.mark.parametrize("by_page", [False, True])
def test_the_ramdisk_is_where_start_info_says(by_page: bool) -> None:
    notes = "note 16, .long 1" if by_page else ""
    guest = Started(assemble("", notes=notes), ramdisk=RAMDISK)
    start, size = guest.info["mod_start"], guest.info["mod_len"]
    assert size == len(RAMDISK)
    assert bool(guest.info["flags"] & 8) is by_page
    if by_page:
        frames = [guest.frame_of(start + index) for index in range(-(-size // PAGE))]
        pages = b"".join(guest.machine.memory[f * PAGE : (f + 1) * PAGE].tobytes() for f in frames)
        assert pages[:size] == RAMDISK
    else:
        assert guest.read(start, size) == RAMDISK


def test_the_list_of_frames_is_mapped_where_the_kernel_wants_it() -> None:
    guest = Started(assemble("", notes=f"note 15, .quad {P2M_BASE:#x}"))
    info = guest.info
    assert info["mfn_list"] == P2M_BASE
    assert guest.frame_of(0) == guest.entry(VIRT_BASE) >> 12 & 0xFFFFFFFFFF
    list_frames = [guest.entry(P2M_BASE) >> 12 & 0xFFFFFFFFFF]
    assert guest.frame_of(info["first_p2m_pfn"]) == list_frames[0]
    list_pages = -(-info["nr_pages"] * 8 // PAGE)
    assert info["nr_p2m_frames"] > list_pages, "the tables that map the list are not counted"


def test_the_hypercall_page_calls_by_number_and_keeps_rcx_and_r11() -> None:
    code = """
        mov $0x1111, %ecx
        mov $0x2222, %r11d
        xor %edi, %edi
        call hypercall_page + 17 * 32
        mov %rax, %rbx
        mov %rcx, %rbp
        mov %r11, %r12
    """
    page = ".align 4096\nhypercall_page: .skip 4096\n"
    machine = Machine(MEMORY, board=False)
    machine.load(assemble(code, data=page, notes="note 2, .quad hypercall_page"), pv=True)
    assert machine.run().kind is StopKind.POWEROFF
    assert (machine.cpu.rbx, machine.cpu.rbp, machine.cpu.r12) == (4 << 16 | 17, 0x1111, 0x2222)


def test_what_does_not_fit_is_refused_with_the_sizes() -> None:
    image = assemble("")
    with pytest.raises(ImageError, match="0x"):
        Started(image, ramdisk=bytes(MEMORY))
    with pytest.raises(ImageError, match="1024 bytes"):
        Started(image, append="x" * 1024)
    with pytest.raises(ImageError, match="takes 0x400000 bytes"):
        Machine(1 << 20, board=False).load(image, pv=True)
    with pytest.raises(ValueError, match="32768 bytes is too small"):
        Domain(Vcpu(0x8000), frequency=1, epoch=0, privileged=True, console=print)


def test_a_crash_of_the_domain_says_why() -> None:
    machine = Machine(MEMORY, board=False)
    machine.load(assemble("mov 0x1000, %rax"), pv=True)
    stop = machine.run()
    assert stop.kind is StopKind.CRASHED
    assert "no handler is registered for #PF" in stop.reason and "0x1000" in stop.reason


@pytest.mark.parametrize(
    "action", ["lgdt (%rsp)", "mov %rax, 0xffff800000000000", "mov 0xffff820000070000, %rax"]
)
def test_the_kernel_cannot_do_the_hypervisors_work(action: str) -> None:
    movabs = action.replace("mov ", "movabs ") if "0xffff" in action else action
    machine = Machine(MEMORY, board=False)
    machine.load(assemble(movabs), pv=True)
    stop = machine.run()
    assert stop.kind is StopKind.CRASHED, f"{action} went through"


OPEN_PORTS = """
    mov $6, %edi
    lea level(%rip), %rsi
    hypercall 33
"""


def test_a_handler_that_raises_leaves_the_guest_at_its_port_instruction() -> None:
    machine = Machine(MEMORY)
    code = OPEN_PORTS + "mov $0x80, %edx\n at_port: in %dx, %al\n movzbl %al, %ebx\n"
    machine.load(assemble(code, data="level: .long 1\n"), pv=True)

    def refuse(vcpu: Any, exit: Any) -> None:
        raise LookupError(f"port {exit.port:#x}")

    def answer(vcpu: Any, exit: Any) -> None:
        exit.value = 0x42

    machine.exits.on(ExitReason.IO_INSTRUCTION, refuse)
    for _ in range(2):
        with pytest.raises(LookupError, match="port 0x80"):
            machine.run()
        assert machine.cpu.rdx == 0x80
    machine.exits.on(ExitReason.IO_INSTRUCTION, answer)
    assert machine.run().kind is StopKind.POWEROFF
    assert machine.cpu.rbx == 0x42


def test_a_domain_that_waits_for_nothing_is_halted() -> None:
    machine = Machine(MEMORY, board=False)
    stop_tick = "mov $7, %edi\n xor %esi, %esi\n hypercall 24\n"
    machine.load(assemble(stop_tick + "mov $1, %edi\n hypercall 29\n"), pv=True)
    assert machine.run().kind is StopKind.HALTED


# --- the bundled guest ----------------------------------------------------------------------------------------------------
def bundled() -> bytes:
    return (files("hvmx.guests") / "built" / "hvmx-pv64.elf").read_bytes()


def boot(privileged: bool) -> tuple[Machine, str]:
    text: list[bytes] = []
    console: Callable[[bytes], Any] = text.append
    machine = Machine("32M", board=privileged, serial=console)
    if privileged:
        machine.load(bundled(), pv=True)
    else:
        image = prepare(bundled(), memory_bytes=machine.cpu.memory_bytes, pv=True)
        assert isinstance(image, XenImage)
        machine.domain = start_of_day(
            machine.cpu, image, frequency=machine.profile.hz, epoch=0, console=console, privileged=False
        )
    stop = machine.run(cycles=10**10)
    printed = b"".join(text).decode()
    assert stop.kind is StopKind.POWEROFF, f"{stop}\n{printed}"
    return machine, printed


@pytest.mark.parametrize("privileged", [True, False], ids=["dom0", "domU"])
def test_the_bundled_guest_passes_its_own_checks(privileged: bool) -> None:
    machine, printed = boot(privileged)
    assert "guest pv64 done, 0 checks failed" in printed, printed
    assert f"booted by xen as {'dom0' if privileged else 'domU'}" in printed
    assert printed.count(": ok") >= 13, printed
    assert machine.hypercalls.unanswered == 0
    assert machine.hypercalls.slow == 0


def test_two_runs_are_the_same_to_the_last_bit() -> None:
    first, second = boot(True)[0], boot(True)[0]
    assert first.cpu.cycles == second.cpu.cycles
    assert first.state_hash() == second.state_hash()
    assert first.hypercalls.counts() == second.hypercalls.counts()
