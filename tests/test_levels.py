"""A processor has what its level says: instructions, CPUID bits, control registers and MSRs, and nothing else."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import hvmx
from hvmx import guests
from hvmx.boot import ImageError
from hvmx.cli import commands
from hvmx.core.decode.decoder import decode_py
from hvmx.cost import BUNDLED, load_profile
from hvmx.hvm.cpuid import EXTENDED, leaf
from hvmx.isa import coverage, feature_mask, features, rows
from hvmx.isa.levels import (
    CPUID_BITS,
    CR4_BITS,
    EFER_BITS,
    FAMILY_6,
    GONE,
    LEVELS,
    MSRS,
    WRITE_ONLY_MSRS,
    Level,
    level,
)

CODE, STUB = 0x1000, 0x2000
INVALID_OPCODE, GENERAL_PROTECTION = 6, 13
PCIDE = 17
MSR_EFER = 0xC0000080

# Features without a row of their own: what shows that the processor has them.
WITHOUT_ROWS = {
    "base": "every level has it",
    "pse36": "large pages above 4 GiB (tests/core/test_large_pages.py)",
    "page1gb": "pages of 1 GiB (tests/core/test_large_pages.py)",
    "prefetchw": "0F 0D, which is a NOP on all of family 6",
    **dict.fromkeys([*CR4_BITS, *EFER_BITS, *MSRS], "bits of CR4 or EFER, or MSRs: tested below"),
}


@pytest.fixture(params=LEVELS.values(), ids=list(LEVELS))
def processor(request: pytest.FixtureRequest) -> Level:
    return request.param


def run(cpu: str, code: str, *, rcx: int = 0, rax: int = 0, rdx: int = 0, cr4: int | None = None) -> hvmx.Machine:
    """A machine in real mode after `code` (hexadecimal) and a HLT at CODE, or one at STUB + vector."""
    machine = hvmx.Machine("1M", cpu=cpu, board=False)
    for vector in range(32):
        machine.cpu.write(4 * vector, (STUB + vector).to_bytes(4, "little"))
    machine.cpu.write(STUB, b"\xf4" * 32)
    machine.cpu.write(CODE, bytes.fromhex(code) + b"\xf4")
    for name in ("cs", "ds", "es", "ss"):
        machine.cpu.set_segment(name, 0, 0, 0xFFFF, 0x93)
    machine.cpu.rip, machine.cpu.rsp = CODE, 0x8000
    machine.cpu.rcx, machine.cpu.rax, machine.cpu.rdx = rcx, rax, rdx
    if cr4 is not None:
        machine.cpu.cr4 = cr4
    assert machine.run(cycles=100_000).kind is hvmx.StopKind.HALTED
    return machine


def vector(machine: hvmx.Machine) -> int | None:
    """The exception that ended it, or None where it reached its end."""
    at = machine.cpu.rip - 1
    return at - STUB if STUB <= at < STUB + 32 else None


def reported(cpu: Level) -> dict[tuple[int, int, str], int]:
    """What CPUID answers, by leaf, subleaf and register, for every place where a feature can be."""
    places = {(bit.leaf, bit.subleaf) for bit in CPUID_BITS.values()}
    answers = {}
    for function, subleaf in places:
        machine = run(cpu.name, "0fa2", rax=function, rcx=subleaf)
        limit = run(cpu.name, "0fa2", rax=function & EXTENDED).cpu.rax
        if function <= limit and limit & EXTENDED == function & EXTENDED:
            for register in ("eax", "ebx", "ecx", "edx"):
                answers[function, subleaf, register] = getattr(machine.cpu, "r" + register[1:])
    return answers


# --- CPUID ------------------------------------------------------------------------------------------------------------
def test_every_feature_of_a_level_has_its_cpuid_bit_and_every_bit_its_feature(processor: Level) -> None:
    answers = reported(processor)
    for feature, place in CPUID_BITS.items():
        bit = answers.get(place[:3], 0) >> place.bit & 1
        assert bit == (feature in processor.features), feature
    meanings = {place[:3]: 0 for place in CPUID_BITS.values()}
    for place in CPUID_BITS.values():
        meanings[place[:3]] |= 1 << place.bit
    for where, answer in answers.items():
        if where in meanings:
            assert answer & ~meanings[where] == 0, f"leaf {where[0]:#x}: bits that are no feature's"


def test_every_feature_has_instructions_or_registers() -> None:
    with_rows = {row.feature for row in rows()}
    for name in features():
        assert name in with_rows or name in WITHOUT_ROWS, name


def test_every_row_is_of_a_feature_that_a_level_has_and_cpuid_reports() -> None:
    for row in rows():
        known = LEVELS["x86-64-v2"].features | GONE.keys()
        assert row.feature in known, f"{row.text} {row.family}: {row.feature} is in no level"
        assert row.feature in CPUID_BITS or row.feature in ("base", FAMILY_6, *GONE), row.feature


def test_each_level_has_all_that_the_one_before_has_but_what_is_gone() -> None:
    before: frozenset[str] = frozenset()
    for cpu in LEVELS.values():
        assert before - GONE.keys() < cpu.features
        before = cpu.features
    for feature in GONE:
        assert sum(feature in cpu.features for cpu in LEVELS.values()) == 1, f"{feature} is of one level"


@pytest.mark.parametrize(
    ("name", "family"), [("486", 4), ("pentium", 5), ("pentium2", 6), ("x86-64-v1", 15), ("x86-64-v2", 6)]
)
def test_signature_is_of_the_processor_family_and_in_edx_after_reset(name: str, family: int) -> None:
    signature = run(name, "0fa2", rax=1).cpu.rax
    assert signature >> 8 & 15 == family
    assert hvmx.Machine("1M", cpu=name, board=False).cpu.rdx == signature


def test_leaf_beyond_the_last_answers_as_the_last_basic_one(processor: Level) -> None:
    last = leaf(processor, 0, 0)[0]
    assert leaf(processor, last + 1, 0) == leaf(processor, last, 0)
    assert leaf(processor, 0x40000000, 0) == leaf(processor, last, 0)
    if "lm" not in processor.features:
        assert leaf(processor, EXTENDED, 0) == leaf(processor, last, 0)


def test_program_finds_cpuid_by_the_id_flag(processor: Level) -> None:
    machine = run(processor.name, "669c 6658 660d00002000 6650 669d 669c 6658")  # pushfd; or eax, ID; popfd; pushfd
    assert machine.cpu.rax & 1 << 21


# --- instructions -----------------------------------------------------------------------------------------------------
def test_row_exists_where_the_level_has_its_feature(processor: Level) -> None:
    mask = feature_mask(processor.features)
    for encoding in coverage.encodings():
        for width, code in encoding.examples.items():
            insn = decode_py(code, width)
            if insn is None or encoding.outside:
                continue
            at_level = decode_py(code, width, mask)
            if insn["row"].feature in processor.features:
                assert at_level == insn, encoding.line
            else:
                assert at_level is None or at_level["row"].feature in processor.features, encoding.line


@pytest.mark.parametrize(
    ("code", "first"),
    [
        ("0f31", "pentium"),  # rdtsc
        ("0fc70f", "pentium"),  # cmpxchg8b [bx]
        ("0f44c1", "pentium2"),  # cmove ax, cx
        ("dbe9", "pentium2"),  # fucomi
        ("0f1fc0", "pentium2"),  # nop ax
        ("0f1807", "pentium2"),  # prefetchnta [bx]
        ("0fae07", "pentium2"),  # fxsave [bx]
        ("0faef8", "x86-64-v1"),  # sfence
        ("0faee8", "x86-64-v1"),  # lfence
        ("f30fb8c1", "x86-64-v2"),  # popcnt ax, cx
        ("0f38f007", "x86-64-v2"),  # movbe ax, [bx]
        ("0f01f9", "x86-64-v2"),  # rdtscp
    ],
)
def test_instruction_is_undefined_below_its_level(processor: Level, code: str, first: str) -> None:
    order = list(LEVELS)
    expected = None if order.index(processor.name) >= order.index(first) else INVALID_OPCODE
    assert vector(run(processor.name, code)) == expected


@pytest.mark.parametrize("number", range(8))
def test_only_a_486_moves_to_and_from_test_registers(processor: Level, number: int) -> None:
    modrm = f"{0xC0 | number << 3:02x}"
    there = processor.name == "486" and number >= 3
    written = run(processor.name, f"0f26{modrm} 6631c0 0f24{modrm}", rax=0x87654321)  # mov TR, eax; xor eax, eax; mov eax, TR
    assert vector(written) == (None if there else INVALID_OPCODE)
    if there:
        assert written.cpu.rax == 0x87654321
        assert vector(run("486", f"0f24{number << 3:02x}")) is None, "ModRM names a register whatever its mod field says"


def test_lookup_in_the_tlb_by_a_test_register_finds_nothing() -> None:
    code = "0f26f8 6689c8 0f26f0 0f24f8"  # mov tr7, eax; mov eax, ecx; mov tr6, eax; mov eax, tr7
    assert run("486", code, rax=0x12345010, rcx=0x1000).cpu.rax == 0x12345010, "a write of an entry"
    assert run("486", code, rax=0x12345010, rcx=0x1001).cpu.rax == 0x12345000, "a lookup: bit 4 of TR7 is a hit"


def test_prefix_of_a_later_instruction_leaves_the_older_one(processor: Level) -> None:
    assert run(processor.name, "f30fbcc1", rcx=0x10).cpu.rax == 4, "TZCNT is BSF"
    assert run(processor.name, "f30fbdc1", rcx=0x10).cpu.rax == 4, "LZCNT is BSR, which counts from the other end"
    assert vector(run(processor.name, "f390")) is None, "PAUSE is NOP"


def test_pause_exits_only_where_there_is_one(processor: Level) -> None:
    machine = hvmx.Machine("1M", cpu=processor.name, board=False)
    pauses: list[int] = []
    machine.cpu.controls |= 0x200  # PAUSE exiting
    machine.exits.on(hvmx.ExitReason.PAUSE_INSTRUCTION, lambda vcpu, exit: pauses.append(vcpu.rip))
    machine.cpu.set_segment("cs", 0, 0, 0xFFFF, 0x9B)
    machine.cpu.write(CODE, bytes.fromhex("f390f4"))
    machine.cpu.rip = CODE
    machine.run(cycles=10_000)
    assert pauses == ([CODE] if "sse2" in processor.features else [])


def test_cmpxchg16b_without_its_feature_is_no_cmpxchg8b() -> None:
    code = bytes.fromhex("480fc70f")
    assert decode_py(code, 64)["family"] == "cmpxchg16b"
    assert decode_py(code, 64, feature_mask(LEVELS["x86-64-v1"].features)) is None


def test_lahf_in_64_bit_mode_came_later_than_elsewhere() -> None:
    mask = feature_mask(LEVELS["x86-64-v1"].features)
    assert decode_py(b"\x9f", 64, mask) is None
    assert decode_py(b"\x9f", 32, mask)["family"] == "lahf"
    assert decode_py(b"\x9f", 64)["family"] == "lahf"


def test_vector_encoding_is_fetched_whole_before_it_is_undefined() -> None:
    code = bytes.fromhex("c4e2d102c1 90f4")  # vpmulld or the like, in registers: VEX in 16-bit code too
    assert vector(run("x86-64-v2", code.hex())) == INVALID_OPCODE
    machine = hvmx.Machine("1M", board=False)
    machine.cpu.write(4 * GENERAL_PROTECTION, (STUB + GENERAL_PROTECTION).to_bytes(4, "little"))
    machine.cpu.write(4 * INVALID_OPCODE, (STUB + INVALID_OPCODE).to_bytes(4, "little"))
    machine.cpu.write(STUB, b"\xf4" * 32)
    machine.cpu.write(0xFFFC, code[:4])
    machine.cpu.set_segment("cs", 0, 0, 0xFFFF, 0x9B)
    machine.cpu.rip, machine.cpu.rsp = 0xFFFC, 0x8000
    machine.run(cycles=10_000)
    assert vector(machine) == GENERAL_PROTECTION, "its last byte lies behind the limit of CS"


# --- control registers and MSRs -----------------------------------------------------------------------------------------
def test_control_register_4_takes_the_bits_of_the_level_only(processor: Level) -> None:
    for bit in range(32):
        allowed = any(bits >> bit & 1 for name, bits in CR4_BITS.items() if name in processor.features)
        allowed = allowed and bit != PCIDE  # which can only be set in 64-bit mode (SDM volume 3, section 4.10.1)
        machine = run(processor.name, "0f22e0", rax=1 << bit)  # mov cr4, eax
        assert vector(machine) == (None if allowed else GENERAL_PROTECTION), f"bit {bit}"
        assert machine.cpu.cr4 == (1 << bit if allowed else 0)


def test_msr_is_there_where_the_level_has_its_feature(processor: Level) -> None:
    for feature, numbers in MSRS.items():
        expected = None if feature in processor.features else GENERAL_PROTECTION
        if "msr" not in processor.features:
            expected = INVALID_OPCODE
        for number in numbers:
            code = "0f30" if number in WRITE_ONLY_MSRS else "0f32"
            assert vector(run(processor.name, code, rcx=number)) == expected, f"{feature} {number:#x}"


@pytest.mark.parametrize("number", [0x2, 0x400, 0x3FFFFFFF, 0x40000010, 0x80000277, 0xC0000104, 0xC0000400])
def test_msr_of_no_feature_is_a_general_protection_fault(number: int) -> None:
    assert vector(run("x86-64-v2", "0f32", rcx=number)) == GENERAL_PROTECTION
    assert vector(run("x86-64-v2", "0f30", rcx=number)) == GENERAL_PROTECTION


def test_efer_takes_the_bits_of_the_level_only(processor: Level) -> None:
    for bit in range(16):
        allowed = any(bits >> bit & 1 for name, bits in EFER_BITS.items() if name in processor.features)
        machine = run(processor.name, "0f30", rcx=MSR_EFER, rax=1 << bit)
        if "msr" not in processor.features:
            assert vector(machine) == INVALID_OPCODE
        else:
            assert vector(machine) == (None if allowed else GENERAL_PROTECTION), f"bit {bit}"


# --- guests -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "cpu"),
    [
        ("hvm32", "pentium"),
        ("hvm32", "pentium2"),
        ("hvm64", "x86-64-v1"),
        ("hvm64", "x86-64-v2"),
        ("pv64", "x86-64-v1"),
    ],
)
def test_bundled_guest_passes_its_checks(name: str, cpu: str) -> None:
    console = bytearray()
    machine = hvmx.Machine(cpu=cpu, serial=console.extend)
    machine.load(guests.image(name), pv=name == "pv64", append="workloads=syscall")
    machine.run(timeout=60)
    assert f"guest {name} done, 0 checks failed" in console.decode(), console[-1000:]


def test_bundled_guest_says_what_a_processor_lacks() -> None:
    console = bytearray()
    machine = hvmx.Machine(cpu="486", serial=console.extend)
    machine.load(guests.image("hvm32"))
    assert machine.run(timeout=60).kind is hvmx.StopKind.HALTED
    assert "panic: this processor lacks large pages" in console.decode()


# --- choosing a level ---------------------------------------------------------------------------------------------------
def test_profile_gives_the_level_unless_the_machine_is_told_one() -> None:
    levels = {name: load_profile(name).cpu for name in BUNDLED}
    assert levels == {name: "x86-64-v1" if name == "p4-672" else "x86-64-v2" for name in BUNDLED}
    for name, expected in levels.items():
        assert hvmx.Machine("1M", profile=name, board=False).cpu.level.name == expected
        assert hvmx.Machine("1M", profile=name, cpu="486", board=False).cpu.level.name == "486"


def test_unknown_level_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(ValueError, match="'80286'.*486, pentium, pentium2, x86-64-v1, x86-64-v2"):
        hvmx.Machine(cpu="80286")
    assert level("486") is LEVELS["486"]
    result = CliRunner().invoke(commands, ["run", "--cpu", "80286"])
    assert result.exit_code == 2
    assert "x86-64-v2" in result.output


def test_guest_of_64_bits_is_refused_by_a_processor_of_32() -> None:
    machine = hvmx.Machine(cpu="pentium2")
    with pytest.raises(ImageError, match="64-bit mode, which a pentium2 does not have"):
        machine.load(b"\x90" * 4096, load_address=0x100000, bits=64)


def test_memory_beyond_the_address_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a pentium"):
        hvmx.Machine("4G", cpu="pentium")
    assert hvmx.Machine("3G", cpu="pentium").cpu.memory_bytes == 3 << 30
    assert hvmx.Machine("4G", cpu="pentium2").cpu.memory_bytes == 4 << 30


# --- what is missing ----------------------------------------------------------------------------------------------------
def test_every_feature_of_iced_is_one_of_ours_or_left_out_for_a_reason() -> None:
    for encoding in coverage.encodings():
        for name in encoding.features:
            assert (name in coverage.FEATURES) != (name in coverage.OUTSIDE), f"{encoding.line}: {name}"
    assert set(coverage.FEATURES.values()) <= LEVELS["x86-64-v2"].features | GONE.keys()


def test_nothing_of_a_level_is_missing(processor: Level) -> None:
    assert [f"{encoding.line} {widths}" for encoding, widths in coverage.missing(processor)] == []
    assert sum(encoding.belongs_to(processor) for encoding in coverage.encodings()) > 700


def test_command_prints_what_is_missing_what_there_is_and_what_is_left_out() -> None:
    def lines(*options: str) -> list[str]:
        result = CliRunner().invoke(commands, ["isa", *options])
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    assert lines("--missing") == []
    there = lines("--cpu", "pentium")
    assert any(line.startswith("0F C7 /1") and line.endswith("cx8") for line in there)
    assert not any(line.endswith(" cmov") or ",64 " in line for line in there)
    assert len(lines()) == sum(row.feature not in GONE for row in rows()), "the highest level has all but what is gone"
    assert any("CYRIX_EMMI" in line for line in lines("--outside"))
