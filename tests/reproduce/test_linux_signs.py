"""`hvmx reproduce linux-signs`: what it makes of a guest's figures, and the signs of Debian's kernel themselves.

Published ratios are other processors' and programs': signs are asserted here, sizes nowhere. `HVMX_NIGHTLY=1` runs all of
it, some two minutes; else one operation is timed in one way.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from guests import guest
from tables import printed

from hvmx.cli import Status, main
from hvmx.cost import load_profile
from hvmx.guests.build import BuildError
from hvmx.reproduce import build, signs
from hvmx.reproduce.signs import Boot, Sign, Signs, Way
from hvmx.reproduce.signs_table import signs_table

SKYLAKE = load_profile("skylake")
NIGHTLY = os.environ.get("HVMX_NIGHTLY") == "1"


def way(name: str, isolation: bool | None) -> Way:
    (found,) = (each for each in signs.WAYS if (each.name, each.isolation) == (name, isolation))
    return found


def boot(features: str = "pcid invpcid", **cycles: float) -> Boot:
    by_name = {name.replace("_", "-"): value for name, value in cycles.items()}
    return Boot(by_name, frozenset(features.split()), {"exits": 1})


def made_up(**changes: dict[str, float]) -> Signs:
    """Boots whose signs are as published, but for the changes, by way and isolation."""
    boots = {
        "ept_on": {"getpid": 100.0, "stat": 300.0, "fork": 1000.0},
        "shadow_on": {"getpid": 400.0, "stat": 600.0, "fork": 3000.0},
        "ept_off": {"getpid": 50.0, "stat": 200.0},
        "shadow_off": {"getpid": 50.0, "stat": 201.0},
        "pv": {"getpid": 150.0, "stat": 290.0, "fork": 1500.0},
    }
    isolation = {"on": True, "off": False, "": None}
    return Signs(
        SKYLAKE,
        {
            way(name.partition("_")[0], isolation[name.partition("_")[2]]): boot(**{**cycles, **changes.get(name, {})})
            for name, cycles in boots.items()
        },
    )


def rows(found: Signs) -> dict[tuple[str, bool], bool | None]:
    return {(row.operation.name, row.isolation): row.agrees for row in found.rows}


def text_of(found: Signs) -> str:
    return printed(signs_table(found))


# --- what the guest prints ------------------------------------------------------------------------------------------------


def test_an_operation_costs_the_median_of_the_rounds_that_the_guest_printed() -> None:
    console = (
        "[    0.1] PCI: Fatal: No config space access function found\r\nfeatures fpu pcid pti\r\n"
        "sign getpid 500 9000 5000 5500 5000 5000\r\nsign fork 4 400 410 390\r\nsigns done\r\n"
    )
    assert signs.parse_cycles(console) == {"getpid": 10.0, "fork": 100.0}
    assert signs.parse_features(console) == {"fpu", "pcid", "pti"}


def test_what_is_no_whole_line_of_results_is_none() -> None:
    assert signs.parse_cycles("sign getpid 500\nsign getpid\nassign fork 4 400\nsign fork 4 four") == {}
    assert signs.parse_features("the features fpu") == frozenset()


def test_the_program_times_the_operations_that_are_compared_and_no_others() -> None:
    source = (build.SOURCES / "signs.c").read_text()
    assert tuple(re.findall(r'^    \{ "([\w-]+)", \w+, time_\w+ \},$', source, re.MULTILINE)) == signs.NAMES


# --- what is made of it ---------------------------------------------------------------------------------------------------


def test_a_sign_says_which_way_is_the_dearer_and_a_twentieth_is_no_difference() -> None:
    assert [Sign.of(ratio) for ratio in (0.5, 0.96, 1, 1.04, 1.2)] == [
        Sign.CHEAPER, Sign.SAME, Sign.SAME, Sign.SAME, Sign.DEARER,
    ]  # fmt: skip


def test_signs_that_are_as_published_are_right_and_where_none_is_published_nothing_is_said() -> None:
    assert rows(made_up()) == {
        ("getpid", True): True,
        ("stat", True): True,
        ("fork", True): True,
        ("getpid", False): True,
        ("stat", False): None,
        ("fork", False): None,
    }
    assert made_up().wrong == []


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"shadow_on": {"getpid": 73.0}}, ("getpid", True)),
        ({"shadow_on": {"stat": 300.0}}, ("stat", True)),
        ({"shadow_off": {"getpid": 60.0}}, ("getpid", False)),
        ({"pv": {"fork": 900.0}}, ("fork", True)),
    ],
    ids=["cheaper", "the-same", "dearer-without-isolation", "pv"],
)
def test_a_sign_that_differs_from_the_published_one_is_wrong(
    changes: dict[str, dict[str, float]], wrong: tuple[str, bool]
) -> None:
    assert [(row.operation.name, row.isolation) for row in made_up(**changes).wrong] == [wrong]


def test_published_ratios_are_of_times_in_one_table() -> None:
    by_name = {operation.name: operation for operation in signs.OPERATIONS}
    getpid = by_name["getpid"].published(isolation=True)
    assert getpid is not None
    assert getpid.ratio("shadow") == pytest.approx(9.5)
    together = by_name["getpid"].published(isolation=False)
    assert together is not None
    assert (together.ratio("shadow"), together.ratio("pv")) == (1.0, None)


def test_the_table_has_both_halves_with_ratios_and_verdicts() -> None:
    text = text_of(made_up(shadow_on={"getpid": 73.0}))
    with_isolation, without = (line.split() for line in text.splitlines() if line.startswith("fork"))
    assert without == ["fork", "-", "-", "1,500", "-", "-"]
    assert text.index("pti=on") < text.index("pti=off")
    assert with_isolation == ["fork", "1,000", "3,000", "1,500", "3.00", "6.2", "1.50", "5.3", "right"]
    assert "WRONG" in text and "0.73" in text
    assert "Signs as published: 3 of 4" in text
    assert "use PCIDs" in text


def test_an_operation_that_a_way_lacks_is_left_empty_in_the_table() -> None:
    found = made_up()
    only = Signs(SKYLAKE, {each: result for each, result in found.boots.items() if each.name == "ept"})
    assert [line.split() for line in text_of(only).splitlines() if line.startswith("stat")] == [
        ["stat", "300", "-", "-", "-", "-"],
        ["stat", "200", "-", "-", "-", "-"],
    ]


def test_json_has_the_figures_and_verdicts_of_the_table() -> None:
    content = json.loads(json.dumps(signs.signs_json(made_up(shadow_on={"getpid": 73.0}))))
    assert (content["profile"], content["agree"], content["pcid"]) == ("skylake", False, True)
    assert len(content["boots"]) == 5 and content["boots"]["PV"]["exits"] == 1
    first = content["operations"][0]
    assert (first["operation"], first["pti"]) == ("getpid", True)
    assert first["guest_cycles"] == {"ept": 100.0, "shadow": 73.0, "pv": 150.0}
    shadow = first["ratios_to_ept"]["shadow"]
    assert shadow == {
        "ratio": 0.73, "sign": "cheaper", "published_ratio": pytest.approx(9.5), "published_sign": "dearer", "agrees": False,
    }  # fmt: skip


# --- the command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_boots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Arguments of the command, whose boots give made-up figures at once."""

    def boot_at_once(each: Way, *arguments: Any, **options: Any) -> Boot:
        return made_up().boots[each]

    monkeypatch.setattr(signs, "boot", boot_at_once)
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"a kernel")
    return ["reproduce", "linux-signs", "--kernel", str(kernel)]


def test_the_exit_status_says_whether_all_signs_are_as_published(
    without_boots: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(without_boots) == Status.GOOD
    assert "Signs as published: 4 of 4" in capsys.readouterr().out
    wrong = made_up(shadow_on={"fork": 500.0}).boots
    monkeypatch.setattr(signs, "boot", lambda each, *arguments, **options: wrong[each])
    assert main(without_boots) == Status.DIFFERENT


def test_json_goes_to_its_file_beside_the_table_or_to_standard_output_instead(
    without_boots: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "signs.json"
    assert main([*without_boots, "--json", str(path)]) == Status.GOOD
    assert "Guest cycles of Linux" in capsys.readouterr().out
    assert main([*without_boots, "--json", "-"]) == Status.GOOD
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["getppid"], "no operation 'getppid': there are getpid, null-io"),
        (["--kernel", "missing"], "'missing' does not exist"),
        (["--memory", "lots"], "lots"),
        (["--profile", "missing"], "missing"),
        (["--timeout", "0"], "0 is not a positive number of seconds"),
        (["--json", "missing/signs.json"], "cannot be written"),
    ],
)
def test_a_bad_option_is_named_before_a_kernel_boots(
    without_boots: list[str], capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert main([*without_boots, *more]) == Status.BAD_OPTION
    assert says in re.sub(r"\s+", " ", capsys.readouterr().err)


def test_the_kernel_is_not_written_over(without_boots: list[str]) -> None:
    kernel = Path(without_boots[-1])
    assert main([*without_boots, "--json", str(kernel)]) == Status.BAD_OPTION
    assert kernel.read_bytes() == b"a kernel"


def test_without_a_kernel_it_says_where_one_can_be_had(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HVMX_GUESTS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "linux-signs"]) == Status.BAD_OPTION
    assert "--kernel" in (said := capsys.readouterr().err) and "linux-image-amd64" in said


def test_the_fetched_kernel_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernel = tmp_path / "linux-image-amd64" / "boot" / "vmlinuz-6.1.0-1-amd64"
    kernel.parent.mkdir(parents=True)
    kernel.touch()
    monkeypatch.setenv("HVMX_GUESTS", str(tmp_path))
    assert signs.find_kernel() == kernel


def test_what_is_no_kernel_is_a_bad_image(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"no kernel" * 1000)
    assert main(["reproduce", "linux-signs", "--kernel", str(path)]) == Status.BAD_IMAGE


def test_a_program_that_was_not_built_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(signs, "BUILT", tmp_path / "signs")
    with pytest.raises(FileNotFoundError, match="signs: it is built on x86 hosts"):
        signs.initramfs()


def test_the_build_writes_a_program_that_needs_no_library(tmp_path: Path) -> None:
    try:
        build.build(tmp_path)
    except BuildError as problem:
        pytest.skip(str(problem))
    octets = (tmp_path / "signs").read_bytes()
    assert octets[:4] == b"\x7fELF" and b"libc" not in octets


# --- the signs themselves -------------------------------------------------------------------------------------------------


def test_a_stock_kernel_isolates_its_page_tables_when_told_and_times_an_operation() -> None:
    found = signs.boot(way("ept", True), guest("linux-amd64"), SKYLAKE, operations=["getpid"])
    assert set(found.cycles) == {"getpid"}
    assert {"pti", "pcid", "invpcid"} <= found.features
    assert 50 < found.cycles["getpid"] < 5000


@pytest.mark.skipif(not NIGHTLY, reason="boots a kernel five times: HVMX_NIGHTLY=1")
def test_all_signs_of_a_stock_kernel_are_as_published(tmp_path: Path) -> None:
    kernel, path = guest("linux-amd64"), tmp_path / "signs.json"
    status = main(["reproduce", "linux-signs", "--kernel", str(kernel), "--json", str(path)])
    content = json.loads(path.read_text())
    wrong = [each for each in content["operations"] if any(r["agrees"] is False for r in each["ratios_to_ept"].values())]
    assert not wrong
    assert status == Status.GOOD
    assert {each["operation"] for each in content["operations"] if each["pti"]} == set(signs.NAMES)
    (getpid,) = (each for each in content["operations"] if each["operation"] == "getpid" and not each["pti"])
    assert getpid["ratios_to_ept"]["shadow"]["ratio"] == pytest.approx(1.0, abs=0.01)
