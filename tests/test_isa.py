"""Beside the encoding, too, the instruction table agrees with iced-x86: flags, memory, LOCK, privileges, features."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from iced_x86 import (
    CpuidFeature,
    Decoder,
    DecoderOptions,
    FlowControl,
    Instruction,
    InstructionInfoFactory,
    Mnemonic,
    OpAccess,
    OpCodeInfo,
    OpKind,
    RflagsBits,
)

from hvmx.core.decode.decoder import decode_py
from hvmx.isa import Row, coverage, rows
from hvmx.isa.document import document
from hvmx.isa.levels import FAMILY_6

FLAGS = {
    "O": RflagsBits.OF, "S": RflagsBits.SF, "Z": RflagsBits.ZF, "A": RflagsBits.AF, "P": RflagsBits.PF, "C": RflagsBits.CF,
    "D": RflagsBits.DF, "I": RflagsBits.IF, "K": RflagsBits.AC,
}  # fmt: skip
FEATURE = {value: name for name, value in vars(CpuidFeature).items() if isinstance(value, int)}
MNEMONIC = {value: name for name, value in vars(Mnemonic).items() if isinstance(value, int)}
READS = {OpAccess.READ, OpAccess.COND_READ, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE}
WRITES = {OpAccess.WRITE, OpAccess.COND_WRITE, OpAccess.READ_WRITE, OpAccess.READ_COND_WRITE}


def encodings(row: Row) -> Iterator[tuple[int, bytes]]:
    """Some encodings of a row, with memory and with a register where it has both, in each of its modes."""
    for mode in row.modes:
        prefix = bytes.fromhex("" if row.prefix in ("NP", "NFx") else row.prefix)
        if row.rex_w:
            prefix += b"\x48"
        escape = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")[row.map]
        if len(row.modrm) == 2:
            modrms = [int(row.modrm, 16)]
        else:
            middle = (int(row.modrm) if row.modrm.isdigit() else 3) << 3
            modrms = [middle | 0x00] * (not row.register_only) + [middle | 0xC1] * (not row.memory_only)
        for opcode in row.opcodes:
            for modrm in modrms if row.modrm else [2]:
                code = prefix + escape + bytes([opcode, modrm]) + bytes([2, *range(2, 12)])
                insn = decode_py(code, mode)
                if insn and insn["row"] is row:
                    yield mode, code


def decoded(row: Row) -> list[tuple[int, Instruction]]:
    """The same as iced-x86 has them."""
    return [(mode, Decoder(mode, code, DecoderOptions.MOV_TR).decode()) for mode, code in encodings(row)]


def letters(bits: int) -> set[str]:
    return {letter for letter, bit in FLAGS.items() if bits & bit}


@pytest.fixture(params=rows(), ids=lambda row: f"{row.text} {row.family}".replace(" ", "_"))
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


def test_row_has_an_encoding(row: Row) -> None:
    assert {mode for mode, _ in encodings(row)} == set(row.modes)


# Families whose flags are not those of iced-x86: what hvmx's table has in `writes`, and why.
FLAG_EXCEPTIONS = {
    "int": ("I", "an interrupt gate clears IF (SDM volume 3, section 6.12.1.3)"),
    "int3": ("I", "as INT"),
    "into": ("I", "as INT"),
    "int1": ("I", "as INT"),
    "vmcall": ("", "iced-x86 describes VMCALL in VMX root operation, where it reports failure in the flags"),
}


def test_flags_are_those_of_iced(row: Row) -> None:
    reads, writes, undefined = set(), set(), set()
    for _, iced in decoded(row):
        reads |= letters(iced.rflags_read)
        writes |= letters(iced.rflags_written | iced.rflags_cleared | iced.rflags_set)
        undefined |= letters(iced.rflags_undefined)
    if row.family in FLAG_EXCEPTIONS:
        writes = set(FLAG_EXCEPTIONS[row.family][0])
    ours = tuple({flag for flag in column if flag in FLAGS} for column in (row.reads, row.writes, row.undefined))
    assert ours == (reads, writes, undefined)


# Families of which iced-x86 says that they always write.
MEMORY_EXCEPTIONS = {"arpl": ("r", "writes only where it raises the RPL")}


def test_memory_access_is_that_of_iced(row: Row) -> None:
    factory = InstructionInfoFactory()
    accesses = set()
    for _, iced in decoded(row):
        info = factory.info(iced)
        if row.operands:  # XLAT's memory operand is not one in the table
            accesses |= {info.op_access(i) for i in range(iced.op_count) if iced.op_kind(i) == OpKind.MEMORY}
    expected = "r" * bool(accesses & READS) + "w" * bool(accesses & WRITES)
    if row.family in MEMORY_EXCEPTIONS:
        expected = MEMORY_EXCEPTIONS[row.family][0]
    assert row.memory.strip(".") == expected


def test_block_goes_on_only_where_control_flow_does(row: Row) -> None:
    if "next" in row.execution:
        for _, iced in decoded(row):
            assert iced.flow_control in (FlowControl.NEXT, FlowControl.CONDITIONAL_BRANCH)
            assert not iced.is_privileged


def test_pure_rows_neither_fault_nor_leave(row: Row) -> None:
    if "pure" in row.execution:
        assert "next" in row.execution and "cpl0" not in row.attributes and "prot" not in row.attributes
        for _, iced in decoded(row):
            assert iced.flow_control == FlowControl.NEXT
            assert not iced.is_stack_instruction and not iced.is_string_instruction


def test_flags_survive_a_count_of_0(row: Row) -> None:
    """A row whose flags depend on its immediate says so: what it writes is not dead before it."""
    last = {"Ib": -1}.get(row.operands[-1] if row.operands else "")
    if "pure" not in row.execution or last is None:
        assert "pure" not in row.execution or "counted" not in row.execution or row.operands[-1] == "1"
        return
    by_count = set()
    for mode, code in encodings(row):
        length = Decoder(mode, code).decode().len
        for count in (0, 1):
            iced = Decoder(mode, code[: length - 1] + bytes([count])).decode()
            by_count.add((count, iced.rflags_modified))
    assert (len({flags for _, flags in by_count}) > 1) == ("counted" in row.execution)


def test_stack_rows_work_on_the_stack(row: Row) -> None:
    if "stack" in row.execution:
        assert all(iced.is_stack_instruction for _, iced in decoded(row))


def test_unaccessed_memory_is_not_accessed(row: Row) -> None:
    if "unaccessed" in row.execution:
        assert row.memory == ""


def test_rows_that_do_not_wait_are_those_with_an_n(row: Row) -> None:
    names = {MNEMONIC[iced.mnemonic] for _, iced in decoded(row)}
    without_wait = any(name.startswith("FN") and name != "FNOP" for name in names)
    assert ("nowait" in row.execution) == without_wait


# Families that iced-x86 forces to ring 0 and hvmx does not.
CPL0_EXCEPTIONS = {
    "vmcall": "exits from any ring in VMX non-root operation (SDM volume 3, section 25.1.2)",
    "clac": "is #UD, not #GP, above ring 0 (SDM volume 2, CLAC)",
    "stac": "as CLAC",
    "xsetbv": "is #UD before it is #GP, where CR4.OSXSAVE is clear (SDM volume 2, XSETBV)",
}


def test_lock_rights_and_operand_size_are_those_of_iced(row: Row) -> None:
    opcodes = {mode: OpCodeInfo(iced.code) for mode, iced in decoded(row)}
    for opcode in opcodes.values():
        assert ("lock" in row.attributes) == opcode.can_use_lock_prefix
        assert ("cpl0" in row.attributes) == (opcode.must_be_cpl0 and row.family not in CPL0_EXCEPTIONS)
    legacy = [opcode for mode, opcode in opcodes.items() if mode != 64]
    if legacy:
        assert ("prot" in row.attributes) == (not any(opcode.real_mode for opcode in legacy))
    if 64 in opcodes:
        opcode = opcodes[64]
        assert bool({"d64", "f64"} & row.attributes) >= opcode.default_op_size64
        ignores_66 = opcode.force_op_size64 or opcode.intel_force_op_size64 or row.mod_ignored or row.family in TABLES
        assert ("f64" in row.attributes) == ignores_66


# LGDT and its kin store eight bytes of base whatever the operand size in 64-bit mode (SDM volume 2, LGDT); INVPCID's 66
# is of its opcode, and its register has 64 bits there.
TABLES = ("sgdt", "sidt", "lgdt", "lidt", "invpcid")

# Families whose feature is not the one that iced-x86 has, in two-byte opcodes or in 64-bit mode only: ours, and why.
FEATURE_EXCEPTIONS = {
    "nop": (FAMILY_6, "hints are NOPs on every processor of the family"),
    "vmcall": ("base", "a hypervisor answers it whatever CPUID says"),
    "vmmcall": ("base", "as VMCALL"),
    "wbinvd": ("base", "WBNOINVD is WBINVD with a prefix that is ignored"),
    "lahf": ("lahf", "the first 64-bit processors had it in other modes only (SDM volume 2, LAHF)"),
    "sahf": ("lahf", "as LAHF"),
    "paddq": ("sse2", "on MMX registers, too, it came with SSE2 (SDM volume 1, section 5.6.3)"),
}


def test_feature_is_that_of_iced(row: Row) -> None:
    names = {FEATURE[feature] for _, iced in decoded(row) for feature in iced.cpuid_features()}
    needed = {coverage.FEATURES.get(name, name) for name in names} - {"lm"} or {"base"}
    if row.feature in ("cmov", "sse3"):
        needed -= {"fpu"}
    if row.family in FEATURE_EXCEPTIONS and (row.map == 1 or row.modes == (64,)):
        needed = {FEATURE_EXCEPTIONS[row.family][0]}
    assert needed == {row.feature}


def test_document_has_every_row() -> None:
    text = document()
    for row in rows():
        assert f"| {row.text} |" in text
