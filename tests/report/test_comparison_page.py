"""The page and the picture of a comparison: complete in themselves, with the figures that the comparison has as data."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from browser import Browser, browser

from hvmx import guests
from hvmx.comparison.outcome import TOTALS, Comparison, Refusal
from hvmx.comparison.side_by_side import compare
from hvmx.comparison.ways import WAYS
from hvmx.comparison.winner import verdicts
from hvmx.cost import Figure, Timing, load_profile
from hvmx.report.comparison import comparison_json, hang_on_assumed
from hvmx.report.comparison_charts import PART_COLOURS, WAY_COLOURS
from hvmx.report.comparison_page import comparison_page
from hvmx.report.comparison_picture import DOTS_PER_INCH, WIDTH, comparison_picture

PROFILES = {"skylake": load_profile("skylake")}


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> str:
    return comparison_page(comparison, PROFILES)


class Reader(HTMLParser):
    """What a page has: its tables by the id of what they are in, the ids, and where it leads or asks for something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self._place = ""
        self._cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.tags.add(tag)
        self.addresses += [value for name, value in given.items() if name in ("href", "src", "xlink:href", "srcset")]
        if "id" in given:
            self.ids.append(given["id"])
        if tag in ("section", "aside"):
            self._place = given["id"]
        if tag == "tr":
            self.tables.setdefault(self._place, []).append([])
        if tag in ("td", "th"):
            self.tables[self._place][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.tables[self._place][-1][-1] += data


def number(text: str) -> float:
    return float(text.replace(",", ""))


# --- what it says -------------------------------------------------------------------------------------------------------
def test_the_figures_of_the_table_are_those_of_the_json(page: str, comparison: Comparison) -> None:
    heading, *rows = Reader(page).tables["s0"]
    outcomes = comparison_json(comparison, PROFILES)["outcomes"]
    assert heading == ["Operation", *(way.title for way in WAYS)]
    by_name = {row[0].removesuffix(" *"): row[1:] for row in rows}
    assert list(by_name) == [*guests.WORKLOADS, *(f"whole run: {total.replace('_', ' ')}" for total in TOTALS)]
    for place, outcome in enumerate(outcomes):
        for name in guests.WORKLOADS:
            shown = by_name[name][place]
            if name in outcome["operations"]:
                assert number(shown.split()[0]) == round(outcome["operations"][name]["guest_cycles_each"])
            else:
                assert shown == "-"
        for total in TOTALS:
            assert number(by_name[f"whole run: {total.replace('_', ' ')}"][place]) == outcome["totals"][total]


def test_the_page_has_the_rows_at_a_glance(page: str, comparison: Comparison) -> None:
    heading, *rows = Reader(page).tables["s0-glance"]
    assert heading[1:] == [way.title for way in WAYS]
    assert [row[0] for row in rows if len(row) == 1] == ["Performance", "Compatibility", "Security", "Resources"]
    by_name = {row[0]: row[1:] for row in rows if len(row) > 1}
    outcomes = comparison.of()
    assert by_name["guest cycles"] == [f"{outcome.guest_cycles:,}" for outcome in outcomes.values()]
    assert by_name["lines of the core"][:3] == [f"{outcomes[way].interface.core_lines:,}" for way in ("ept", "shadow", "pv")]


def test_every_explanation_adds_up_to_its_figure_and_names_figures_of_the_profile(
    page: str, comparison: Comparison
) -> None:
    tables = Reader(page).tables
    figures = {
        f"s0-{run.way}-{name}": cycles
        for run in comparison
        for name, cycles in [("run", run.guest_cycles), *((it.name, it.cycles_each) for it in run.operations.values())]
    }
    assert set(tables) == {"s0", "s0-glance", *figures}
    for place, cycles in figures.items():
        _, *rows = tables[place]
        assert sum(number(row[3]) for row in rows) == pytest.approx(cycles, abs=0.05 * len(rows) + 1), place
        for row in rows:
            if row[2]:
                figure = PROFILES["skylake"].written[row[5]]
                assert row[6] == figure.mark.value and row[7] == f"{figure.source}: {figure.where}"
                assert isinstance(figure, (Figure, Timing)) and number(row[2]) == pytest.approx(figure.cycles)


def test_an_operation_whose_winner_hangs_on_assumed_figures_has_a_star_and_its_explanation_says_on_which(
    page: str, comparison: Comparison
) -> None:
    read = Reader(page)
    hanging = hang_on_assumed(verdicts(PROFILES["skylake"], comparison.of()))
    assert hanging
    assert [row[0].removesuffix(" *") for row in read.tables["s0"] if row[0].endswith(" *")] == hanging
    assert read.text.count("That hangs on assumed figures") == sum(
        name in run.operations for name in hanging for run in comparison
    )


def test_it_says_how_near_the_guest_cycles_are_and_on_which_processor(page: str) -> None:
    text = Reader(page).text
    profile = PROFILES["skylake"]
    assert profile.processor in text
    assert profile.accuracy[1:] in text


def test_each_profile_has_its_section_and_a_way_that_did_not_run_says_why() -> None:
    names = ["skylake", "p4-672"]
    found = compare(profiles=names, ways=["ept"], workloads=["cpuid"])
    refused = replace(found, refusals=(Refusal("bundled", "p4-672", "pv", "it has no <notes> & no way in"),))
    page = comparison_page(refused, {name: load_profile(name) for name in names})
    read = Reader(page)
    assert {"s0", "s1"} <= set(read.ids) and {"#s0", "#s1"} <= set(read.addresses)
    assert [number(read.tables[place][1][1].split()[0]) for place in ("s0", "s1")] == [
        round(run.operations["cpuid"].cycles_each) for run in found
    ]
    assert "Not run: PV: it has no <notes> & no way in" in read.text and "notes" not in read.tags


def test_a_guest_that_times_nothing_has_a_page_of_its_whole_run(comparison: Comparison) -> None:
    untimed = Comparison(tuple(replace(run, guest="<b>vmlinuz</b>", operations={}) for run in comparison))
    page = comparison_page(untimed, PROFILES)
    assert "What virtualization costs: <b>vmlinuz</b>" in Reader(page).text and "b>vm" not in page
    assert page.count("<svg") == 2


# --- how it is made -----------------------------------------------------------------------------------------------------
def test_nothing_is_asked_for_and_every_link_leads_to_a_place_of_the_page(page: str) -> None:
    read = Reader(page)
    assert len(read.ids) == len(set(read.ids))
    inside = {address for address in read.addresses if address.startswith("#")}
    assert inside - {"#closed"} <= {f"#{name}" for name in read.ids}
    assert set(read.addresses) - inside == {"data:,"}
    assert not read.tags & {"script", "img", "iframe", "object"} and "@import" not in page


def test_the_same_comparison_gives_the_same_page_and_the_same_picture(comparison: Comparison, page: str) -> None:
    later = Comparison(tuple(replace(run, host=replace(run.host, seconds=99.0)) for run in comparison))
    assert comparison_page(later, PROFILES) == page
    assert comparison_picture(later, PROFILES) == comparison_picture(comparison, PROFILES)


# --- in a browser -------------------------------------------------------------------------------------------------------
@pytest.fixture
def tab(page: str, tmp_path: Path) -> Iterator[Browser]:
    file = tmp_path / "page.html"
    file.write_text(page)
    with browser(tmp_path / "profile") as tab:
        tab.show(1300, 1600)
        tab.open(file)
        yield tab
        assert tab.requests() == [file.as_uri()]
        assert not tab.complaints()


SIZES_OF_BARS = """[...document.querySelectorAll('svg a path')].map(bar => bar.getBoundingClientRect())
    .map(({width, height}) => [width, height])"""

LEAST_TEXT = """Math.min(...[...document.querySelectorAll('.charts svg text')]
    .map(text => text.getBoundingClientRect().height))"""
"""The height of the smallest line."""


def test_a_browser_shows_the_charts_without_an_error_or_a_request(tab: Browser, comparison: Comparison) -> None:
    assert tab.evaluate("document.querySelectorAll('svg').length") == 3 + len(guests.WORKLOADS)
    sizes = tab.evaluate("[...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect().height)")
    assert min(sizes) > 60
    bars = np.array(tab.evaluate(SIZES_OF_BARS))
    assert len(bars) > sum(len(run.operations) for run in comparison) * 2
    assert (bars[:, 1] > 1).all() and (bars[:, 0] > 10).sum() > 100
    assert colours_in(tab.screenshot()) >= {*WAY_COLOURS.values(), PART_COLOURS[next(iter(PART_COLOURS))]}


def test_a_click_on_a_bar_shows_its_explanation_and_a_click_closes_it(tab: Browser) -> None:
    shown = "[...document.querySelectorAll('.why')].filter(it => it.getBoundingClientRect().height).map(it => it.id)"
    assert tab.evaluate(shown) == []
    tab.click("svg a[href='#s0-shadow-pt-write'] path")
    assert tab.evaluate(shown) == ["s0-shadow-pt-write"]
    place = tab.evaluate("scrollY")
    tab.click(".why:target .close")
    assert tab.evaluate(shown) == [] and tab.evaluate("scrollY") == place


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1300, 1600)], ids=["phone", "screen"])
def test_it_fits_the_window_in_light_and_dark_colours(tab: Browser, width: int, height: int, dark: bool) -> None:
    tab.show(width, height, dark)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    image = pixels(tab.screenshot())
    assert image.shape[:2] == (height, width)
    brightness = np.median(image[:, :, :3])
    assert brightness < 0.2 if dark else brightness > 0.9
    assert tab.evaluate(LEAST_TEXT) > 7, "a reader could not make it out"


# --- the picture --------------------------------------------------------------------------------------------------------
def test_the_picture_has_the_charts_of_each_profile_one_below_the_other(comparison: Comparison) -> None:
    one = comparison_picture(comparison, PROFILES)
    image = pixels(one)
    assert one.startswith(b"\x89PNG") and image.shape[1] == WIDTH * DOTS_PER_INCH
    assert 0.5 < image.shape[0] / image.shape[1] < 1.2
    parts = {item.part for run in comparison for item in run.ledger}
    assert colours_in(one) >= {*WAY_COLOURS.values(), *(PART_COLOURS[part] for part in parts)}
    again = Comparison((*comparison.outcomes, *(replace(run, guest="other") for run in comparison)))
    assert pixels(comparison_picture(again, PROFILES)).shape == (2 * image.shape[0], image.shape[1], 4)


def pixels(png: bytes) -> np.ndarray:
    """Rows of columns of red, green, blue and what a picture has besides, from 0 to 1."""
    return np.asarray(matplotlib.image.imread(io.BytesIO(png)))


def colours_in(png: bytes) -> set[str]:
    """As a page writes them."""
    red, green, blue = np.rint(pixels(png)[:, :, :3] * 255).astype(int).reshape(-1, 3).T
    return {f"#{colour:06x}" for colour in np.unique(red << 16 | green << 8 | blue)}
