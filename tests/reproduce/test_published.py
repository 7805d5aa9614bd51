"""Published tables beside the model: what was fitted, what is predicted, and how near.

`HVMX_NIGHTLY=1` boots a stock kernel for the rows of Linux's services; else single operations run on the bare machine.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from guests import guest
from tables import assert_fits_80_columns, printed

from hvmx.cli import Status, main
from hvmx.comparison.runs import GuestFailed
from hvmx.comparison.ways import WAYS, Way
from hvmx.cost import BUNDLED, Mark, Profile, load_profile
from hvmx.exits import ExitReason
from hvmx.reproduce import build, predictions, published_table, signs, single
from hvmx.reproduce.publications import ADAMS_AGESEN, KVM_VMEXIT, PVM_SOSP23
from hvmx.reproduce.published import Column, Publication, Reproduction, Row, Unit, reproduction

HONEST = 0.25
"""The mean error within which "cycle-approximate" is an honest word."""

PUBLICATIONS = {each.name: each for each in (ADAMS_AGESEN, KVM_VMEXIT, PVM_SOSP23)}
DEFAULT = {"adams-agesen-2006": "p4-672", "kvm-vmexit": "cascade-lake", "pvm-sosp23": "cascade-lake"}
README = Path(__file__).parents[2] / "README.md"
NIGHTLY = os.environ.get("HVMX_NIGHTLY") == "1"
WITHOUT_KERNEL = ["hypercall", "exception", "msr", "cpuid", "port-io"]


def way(name: str) -> Way:
    (found,) = (each for each in WAYS if each.name == name)
    return found


def reproduced(publication: Publication, profile: str | Profile) -> Reproduction:
    """As far as it goes without a kernel."""
    loaded = profile if isinstance(profile, Profile) else load_profile(profile)
    rows = [row for row in publication.rows if not row.kernel]
    return reproduction(publication, loaded, rows, predictions.of_operations(publication, rows, loaded))


def made_from(found: Reproduction) -> set[tuple[str, str]]:
    return {(cell.row.name, cell.column.name) for cell in found.cells if cell.made_from is not None}


def predicted(found: Reproduction) -> set[tuple[str, str]]:
    return {(cell.row.name, cell.column.name) for cell in found.cells if cell.error is not None}


def text_of(found: Reproduction) -> str:
    return printed(published_table.published_table(found))


# --- single operations ----------------------------------------------------------------------------------------------------


def test_an_operation_costs_its_class_and_its_exit_and_nothing_of_the_loop() -> None:
    profile = load_profile("skylake")
    exits, instructions = profile.exits, profile.instructions
    assert single.cycles("vmcall", profile, way("ept")) == exits[ExitReason.VMCALL].cycles + instructions["vmcall"].latency
    assert single.cycles("mov_to_cr8", profile, way("ept")) == instructions["cr"].latency
    assert single.cycles("empty", profile, way("native")) == 0


def test_a_port_costs_natively_its_instruction_and_as_hvm_the_way_to_user_space() -> None:
    profile = load_profile("p4-672")
    port = profile.instructions["io"].latency
    exit_price = profile.exits[ExitReason.IO_INSTRUCTION].cycles + profile.user_device.cycles
    assert single.cycles("in", profile, way("native")) == port
    assert single.cycles("in", profile, way("shadow")) == port + exit_price


def test_an_undefined_instruction_exits_as_under_kvm_and_a_divide_error_does_not() -> None:
    profile = load_profile("skylake")
    price = profile.exits[ExitReason.EXCEPTION_NMI].cycles
    for operation, exits in (("undefined", price), ("divzero", 0)):
        extra = single.cycles(operation, profile, way("ept")) - single.cycles(operation, profile, way("native"))
        assert extra == pytest.approx(exits, abs=1), operation


def test_a_page_fault_exits_with_shadow_paging_only() -> None:
    profile = load_profile("p4-672")
    native, shadow = (single.cycles("pgfault", profile, way(name)) for name in ("native", "shadow"))
    assert shadow - native > profile.exits[ExitReason.EXCEPTION_NMI].cycles


def test_a_system_call_goes_to_the_kernel_and_back_for_the_price_of_both_instructions() -> None:
    profile = load_profile("p4-672")
    both = profile.instructions["syscall"].latency + profile.instructions["sysret"].latency
    assert single.cycles("syscall", profile, way("shadow")) == both


@pytest.mark.parametrize("profile", BUNDLED)
def test_every_operation_comes_to_its_end_each_way(profile: str) -> None:
    for operation in single.entries():
        for each in WAYS:
            if not each.pv:
                assert single.cycles(operation, load_profile(profile), each) >= 0, operation


def test_an_operation_that_does_not_come_to_its_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "_PATIENCE", 1000)
    with pytest.raises(GuestFailed, match="divzero, HVM, nested paging: "):
        single.cycles("divzero", load_profile("skylake"), way("ept"))


def test_operations_that_were_not_built_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(single, "BUILT", tmp_path / "operations")
    single.entries.cache_clear()
    try:
        with pytest.raises(FileNotFoundError, match="operations: it is built on x86 hosts"):
            single.entries()
        assert main(["reproduce", "kvm-vmexit"]) == Status.BAD_IMAGE
    finally:
        single.entries.cache_clear()


def test_the_image_begins_with_a_row_for_each_operation_of_the_source() -> None:
    source = (build.FOLDER / "bare" / "operations.S").read_text()
    assert list(single.entries()) == re.findall(r"^ +operation ([\w-]+)", source, re.MULTILINE)
    assert {name for name in single.entries() if name.startswith("in")} == single.PORTS


# --- what is fitted, and what is predicted ----------------------------------------------------------------------------


@pytest.mark.parametrize("publication", PUBLICATIONS.values(), ids=PUBLICATIONS)
def test_every_row_names_something_that_does_it_here_or_has_nothing_to_compare(publication: Publication) -> None:
    for row in publication.rows:
        known = signs.NAMES if row.kernel else tuple(single.entries())
        compared = {column.name for column in publication.modelled} & set(row.published)
        assert row.program in known or not compared or row.note, row.name
        assert set(row.published) <= {column.name for column in publication.columns}


def test_what_p4_672_was_made_from_is_read_from_its_figures() -> None:
    found = reproduced(ADAMS_AGESEN, "p4-672")
    assert made_from(found) == {
        ("in", "native"), ("in", "hardware VMM"), ("callret", "native"), ("divzero", "native"), ("syscall", "native"),
    }  # fmt: skip
    assert predicted(found) == {
        ("callret", "hardware VMM"), ("pgfault", "native"), ("divzero", "hardware VMM"), ("ptemod", "native"),
    }  # fmt: skip


def test_nothing_of_vmexit_is_fitted_on_the_profile_that_is_meant_for_it_and_two_rows_are_on_skylake() -> None:
    assert made_from(reproduced(KVM_VMEXIT, "cascade-lake")) == set()
    assert made_from(reproduced(KVM_VMEXIT, "skylake")) == {("cpuid", "KVM"), ("inl_from_qemu", "KVM")}
    assert made_from(reproduced(KVM_VMEXIT, "nehalem")) == {("inl_from_qemu", "KVM")}


def test_what_cascade_lake_was_made_from_is_read_from_its_figures() -> None:
    found = reproduced(PVM_SOSP23, "cascade-lake")
    assert made_from(found) == {("hypercall", "EPT"), ("msr", "EPT"), ("port-io pti=off", "EPT")}
    assert predicted(found) == {("exception", "EPT"), ("cpuid", "EPT")}


def test_a_figure_of_an_assumption_is_no_prediction_either() -> None:
    found = reproduced(KVM_VMEXIT, "nehalem")
    (cell,) = (each for each in found.cells if each.row.name == "inl_from_qemu")
    assert cell.made_from is not None and cell.made_from.mark is Mark.ASSUMED
    assert cell.error is None


@pytest.mark.parametrize("publication", PUBLICATIONS.values(), ids=PUBLICATIONS)
@pytest.mark.parametrize("profile", BUNDLED)
def test_a_fitted_figure_gives_what_it_was_fitted_to(publication: Publication, profile: str) -> None:
    for cell in reproduced(publication, profile).cells:
        if cell.made_from is not None and cell.made_from.mark is Mark.FITTED:
            assert cell.predicted == pytest.approx(cell.published, rel=0.005), cell.row.name


def test_a_name_that_another_begins_with_is_another() -> None:
    figure = next(iter(load_profile("skylake").written.values()))
    about = Publication("p", "S", "", Unit.CYCLES, (Column("A", "ept"), Column("B", "ept")), (), {})

    def is_from(where: str, operation: str, isolation: bool | None = None, column: int = 0) -> bool:
        profile = replace(load_profile("skylake"), written={"k": replace(figure, source="S, 2000", where=where)})
        row = Row(operation, {}, isolation=isolation)
        return about.made_from(row, about.columns[column], profile) is not None

    assert is_from("in, A", "in") and is_from("in, A 3 us, less", "in")
    assert not is_from("in, A", "in", column=1)
    assert not is_from("div, A", "in") and not is_from("in-out, A", "in") and not is_from("in, A-side 3", "in")
    assert is_from("in pti=on, A", "in", True) and not is_from("in pti=on, A", "in", False)
    assert not is_from("less what in, A takes", "in")


def test_a_profile_without_a_figure_of_a_port_predicts_none_natively() -> None:
    found = reproduced(ADAMS_AGESEN, "skylake")
    by_column = {cell.column.name: cell.predicted for cell in found.cells if cell.row.name == "in"}
    assert by_column["native"] is None and by_column["hardware VMM"] is not None


# --- how near it is -----------------------------------------------------------------------------------------------------


def test_what_is_predicted_of_adams_and_agesen_is_within_the_honest_error() -> None:
    error = reproduced(ADAMS_AGESEN, "p4-672").mean_error()
    assert error is not None and error < HONEST


@pytest.mark.parametrize("publication", [KVM_VMEXIT, PVM_SOSP23], ids=lambda each: each.name)
def test_exits_are_predicted_within_the_honest_error(publication: Publication) -> None:
    error = reproduced(publication, "cascade-lake").mean_error("exits")
    assert error is not None and error < HONEST


def test_in_is_the_dearest_row_of_adams_and_agesen_both_ways() -> None:
    found = reproduced(ADAMS_AGESEN, "p4-672")
    for column in ("native", "hardware VMM"):
        figures = {cell.row.name: cell.predicted or 0 for cell in found.cells if cell.column.name == column}
        assert max(figures, key=lambda name: figures[name]) == "in"


@pytest.mark.parametrize("name", PUBLICATIONS)
def test_the_dearest_operation_is_the_published_one(name: str) -> None:
    assert not reproduced(PUBLICATIONS[name], DEFAULT[name]).wrong_signs


def made_up(**cycles: float) -> Reproduction:
    """Two rows of 100 and 1000 cycles, and what is predicted of them."""
    rows = (Row("little", {"A": 100}, "x"), Row("much", {"A": 1000}, "x"), Row("unseen", {"A": 5000}, "x", certain=False))
    about = Publication("p", "S", "of no machine", Unit.CYCLES, (Column("A", "ept"),), rows, {})
    return reproduction(about, load_profile("skylake"), rows, {(name, "A"): value for name, value in cycles.items()})


def test_the_mean_error_is_of_sizes_and_leaves_out_what_is_not_certain() -> None:
    found = made_up(little=110, much=700, unseen=1)
    assert found.errors() == pytest.approx([0.1, -0.3])
    assert found.mean_error() == pytest.approx(0.2)
    assert made_up().mean_error() is None


def test_another_dearest_operation_is_a_wrong_sign() -> None:
    assert made_up(little=110, much=700).wrong_signs == []
    assert made_up(little=800, much=700).wrong_signs == ["A: little is dearer than much"]
    assert "WRONG: A: little is dearer than much." in published_table.summary(made_up(little=800, much=700))


def test_microseconds_are_guest_cycles_by_the_profiles_clock() -> None:
    assert Unit.MICROSECONDS.of(5000, load_profile("cascade-lake")) == pytest.approx(2)
    assert Unit.CYCLES.of(5000, load_profile("cascade-lake")) == 5000


# --- the table ----------------------------------------------------------------------------------------------------------


def test_the_table_tells_fitted_predicted_and_unmodelled_apart() -> None:
    rows = {line.split()[0]: line.split()[1:] for line in text_of(reproduced(ADAMS_AGESEN, "p4-672")).splitlines() if line}
    assert rows["in"] == ["3,209", "3,209", "fitted", "15,826", "15,826", "fitted"]
    assert rows["divzero"] == ["889", "889", "fitted", "1,014", "889", "-12%", "3,223"]
    assert rows["cr8wr"] == ["35"]
    assert rows["syscall"][:2] == ["~242", "242"]


@pytest.mark.parametrize("name", PUBLICATIONS)
def test_table_and_summary_fit_80_columns(name: str) -> None:
    found = reproduced(PUBLICATIONS[name], DEFAULT[name])
    assert_fits_80_columns(text_of(found))
    assert_fits_80_columns(published_table.summary(found))


def test_the_summary_says_what_is_not_modelled_and_why_and_the_error_of_each_section() -> None:
    assert "software VMM: as published; not modelled (a binary translator)." in published_table.summary(
        reproduced(ADAMS_AGESEN, "p4-672")
    )
    said = " ".join(published_table.summary(reproduced(KVM_VMEXIT, "cascade-lake")).split())
    assert re.search(r"Mean error of what is predicted: \d+% \(5\); exits \d+% \(3\); what does not exit \d+% \(2\)\.", said)
    assert "No figure of the profile was made from these." in said and "CR8 is far off since" in said
    assert "Nothing is predicted." in published_table.summary(made_up())


def said_in_the_readme(name: str) -> list[str]:
    """Of a table: each mean error with its number of predictions, as ``4 % of 4``."""
    (row,) = re.findall(rf"^\| `{name}` \|.*$", README.read_text(), re.MULTILINE)
    return re.findall(r"\d+ % of \d+", row)


def mean_in_words(errors: Sequence[float]) -> str:
    return f"{fmean(map(abs, errors)):.0%} of {len(errors)}".replace("%", " %")


def test_the_readme_says_how_near_the_predictions_are() -> None:
    found = {name: reproduced(PUBLICATIONS[name], DEFAULT[name]) for name in PUBLICATIONS}
    assert said_in_the_readme("adams-agesen-2006") == [mean_in_words(found["adams-agesen-2006"].errors())]
    assert said_in_the_readme("kvm-vmexit") == [mean_in_words(found["kvm-vmexit"].errors("exits"))]
    assert said_in_the_readme("pvm-sosp23")[0] == mean_in_words(found["pvm-sosp23"].errors("exits"))


# --- the commands -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "profile"), DEFAULT.items())
def test_a_command_reproduces_its_table_with_its_profile(
    name: str, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", name, *(WITHOUT_KERNEL if name == "pvm-sosp23" else [])]) == Status.GOOD
    said = capsys.readouterr().out
    assert f"{name}: {PUBLICATIONS[name].unit.value}, profile {profile}" in " ".join(said.split())
    assert "Mean error of what is predicted:" in said


def test_json_has_each_figure_with_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.json"
    assert main(["reproduce", "adams-agesen-2006", "--json", str(path), "in", "divzero"]) == Status.GOOD
    assert "divzero" in capsys.readouterr().out
    content = json.loads(path.read_text())
    assert (content["profile"], content["unit"], content["wrong_signs"]) == ("p4-672", "guest cycles", [])
    by_place = {(each["operation"], each["column"]): each for each in content["figures"]}
    assert by_place["in", "native"]["made_from"]["mark"] == "published"
    assert by_place["divzero", "hardware VMM"]["error"] == pytest.approx(content["mean_error"] * -1)
    assert by_place["divzero", "software VMM"]["predicted"] is None
    assert main(["reproduce", "adams-agesen-2006", "--json", "-", "in", "divzero"]) == Status.GOOD
    assert json.loads(capsys.readouterr().out) == content


def test_an_error_above_the_limit_and_a_wrong_sign_have_their_exit_statuses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["reproduce", "kvm-vmexit", "--at-most", "25", "cpuid", "vmcall", "inl_from_qemu"]) == Status.GOOD
    assert main(["reproduce", "kvm-vmexit", "--at-most", "1", "cpuid", "vmcall"]) == Status.EXCEEDED
    assert "more than 1%" in capsys.readouterr().err
    monkeypatch.setattr(single, "cycles", lambda operation, profile, way: 10000.0 if operation == "cpuid" else 1.0)
    assert main(["reproduce", "kvm-vmexit"]) == Status.DIFFERENT
    assert "WRONG: KVM: cpuid is dearer than inl_from_qemu." in capsys.readouterr().out


def test_an_operation_that_a_table_has_not_is_refused_with_those_that_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "kvm-vmexit", "getpid"]) == Status.BAD_OPTION
    assert "no operation 'getpid': there are cpuid, vmcall, inl_from_qemu" in " ".join(capsys.readouterr().err.split())


def test_without_a_kernel_the_error_names_it_what_needs_it_and_what_does_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HVMX_GUESTS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "pvm-sosp23"]) == Status.BAD_OPTION
    said = " ".join(capsys.readouterr().err.split())
    assert "--kernel" in said and "linux-image-amd64" in said
    assert "no kernel, for getpid, page-fault, fork: " in said
    assert f"ask for {' '.join(WITHOUT_KERNEL)} only" in said
    assert main(["reproduce", "pvm-sosp23", *WITHOUT_KERNEL]) == Status.GOOD


def test_a_kernel_boots_once_for_each_column_and_isolation_that_rows_ask_for() -> None:
    def asked(*operations: str) -> list[tuple[str, list[str]]]:
        planned = predictions.boots(PVM_SOSP23, PVM_SOSP23.chosen(operations))
        return [(each.way.description, [row.program for row in each.rows]) for each in planned]

    assert asked("fork") == [("HVM, nested paging, pti=on", ["fork"]), ("HVM, shadow paging, pti=on", ["fork"])]
    assert asked("cpuid") == []
    assert len(asked()) == 4


def test_what_is_no_kernel_is_a_bad_image(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"no kernel" * 1000)
    assert main(["reproduce", "pvm-sosp23", "--kernel", str(path), "getpid"]) == Status.BAD_IMAGE


@pytest.mark.skipif(not NIGHTLY, reason="boots a kernel four times: HVMX_NIGHTLY=1")
def test_linuxs_services_are_predicted_and_what_the_profile_was_fitted_to_comes_out(tmp_path: Path) -> None:
    kernel, path = guest("linux-amd64"), tmp_path / "pvm.json"
    assert main(["reproduce", "pvm-sosp23", "--kernel", str(kernel), "--json", str(path)]) == Status.GOOD
    figures = {(each["operation"], each["column"]): each for each in json.loads(path.read_text())["figures"]}
    fitted = figures["getpid pti=on", "shadow paging"]
    assert fitted["made_from"]["mark"] == "fitted"
    assert fitted["predicted"] == pytest.approx(fitted["published"], rel=0.02)
    for row in ("page-fault pti=on", "fork pti=on"):
        nested, shadow = (figures[row, column]["predicted"] for column in ("EPT", "shadow paging"))
        assert shadow > 2 * nested
    errors = [each["error"] for each in figures.values() if each["section"] == "Linux's services" and each["error"] is not None]
    assert said_in_the_readme("pvm-sosp23")[1] == mean_in_words(errors)
    without = [figures["getpid pti=off", column]["predicted"] for column in ("EPT", "shadow paging")]
    assert without[0] == pytest.approx(without[1], rel=0.01)
