"""`hvmx validate`: the suite is there, the model computes what the processor does, and the table says what it should.

How long anything takes, on the processor or in the model, is asserted nowhere here.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tables import assert_fits_80_columns, printed

from hvmx.cli import Status, main
from hvmx.cost import load_profile, native, native_processor
from hvmx.cost.native import Measured, NativeError
from hvmx.guests.build import BuildError
from hvmx.validation import modelled, results, suite
from hvmx.validation.build import build
from hvmx.validation.suite import FITTED, PROGRAMS, SOURCES, Program
from hvmx.validation.table import validation_table

needs_processor = pytest.mark.skipif(native.host_problem() is not None, reason=str(native.host_problem()))

SKYLAKE = load_profile("skylake")


def by_name(name: str) -> Program:
    (program,) = suite.select(name)
    return program


def measured(program: Program, cycles: float = 1000.0, spread: float = 0.0) -> Measured:
    """As if it had been measured: the checksums are the model's."""
    predicted = modelled.predict(program, SKYLAKE)
    return Measured(cycles, spread, 100, 0.7, predicted.results)


def found(*rows: tuple[str, float, float], profile: str = "skylake", meant: str | None = "skylake") -> results.Validation:
    """A validation of programs with these core cycles and spreads."""
    programs = [by_name(name) for name, _, _ in rows]
    figures = {name: results.Native.of(by_name(name), measured(by_name(name), *rest)) for name, *rest in rows}
    predicted = results.predict_all(programs, load_profile(profile))
    return results.validation(load_profile(profile), predicted, figures, programs, "a processor", meant)


def test_the_suite_has_programs_of_every_kind_in_64_and_32_bits() -> None:
    assert len(PROGRAMS) >= 40
    assert len({program.name for program in PROGRAMS}) == len(PROGRAMS)
    assert sum(program.bits == 32 for program in PROGRAMS) >= 8
    assert sum(program.predictable for program in PROGRAMS) >= 30
    assert sum(not program.predictable for program in PROGRAMS) >= 15
    kinds = ("alu", "jumps", "calls", "divide", "bit", "rep-", "pointer", "hash", "sort", "fib", "crc", "sha", "matrix", "x87", "sse")
    for kind in kinds:
        assert [program for program in PROGRAMS if kind in program.name], kind


def test_every_source_belongs_to_a_program_and_says_what_it_does() -> None:
    sources = {path.name for path in SOURCES.iterdir() if path.suffix in (".c", ".S")}
    assert sources == {program.source for program in PROGRAMS}
    for program in PROGRAMS:
        assert program.about.endswith((".", ":")) and len(program.about) > 15, program.source


def test_the_readme_says_how_many_there_are() -> None:
    readme = Path(__file__).parents[2] / "README.md"
    assert f"a suite of {len(PROGRAMS)} small programs" in readme.read_text()


def test_fitted_programs_are_of_the_suite() -> None:
    assert {program.name for program in PROGRAMS} >= FITTED


def test_the_package_is_built_with_all_programs() -> None:
    for program in PROGRAMS:
        image = program.image()
        assert 0 < len(image) < 8192, "an image is code and constants, and small"
    assert suite.CODE_ADDRESS == native.CODE_ADDRESS, "where they are linked is where they run"


def test_the_build_is_silent_and_repeatable(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        build(tmp_path)
    except BuildError as problem:
        pytest.skip(str(problem))
    output = capfd.readouterr()
    assert output.out == output.err == "", "the compiler or the linker warns"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(program.image_name for program in PROGRAMS)
    for path in tmp_path.iterdir():
        path.touch()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    build(tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}, "what is new is not built again"


@needs_processor
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_the_model_computes_what_the_processor_does_call_by_call(program: Program) -> None:
    predicted = modelled.predict(program, SKYLAKE)
    there = native.call(program.image(), data_bytes=suite.DATA_BYTES, width=program.bits, repetitions=modelled.CALLS)
    assert there == predicted.results
    assert predicted.guest_cycles > 0 and 1000 <= predicted.instructions <= 300_000


def test_of_several_rounds_the_middle_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([300.0, 90.0, 100.0])
    monkeypatch.setattr(results, "measure", lambda *_, **__: Measured(next(figures), 0.0, 100, 0.7, (1,)))
    (native_figure,) = results.measure_all([by_name("fib")], rounds=3).values()
    assert native_figure.core_cycles == 100.0


@pytest.mark.parametrize("name", ["fib", "quicksort.32", "x87-chain"])
def test_a_prediction_is_the_same_every_time(name: str) -> None:
    assert modelled.predict(by_name(name), SKYLAKE) == modelled.predict(by_name(name), SKYLAKE)


def test_programs_whose_branches_follow_from_data_find_other_data_in_each_call() -> None:
    for name in ("quicksort", "tree", "tokens", "bytecode-random"):
        assert len(set(modelled.predict(by_name(name), SKYLAKE).results)) > 1, name
    for name in ("fib", "sha256", "matrix-double"):
        assert len(set(modelled.predict(by_name(name), SKYLAKE).results)) == 1, name


def test_a_program_that_crashes_in_the_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "image", lambda self: b"\x0f\x0b")
    with pytest.raises(modelled.ModelError, match="fib: ended in the model by triple_fault .* in call 1"):
        modelled.predict(by_name("fib"), SKYLAKE)
    monkeypatch.setattr(Program, "image", lambda self: b"\xeb\xfe")
    monkeypatch.setattr(modelled, "LIMIT", 10_000)
    with pytest.raises(modelled.ModelError, match="fib: ended in the model by cycles"):
        modelled.predict(by_name("fib"), SKYLAKE)


def test_errors_are_of_what_was_measured_and_means_of_their_absolute_values() -> None:
    cycles = {name: modelled.predict(by_name(name), SKYLAKE).guest_cycles for name in ("fib", "jumps", "tokens")}
    validation = found(("fib", cycles["fib"] / 1.5, 0), ("jumps", cycles["jumps"] / 0.9, 0), ("tokens", cycles["tokens"] / 2, 0))
    assert [round(row.error, 6) for row in validation.rows] == [0.5, -0.1, 1.0]
    assert validation.mean_absolute_error() == pytest.approx(1.6 / 3)
    assert validation.mean_absolute_error(predictable=True) == pytest.approx(0.3)
    assert validation.mean_absolute_error(predictable=False) == pytest.approx(1.0)
    worst = validation.worst(predictable=True)
    assert worst is not None and worst.program.name == "fib"


def test_a_fitted_program_is_marked_and_left_out_of_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FITTED", frozenset({"fib"}))
    validation = found(("fib", 1.0, 0), ("jumps", 36878.0, 0))
    assert len(validation.errors()) == 1 and len(validation.rows) == 2
    text = shown(validation)
    assert re.search(r"^fib .* f *$", text, re.MULTILINE) and "f fitted, left out of means" in text


def test_where_the_model_computes_something_else_the_row_says_so_and_does_not_count() -> None:
    validation = found(("fib", 1000.0, 0))
    row = replace(validation.rows[0], native=replace(validation.rows[0].native, results=(1, 2, 3)))
    validation = replace(validation, rows=[row])
    assert validation.wrong == [row] and validation.mean_absolute_error() is None
    assert "! checksums differ" in shown(validation)


def test_calls_that_do_the_same_in_different_times_make_a_host_noisy() -> None:
    quiet = found(("fib", 1000.0, 0.01), ("tokens", 1000.0, 0.5))
    assert not quiet.too_noisy and not any(row.noisy for row in quiet.rows)
    noisy = found(("fib", 1000.0, 0.2), ("jumps", 1000.0, 0.0))
    assert noisy.too_noisy and "~ noisy" in shown(noisy)


def test_it_is_said_whether_the_profile_is_that_of_the_processor() -> None:
    assert found(("fib", 1000.0, 0)).own is True
    other = found(("fib", 1000.0, 0), profile="p4-672")
    assert other.own is False and "p4-672 is another processor's profile" in shown(other)
    assert "is not known" in shown(found(("fib", 1000.0, 0), meant=None))


def shown(validation: results.Validation) -> str:
    return printed(validation_table(validation, list(validation.rows)))


def test_the_table_fits_80_columns_and_has_a_line_for_each_program() -> None:
    names = ("greatest-divisor-binary", "count-bits-instruction", "divide-64")
    text = shown(found(*((name, 1_000_000.0, 0.0) for name in names)))
    assert_fits_80_columns(text)
    for name in names:
        assert re.search(rf"^{name} +[\d,]+ +[\d,]+ +\d+\.\d\d +1,000,000 +\d+\.\d\d +[+-][\d,]+%( d)? *$", text, re.MULTILINE)
    assert "Mean absolute error, all (3): " in text


# --- the command ------------------------------------------------------------------------------------------------------
@needs_processor
def test_the_command_measures_predicts_and_writes_what_it_can_be_run_against(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "host.json"
    status = main(["validate", "--only", "x*", "--rounds", "1", "--repetitions", "20", "--json", str(file)])
    assert status in (Status.GOOD, Status.UNABLE)  # of a host that is busy as well
    if not file.exists():
        pytest.skip(capsys.readouterr().err)
    table = capsys.readouterr().out
    assert "Measured" in table and "xorshift" in table and "Mean absolute error, all (4)" in table
    content = json.loads(file.read_text())
    assert set(content["programs"]) == {"x87-chain", "x87-functions", "x87-slow", "xorshift"}
    for entry in content["programs"].values():
        assert entry["checksums_agree"] and entry["core_cycles"] > 0 and entry["guest_cycles"] > 0
    against = ["validate", "--against", str(file), "--profile", "p4-672", "--only", "x87-*"]
    assert main([*against, "--json", "-"]) in (Status.GOOD, Status.UNABLE)
    again = json.loads(capsys.readouterr().out)
    assert again["profile"] == "p4-672" and again["processor"] == content["processor"]
    for name, entry in again["programs"].items():
        assert entry["core_cycles"] == content["programs"][name]["core_cycles"]


@pytest.fixture
def measurement(tmp_path: Path) -> Path:
    """A file as --json writes it, of a processor that takes 1000 cycles for anything."""
    file = tmp_path / "measured.json"
    file.write_text(json.dumps(results.validation_json(found(("fib", 1000.0, 0), ("jumps", 1000.0, 0)))))
    return file


def test_an_error_above_the_limit_is_an_exit_status(measurement: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["validate", "--against", str(measurement), "--only", "jumps", "--at-most"]
    assert main([*arguments, "1000000"]) == Status.GOOD
    assert main([*arguments, "1.5"]) == Status.EXCEEDED == 20
    assert "more than 1.5%" in capsys.readouterr().err


def test_the_worst_come_first_if_so_asked(measurement: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--against", str(measurement), "--only", "[fj][iu][bm]*", "--sort", "error"]) == Status.BAD_OPTION
    assert "fib.32 had not been measured" in capsys.readouterr().err
    assert main(["validate", "--against", str(measurement), "--only", "[fj]*[bs]", "--sort", "error"]) == Status.GOOD
    lines = capsys.readouterr().out.splitlines()
    errors = [float(line.split()[-1].strip("%+").replace(",", "")) for line in lines if line.startswith(("fib ", "jumps "))]
    assert len(errors) == 2 and errors == sorted(errors, reverse=True)


def test_other_checksums_than_the_processors_are_an_error(measurement: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(measurement.read_text())
    content["programs"]["fib"]["results"] = ["0x1"]
    measurement.write_text(json.dumps(content))
    assert main(["validate", "--against", str(measurement), "--only", "fib"]) == Status.INTERNAL
    assert "computed something else than the processor: fib" in capsys.readouterr().err


def test_figures_of_programs_that_have_changed_are_refused(measurement: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(measurement.read_text())
    content["programs"]["fib"]["image"] = "0"
    measurement.write_text(json.dumps(content))
    assert main(["validate", "--against", str(measurement), "--only", "fib"]) == Status.BAD_OPTION
    assert "fib was compiled otherwise" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"programs": {"fib": {}}}', b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_measurement_is_a_bad_option(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(content)
    assert main(["validate", "--against", str(tmp_path / "file"), "--only", "fib"]) == Status.BAD_OPTION
    assert "--against" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--only", "nothing*"], "no program's name matches 'nothing*'"),
        (["--profile", "none"], "cannot be read"),
        (["--rounds", "0"], "not within"),
        (["--repetitions", "many"], "not a number"),
        (["--against", "/nonexistent"], "No such file"),
        (["--json", "/nonexistent/file", "--only", "fib"], "cannot be written"),
        (["--at-most", "-1"], "-1"),
    ],
)
def test_bad_options_are_named(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", *arguments]) == Status.BAD_OPTION
    assert why in " ".join(capsys.readouterr().err.split())


def test_the_list_says_what_each_program_does_and_runs_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelled, "predict", None)
    monkeypatch.setattr(native, "measure", None)
    assert main(["validate", "--list"]) == Status.GOOD
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [program.name for program in PROGRAMS]
    assert "[branches by data]" in next(line for line in lines if line.startswith("quicksort "))


@pytest.mark.parametrize(
    "problem", [NativeError("machine code is run natively elsewhere"), native.HostTooNoisy("this host is too busy")]
)
def test_a_host_that_cannot_tell_says_why(
    problem: NativeError, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise problem

    monkeypatch.setattr(results, "measure", refuse)
    assert main(["validate", "--only", "fib"]) == Status.UNABLE == 18
    assert str(problem) in capsys.readouterr().err


def test_without_built_programs_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(suite, "BUILT", tmp_path)
    assert main(["validate", "--only", "fib"]) == Status.BAD_IMAGE
    assert "built on x86 hosts with gcc" in capsys.readouterr().err


def test_the_profile_is_that_of_the_host_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from hvmx.cli import validate

    for host, profile in (("skylake", "skylake"), ("p4-672", "p4-672"), ("no-such", "skylake"), (None, "skylake")):
        monkeypatch.setattr(native_processor, "profile_of_processor", lambda host=host: host)
        assert validate._profile_of_host().name == profile


def test_a_processor_has_one_profile_at_most() -> None:
    seen = [(key, model) for models in native_processor.MODELS.values() for key, numbers in models.items() for model in numbers]
    assert len(seen) == len(set(seen))
