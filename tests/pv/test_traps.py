"""Frames and modes: what the guest's kernel finds on its stack when it is entered, as Xen makes it."""

from __future__ import annotations

import struct

import pytest

from .harness import DOMID_SELF, Guest

RCX, RSP, RDI, R11 = 1, 4, 7, 11
SET_TRAP_TABLE, STACK_SWITCH, CALLBACK_OP, IRET, MMUEXT_OP = 0, 3, 30, 23, 26
FPU_TASKSWITCH, MULTICALL, SET_SEGMENT_BASE = 5, 13, 25
CS, SS = 0xE033, 0xE02B
IF, DF, TF = 0x200, 0x400, 0x100
SYSCALL, SYSENTER = 2, 5
HANDLER, KERNEL_STACK_PAGE = 0xFFFFFFFF80004000, 3
USER_RIP, USER_RSP = 0x400000, 0x7FFFFFF0
CRASHED = 2


def set_trap(guest: Guest, vector: int, flags: int, address: int = HANDLER) -> None:
    table = struct.pack("<BBHxxxxQ", vector, flags, CS, address) + bytes(16)
    assert guest.call(SET_TRAP_TABLE, guest.put(table)) == 0


def set_callback(guest: Guest, kind: int, flags: int = 0) -> None:
    assert guest.call(CALLBACK_OP, 0, guest.put(struct.pack("<HHxxxxQ", kind, flags, HANDLER))) == 0


def enter_user(guest: Guest, flags: int = 0, rflags: int = IF) -> None:
    """To user mode, on the same page tables; the kernel's stack is then page KERNEL_STACK_PAGE."""
    operation = guest.put(struct.pack("<I4xQQ", 15, guest.frame(guest.l4), 0))
    assert guest.call(MMUEXT_OP, operation, 1, 0, DOMID_SELF) == 0
    assert guest.call(STACK_SWITCH, SS, guest.virtual(KERNEL_STACK_PAGE + 1)) == 0
    iret(guest, cs=CS, flags=flags, rflags=rflags)
    assert not guest.library.harness_in_kernel(guest.cpu)


def iret(guest: Guest, *, cs: int, flags: int = 0, rflags: int = IF, rsp: int = USER_RSP) -> int:
    frame = struct.pack("<9Q", 0xA, 0xB, 0xC, flags, USER_RIP, cs, rflags, rsp, SS)
    guest.registers[RSP] = guest.put(frame, 0x800, page=Guest.STACK)
    return guest.call(IRET)


def top_of_stack(guest: Guest, words: int) -> tuple[int, ...]:
    offset = guest.registers[RSP] & 0xFFF
    page = (guest.registers[RSP] - guest.virtual(0)) >> 12
    return struct.unpack(f"<{words}Q", guest.get(words * 8, offset, page))


def test_an_exception_in_the_kernel_pushes_on_its_own_stack() -> None:
    with Guest() as guest:
        set_trap(guest, 13, 0)
        guest.registers[RSP] = guest.virtual(3) + 0x123
        guest.registers[RCX], guest.registers[R11] = 0x1111, 0x2222
        guest.library.harness_set_rip(guest.cpu, 0x5000)
        guest.library.harness_exception(guest.cpu, 13, 0x18, 0)
        rcx, r11, error, rip, cs, rflags, rsp, ss = top_of_stack(guest, 8)
        assert (rcx, r11, error, rip) == (0x1111, 0x2222, 0x18, 0x5000)
        assert cs == (CS & ~3) | 1 << 32, "the kernel's CS has RPL 0, and the event mask above it"
        assert (rsp, ss) == (guest.virtual(3) + 0x123, SS)
        assert not rflags & IF, "events are masked at the start of day: IF is shown clear"
        assert guest.registers[RSP] == guest.virtual(3) + 0x120 - 64
        assert guest.library.harness_rip(guest.cpu) == HANDLER


def test_a_page_fault_leaves_its_address_in_vcpu_info_and_says_whose_it_was() -> None:
    with Guest() as guest:
        set_trap(guest, 14, 4)
        guest.registers[RSP] = guest.virtual(4)
        guest.library.harness_exception(guest.cpu, 14, 7, 0xDEAD000)
        assert struct.unpack("<Q", guest.shared_info(8, 16)) == (0xDEAD000,)
        assert top_of_stack(guest, 3)[2] == 3, "a fault of the kernel has the user bit"
        enter_user(guest)
        guest.library.harness_exception(guest.cpu, 14, 7, 0xBEEF000)
        assert top_of_stack(guest, 3)[2] == 7
        assert guest.shared_info(2, 0)[1] == 1, "the handler asked for masked events"


def test_a_vector_without_an_error_code_has_none_on_the_stack() -> None:
    with Guest() as guest:
        set_trap(guest, 0, 0)
        guest.registers[RSP] = guest.virtual(4)
        guest.library.harness_set_rip(guest.cpu, 0x5000)
        guest.library.harness_exception(guest.cpu, 0, 0, 0)
        assert top_of_stack(guest, 3)[2] == 0x5000


def test_a_system_call_enters_the_kernel_on_the_kernels_stack_and_space() -> None:
    with Guest() as guest:
        set_callback(guest, SYSCALL, flags=1)
        enter_user(guest, rflags=IF | DF | 1)
        assert guest.call(SET_SEGMENT_BASE, 0, 0) == SET_SEGMENT_BASE, (
            "a system call was answered as a hypercall"
        )
        assert guest.library.harness_in_kernel(guest.cpu)
        rcx, r11, rip, cs, rflags, rsp, ss = top_of_stack(guest, 7)
        assert rcx == rip == 0x1002, "RCX and the frame have the address after SYSCALL"
        assert r11 == rflags == IF | DF | 3
        assert (cs, rsp, ss) == (CS, USER_RSP, SS), "the frame is not one of user mode"
        assert guest.registers[RSP] == guest.virtual(KERNEL_STACK_PAGE + 1) - 56
        assert guest.library.harness_rip(guest.cpu) == HANDLER
        assert guest.shared_info(2, 0)[1] == 1


def test_a_system_call_without_a_callback_is_an_undefined_instruction() -> None:
    with Guest() as guest:
        set_trap(guest, 6, 0)
        enter_user(guest)
        guest.call(1)
        assert top_of_stack(guest, 3)[2] == 0x1000, "the frame does not point at the SYSCALL"


@pytest.mark.parametrize("in_syscall", [False, True])
def test_iret_restores_what_its_flags_say(in_syscall: bool) -> None:
    with Guest() as guest:
        enter_user(guest, flags=0x100 if in_syscall else 0)
        registers = guest.registers
        assert (registers[0], registers[RSP]) == (0xA, USER_RSP)
        expected = (USER_RIP, IF | 2) if in_syscall else (0xC, 0xB)
        assert (registers[RCX], registers[R11] & ~2) == (expected[0], expected[1] & ~2)
        assert guest.library.harness_rip(guest.cpu) == USER_RIP
        assert guest.shared_info(2, 0)[1] == 0, "IF unmasks events"


def test_iret_to_the_kernel_stays_in_the_kernel_and_masks_by_if() -> None:
    with Guest() as guest:
        iret(guest, cs=CS & ~3, rflags=0)
        assert guest.library.harness_in_kernel(guest.cpu)
        assert guest.shared_info(2, 0)[1] == 1


def test_iret_to_a_bad_selector_is_a_fault_of_the_instruction_that_it_returns_to() -> None:
    with Guest() as guest:
        set_trap(guest, 13, 0)
        iret(guest, cs=0x1230, rsp=guest.virtual(4))
        assert guest.library.harness_rip(guest.cpu) == HANDLER
        rcx, r11, error, rip, cs = top_of_stack(guest, 5)
        assert (rcx, r11, error, rip, cs) == (0xC, 0xB, 0x1230, USER_RIP, 0x1230)


def test_a_null_selector_is_no_descriptor_even_where_the_table_has_one() -> None:
    with Guest() as guest:
        flat_code = 0x00AFFB000000FFFF
        guest.put(struct.pack("<Q", flat_code), page=20)
        read_only = guest.frame(20) << 12 | 0x65
        assert guest.call(14, guest.virtual(20), read_only, 2) == 0
        assert guest.call(2, guest.put(struct.pack("<Q", guest.frame(20))), 512) == 0
        set_trap(guest, 13, 0)
        iret(guest, cs=0, rsp=guest.virtual(4))
        assert guest.library.harness_rip(guest.cpu) == HANDLER
        assert top_of_stack(guest, 5)[2] == 0


@pytest.mark.parametrize("code", [b"\x0f\x34", b"\xf4"])
def test_sysenter_enters_the_kernel_that_has_registered_for_it(code: bytes) -> None:
    with Guest() as guest:
        set_trap(guest, 13, 0, HANDLER + 16)
        set_callback(guest, SYSENTER, flags=1)
        guest.put(code, page=8)
        enter_user(guest, rflags=IF | TF)
        guest.library.harness_set_rip(guest.cpu, guest.virtual(8))
        guest.library.harness_exception(guest.cpu, 13, 0, 0)
        if code == b"\xf4":
            assert guest.library.harness_rip(guest.cpu) == HANDLER + 16, "HLT was taken for SYSENTER"
            return
        assert guest.library.harness_rip(guest.cpu) == HANDLER
        _, _, rip, cs, rflags, rsp, ss = top_of_stack(guest, 7)
        assert (rip, cs, rflags, rsp, ss) == (0, 3, IF | 2, 0, SS)
        assert guest.registers[RSP] == guest.virtual(KERNEL_STACK_PAGE + 1) - 56
        assert guest.shared_info(2, 0)[1] == 1


def test_iret_without_user_page_tables_crashes_the_domain() -> None:
    with Guest() as guest:
        iret(guest, cs=CS)
        assert guest.library.harness_state(guest.cpu) == CRASHED
        assert "without page tables" in guest.crash_reason


def test_an_exception_without_handler_or_stack_crashes_the_domain_with_a_reason() -> None:
    with Guest() as guest:
        guest.library.harness_exception(guest.cpu, 14, 0, 0x1234)
        assert "no handler is registered for #PF" in guest.crash_reason and "0x1234" in guest.crash_reason
    with Guest() as guest:
        set_trap(guest, 13, 0)
        guest.registers[RSP] = 0x1000
        guest.library.harness_exception(guest.cpu, 13, 0, 0)
        assert "no stack for #GP" in guest.crash_reason
    with Guest() as guest:
        set_trap(guest, 13, 0)
        guest.registers[RSP] = 0xFFFF820000001000
        guest.library.harness_exception(guest.cpu, 13, 0, 0)
        assert "hypervisor's range" in guest.crash_reason


def test_a_software_interrupt_needs_the_privilege_of_its_trap() -> None:
    vector = 0x80
    for flags, entered in ((3, True), (0, False)):
        with Guest() as guest:
            table = b"".join(
                struct.pack("<BBHxxxxQ", number, mask, CS, HANDLER + number * 16)
                for number, mask in ((vector, flags), (13, 0))
            )
            assert guest.call(SET_TRAP_TABLE, guest.put(table + bytes(16))) == 0
            enter_user(guest)
            guest.library.harness_exception(guest.cpu, 13, vector * 8 + 2, 0)
            expected = HANDLER + (vector if entered else 13) * 16
            assert guest.library.harness_rip(guest.cpu) == expected
            rip = top_of_stack(guest, 4)[2 if entered else 3]
            assert rip == USER_RIP + (2 if entered else 0)


def test_a_fault_for_ts_clears_it() -> None:
    with Guest() as guest:
        set_trap(guest, 7, 0)
        guest.registers[RSP] = guest.virtual(4)
        assert guest.call(FPU_TASKSWITCH, 1) == 0
        guest.put(b"\x0f\x20\xc0", page=8)  # mov %cr0, %rax
        for expected in (8, 0):
            guest.library.harness_set_rip(guest.cpu, guest.virtual(8))
            assert guest.library.harness_privileged(guest.cpu) == 0
            assert guest.registers[0] & 8 == expected
            guest.library.harness_exception(guest.cpu, 7, 0, 0)


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("mov to cr8", b"\x44\x0f\x22\xc0"),
        ("lgdt", b"\x0f\x01\x10"),
        ("hlt", b"\xf4"),
        ("cli without IOPL", b"\xfa"),
        ("in without IOPL", b"\xec"),
        ("rdmsr of an unknown MSR", b"\x0f\x32"),
    ],
)
def test_other_privileged_instructions_are_the_guests_own_fault(what: str, code: bytes) -> None:
    with Guest() as guest:
        guest.put(code, page=8)
        guest.library.harness_set_rip(guest.cpu, guest.virtual(8))
        guest.registers[RCX] = 0x12345
        assert guest.library.harness_privileged(guest.cpu) == 1, what
        assert guest.library.harness_rip(guest.cpu) == guest.virtual(8)


def test_ports_are_the_boards_for_a_dom0_and_all_ones_for_a_domu() -> None:
    for flags, expected in ((0, 0xFFFFFFFF), (3, 0x5A5A5A5A)):
        with Guest(flags) as guest:
            guest.put(b"\xed", page=8)  # in %dx, %eax
            assert guest.call(33, 6, guest.put(struct.pack("<I", 1))) == 0
            guest.library.harness_set_rip(guest.cpu, guest.virtual(8))
            assert guest.library.harness_privileged(guest.cpu) == 0
            assert guest.registers[0] == expected
            assert guest.library.harness_rip(guest.cpu) == guest.virtual(8) + 1


def test_a_multicall_answers_each_call_and_is_not_made_within_another() -> None:
    with Guest() as guest:
        calls = [(17, 0, 0), (99, 0, 0), (13, guest.virtual(1), 1), (23, 0, 0)]
        entries = b"".join(struct.pack("<8Q", op, 0xAA, a, b, 0, 0, 0, 0) for op, a, b in calls)
        assert guest.call(MULTICALL, guest.put(entries, 0x100), len(calls)) == 0
        results = [struct.unpack("<q", guest.get(8, 0x108 + i * 64))[0] for i in range(len(calls))]
        assert results == [4 << 16 | 17, -38, -22, -38]
