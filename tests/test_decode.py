"""The decoder agrees with iced-x86 on the length and the operands of every instruction, or both refuse it.

`HVMX_NIGHTLY=1` runs 1,000,000 random byte strings in each width instead of 200,000, and every ModRM byte of every
opcode instead of some.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest
from iced_x86 import (
    Code,
    CpuidFeature,
    Decoder,
    DecoderOptions,
    EncodingKind,
    Instruction,
    MemorySizeExt,
    Mnemonic,
    OpKind,
    Register,
)

from hvmx import isa
from hvmx.core.decode.decoder import decode_py, refused_length
from hvmx.isa import Row, coverage, rows

NIGHTLY = os.environ.get("HVMX_NIGHTLY") == "1"
WIDTHS = (16, 32, 64)


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


CODE, FEATURE, MNEMONIC = _names(Code), _names(CpuidFeature), _names(Mnemonic)
REGISTER = {value: name.lower() for value, name in _names(Register).items()}
OP_KIND = _names(OpKind)

# Extensions of which iced-x86 knows encodings that hvmx refuses: those outside of all levels.
NOT_IMPLEMENTED = frozenset(coverage.OUTSIDE)

# Where hvmx refuses what iced-x86 accepts for another reason: the code's name, and why.
REFUSED = {
    "SYSCALL": "outside 64-bit mode it is #UD (SDM volume 2, SYSCALL)",
    "SYSRETD": "outside 64-bit mode it is #UD (SDM volume 2, SYSRET)",
    "MOV_R32_TR": "TR0, TR1 and TR2 are reserved (i486 Programmer's Reference Manual, MOV)",
    "MOV_TR_R32": "as MOV from them",
}

assert NOT_IMPLEMENTED <= set(FEATURE.values()), "features that iced-x86 does not know hide nothing"

CONDITIONS = ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"]

# Mnemonics of the families that have more than one, by operand size.
MNEMONICS: dict[str, dict[int, str]] = {
    "cbw": {16: "cbw", 32: "cwde", 64: "cdqe"},
    "cwd": {16: "cwd", 32: "cdq", 64: "cqo"},
    "iret": {16: "iret", 32: "iretd", 64: "iretq"},
    "pusha": {16: "pusha", 32: "pushad"},
    "popa": {16: "popa", 32: "popad"},
    "pushf": {16: "pushf", 32: "pushfd", 64: "pushfq"},
    "popf": {16: "popf", 32: "popfd", 64: "popfq"},
    "fxsave": {16: "fxsave", 32: "fxsave", 64: "fxsave64"},
    "fxrstor": {16: "fxrstor", 32: "fxrstor", 64: "fxrstor64"},
    "xsave": {16: "xsave", 32: "xsave", 64: "xsave64"},
    "xsaveopt": {16: "xsaveopt", 32: "xsaveopt", 64: "xsaveopt64"},
    "xrstor": {16: "xrstor", 32: "xrstor", 64: "xrstor64"},
    "sysexit": {16: "sysexit", 32: "sysexit", 64: "sysexitq"},
    "sysret": {16: "sysret", 32: "sysret", 64: "sysretq"},
    **{
        name: {8: f"{name}b", 16: f"{name}w", 32: f"{name}d", 64: f"{name}q"}
        for name in ("movs", "cmps", "stos", "lods", "scas", "ins", "outs")
    },
}

# Families whose iced-x86 mnemonic differs at any size. TZCNT and LZCNT are BSF and BSR with a prefix that processors
# without BMI ignore (SDM volume 2, TZCNT), WBNOINVD is WBINVD, VMGEXIT is VMMCALL outside an encrypted guest (APM
# volume 3).
RENAMED = {
    "mov_from_sreg": "mov", "mov_to_sreg": "mov", "push_sreg": "push", "pop_sreg": "pop", "mov_from_cr": "mov",
    "mov_to_cr": "mov", "mov_from_dr": "mov", "mov_to_dr": "mov", "mov_from_tr": "mov", "mov_to_tr": "mov", "call_far": "call", "jmp_far": "jmp",
    "ret_far": "retf", "bsf": ("bsf", "tzcnt"), "bsr": ("bsr", "lzcnt"), "xlat": "xlatb", "fld80": "fld", "fstp80": "fstp", "loopz": "loope", "loopnz": "loopne", "fwait": "wait", "movd": ("movd", "movq"), "shl": ("shl", "sal"),
    "vmmcall": ("vmmcall", "vmgexit"), "wbinvd": ("wbinvd", "wbnoinvd"),
}  # fmt: skip

# What a processor without the extension must run as a NOP (SDM volume 2, table A-3, 0F 0D and 0F 18 to 0F 1F).
HINTS = (
    "nop", "reservednop", "prefetch", "prefetchw", "prefetchwt1", "prefetchnta", "prefetcht0", "prefetcht1", "prefetcht2",
    "prefetchit0", "prefetchit1", "endbr32", "endbr64", "rdsspd", "rdsspq", "cldemote", "prefetchreserved_0f0d",
    "prefetchreserved",
)  # fmt: skip

MEMORY_BITS = {
    "b": lambda v: 8, "w": lambda v: 16, "q": lambda v: 64, "d": lambda v: 32, "dq": lambda v: 128, "ss": lambda v: 32, "sd": lambda v: 64, "ps": lambda v: 128, "pd": lambda v: 128, "t": lambda v: 80, "v": lambda v: v,
    "y": lambda v: max(v, 32), "z": lambda v: min(v, 32),
}  # fmt: skip


def expected_mnemonics(insn: dict, family: str) -> tuple[str, ...]:
    """What iced-x86 may call an instruction of `family`."""
    if family == "jcc":
        return ("j" + CONDITIONS[insn["cc"]],)
    if family in ("setcc", "cmovcc"):
        return (family[:-2] + CONDITIONS[insn["cc"]],)
    if family == "jcxz":
        return ({16: "jcxz", 32: "jecxz", 64: "jrcxz"}[insn["addrsize"]],)
    if family == "nop":
        return HINTS
    if family in MNEMONICS:
        return (MNEMONICS[family][insn["opsize"]],)
    renamed = RENAMED.get(family, family)
    return renamed if isinstance(renamed, tuple) else (renamed,)


MASKED_STORES = ("maskmovq", "maskmovdqu")
"""Their first operand is memory at DS:rDI, which assemblers do not write, nor does the table."""

GENERAL_64 = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] + [f"r{number}" for number in range(8, 16)]
GENERAL_32 = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"] + [f"r{number}d" for number in range(8, 16)]
GENERAL_16 = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"] + [f"r{number}w" for number in range(8, 16)]
GENERAL_8 = ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"] + [f"r{number}l" for number in range(8, 16)]
HIGH_8 = {1: "ah", 9: "ch", 17: "dh", 25: "bh"}
SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"]


GENERAL = {8: GENERAL_8, 16: GENERAL_16, 32: GENERAL_32, 64: GENERAL_64}


def general(offset: int, bits: int) -> str:
    """The name of the `bits` wide register at a byte offset of the register file."""
    if offset in HIGH_8:
        assert bits == 8
        return HIGH_8[offset]
    return GENERAL[bits][offset // 8]


def named_bits(bits: int, iced: Instruction) -> int:
    """The width of the register that iced-x86 names where an instruction uses its low word (LTR, ARPL, ...)."""
    name = CODE[iced.code]
    if bits != 16:
        return bits
    return 32 if "R32M16" in name else 64 if "R64M16" in name else 16


def decoded_memory(insn: dict) -> tuple:
    """(base, index, scale, displacement) of hvmx's memory operand; the displacement within the address size."""
    size = insn["addrsize"]
    mask = (1 << size) - 1
    if insn["rip_relative"]:
        return {32: "eip", 64: "rip"}[size], "none", 0, insn["disp"] + insn["length"] & mask
    names = [*GENERAL[size], "none"]
    return names[insn["base"]], names[insn["index"]], insn["scale"], insn["disp"] & mask


def iced_memory(iced: Instruction, addrsize: int) -> tuple:
    """The same of iced-x86's."""
    mask = (1 << addrsize) - 1
    scale = iced.memory_index_scale.bit_length() - 1 if iced.memory_index != Register.NONE else 0
    return REGISTER[iced.memory_base], REGISTER[iced.memory_index], scale, iced.memory_displacement & mask


def differences(insn: dict, iced: Instruction, mode: int) -> list[str]:
    """What hvmx's decoding and iced-x86's do not agree on."""
    row: Row = insn["row"]
    found: list[str] = []

    def same(what: str, ours: object, theirs: object) -> None:
        if ours != theirs:
            found.append(f"{what}: hvmx {ours}, iced-x86 {theirs}")

    mnemonic = MNEMONIC[iced.mnemonic].lower()
    if mnemonic not in expected_mnemonics(insn, row.family):
        found.append(f"hvmx {row.family} ({row.text}), iced-x86 {mnemonic}")
    if row.is_string:
        same("REP", bool(insn["prefixes"] & 2), iced.has_rep_prefix)
        same("REPNE", bool(insn["prefixes"] & 4), iced.has_repne_prefix)

    widths = iter((insn["opsize"], insn["opsize2"]))
    unwritten = int(row.family in MASKED_STORES)
    operands = [operand for operand in row.operands if operand != "Fv"]
    if row.family == "xlat":
        compare_segment(same, "table", insn, iced, mode)
        same("table", GENERAL[insn["addrsize"]][3], REGISTER[iced.memory_base])
    elif row.family != "nop":
        same("operand count", len(operands) + unwritten, iced.op_count)
    if unwritten:
        same("destination", f"MEMORY_SEG_{ {16: '', 32: 'E', 64: 'R'}[insn['addrsize']]}DI", OP_KIND[iced.op_kind(0)])
        compare_segment(same, "destination", insn, iced, mode)
    for number, (operand, role) in enumerate(zip(operands, row.roles), unwritten):
        if number >= iced.op_count or mnemonic.startswith("rdssp"):
            break
        bits = next(widths) if operand in row.sized_operands else 0
        kind = OP_KIND[iced.op_kind(number)]
        what = f"operand {number} ({operand})"
        if operand in ("CL", "DX") or operand in ("AL", "AX", "eAX", "rAX") and role == "implied":
            ours = operand.lower() if len(operand) == 2 else general(0, bits)
            same(what, ours, REGISTER[iced.op_register(number)])
        elif operand[0] in "XY":
            register = {"X": "SI", "Y": "DI"}[operand[0]]
            prefix = {16: "", 32: "E", 64: "R"}[insn["addrsize"]]
            same(what, f"MEMORY_{'SEG_' if operand[0] == 'X' else 'ES'}{prefix}{register}", kind)
            same(what + " size", bits, 8 * MemorySizeExt.size(iced.memory_size))
            if operand[0] == "X":
                compare_segment(same, what, insn, iced, mode)
        elif role == "rm" and insn["is_mem"]:
            same(what, "MEMORY", kind)
            same(what, decoded_memory(insn), iced_memory(iced, insn["addrsize"]))
            compare_segment(same, what, insn, iced, mode)
            if operand[1:] in MEMORY_BITS and operand != "Mb" and row.family != "nop":
                same(what + " size", bits, 8 * MemorySizeExt.size(iced.memory_size))
            elif operand == "Mp":
                same(what + " size", bits + 16, 8 * MemorySizeExt.size(iced.memory_size))
        elif operand in ("ST0", "STi"):
            same(what, "st0" if operand == "ST0" else f"st{insn['rm'] & 7}", REGISTER[iced.op_register(number)])
        elif operand[0] in "NPQUVW":
            kind = "mm" if operand[0] in "NPQ" else "xmm"
            same(what, f"{kind}{insn['reg' if role == 'reg' else 'rm']}", REGISTER[iced.op_register(number)])
        elif role == "rm":
            same(what, general(insn["rm_offset"], named_bits(bits, iced)), REGISTER[iced.op_register(number)])
        elif role == "reg":
            if operand == "Sw" or operand in isa.SEGMENTS:
                ours = SEGMENTS[insn["reg"]]
            elif operand[0] in "CDT":
                ours = f"{operand[0].lower()}r{insn['reg']}"
            else:
                ours = general(insn["reg_offset"], named_bits(bits, iced))
            same(what, ours, REGISTER[iced.op_register(number)])
        elif role == "rel":
            mask = (1 << insn["opsize"]) - 1
            same(what, insn["imm"] + insn["length"] & mask, iced.near_branch_target)
            same(what, f"NEAR_BRANCH{insn['opsize']}", kind)
        elif role == "far":
            same(what, f"FAR_BRANCH{insn['opsize']}", kind)
            offset = iced.far_branch16 if kind == "FAR_BRANCH16" else iced.far_branch32
            same(what, (insn["imm2"], insn["imm"]), (iced.far_branch_selector, offset))
        else:
            mask = (1 << max(insn["opsize"], 8)) - 1
            ours = insn["imm2"] if kind == "IMMEDIATE8_2ND" else insn["imm"]
            same(what, ours & mask, iced.immediate(number) & mask)
    return found


def compare_segment(same, what: str, insn: dict, iced: Instruction, mode: int) -> None:
    """In 64-bit mode only FS and GS can override; which of the others would apply still tells #SS from #GP."""
    ours, theirs = SEGMENTS[insn["segment"]], REGISTER[iced.memory_segment]
    if mode == 64 and iced.has_segment_prefix and theirs not in ("fs", "gs"):
        same(what + " overridden", False, ours in ("fs", "gs"))
    else:
        same(what + " segment", ours, theirs)


def disagreement(code: bytes, mode: int) -> str | None:
    """What hvmx and iced-x86 do not agree on about the instruction that `code` begins with; None if nothing."""
    iced = Decoder(mode, code, DecoderOptions.MOV_TR).decode()
    try:
        insn = decode_py(code, mode)
    except OverflowError:
        insn = None
    if iced.code == Code.INVALID:
        return f"hvmx decodes {insn['row'].text} {insn['family']}" if insn else None
    name = CODE[iced.code]
    if insn is None:
        known = name in REFUSED or any(FEATURE[feature] in NOT_IMPLEMENTED for feature in iced.cpuid_features())
        return None if known else f"hvmx refuses {name}"
    found = differences(insn, iced, mode)
    if insn["length"] != iced.len:
        found.append(f"length: hvmx {insn['length']}, iced-x86 {iced.len}")
    return f"{name}: " + "; ".join(found) if found else None


def report(disagreements: dict[str, str]) -> str:
    """The distinct disagreements with an example each."""
    lines = [f"{code}: {text}" for text, code in list(disagreements.items())[:40]]
    return f"{len(disagreements)} kinds of disagreement\n" + "\n".join(lines)


# Half of the strings begin with one of these, or what hides behind an escape or a prefix would hardly be seen.
STARTS = [bytes.fromhex(start) for start in (
    "0F", "0F00", "0F01", "0FAE", "0FC7", "0FBA", "0F20", "0F22", "0F38F0", "0F38F1", "66", "67", "F2", "F3",
    "F0", "660F", "F30F", "F20F", "F00F", "48", "480F", "480FC7", "41", "44", "42", "66F30F", "F20F38F0",
    "F20F38F1", "2E", "36", "64", "65", "6667", "F366",
)]  # fmt: skip


@pytest.mark.parametrize("mode", WIDTHS)
def test_random_bytes_decode_as_in_iced(mode: int) -> None:
    generator = random.Random(mode)
    count = 1_000_000 if NIGHTLY else 200_000
    disagreements: dict[str, str] = {}
    for number in range(count):
        code = generator.randbytes(18)
        if number & 1:
            code = generator.choice(STARTS) + code
        text = disagreement(code, mode)
        if text:
            disagreements.setdefault(text, code.hex())
    assert not disagreements, report(disagreements)


def encodings(mode: int) -> Iterator[bytes]:
    """Every opcode of the table, with every prefix that may matter and many or all ModRM bytes."""
    prefixes = ["", "66", "67", "F2", "F3", "F0", "66F2", "66F3", "2E", "65"]
    if mode == 64:
        prefixes += ["48", "41", "44", "42", "4F", "6648", "F041", "F348", "F341", "4866", "642E"]
    opcodes = sorted({(row.map, opcode, bool(row.modrm)) for row in rows() for opcode in row.opcodes})
    tail = bytes(range(0x81, 0x91))
    for map_number, opcode, has_modrm in opcodes:
        escape = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")[map_number]
        for prefix in prefixes:
            start = bytes.fromhex(prefix) + escape + bytes([opcode])
            modrms = range(256) if NIGHTLY or not prefix else range(0, 256, 7)
            for modrm in modrms if has_modrm else (0x24, 0xA4):
                yield start + bytes([modrm]) + tail


@pytest.mark.parametrize("mode", WIDTHS)
def test_every_encoding_of_the_table_decodes_as_in_iced(mode: int) -> None:
    disagreements: dict[str, str] = {}
    seen: set[int] = set()
    for code in encodings(mode):
        text = disagreement(code, mode)
        if text:
            disagreements.setdefault(text, code.hex())
            continue
        insn = decode_py(code, mode)
        if insn:
            seen.add(insn["row"].index)
    assert not disagreements, report(disagreements)
    missed = [f"{row.text} {row.family}" for row in rows() if mode in row.modes and row.index not in seen]
    assert not missed, f"rows that no encoding reaches in {mode}-bit mode: {missed}"


@pytest.mark.parametrize("mode", WIDTHS)
def test_instruction_needs_all_its_bytes_and_no_more(mode: int) -> None:
    lengths = set()
    for code in encodings(mode):
        try:
            insn = decode_py(code, mode)
        except OverflowError:
            continue
        if insn is None:
            continue
        length = insn["length"]
        lengths.add(length)
        assert decode_py(code[:length], mode) == insn
        for cut in range(length):
            with pytest.raises(EOFError):
                decode_py(code[:cut], mode)
    assert {1, 2, 3, 4, 5, 6, 7} <= lengths


@pytest.mark.parametrize("mode", WIDTHS)
def test_sixteenth_byte_is_refused_as_too_long(mode: int) -> None:
    for body in (b"\x90", b"\x05\1\2\3\4", b"\x0f\xaf\xc1", b"\x81\x84\x24\1\2\3\4\5\6\7\x08"):
        length = decode_py(body + bytes(8), mode)["length"]
        longest = b"\x2e" * (15 - length) + body + bytes(8)
        assert decode_py(longest, mode)["length"] == 15
        with pytest.raises(OverflowError):
            decode_py(b"\x2e" + longest, mode)
        with pytest.raises(OverflowError):
            decode_py(b"\x2e" * 15, mode)
        with pytest.raises(EOFError):
            decode_py(b"\x2e" * 14, mode)


@pytest.mark.parametrize("mode", [0, 8, 48, 128])
def test_mode_that_does_not_exist_is_refused(mode: int) -> None:
    with pytest.raises(ValueError, match="is not 16, 32 or 64"):
        decode_py(b"\x90", mode)


# The bytes that begin VEX, EVEX and XOP, and the encodings of iced-x86's that they lead to.
VECTOR_STARTS = {0xC4: "VEX", 0xC5: "VEX", 0x62: "EVEX", 0x8F: "XOP"}
ENCODING = _names(EncodingKind)


def vector_instructions(mode: int) -> Iterator[tuple[bytes, Instruction]]:
    """Random bytes after each of those, of which iced-x86 can make an instruction."""
    generator = random.Random(mode)
    found = 0
    while found < (100_000 if NIGHTLY else 10_000):
        start = generator.choice(list(VECTOR_STARTS))
        code = generator.choice([b"", b"\x67", b"\x65"]) + bytes([start])
        if start == 0x62:  # few of its 24 bits may be anything
            code += bytes([generator.choice([0xF1, 0xF2, 0xF3, 0xF5, 0xF6]), generator.randbytes(1)[0] | 4])
        code += generator.randbytes(13)
        iced = Decoder(mode, code).decode()
        if iced.code != Code.INVALID and ENCODING[iced.encoding] == VECTOR_STARTS[start]:
            found += 1
            yield code, iced


@pytest.mark.parametrize("mode", WIDTHS)
def test_vector_encoding_is_refused_whole(mode: int) -> None:
    seen: set[str] = set()
    for code, iced in vector_instructions(mode):
        assert decode_py(code, mode) is None
        assert refused_length(code, mode) == iced.len, f"{code.hex()}: {CODE[iced.code]}"
        for cut in range(iced.len):
            with pytest.raises(EOFError):
                decode_py(code[:cut], mode)
        seen.add(ENCODING[iced.encoding])
    assert seen == set(VECTOR_STARTS.values())


@pytest.mark.parametrize(
    ("code", "family"),
    [("C4 00", "les"), ("C5 00", "lds"), ("62 00", "bound"), ("8F 00", "pop"), ("8F C0", "pop")],
)
def test_what_only_begins_like_a_vector_encoding_is_what_it_was(code: str, family: str) -> None:
    for mode in (16, 32, 64):
        insn = decode_py(bytes.fromhex(code) + bytes(8), mode)
        if mode == 64 and family != "pop":
            assert insn is None
        else:
            assert insn is not None and insn["family"] == family
            assert refused_length(bytes.fromhex(code) + bytes(8), mode) is None
