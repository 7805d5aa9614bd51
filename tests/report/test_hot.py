"""Where guest cycles go: all of them are somewhere, what holds known loops is said to, and looking changes nothing."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from core.machine import CODE, assemble

from hvmx.cli import Status, main
from hvmx.cost import Profile, load_profile
from hvmx.machine import Machine
from hvmx.report.hot import HotReport
from hvmx.report.symbols import NO_SYMBOLS, Symbols, read_symbols

ZEN4 = load_profile("zen4")
TURNS = 20_000


def loop(body: str, before: str = "") -> str:
    return f"{before}\nmov ebp, {TURNS}\nagain:\n{body}\ndec ebp\njnz again\ncli\nhlt"


CHAIN = loop("imul rax, rax\n" * 4)
ADDITIONS = loop("".join(f"add r{n}, 3\n" for n in range(8, 16)) * 2)
DIVISIONS = loop("xor edx, edx\nmov eax, 1000\ndiv ecx\n" * 2, "mov ecx, 7")
# A multiplicative generator, whose high bits no predictor of some kilobytes foresees.
COIN = loop("imul rbx, r8\nadd rbx, r9\nmov rax, rbx\nshr rax, 60\ntest al, 1\njz over\nadd rcx, 1\nover:",
            "mov r8, 6364136223846793005\nmov r9, 1442695040888963407\nmov rbx, 1")  # fmt: skip
STRINGS = loop("mov ecx, 512\nmov edi, 0x100000\nrep stosb", "cld")
# Everything that is charged beside the pipeline: exits, locked and string instructions, ports.
MIXED = loop("mov ecx, 64\nmov edi, 0x100000\nrep stosd\nlock add dword ptr [rdi], 1\npush rbp\nxor eax, eax\ncpuid\n"
             "pop rbp\nin al, 0x80", "cld")  # fmt: skip


def machine_with(source: str, path: Path, profile: str | Profile = "zen4", load_address: int = CODE) -> Machine:
    path.write_bytes(assemble(64, [source])[0])
    machine = Machine("16M", profile)
    machine.load(path, load_address=load_address, bits=64)
    return machine


def heated(source: str, tmp_path: Path, symbols: Symbols = NO_SYMBOLS) -> HotReport:
    machine = machine_with(source, tmp_path / "guest.bin")
    machine.cpu.find_hot()
    machine.run()
    return HotReport(machine.cpu.hot_blocks(), symbols, ZEN4)


# --- what held it -------------------------------------------------------------------------------------------------------
def test_a_chain_of_multiplications_is_held_by_its_dependency(tmp_path: Path) -> None:
    hottest = heated(CHAIN, tmp_path).blocks[0].heat
    bound, share = hottest.bound()
    assert bound == "dependency"
    assert share > 0.9
    assert hottest.cycles == pytest.approx(12 * TURNS, rel=0.02)  # three cycles each


def test_independent_additions_are_held_by_the_pipes_that_add(tmp_path: Path) -> None:
    bound, share = heated(ADDITIONS, tmp_path).blocks[0].heat.bound()
    assert bound == "alu0 alu1 alu2 alu3"
    assert share > 0.9


def test_independent_divisions_are_held_by_the_divider(tmp_path: Path) -> None:
    bound, share = heated(DIVISIONS, tmp_path).blocks[0].heat.bound()
    assert bound == "div"
    assert share > 0.8


def test_a_loop_of_nothing_but_nops_is_held_by_the_front_end(tmp_path: Path) -> None:
    bound, share = heated(loop("nop\n" * 20), tmp_path).blocks[0].heat.bound()
    assert bound == "front end"
    assert share > 0.9


def test_a_branch_on_random_bits_is_held_by_mispredictions(tmp_path: Path) -> None:
    report = heated(COIN, tmp_path)
    held: dict[str, int] = {}
    for block in report.blocks:
        for name, units in block.heat.bounds.items():
            held[name] = held.get(name, 0) + units
    assert max(held, key=lambda name: held[name]) == "misprediction"


def test_filling_memory_is_held_by_the_string_instruction(tmp_path: Path) -> None:
    assert heated(STRINGS, tmp_path).blocks[0].heat.bound()[0] == "string"


def test_exits_are_where_they_happen(tmp_path: Path) -> None:
    report = heated(loop("xor eax, eax\nin al, 0x80", "nop"), tmp_path)
    assert report.blocks[0].heat.bound()[0] == "exits"
    assert report.blocks[0].heat.instructions >= TURNS


def test_without_overlap_everything_is_serial(tmp_path: Path) -> None:
    machine = machine_with(CHAIN, tmp_path / "guest.bin", profile="p4-672")
    machine.cpu.find_hot()
    machine.run()
    report = HotReport(machine.cpu.hot_blocks(), NO_SYMBOLS, machine.profile)
    assert report.blocks[0].heat.bound()[0] == "serial"


def test_what_misses_the_caches_is_held_by_them(tmp_path: Path) -> None:
    stride = loop("add ebx, 0x11040\nand ebx, 0x7fffc0\nmov rax, [rbx + 0x200000]", "xor ebx, ebx")
    machine = machine_with(stride, tmp_path / "guest.bin", ZEN4.with_caches())
    machine.cpu.find_hot()
    machine.run()
    hottest = HotReport(machine.cpu.hot_blocks(), NO_SYMBOLS, ZEN4).blocks[0]
    assert hottest.heat.bound()[0] == "cache"


# --- all of it ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("source", [CHAIN, COIN, STRINGS, MIXED], ids=["chain", "coin", "strings", "mixed"])
def test_all_guest_cycles_and_instructions_are_in_the_table(tmp_path: Path, source: str) -> None:
    machine = machine_with(source, tmp_path / "guest.bin")
    machine.cpu.find_hot()
    machine.run()
    found = machine.cpu.hot_blocks()
    report = HotReport(found, NO_SYMBOLS, ZEN4)
    assert report.cycles == machine.cycles
    assert sum(b.heat.instructions for b in report.blocks) + report.others.instructions == machine.cpu.instructions
    units = sum(sum(row[4].values()) + sum(row[5]) for row in found["blocks"])
    assert units + found["waiting"] == found["total"]
    assert all(min(b.heat.bounds.values()) >= 0 for b in report.blocks)


@pytest.mark.parametrize("source", [CHAIN, ADDITIONS, COIN, MIXED], ids=["chain", "additions", "coin", "mixed"])
def test_looking_changes_no_guest_cycle(tmp_path: Path, source: str) -> None:
    ends = []
    for look in (False, True):
        machine = machine_with(source, tmp_path / "guest.bin")
        if look:
            machine.cpu.find_hot()
        machine.run()
        ends.append((machine.cycles, machine.state_hash(), machine.cpu.counters()))
    assert ends[0] == ends[1]


def test_waiting_for_an_interrupt_is_no_time_of_a_block(tmp_path: Path) -> None:
    # The timer counts down, and the interrupt controller lets nothing through.
    wait = "mov al, 0xff\nout 0x21, al\nmov al, 0x34\nout 0x43, al\nxor eax, eax\nout 0x40, al\nout 0x40, al\nsti\nhlt"
    machine = machine_with(wait, tmp_path / "guest.bin")
    machine.cpu.find_hot()
    machine.run(10_000_000)
    report = HotReport(machine.cpu.hot_blocks(), NO_SYMBOLS, ZEN4)
    assert report.waiting == pytest.approx(machine.cpu.halted_cycles, abs=1)
    assert report.waiting > 9_000_000
    assert report.cycles == machine.cycles


def test_looking_may_begin_in_the_middle(tmp_path: Path) -> None:
    whole, looked_at = (machine_with(MIXED, tmp_path / "guest.bin") for _ in range(2))
    whole.run()
    looked_at.run(100_000)
    begin = looked_at.cycles
    looked_at.cpu.find_hot()
    looked_at.run()
    assert looked_at.cycles == whole.cycles
    # One cycle may have begun before.
    assert HotReport(looked_at.cpu.hot_blocks(), NO_SYMBOLS, ZEN4).cycles in (whole.cycles - begin, whole.cycles - begin - 1)


def test_however_a_run_is_cut_the_table_is_the_same_size_in_cycles(tmp_path: Path) -> None:
    sums = []
    for slices in (1 << 40, 7_777):
        machine = machine_with(MIXED, tmp_path / "guest.bin")
        machine.cpu.find_hot()
        while machine.run(slices).kind.name == "CYCLES":
            pass
        rows = machine.cpu.hot_blocks()["blocks"]
        sums.append({row[0]: sum(row[4].values()) + sum(row[5]) for row in rows})
    assert sums[0] == sums[1]


def test_more_blocks_than_there_is_room_for_are_added_up_as_others(tmp_path: Path) -> None:
    count = 80_000
    source = f".rept {count}\nlea rax, [rip + 2]\njmp rax\n.endr\ncli\nhlt"
    machine = machine_with(source, tmp_path / "guest.bin", load_address=0x100000)
    machine.cpu.find_hot()
    machine.run()
    report = HotReport(machine.cpu.hot_blocks(), NO_SYMBOLS, ZEN4)
    assert report.cycles == machine.cycles
    assert len(report.blocks) <= 1 << 16
    assert report.others.instructions > 0
    assert sum(b.heat.instructions for b in report.blocks) + report.others.instructions == 2 * count + 2


def test_without_find_hot_there_is_nothing_to_ask_for(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="find_hot"):
        machine_with(CHAIN, tmp_path / "guest.bin").cpu.hot_blocks()


# --- names --------------------------------------------------------------------------------------------------------------
MAP = "0000000000000000 D __per_cpu_start\n0000000000008000 T start\n0000000000008005 t again\n0000000000009000 R data\n"


def test_an_address_has_the_name_of_the_nearest_code_below(tmp_path: Path) -> None:
    path = tmp_path / "System.map"
    path.write_text(MAP)
    symbols = read_symbols(path)
    assert symbols.find(0x8000) == ("start", 0)
    assert symbols.find(0x8FFF) == ("again", 0xFFA)
    for address in (0, 0x7FFF, 0x9000, 0x400000):
        assert symbols.find(address) is None


@pytest.mark.parametrize("content", [b"a line of prose", b"\x00\xff\x80", b"\x7fELF and no more", b"ffffffffffffffff B nothing"])
def test_a_file_without_symbols_is_an_error_that_names_it(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "no symbols"
    path.write_bytes(content)
    assert main([*arguments(tmp_path), "--hot", "--symbols", str(path)]) == Status.BAD_OPTION
    assert f"--symbols: {path}" in capfd.readouterr().err


def test_an_elf_file_names_its_functions(tmp_path: Path) -> None:
    source = ".text\n.globl first\n.type first, @function\nfirst:\nlabel:\nnop\nnop\n.type second, @function\nsecond: nop\n.data\nx: .long 1\n"
    (tmp_path / "a.s").write_text(source)
    subprocess.run(["as", "-o", tmp_path / "a.o", tmp_path / "a.s"], check=True)
    subprocess.run(["ld", "-Ttext=0x8000", "-e", "first", "-o", tmp_path / "a", tmp_path / "a.o"], check=True)
    symbols = read_symbols(tmp_path / "a")
    assert symbols.find(0x8001) == ("first", 1)
    assert symbols.find(0x8002) == ("second", 0)
    assert symbols.find(0x8003) is None


# --- the command --------------------------------------------------------------------------------------------------------
def arguments(tmp_path: Path) -> list[str]:
    path = tmp_path / "guest.bin"
    path.write_bytes(assemble(64, [CHAIN])[0])
    return ["run", "--memory", "16M", "--profile", "zen4", "--load-address", hex(CODE), "--bits", "64", "--serial", "null", str(path)]  # fmt: skip


def run_to(tmp_path: Path, name: str, *more: str) -> Any:
    output = tmp_path / name
    assert main([*arguments(tmp_path), f"--hot={output}", *more]) == Status.GOOD
    return output


def test_without_a_file_the_tables_end_the_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    map_file = tmp_path / "System.map"
    map_file.write_text(MAP)
    assert main([*arguments(tmp_path)[:-1], "--hot", arguments(tmp_path)[-1], "--symbols", str(map_file)]) == Status.GOOD
    text = capfd.readouterr().err
    assert "Hottest symbols" in text
    assert "again+0x0" in text
    assert "dependency" in text
    assert text.rstrip().splitlines()[-1].endswith("waiting")


def test_the_json_adds_up_to_the_guest_cycles_of_the_run(tmp_path: Path) -> None:
    stats = tmp_path / "stats.json"
    hot = json.loads(run_to(tmp_path, "hot.json", "--stats", str(stats)).read_text())
    assert hot["guest_cycles"] == json.loads(stats.read_text())["guest_cycles"]
    rows = [*hot["blocks"], hot["others"]]
    assert sum(row["guest_cycles"] for row in rows) + hot["waiting_guest_cycles"] == hot["guest_cycles"]
    assert sum(row["guest_cycles"] for row in hot["symbols"]) == sum(row["guest_cycles"] for row in hot["blocks"])
    assert hot["blocks"][0]["bound"] == "dependency"


def test_the_profile_for_speedscope_is_one(tmp_path: Path) -> None:
    profile = json.loads(run_to(tmp_path, "hot.speedscope.json").read_text())
    assert profile["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames = profile["shared"]["frames"]
    assert all(isinstance(frame["name"], str) for frame in frames)
    (one,) = profile["profiles"]
    assert (one["type"], one["unit"], one["startValue"]) == ("sampled", "none", 0)
    assert len(one["samples"]) == len(one["weights"])
    assert {index for stack in one["samples"] for index in stack} == set(range(len(frames)))
    assert sum(one["weights"]) == pytest.approx(one["endValue"])


def test_other_files_get_the_tables(tmp_path: Path) -> None:
    assert "Hottest blocks" in run_to(tmp_path, "hot.txt").read_text()


def test_the_word_after_hot_is_no_file(tmp_path: Path) -> None:
    *options, image = arguments(tmp_path)
    before = Path(image).read_bytes()
    assert main([*options, "--hot", image]) == Status.GOOD
    assert Path(image).read_bytes() == before


def test_symbols_are_for_hot(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(tmp_path), "--symbols", "System.map"]) == Status.BAD_OPTION
    assert "--hot" in capfd.readouterr().err
