"""Which instructions of a PV kernel are emulated, and which may write to a page table: of the core's decoder the
hypervisor learns what the processor would make of the bytes, prefixes and all."""

from __future__ import annotations

import pytest

from .harness import WRITABLE, Guest

DOM0 = 3
SET_IOPL, PHYSDEV_OP = 6, 33
VECTOR_PF, PRESENT_WRITE = 14, 3
RAX, RDX, RSI, RDI = 0, 2, 6, 7
BEFORE = 0x1111111111111111
CR0 = 0x80050033
READ = 0x5A5A5A5A
"""What every port reads in the harness."""

CODE_PAGE = 4


def kernel() -> Guest:
    """The kernel of a dom0 that may use ports."""
    guest = Guest(DOM0)
    assert guest.call(PHYSDEV_OP, SET_IOPL, guest.put((1).to_bytes(4, "little"))) == 0
    guest.registers[RAX], guest.registers[RDX] = BEFORE, 0x5660
    guest.registers[RSI] = guest.registers[RDI] = guest.virtual(5)
    return guest


def at_page_end(guest: Guest, code: bytes, in_page: int) -> int:
    """Puts code where its first `in_page` bytes end a page; its address."""
    start = guest.put(code[:in_page], 0x1000 - in_page, CODE_PAGE)
    guest.put(code[in_page:], 0, CODE_PAGE + 1)
    return start


EMULATED = {
    "ec": BEFORE & ~0xFF | READ & 0xFF,
    "ed": READ,
    "66ed": BEFORE & ~0xFFFF | READ & 0xFFFF,
    "f3ed": READ,                              # REP means nothing to IN
    "48ed": READ,
    "6648ed": READ,                            # REX.W is stronger than the operand-size prefix
    "4866ed": BEFORE & ~0xFFFF | READ & 0xFFFF,  # REX before another prefix is none
    "2e65ed": READ,
    "e580": READ,
    "ef": BEFORE,
    "66e780": BEFORE,
    "6d": BEFORE,
    "666f": BEFORE,
    "fa": BEFORE,
    "4866fb": BEFORE,
    "0f06": BEFORE,
    "f30f09": BEFORE,
    "0f20c0": CR0,
    "0f2000": CR0,                               # mod is ignored, and no displacement follows
    "0f2040": CR0,
    "410f20c0": BEFORE,                        # to R8
    "0f21f8": 0,
    "66" * 12 + "0f21f8": 0,                   # 15 bytes
}  # fmt: skip
"""RAX afterwards, by the instruction."""


@pytest.mark.parametrize("code", EMULATED)
def test_emulated_as_the_processor_would_execute_it(code: str) -> None:
    with kernel() as guest:
        data = bytes.fromhex(code)
        for in_page in (len(data), 1):
            guest.registers[RAX] = BEFORE
            start = at_page_end(guest, data, in_page)
            guest.library.harness_set_rip(guest.cpu, start)
            assert guest.library.harness_privileged(guest.cpu) == 0
            assert guest.library.harness_rip(guest.cpu) == start + len(data)
            assert guest.registers[RAX] == EMULATED[code]


@pytest.mark.parametrize(
    "code",
    [
        "90", "f4", "0f34", "0f33", "0f0116", "c3", "f0fa", "0f20c8", "0f21", "646e", "676d",
        "66" * 15 + "fa",  # longer than an instruction can be
    ],
)  # fmt: skip
def test_the_fault_stands(code: str) -> None:
    with kernel() as guest:
        start = at_page_end(guest, bytes.fromhex(code), 1)
        guest.words(guest.l1[0])[CODE_PAGE + 2] = 0
        if code == "0f21":
            guest.words(guest.l1[0])[CODE_PAGE + 1] = 0
        guest.library.harness_set_rip(guest.cpu, start)
        assert guest.library.harness_privileged(guest.cpu) == 1
        assert guest.library.harness_rip(guest.cpu) == start
        assert guest.registers[RAX] == BEFORE


def test_an_instruction_that_goes_on_where_nothing_is_mapped_is_not_emulated() -> None:
    with kernel() as guest:
        start = at_page_end(guest, bytes.fromhex("e580"), 1)
        guest.words(guest.l1[0])[CODE_PAGE + 1] = 0
        guest.library.harness_set_rip(guest.cpu, start)
        assert guest.library.harness_privileged(guest.cpu) == 1


WRITES = {
    "mov": "488907", "mov, REX before another": "40488907", "mov imm": "48c70700000000", "mov moffs": "48a30000000000000000",
    "add": "480107", "or imm8": "48830f01", "xor": "483107", "lock and": "f0482107", "not": "48f717", "neg": "48f71f",
    "inc": "48ff07", "dec": "fe0f", "xchg": "488707", "xadd": "480fc107", "lock cmpxchg": "f0480fb117", "cmpxchg8b": "0fc70f",
    "bts": "480fab07", "btr imm": "480fba3001", "btc": "480fbb07", "movnti": "480fc307", "stos": "48ab", "movs": "f348a5",
}  # fmt: skip
OTHERS = {
    "cmp": "483907", "test": "488507", "mov from": "488b07", "add from": "480307", "registers": "4889c0", "bt": "480fa307",
    "bt imm": "480fba2001", "cmpxchg16b": "480fc70f", "push": "ff37", "pop": "8f07", "shl": "48d127", "mov from segment": "8c07",
    "setcc": "0f9407", "movups": "0f1107", "fst": "d917", "nothing": "0fff",
}  # fmt: skip


@pytest.mark.parametrize("code", [*WRITES.values(), *OTHERS.values()], ids=[*WRITES, *OTHERS])
def test_a_page_table_is_opened_for_an_instruction_that_writes_once(code: str) -> None:
    with kernel() as guest:
        page = guest.l1[0]
        entries = guest.words(guest.l1[page >> 9])
        guest.library.harness_set_rip(guest.cpu, guest.put(bytes.fromhex(code), 0, CODE_PAGE))
        guest.library.harness_exception(guest.cpu, VECTOR_PF, PRESENT_WRITE, guest.virtual(page) + 8)
        opened = bool(int(entries[page & 511]) & WRITABLE)
        assert opened == (code in WRITES.values())
        assert guest.library.harness_state(guest.cpu) == (0 if opened else 2)  # the fault has no handler


# --- code of 16 and 32 bits, whose addresses CS has a part in -------------------------------------------------------------
CS_BASE = 0x3000


def low_kernel(bits: int) -> tuple[Guest, int]:
    """A kernel whose pages are mapped from address 0, too, in a code segment with a base; and where its code is in that."""
    guest = kernel()
    guest.words(guest.l4)[0] = guest.entry(guest.l3)
    guest.words(guest.l3)[0] = guest.entry(guest.l2)
    guest.library.harness_set_code(guest.cpu, CS_BASE, bits)
    return guest, CODE_PAGE * 0x1000 - CS_BASE


@pytest.mark.parametrize(
    ("bits", "code", "after"),
    [
        (32, "ed", READ), (32, "66ed", BEFORE & ~0xFFFF | READ & 0xFFFF), (32, "67ed", READ), (32, "0f20c0", CR0),
        (16, "ed", BEFORE & ~0xFFFF | READ & 0xFFFF), (16, "66ed", READ), (16, "ec", BEFORE & ~0xFF | READ & 0xFF),
    ],
)  # fmt: skip
def test_code_of_fewer_bits_is_found_by_its_base_and_has_its_operand_size(bits: int, code: str, after: int) -> None:
    guest, place = low_kernel(bits)
    with guest:
        guest.put(bytes.fromhex(code), 0, CODE_PAGE)
        guest.library.harness_set_rip(guest.cpu, place)
        assert guest.library.harness_privileged(guest.cpu) == 0
        assert guest.library.harness_rip(guest.cpu) == place + len(code) // 2
        assert guest.registers[RAX] == after


@pytest.mark.parametrize(
    ("bits", "code", "opened"),
    [(32, "8907", True), (32, "820701", True), (16, "8905", True), (32, "60", False), (32, "c8100001", False)],
    ids=["mov", "opcode 82", "mov of 16 bits", "pusha", "enter"],
)
def test_what_is_judged_is_the_instruction_that_is_executed(bits: int, code: str, opened: bool) -> None:
    guest, place = low_kernel(bits)
    with guest:
        guest.put(bytes.fromhex(code), 0, CODE_PAGE)
        guest.put(bytes.fromhex("60" if opened else "8907"), 0, place // 0x1000)  # at the offset without the base
        page = guest.l1[0]
        entries = guest.words(guest.l1[page >> 9])
        guest.library.harness_set_rip(guest.cpu, place)
        guest.library.harness_exception(guest.cpu, VECTOR_PF, PRESENT_WRITE, guest.virtual(page) + 8)
        assert bool(int(entries[page & 511]) & WRITABLE) == opened


def test_a_forced_cpuid_is_found_by_the_base_of_its_code() -> None:
    guest, place = low_kernel(32)
    with guest:
        code = b"\x0f\x0bxen\x0f\xa2"
        guest.put(code, 0, CODE_PAGE)
        guest.registers[RAX] = 0x40000001
        guest.library.harness_set_rip(guest.cpu, place)
        guest.library.harness_exception(guest.cpu, 6, 0, 0)
        assert guest.library.harness_rip(guest.cpu) == place + len(code)
        assert guest.registers[RAX] == 4 << 16 | 17
