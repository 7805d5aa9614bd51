"""A comparison as a page that is complete in itself: no script, no request, and each figure leads to its explanation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from xml.etree import ElementTree

from matplotlib.figure import Figure

import hvmx
from hvmx import guests
from hvmx.comparison.ledger import Part, gathered
from hvmx.comparison.outcome import TOTALS, Comparison, Operation
from hvmx.comparison.ways import BY_NAME
from hvmx.comparison.winner import verdicts
from hvmx.cost import Mark, Profile, marks_in_words
from hvmx.report import comparison_charts as charts
from hvmx.report.comparison import factor, hang_on_assumed, notes, ratios
from hvmx.report.explanation import Charge, charges, count_in_words, winner_in_words
from hvmx.report.glance import glance_rows
from hvmx.report.inline_svg import inline_svg

Element = ElementTree.Element

COLOURS = {charts.INK: "var(--ink)", charts.LINES: "var(--lines)"}

NOTHING_FROM_OUTSIDE = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

CHART_WIDTH, SMALL_WIDTH, TALL = 4.5, 2.7, 4.0
"""Inches. On a phone a chart is about as wide, and its text stays legible."""

PLAIN_CODE = ("pipeline", "instructions", "memory", "branches")
"""The tables of a profile that say how instructions overlap."""

MARKS = {mark.value for mark in Mark}

WHOLE_RUN = ""
"""In the place of an operation's name."""


def comparison_page(comparison: Comparison, profiles: Mapping[str, Profile]) -> str:
    """``profiles`` are those of the runs, by the names that the runs have for them."""
    sections = [
        _Section(place, guest, profiles[profile], comparison) for place, (guest, profile) in enumerate(comparison.pairs())
    ]
    title = f"What virtualization costs: {', '.join(dict.fromkeys(section.guest for section in sections))}"
    body = _element(
        "body",
        _element(
            "header",
            _element("h1", title),
            _element(
                "p",
                "The same guest in each way under one clock. Guest cycles are what hvmx, a cycle-approximate model, counts "
                "by a profile of a processor: they are the same on every machine, and no host time is on this page. Point "
                "at a bar for its figures; click it, or a figure of a table, for its explanation.",
            ),
            _element("nav", *(_element("a", it.title, href=f"#{it.name}") for it in sections if len(sections) > 1)),
        ),
        _element("main", *(section.element() for section in sections)),
        _element("footer", f"Made by hvmx {hvmx.__version__}: hvmx compare --html."),
    )
    head = _element(
        "head",
        _element("meta", charset="utf-8"),
        _element("meta", **{"http-equiv": "Content-Security-Policy", "content": NOTHING_FROM_OUTSIDE}),
        _element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _element("link", rel="icon", href="data:,"),
        _element("title", f"hvmx compare: {title}"),
        _element("style", resources.files("hvmx.report").joinpath("comparison_page.css").read_text()),
    )
    page = _element("html", head, body, lang="en")
    return "<!DOCTYPE html>\n" + ElementTree.tostring(page, encoding="unicode", method="html") + "\n"


class _Section:
    """What is said of one guest under one profile."""

    def __init__(self, place: int, guest: str, profile: Profile, comparison: Comparison) -> None:
        self.name = f"s{place}"
        self.profile = profile
        self.guest = charts.guest_title(guest)
        self.title = f"{self.guest}, {profile.name}"
        self.outcomes = comparison.of(guest, profile.name)
        self.refusals = [it for it in comparison.refusals if (it.guest, it.profile) == (guest, profile.name)]
        self.operations = charts.timed(self.outcomes)
        self.verdicts = verdicts(profile, self.outcomes)
        self.hanging = hang_on_assumed(self.verdicts)
        self._charts_drawn = 0

    def element(self) -> Element:
        head = [_element("h2", f"{self.title}: {self.profile.processor}")]
        if self.outcomes:
            head += [self._cards()]
        head += [_element("p", f"Not run: {BY_NAME[it.way].title}: {it.why}") for it in self.refusals]
        head += [_element("p", " ".join(notes(self.profile, self.outcomes, self.hanging)), **{"class": "dim"})]
        rest = [self._charts(), self._table(), self._glance(), self._operation_charts(), *self._explanations()] if self.outcomes else []
        return _element("section", *head, *(it for it in rest if it is not None), id=self.name)

    def _link(self, way: str, operation: str) -> str:
        """Where the explanation of a figure is; empty where there is none."""
        return f"#{self._id(way, operation)}" if self._explained(way, operation) else ""

    def _id(self, way: str, operation: str) -> str:
        return f"{self.name}-{way}-{operation or 'run'}"

    def _explained(self, way: str, operation: str) -> Operation | None:
        """What there is a ledger of: an operation, or the whole run as one."""
        run = self.outcomes[way]
        if operation == WHOLE_RUN:
            return Operation("the whole run", 1, run.guest_cycles, tuple(gathered(run.ledger)))
        found = run.operations.get(operation)
        return found if found is not None and found.ledger else None

    # --- figures ------------------------------------------------------------------------------------------------------
    def _cards(self) -> Element:
        least = min(run.guest_cycles for run in self.outcomes.values())
        return _element(
            "div",
            *(
                _element(
                    "a",
                    BY_NAME[way].title,
                    _element("b", f"{run.guest_cycles:,}"),
                    _element("span", "guest cycles of the whole run"),
                    _element("span", f"{charts.TIMES} {factor(run.guest_cycles / least)}"),
                    href=self._link(way, WHOLE_RUN),
                    style=_key(charts.WAY_COLOURS[way]),
                    **{"class": "card"},
                )
                for way, run in self.outcomes.items()
            ),
            **{"class": "cards"},
        )

    def _table(self) -> Element:
        rows = [self._operation_row(operation) for operation in self.operations]
        totals = [
            _element(
                "tr",
                _element("th", f"whole run: {total.replace('_', ' ')}", scope="row"),
                *(_element("td", f"{run.totals[total]:,}") for run in self.outcomes.values()),
            )
            for total in TOTALS
        ]
        heading = [_element("th", BY_NAME[way].title, scope="col") for way in self.outcomes]
        table = _element(
            "table",
            _element("caption", "Guest cycles per operation and multiples of the cheapest way; then counts of the whole runs."),
            _element("thead", _element("tr", _element("th", "Operation", scope="col"), *heading)),
            _element("tbody", *rows),
            _element("tbody", *totals, **{"class": "totals"}),
        )
        return _element("div", _element("h3", "All figures"), _element("div", table, **{"class": "scroll"}))

    def _glance(self) -> Element:
        heading = [_element("th", BY_NAME[way].title, scope="col") for way in self.outcomes]
        rows = [
            _element(
                "tbody",
                _element("tr", _element("th", row, scope="rowgroup", colspan=str(1 + len(heading)))),
                *(
                    _element(
                        "tr",
                        _element("th", name, scope="row"),
                        *(_element("td", cell(outcome)) for outcome in self.outcomes.values()),
                    )
                    for name, cell in cells.items()
                ),
            )
            for row, cells in glance_rows(self.outcomes).items()
        ]
        table = _element("table", _element("thead", _element("tr", _element("th", "", scope="col"), *heading)), *rows)
        scroll = _element("div", table, **{"class": "scroll"})
        return _element("section", _element("h3", "At a glance"), scroll, id=f"{self.name}-glance")

    def _operation_row(self, operation: str) -> Element:
        by_way = ratios(self.outcomes, operation)
        shown = f"{operation} *" if operation in self.hanging else operation
        name = _element("th", shown, scope="row", title=guests.WORKLOADS[operation].does)
        return _element("tr", name, *(self._cell(way, operation, by_way.get(way)) for way in self.outcomes))

    def _cell(self, way: str, operation: str, ratio: float | None) -> Element:
        if ratio is None:
            return _element("td", "-")
        shown = factor(ratio)
        figure = _linked(f"{self.outcomes[way].operations[operation].cycles_each:,.0f}", self._link(way, operation))
        best = "best" if shown == "1.00" else ""
        return _element("td", figure, " ", _element("small", f"{charts.TIMES} {shown}"), **{"class": best})

    # --- charts -------------------------------------------------------------------------------------------------------
    def _charts(self) -> Element:
        ways, exiting = len(self.outcomes), charts.with_exits(self.outcomes)
        found = []
        if self.operations:
            height = 0.6 + 0.115 * len(self.operations) * (ways + 1.2)
            chart = self._chart(charts.PER_OPERATION, CHART_WIDTH, height, self._draw_operations)
            # The others go beside it, unless it is as low as they are.
            kind = "tall" if height > TALL else ""
            found.append(_titled(charts.PER_OPERATION, charts.way_keys(self.outcomes), chart, **{"class": kind}))
        chart = self._chart(charts.WHERE, CHART_WIDTH, 0.6 + 0.3 * ways, self._draw_run)
        found.append(_titled(charts.WHERE, charts.part_keys(self.outcomes), chart))
        if exiting:
            chart = self._chart(charts.WHEN, CHART_WIDTH, 0.5 + 1.3 * len(exiting), self._draw_exits)
            found.append(_titled(charts.WHEN, charts.reason_keys(exiting), chart))
        return _element("div", *found, **{"class": "charts"})

    def _draw_operations(self, figure: Figure) -> None:
        charts.draw_ratios(figure.subplots(), self.outcomes, self._link)

    def _draw_run(self, figure: Figure) -> None:
        charts.draw_run(figure.subplots(), self.outcomes, self._link)

    def _draw_exits(self, figure: Figure) -> None:
        exiting = charts.with_exits(self.outcomes)
        charts.draw_exits(figure.subplots(len(exiting), sharex=True, squeeze=False)[:, 0], exiting, self._link)

    def _operation_charts(self) -> Element | None:
        explained = [name for name in self.operations if any(self._explained(way, name) for way in self.outcomes)]
        if not explained:
            return None
        small = _element("div", *(self._operation_chart(name) for name in explained), **{"class": "small"})
        return _titled("Where the guest cycles of each operation went", charts.part_keys(self.outcomes), small)

    def _operation_chart(self, name: str) -> Element:
        def draw(figure: Figure) -> None:
            charts.draw_operation(figure.subplots(), self.outcomes, name, self._link)

        chart = self._chart(f"Where the guest cycles of {name} went", SMALL_WIDTH, 0.5 + 0.2 * len(self.outcomes), draw)
        return _element("div", chart, _element("p", guests.WORKLOADS[name].does, **{"class": "dim"}))

    def _chart(self, label: str, width: float, height: float, draw: Callable[[Figure], object]) -> Element:
        with charts.style():
            figure = Figure((width, height), layout="constrained")
            draw(figure)
            self._charts_drawn += 1
            return inline_svg(figure, f"{self.name}-{self._charts_drawn}", label, COLOURS)

    # --- explanations -------------------------------------------------------------------------------------------------
    def _explanations(self) -> Iterator[Element]:
        for operation in (WHOLE_RUN, *self.operations):
            found = {way: self._explained(way, operation) for way in self.outcomes}
            explained = {way: it for way, it in found.items() if it is not None}
            said = winner_in_words(self.verdicts.get(operation))
            for way in explained:
                yield self._explanation(way, operation, explained, said)

    def _explanation(self, way: str, operation: str, ways: Mapping[str, Operation], said: Sequence[str]) -> Element:
        it = ways[way]
        what = it.name if operation == WHOLE_RUN else f"{operation}: {guests.WORKLOADS[operation].does}"
        others = (_element("a", BY_NAME[name].title, href=f"#{self._id(name, operation)}") for name in ways if name != way)
        return _element(
            "aside",
            _element("a", "close", href="#closed", **{"class": "close"}),
            _element("h3", f"{BY_NAME[way].title}, {what}"),
            _element("p", f"{it.cycles_each:,.1f} guest cycles{f', the mean of {it.count:,}' if operation else ''}. Figures are "
                     f"those of hvmx profiles show {self.profile.name}."),
            _element("nav", *others),
            _element("div", _ledger_table(self.profile, it), **{"class": "scroll"}),
            *(_element("p", line) for line in said),
            id=self._id(way, operation), style=_key(charts.WAY_COLOURS[way]), **{"class": "why"},
        )  # fmt: skip


LEDGER_COLUMNS = {
    "Cause": "", "Times": "", "Each": "", "Guest cycles": "", "Share": "share", "Figure of the profile": "words",
    "Mark": "words", "Source": "long words",
}  # fmt: skip
"""Each with its class."""


def _ledger_table(profile: Profile, operation: Operation) -> Element:
    heading = (_element("th", name, scope="col", **{"class": kind}) for name, kind in LEDGER_COLUMNS.items())
    rows = (_ledger_row(profile, charge, operation.cycles_each) for charge in charges(profile, operation))
    table = (_element("thead", _element("tr", *heading)), _element("tbody", *rows))
    return _element("table", *table, **{"class": "ledger"})


def _ledger_row(profile: Profile, charge: Charge, total: float) -> Element:
    share = charge.guest_cycles / total
    key, mark, source = _provenance(profile, charge)
    cells: tuple[str | Element, ...] = (
        count_in_words(charge.times) if charge.item.count else "",
        "" if charge.each is None else f"{charge.each:,g}",
        f"{charge.guest_cycles:,.1f}",
        f"{share:.1%}",
        _element("code", key),
        _element("span", mark, **{"class": f"mark {mark}" if mark in MARKS else "mark"}),
        source,
    )
    return _element(
        "tr",
        _element("th", _keyed(charge.item.part, charge.name), scope="row"),
        *(
            _element("td", cell, **{"class": kind, "data-name": name})
            for cell, (name, kind) in zip(cells, [*LEDGER_COLUMNS.items()][1:], strict=True)
        ),
        style=f"{_key(charts.PART_COLOURS[charge.item.part])}; --share: {max(share, 0):.1%}",
    )


def _provenance(profile: Profile, charge: Charge) -> tuple[str, str, str]:
    """The key of the figure, its mark and its source; of what several figures say, their tables and how many are of each
    mark."""
    key = charge.item.price
    if key is not None and (figure := profile.figure(key)) is not None:
        return profile.line_of(key), figure.mark.value, f"{figure.source}: {figure.where}"
    if key is not None:
        tables: tuple[str, ...] = (key,)
    elif charge.item.of and charge.item.part is Part.CODE:
        tables = PLAIN_CODE
    else:
        return "", "", ""
    counted = [profile.marks(f"{table}.") for table in tables]
    marks = {mark: sum(count[mark] for count in counted) for mark in Mark}
    return " ".join(f"[{table}]" for table in tables), marks_in_words(marks), ""


def _keyed(part: Part, cause: str) -> Element:
    return _element("span", cause, title=part.value, style=_key(charts.PART_COLOURS[part]), **{"class": "key"})


def _titled(title: str, colours: Mapping[str, str], content: Element, **attributes: str) -> Element:
    """A chart, or several, below a title and the keys of the colours."""
    keys = (_element("li", name, style=_key(colour), **{"class": "key"}) for name, colour in colours.items())
    return _element("div", _element("h3", title), _element("ul", *keys, **{"class": "keys"}), content, **attributes)


def _key(colour: str) -> str:
    return f"--key: {colour}"


def _linked(text: str, link: str) -> Element:
    return _element("a", text, href=link) if link else _element("span", text)


def _element(tag: str, *content: str | Element, **attributes: str) -> Element:
    made = ElementTree.Element(tag, {name: value for name, value in attributes.items() if value})
    for it in content:
        if isinstance(it, str):
            if len(made):
                made[-1].tail = (made[-1].tail or "") + it
            else:
                made.text = (made.text or "") + it
        else:
            made.append(it)
    return made
