"""What ``hvmx calibrate`` promises, but for how long anything takes: that nobody can assert."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from iced_x86 import Decoder

from hvmx.cli import Status, commands
from hvmx.core.decode.decoder import decode_py
from hvmx.cost import Mark, load_profile, read_profile
from hvmx.cost.calibrate import Calibration, CannotCalibrate, run
from hvmx.cost.calibrate.assembler import AssemblyError, assemble, disassemble
from hvmx.cost.calibrate.bench import Bench, Finding, Step
from hvmx.cost.calibrate.classes import class_steps, latency_of, occupied
from hvmx.cost.calibrate.host import CacheLevel, Host, nearest_profile, read_host
from hvmx.cost.calibrate.instructions import PROBES, REPEATED, Probe
from hvmx.cost.calibrate.loops import Loop, Stopwatch
from hvmx.cost.calibrate.memory import LINE, PAGE, chase, far_steps, near_steps
from hvmx.cost.calibrate.pipeline import pipeline_steps
from hvmx.cost.calibrate.profile_file import profile_text
from hvmx.cost.calibrate.statistics import (
    AGREEING,
    MOST_SERIES,
    Series,
    Unsettled,
    agreement,
    quiet,
    settle,
)
from hvmx.cost.native import DATA_ADDRESS, HostTooNoisy, Measured, NativeError
from hvmx.isa import cost_classes

ALL_PROBES = (*PROBES, *REPEATED)
HOST = Host("Test CPU", frozenset({"hypervisor"}), {1: CacheLevel(32, 8)})


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.split(";") if line.strip()]


# --- The code ---


@pytest.mark.parametrize("probe", ALL_PROBES, ids=lambda probe: str(probe.cost_class))
def test_the_code_of_a_probe_decodes_to_what_it_says(probe: Probe) -> None:
    for text in (probe.chained, probe.independent, probe.setup):
        assert disassemble(assemble(text)) == lines(text)


@pytest.mark.parametrize("probe", ALL_PROBES, ids=lambda probe: str(probe.cost_class))
def test_a_probe_is_of_its_cost_class_and_so_is_what_it_chains(probe: Probe) -> None:
    def classes(text: str) -> list[str]:
        found = []
        for line in lines(text):
            decoded = decode_py(assemble(line), 64)
            assert decoded is not None, line
            found.append(cost_classes()[decoded["cost"]])
        return found

    own, others = (
        probe.cost_class.removesuffix("-complex"),
        {*probe.less, probe.pair},
    )  # of LEA, by its address
    assert classes(probe.template.format(**FIRST)).count(own) == 1
    chained = classes(probe.chained)
    assert chained.count(own) == probe.per
    assert len(set(chained) - others - {own}) <= probe.others


FIRST = {"r": "r8", "d": "r8d", "w": "r8w", "b": "r8b", "x": "xmm0", "m": "mm0", "s": "st(1)"}


def test_every_class_whose_latency_is_taken_off_is_measured_itself() -> None:
    known = {probe.cost_class for probe in ALL_PROBES}
    assert {name for probe in ALL_PROBES for name in (*probe.less, probe.pair) if name} <= known


def test_a_class_that_is_measured_is_one_of_the_instruction_table_and_measured_once() -> None:
    names = [probe.cost_class for probe in ALL_PROBES]
    assert sorted(names) == sorted(set(names))
    assert set(names) <= set(cost_classes())


def test_independent_copies_share_no_register_that_they_write() -> None:
    add = next(probe for probe in PROBES if probe.cost_class == "alu")
    assert len({line.split(",")[0] for line in lines(add.independent)}) == len(add.independents)


def test_a_line_without_an_encoding_is_an_error_that_shows_it() -> None:
    with pytest.raises(AssemblyError, match="no encoding for 'add rax, xmm0'"):
        assemble("add rax, xmm0")


def test_a_branch_says_how_many_bytes_it_skips() -> None:
    assert assemble("jmp +3").hex() == "eb03"
    assert disassemble(assemble("nop; jne -3")) == ["nop", "jne -3"]
    assert disassemble(assemble("jmp +1; ret; call -6")) == ["jmp +1", "ret", "call -6"]


@pytest.mark.parametrize("copies", [1, 200])
def test_a_loop_goes_back_to_the_first_copy_of_its_body(copies: int) -> None:
    code = Loop("add rax, rbx", "mov ebx, 1", "mov [rsi], rax", copies=copies).code(7)
    instructions = list(Decoder(64, code))
    texts = disassemble(code)
    assert texts.count("add rax, rbx") == copies
    back = next(instruction for instruction in instructions if str(instruction).startswith("jne"))
    assert back.near_branch64 == instructions[texts.index("add rax, rbx")].ip
    assert back.near_branch64 % 64 == 0
    assert "mov r13d, 7" in texts
    assert texts.index("mov ebx, 1") < texts.index("add rax, rbx") < texts.index("mov [rsi], rax")
    assert texts[-1] == "ret"


def test_a_chase_visits_every_place_once_and_comes_back() -> None:
    memory, first = chase(96, 5 * PAGE, page=PAGE)
    at, seen = first, set()
    for _ in range(96):
        seen.add(at)
        at = int.from_bytes(memory[at : at + 8], "little") - DATA_ADDRESS
    assert at == first
    assert len(seen) == 96
    assert len({place // PAGE for place in seen}) == 96, "two places are in one page"
    assert {place % PAGE % LINE for place in seen} == {0}


# --- What is said of many measurements ---


def from_list(values: list[float | Exception]) -> Callable[[], float]:
    given: Iterator[float | Exception] = iter(values)

    def once() -> float:
        value = next(given)
        if isinstance(value, Exception):
            raise value
        return value

    return once


def test_the_figure_is_the_middle_of_the_lowest_series_that_agree() -> None:
    found = settle(from_list([9.0, 3.02, 4.4, 3.0, 3.04]))
    assert found == Series(3.02, pytest.approx(0.04 / 3.04), 5)


def test_a_series_that_came_out_too_low_is_not_the_figure() -> None:
    assert settle(from_list([2.4, 3.0, 3.0, 3.0])).value == 3.0


def test_series_are_added_only_until_enough_agree() -> None:
    assert settle(from_list([1.0] * AGREEING + [0.5])).count == AGREEING


def test_series_that_never_agree_give_no_figure_but_their_lowest_in_the_message() -> None:
    noisy: list[float | Exception] = [1.0 + number for number in range(MOST_SERIES)]
    with pytest.raises(Unsettled, match=r"lowest of \d+ series are 1\.00, 2\.00, 3\.00 core cycles"):
        settle(from_list(noisy))


def test_a_series_that_was_too_noisy_is_counted_and_left_out() -> None:
    assert settle(from_list([HostTooNoisy("busy"), 2.0, 2.0, 2.0])) == Series(2.0, 0.0, 4)


def test_no_series_is_made_after_the_time_is_up() -> None:
    with pytest.raises(Unsettled, match="no time was left"):
        settle(from_list([]), until=0.0)


def test_what_takes_a_fraction_of_a_cycle_agrees_within_the_resolution() -> None:
    assert agreement([0.25, 0.27, 0.28]) == [0.25, 0.27, 0.28]
    assert not agreement([25.0, 27.0, 28.0])
    assert not agreement([1.0, 1.0])


def test_a_computer_is_quiet_where_enough_series_are_near_the_lowest() -> None:
    assert quiet([1.0] * 4 + [2.0] * 6) is None


def test_a_noisy_computer_is_told_with_the_numbers() -> None:
    problem = quiet([1.0, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 2.1, 2.2, float("inf")])
    assert problem is not None
    assert "of 10 series of one loop 1 were within 5% of the lowest, and 3 must be" in problem
    assert "lowest 1.00 core cycles, middle 1.90, highest inf" in problem
    assert quiet([float("inf")] * 10) is not None


# --- Figures from measurements ---


class Watch(Stopwatch):
    """Times by a rule instead of the processor."""

    def __init__(self, rule: Callable[[list[str], int], float]) -> None:
        super().__init__()
        self.rule = rule

    def time(self, loop: Loop, tolerance: float = 0.02) -> Series:
        texts = disassemble(loop.code(1))
        body = texts[texts.index("dec r13") - len(disassemble(loop.round())) : texts.index("dec r13")]
        return Series(self.rule(body[: len(body) // loop.copies], len(loop.data)), 0.001, 3)


def bench(rule: Callable[[list[str], int], float], base: str = "zen4", host: Host = HOST) -> Bench:
    return Bench(host, read_profile(base), Watch(rule))


def by_length(body: list[str], memory: int) -> float:
    """By instructions, counts of strings, and memory that is gone through."""
    counts = [int(line.removeprefix("mov ecx, ")) for line in body if line.startswith("mov ecx, ")]
    return 2.0 * len(body) + sum(counts) + memory / (1 << 20)


def raising(problem: Exception) -> Callable[[list[str], int], float]:
    def rule(body: list[str], memory: int) -> float:
        raise problem

    return rule


def test_a_latency_is_what_the_chain_takes_less_the_others_in_it() -> None:
    # Each of them is taken to be three cycles long.
    made = bench(lambda body, memory: 3.0 * len(body))
    assert latency_of(made, "alu") == 3
    assert latency_of(made, "setcc") == 6 - 3
    assert latency_of(made, "sse-convert") == 3
    there, back = (made.entry(f"instructions.sse-{way}-general")["latency"] for way in ("to", "from"))
    assert latency_of(made, "sse-to-general") == pytest.approx(6 * there / (there + back))


def test_a_loop_is_timed_twice_and_the_lower_figure_counts() -> None:
    times = iter([1.4, 1.0, 0.9, 2.0])
    made = bench(lambda body, memory: next(times))
    assert made.time("add rax, rbx").value == 1.4
    assert made.time("nop").value == 1.0
    made.again(lambda *progress: None)
    assert made.time("add rax, rbx") == Series(0.9, 0.001, 6)
    assert made.time("nop").value == 1.0


def test_nothing_is_timed_a_second_time_after_the_time_for_it() -> None:
    made = bench(lambda body, memory: 1.0)
    made.time("nop")
    made.watch = Watch(raising(AssertionError("it was timed")))
    made.again(lambda *progress: None, until=0.0)
    assert made.time("nop").value == 1.0


def test_slots_that_do_not_settle_leave_the_latency_that_did() -> None:
    def rule(body: list[str], memory: int) -> float:
        if "mov rax, rbx" in body:
            raise Unsettled("1 2 3")
        return 3.0 * len(body)

    made = bench(rule)
    made.width, made.filler = 6, ["mov rax, rbx"]
    (imul,) = (step for step in class_steps(made) if step.key == "instructions.imul")
    imul.measure(made)
    found = made.findings["instructions.imul"]
    assert found.values["latency"] == 3 and "slots" not in found.values
    assert "slots are the base's: 1 2 3" in found.where


def test_what_does_not_settle_the_second_time_keeps_its_figure() -> None:
    made = bench(lambda body, memory: 1.0)
    made.time("nop")
    made.watch = Watch(raising(Unsettled("1 2 3")))
    made.again(lambda *progress: None)
    assert made.time("nop").value == 1.0


def test_where_nothing_overlaps_every_instruction_takes_a_cycle(tmp_path: Path) -> None:
    made = bench(lambda body, memory: 0.3, base="p4-672")
    run._take(made, class_steps(made), lambda *progress: None)
    assert made.findings["instructions.xchg"].values["latency"] == 1
    profile(tmp_path, list(made.findings.values()), "p4-672")


def test_pipes_are_occupied_as_long_as_independent_copies_take_apart() -> None:
    made = bench(lambda body, memory: 1.0)
    made.width = 6
    assert occupied(made, "div*10", 7.0, 2) == "div*7"
    assert occupied(made, "div*10", 10.2, 2) == "div*10", "as the base has it"
    assert occupied(made, "alu", 0.25, 1) == "alu"
    assert occupied(made, "alu12", 1.5, 1) == "alu12*3"
    assert occupied(made, "alu1 alu", 2.0, 2) == "alu1 alu", "of several nobody knows which"
    assert occupied(made, "alu", 2 / 6, 2) == "alu", "the front end holds them"


def test_a_figure_of_the_base_that_explains_what_was_measured_is_marked_measured_and_another_is_not() -> None:
    explained, other = bench(lambda body, memory: len(body) / 2), bench(lambda body, memory: 5.0 * len(body))
    for made in (explained, other):
        made.width = 6
        (examine,) = (step for step in class_steps(made) if step.key == "instructions.x87-compare-flags")
        examine.measure(made)
    assert explained.findings == {} and "takes 0.50" in explained.missing["instructions.x87-compare-flags"]
    assert "takes 5.00" in other.missing["instructions.x87-compare-flags"]
    right = bench(lambda body, memory: 1.0 * len(body))
    right.width = 6
    examine.measure(right)
    assert right.findings["instructions.x87-compare-flags"].values == {}


def test_every_step_that_finds_something_finds_a_figure_of_the_profile() -> None:
    made = bench(by_length)
    made.width, made.filler = 4, ["mov rax, rbx"]
    steps = [*pipeline_steps(), *class_steps(made), *near_steps(), *far_steps()]
    for step in steps:
        step.measure(made)
    written = load_profile("zen4").written
    for key in (*made.findings, *made.missing):
        sized = key.rstrip("0123456789")
        assert key in written or sized in written, key
    assert {"pipeline.dispatch", "instructions.alu", "strings.movs_bytes", "memory.locked"} <= set(
        made.findings
    )


def test_a_size_of_zero_or_an_instruction_that_takes_no_time_is_never_written(tmp_path: Path) -> None:
    made = bench(lambda body, memory: 0.0001)
    made.width, made.filler = 1, ["mov rax, rbx"]
    run._take(made, [*class_steps(made), *near_steps()], lambda *progress: None)
    assert "strings.scas_element" in made.findings
    assert profile(tmp_path, list(made.findings.values())).instructions["alu"].slots == 1


def test_under_a_hypervisor_an_instruction_that_leaves_stays_the_base_s() -> None:
    made = bench(lambda body, memory: 1000.0 * len(body))
    for step in class_steps(made):
        if step.key in ("instructions.cpuid", "instructions.rdtsc", "instructions.fence"):
            step.measure(made)
    assert set(made.findings) == {"instructions.fence"}
    assert "leaves it: 1000 core cycles" in made.missing["instructions.rdtsc"]


def test_what_this_processor_does_not_have_stays_the_base_s() -> None:
    made = bench(raising(AssertionError("it was run")))
    (aes,) = (step for step in class_steps(made) if step.key == "instructions.aes")
    aes.measure(made)
    assert made.missing == {"instructions.aes": "this processor does not have aes"}


# --- The file ---

SOURCE = "hvmx calibrate on a test's processor"


def profile(tmp_path: Path, findings: list[Finding], base: str = "zen4") -> Any:
    path = tmp_path / "calibrated.toml"
    path.write_text(profile_text(base, read_profile(base), "Test CPU", SOURCE, findings))
    return load_profile(path)


def test_a_measured_figure_is_marked_so_with_its_source(tmp_path: Path) -> None:
    made = profile(
        tmp_path, [Finding("instructions.imul", {"latency": 9}, 'chain of "imul": 9.01 (0.1% of 3)')]
    )
    imul = made.instructions["imul"]
    assert (imul.latency, imul.mark, imul.source, imul.where) == (
        9, Mark.MEASURED, SOURCE, 'chain of "imul": 9.01 (0.1% of 3)',
    )  # fmt: skip
    assert imul.slots == load_profile("zen4").instructions["imul"].slots


@pytest.mark.parametrize("base", ["skylake", "cascade-lake", "zen4", "golden-cove", "nehalem", "p4-672"])
def test_what_was_not_measured_is_the_base_s_with_its_mark_and_source(tmp_path: Path, base: str) -> None:
    made, before = (
        profile(tmp_path, [Finding("pipeline.load", {"cycles": 6}, "6.0")], base),
        load_profile(base),
    )
    assert made.written.keys() == before.written.keys()
    changed = {key for key in before.written if made.written[key] != before.written[key]}
    assert changed == {"pipeline.load", "memory.load"}, "the latter has the latency of the former"
    assert (made.groups, made.cpu, made.pipes) == (before.groups, before.cpu, before.pipes)


def test_a_class_of_one_size_gets_a_line_of_its_own_beside_that_of_all(tmp_path: Path) -> None:
    base = read_profile("skylake")
    sizes = [name for name in cost_classes() if name.startswith("idiv")]
    kept = {name: entry for name, entry in base["instructions"].items() if name not in sizes}
    common = {
        **base,
        "instructions": {**kept, "idiv": base["instructions"].get("idiv", base["instructions"][sizes[-1]])},
    }
    path = tmp_path / "calibrated.toml"
    path.write_text(
        profile_text(
            "mine", common, "Test CPU", SOURCE, [Finding("instructions.idiv32", {"latency": 5}, "5")]
        )
    )
    instructions = load_profile(path).instructions
    assert instructions["idiv32"].latency == 5
    assert instructions["idiv64"].latency == common["instructions"]["idiv"]["latency"]


def test_a_calibrated_profile_can_be_the_base_of_another(tmp_path: Path) -> None:
    profile(tmp_path, [Finding("pipeline.load", {"cycles": 6}, "6.0")])
    again = read_profile(tmp_path / "calibrated.toml")
    path = tmp_path / "again.toml"
    path.write_text(
        profile_text(
            "calibrated", again, "Other", "second", [Finding("pipeline.forward", {"cycles": 3}, "3")]
        )
    )
    made = load_profile(path)
    assert (made.pipeline.load.source, made.pipeline.forward.source) == (SOURCE, "second")


# --- The host ---

CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 94
model name\t: Intel(R)  Core(TM) i5-6400T
stepping\t: 3
flags\t\t: fpu sse4_2 aes

processor\t: 1
model\t\t: 7
"""


def test_the_host_is_what_linux_says_of_its_first_processor(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    for index, (kind, level, size) in enumerate(
        [("Data", 1, "32K"), ("Instruction", 1, "64K"), ("Unified", 2, "256K")]
    ):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        told = {"type": kind, "level": level, "size": size, "ways_of_associativity": 8}
        for name, value in told.items():
            (folder / name).write_text(f"{value}\n")
    host = read_host(tmp_path / "cpuinfo", tmp_path)
    assert host.features == {"fpu", "sse4_2", "aes"}
    assert not host.under_hypervisor
    assert host.caches == {1: CacheLevel(32, 8), 2: CacheLevel(256, 8)}


@pytest.mark.parametrize(
    ("known", "base"), [("zen4", "zen4"), ("one that is not bundled", "skylake"), (None, "skylake")]
)
def test_the_base_is_the_bundled_profile_of_the_processor_or_the_default(
    monkeypatch: pytest.MonkeyPatch, known: str | None, base: str
) -> None:
    monkeypatch.setattr("hvmx.cost.calibrate.host.profile_of_processor", lambda: known)
    assert nearest_profile() == base


# --- The whole, and the command ---


def refusing(problem: Exception) -> Callable[..., Calibration]:
    def calibrate(*arguments: Any, **options: Any) -> Calibration:
        raise problem

    return calibrate


def found(base: str = "zen4", *findings: Finding) -> Callable[..., Calibration]:
    def calibrate(name: str, content: Any, **options: Any) -> Calibration:
        return Calibration(
            HOST, name, content, findings, {"caches.l3": "others use it"}, {"a fault": "9"}, SOURCE
        )

    return calibrate


def command(*arguments: str) -> Any:
    return CliRunner().invoke(commands, ["calibrate", *arguments], standalone_mode=False)


def test_a_host_that_cannot_run_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "host_problem", lambda: "this is Linux on riscv64")
    with pytest.raises(CannotCalibrate, match="riscv64"):
        run.calibrate("zen4", read_profile("zen4"))


def test_a_noisy_computer_is_refused_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(*arguments: Any, **options: Any) -> Measured:
        raise HostTooNoisy("busy")

    monkeypatch.setattr(run, "host_problem", lambda: None)
    monkeypatch.setattr(run, "read_host", lambda: HOST)
    monkeypatch.setattr(run, "Stopwatch", lambda repetitions, **options: Stopwatch(repetitions, noisy))
    with pytest.raises(CannotCalibrate, match="too noisy to measure on: of 40 series .* try again"):
        run.calibrate("zen4", read_profile("zen4"))


def test_where_most_measurements_differ_each_time_all_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "host_problem", lambda: None)
    monkeypatch.setattr(run, "read_host", lambda: HOST)
    monkeypatch.setattr(run, "_require_quiet", lambda watch: None)
    monkeypatch.setattr(run, "_counter", lambda: None)
    monkeypatch.setattr(run, "Stopwatch", lambda *arguments, **options: Watch(raising(Unsettled("1 2 3"))))
    with pytest.raises(CannotCalibrate, match=r"too noisy .* \d+ of \d+ measurements"):
        run.calibrate("zen4", read_profile("zen4"))


def test_a_step_that_fails_leaves_the_base_s_figure_and_says_why() -> None:
    made = bench(lambda body, memory: 1.0)
    steps = [
        Step("pipeline.load", lambda bench: bench.find("pipeline.load", {"cycles": 4}, "4")),
        Step("pipeline.forward", lambda bench: (_ for _ in ()).throw(NativeError("it crashed"))),
    ]
    told: list[tuple[int, int, str]] = []
    assert run._take(made, steps, lambda *progress: told.append(progress)) == 0
    assert set(made.findings) == {"pipeline.load"}
    assert made.missing == {"pipeline.forward": "it crashed"}
    assert told == [(0, 2, "pipeline.load"), (1, 2, "pipeline.forward"), (2, 2, "")]


def test_the_command_writes_a_profile_that_loads_and_shows_what_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "hvmx.cost.calibrate.calibrate", found("zen4", Finding("pipeline.load", {"cycles": 6}, "6.0"))
    )
    path = tmp_path / "mine.toml"
    result = command("-o", str(path), "--base", "zen4")
    assert result.return_value == Status.GOOD
    assert load_profile(path).pipeline.load.cycles == 6
    assert [line.split() for line in result.output.splitlines() if "pipeline.load" in line] == [
        ["pipeline.load", "6", "4"]
    ]
    assert "caches.l3: others use it" in result.output
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_there_is_written_over_only_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvmx.cost.calibrate.calibrate", found())
    path = tmp_path / "mine.toml"
    path.write_text("mine")
    refused = command("-o", str(path), "--base", "zen4")
    assert "is there already; --force writes over it" in str(refused.exception)
    assert path.read_text() == "mine"
    assert command("-o", str(path), "--base", "zen4", "--force").return_value == Status.GOOD
    load_profile(path)


@pytest.mark.parametrize("problem", [CannotCalibrate("too noisy: 1 of 40"), KeyboardInterrupt()])
def test_a_calibration_that_does_not_end_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    monkeypatch.setattr("hvmx.cost.calibrate.calibrate", refusing(problem))
    result = command("-o", str(tmp_path / "mine.toml"), "--base", "zen4")
    assert result.return_value != Status.GOOD or result.exception
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_says_why_and_ends_with_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvmx.cost.calibrate.calibrate", refusing(CannotCalibrate("too noisy: 1 of 40")))
    result = command("-o", str(tmp_path / "mine.toml"), "--base", "zen4")
    assert result.return_value == Status.UNABLE
    assert "hvmx: too noisy: 1 of 40" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--base", "nothing.toml"), "--base: profile nothing.toml: cannot be read"),
        (("-o", "-"), "a profile goes to a file"),
        (("-o", "no/such/folder/mine.toml"), "--output: no/such/folder/mine.toml: cannot be written"),
    ],
)
def test_bad_options_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hvmx.cost.calibrate.calibrate", found())
    assert says in str(command(*arguments).exception)
    assert list(tmp_path.iterdir()) == []


def test_the_base_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvmx.cost.calibrate.calibrate", found())
    path = tmp_path / "mine.toml"
    path.write_text(profile_text("zen4", read_profile("zen4"), "Test CPU", SOURCE, []))
    before = path.read_text()
    assert "is --base too" in str(command("-o", str(path), "--base", str(path), "--force").exception)
    assert path.read_text() == before
