"""The registers that hvmx says an instruction reads and writes are those of iced-x86, in all rows, forms and widths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

import pytest
from iced_x86 import (
    Decoder,
    DecoderOptions,
    Instruction,
    InstructionInfoFactory,
    Mnemonic,
    OpAccess,
    Register,
    RegisterExt,
    RflagsBits,
)

from hvmx.core.decode.decoder import decode_py
from hvmx.core.decode.operands import registers_of_py
from hvmx.isa import GENERAL_REGISTERS, Row, rows

REGISTER = {value: name for name, value in vars(Register).items() if isinstance(value, int)}
ARITHMETIC_FLAGS = RflagsBits.OF | RflagsBits.SF | RflagsBits.ZF | RflagsBits.AF | RflagsBits.PF | RflagsBits.CF
WRITES = {OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE}
# What is not written always may stay as it was, so it is read.
READS = {OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE, OpAccess.COND_WRITE}
NONE = 0xFF
XMM0, MM0 = 16, 32
RSP = GENERAL_REGISTERS.index("SP")
TOP_PUSHED = MM0 + 7

WHOLE_STATE = (range(MM0, MM0 + 8), "what saves or loads the whole x87 state names none of its registers")
PREFETCHES = (range(16), "hvmx runs a prefetch as the NOP that it is where it does nothing, without its address")
UNDEFINED = (range(16), "it always faults, whatever its operands are")

# Where iced-x86 says something else, by opcode and family: registers left out of the comparison, and why.
EXCEPTIONS: dict[str, tuple[range, str]] = {
    "C9 leave": (range(RSP, RSP + 1), "a 16-bit stack keeps the rest of RSP, and the decoder does not know the stack"),
    "DD /4 frstor": WHOLE_STATE,
    "DD /6 fnsave": WHOLE_STATE,
    "0F 0D /r nop": PREFETCHES,
    "0F 18 /r nop": PREFETCHES,
    "0F B9 /r ud1": UNDEFINED,
    "0F FF /r ud0": UNDEFINED,
}


def modrms(row: Row) -> list[bytes]:
    """ModRM bytes, with SIB: registers of which no two are the same, AH to BH among them, and memory."""
    if not row.modrm:
        return [b""]
    if len(row.modrm) == 2:
        return [bytes([int(row.modrm, 16)])]
    middles = [int(row.modrm)] if row.modrm.isdigit() else [2, 3, 4, 7]
    found = []
    for middle in middles:
        if not row.memory_only:
            found += [bytes([0xC0 | middle << 3 | rm]) for rm in (0, 1, 5, 6) if rm != middle or row.modrm.isdigit()]
        if not row.register_only:
            found += [bytes([middle << 3 | rm]) + sib for rm, sib in ((0x03, b""), (0x46, b"\5"), (0x04, b"\x5e"))]
    return found


def prefixes(row: Row, mode: int) -> list[bytes]:
    """What may stand before the opcode of a row, with every operand and address size and, in 64-bit mode, REX."""
    mandatory = bytes.fromhex("" if row.prefix in ("NP", "NFx") else row.prefix)
    sizes = (b"", b"\x66") if row.prefix in ("", "NFx", "F2") else (b"",)
    repeats = (b"", b"\xf3", b"\xf2") if row.is_string else (b"",)
    rex = (b"", b"\x40", b"\x41", b"\x45", b"\x48", b"\x4f") if mode == 64 else (b"",)
    return [b"".join(parts) for parts in product((b"", b"\x67"), sizes, repeats, (mandatory,), rex)]


def encodings(row: Row) -> Iterator[tuple[int, bytes]]:
    """A row's encodings in each of its modes, as far as registers may depend on them."""
    escape = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")[row.map]
    opcodes = row.opcodes[:2] if row.has_condition else row.opcodes
    for mode in row.modes:
        for before, opcode, modrm in product(prefixes(row, mode), opcodes, modrms(row)):
            code = before + escape + bytes([opcode]) + modrm + bytes(range(1, 11))
            insn = decode_py(code, mode)
            if insn and insn["row"] is row:
                yield mode, code


def number(register: int) -> int | None:
    """The number that `registers_of` gives one of iced-x86's registers, if it has one."""
    name = REGISTER[register]
    if name.startswith(("XMM", "MM", "ST")):
        return (XMM0 if name[0] == "X" else MM0) + int(re.sub(r"\D", "", name))
    if not RegisterExt.is_gpr(register):
        return None
    return RegisterExt.number(RegisterExt.full_register(register))


def registers_of_iced(iced: Instruction) -> tuple[set[int], set[int]]:
    """The registers read, those of addresses among them, and those written."""
    reads, writes = set(), set()
    for used in InstructionInfoFactory().info(iced).used_registers():
        register = number(used.register)
        if register is None:
            continue
        if used.access in WRITES:
            writes.add(register)
        is_part = RegisterExt.is_gpr(used.register) and RegisterExt.size(used.register) < 4
        if used.access in READS or used.access in WRITES and is_part:
            reads.add(register)
    if iced.fpu_stack_increment_info().increment < 0 and iced.mnemonic != Mnemonic.FDECSTP:
        writes.add(TOP_PUSHED)  # by everything that pushes but FDECSTP, which iced-x86 leaves out
    return reads, writes


@pytest.fixture(params=rows(), ids=lambda row: f"{row.text} {row.family}".replace(" ", "_"))
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


def test_registers_are_those_of_iced(row: Row) -> None:
    name = f"{row.text} {row.family}"
    left_out = set(EXCEPTIONS[name][0]) if name in EXCEPTIONS else set()
    differences = set()
    for mode, code in encodings(row):
        ours = registers_of_py(code, mode)
        iced = Decoder(mode, code, DecoderOptions.MOV_TR).decode()
        address = {ours["base"], ours["index"]} - {NONE}
        reads, writes = registers_of_iced(iced)
        different = (set(ours["reads"]) | address) ^ reads, set(ours["writes"]) ^ writes
        assert different[0] | different[1] <= left_out, f"{iced} ({code.hex()}) in {mode}-bit mode: {different}"
        differences |= different[0] | different[1]
    assert bool(differences) == bool(left_out), "an exception has become the rule"


# Flags that the table has otherwise than iced-x86 has them are in test_isa.py; of them, these are arithmetic flags.
FLAG_EXCEPTIONS = {"vmcall"}


def test_flags_are_those_of_iced(row: Row) -> None:
    for mode, code in encodings(row):
        ours = registers_of_py(code, mode)
        iced = Decoder(mode, code, DecoderOptions.MOV_TR).decode()
        assert ours["reads_flags"] == bool(iced.rflags_read & ARITHMETIC_FLAGS), iced
        if row.family not in FLAG_EXCEPTIONS:
            assert ours["writes_flags"] == bool(iced.rflags_modified & ARITHMETIC_FLAGS), iced


def test_x87_stack_grows_as_iced_says(row: Row) -> None:
    for mode, code in encodings(row):
        iced = Decoder(mode, code, DecoderOptions.MOV_TR).decode()
        assert registers_of_py(code, mode)["x87_push"] == -iced.fpu_stack_increment_info().increment, iced


def test_no_register_is_named_twice_nor_too_many(row: Row) -> None:
    for mode, code in encodings(row):
        ours = registers_of_py(code, mode)
        for registers in (ours["reads"], ours["writes"]):
            assert len(registers) == len(set(registers)) <= 8
            assert all(register < 40 for register in registers)


def test_row_is_compared_in_all_its_modes_and_forms(row: Row) -> None:
    found = list(encodings(row))
    assert {mode for mode, _ in found} == set(row.modes)
    if row.modrm and len(row.modrm) != 2 and not row.mod_ignored:
        forms = {bool(decode_py(code, mode)["is_mem"]) for mode, code in found}
        assert forms == ({True} if row.memory_only else {False} if row.register_only else {True, False})


RAX, RCX, RDX, RBX, _, RBP, RSI, RDI = range(8)


@pytest.mark.parametrize(
    ("code", "mode", "expected"),
    [
        ("31c0", 64, {"reads": [RAX], "writes": [RAX], "writes_flags": True, "reads_flags": False}),  # XOR EAX, EAX
        ("4801c8", 64, {"reads": [RAX, RCX], "writes": [RAX]}),  # ADD RAX, RCX
        ("89c8", 64, {"reads": [RCX], "writes": [RAX]}),  # MOV EAX, ECX
        ("6689c8", 64, {"reads": [RAX, RCX], "writes": [RAX]}),  # MOV AX, CX
        ("88e1", 64, {"reads": [RCX, RAX], "writes": [RCX]}),  # MOV CL, AH
        ("88cc", 64, {"reads": [RAX, RCX], "writes": [RAX]}),  # MOV AH, CL
        ("8b448b08", 64, {"reads": [], "writes": [RAX], "base": RBX, "index": RCX}),  # MOV EAX, [RBX + 4 * RCX + 8]
        ("0f1f440000", 64, {"reads": [], "writes": [], "base": NONE, "index": NONE}),  # NOP [RAX + RAX]
        ("d3e0", 64, {"reads": [RAX, RCX], "writes": [RAX], "writes_flags": True}),  # SHL EAX, CL
        ("c1e020", 64, {"writes_flags": False}),  # SHL EAX, 32: a count of 0
        ("f6e3", 64, {"reads": [RBX, RAX], "writes": [RAX]}),  # MUL BL
        ("48f7e3", 64, {"reads": [RBX, RAX], "writes": [RAX, RDX]}),  # MUL RBX
        ("66f7e3", 64, {"reads": [RBX, RAX, RDX], "writes": [RAX, RDX]}),  # MUL BX
        ("f348ab", 64, {"reads": [RAX, RDI, RCX], "writes": [RDI, RCX]}),  # REP STOSQ
        ("48ab", 64, {"reads": [RAX, RDI], "writes": [RDI]}),  # STOSQ
        ("8f4008", 64, {"reads": [RSP], "writes": [RSP], "base": RAX}),  # POP [RAX + 8]
        ("5b", 64, {"reads": [RSP], "writes": [RBX, RSP]}),  # POP RBX
        ("6661", 32, {"writes": [RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI]}),  # POPAW
        ("f30f10c1", 64, {"reads": [XMM0, XMM0 + 1], "writes": [XMM0]}),  # MOVSS XMM0, XMM1
        ("f30f1001", 64, {"reads": [], "writes": [XMM0], "base": RCX}),  # MOVSS XMM0, [RCX]
        ("660f3810d1", 64, {"reads": [XMM0 + 2, XMM0 + 1, XMM0], "writes": [XMM0 + 2]}),  # PBLENDVB XMM2, XMM1
        ("410ffcd9", 64, {"reads": [MM0 + 3, MM0 + 1], "writes": [MM0 + 3]}),  # PADDB MM3, MM1
        ("d9c2", 64, {"reads": [MM0 + 2], "writes": [TOP_PUSHED], "x87_push": 1}),  # FLD ST(2)
        ("d9c9", 64, {"reads": [MM0, MM0 + 1], "writes": [MM0, MM0 + 1], "x87_push": 0}),  # FXCH
        ("dec1", 64, {"reads": [MM0 + 1, MM0], "writes": [MM0 + 1], "x87_push": -1}),  # FADDP
        ("ded9", 64, {"reads": [MM0, MM0 + 1], "writes": [], "x87_push": -2}),  # FCOMPP
    ],
)  # fmt: skip
def test_registers_stand_in_the_order_of_operands_and_implicit_ones_last(code: str, mode: int, expected: dict) -> None:
    found = registers_of_py(bytes.fromhex(code), mode)
    assert {name: found[name] for name in expected} == expected
