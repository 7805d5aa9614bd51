"""Where guest cycles went: the hottest blocks and symbols of a run, and what held each.

As a table for people, as JSON, and as a profile for speedscope (https://www.speedscope.app). The cycles of all blocks, of
the others for which the core had no room, and those spent waiting are together the run's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from hvmx.cost import FRACTION, Profile
from hvmx.report.plain_table import plain_table, print_whole
from hvmx.report.symbols import Symbols

ROWS_SHOWN = 20
"""Of blocks and of symbols in the tables; the files have all of them."""

_PIPES = "pipes"


@dataclass(frozen=True)
class Heat:
    """Guest cycles of a block, or of all blocks of a symbol."""

    name: str
    cycles: int
    instructions: int
    bounds: Mapping[str, int]
    """By what held it, pipes by their names, in units of 1/``FRACTION`` guest cycle."""
    pipes: frozenset[str]
    """Which of the bounds are pipes."""

    @property
    def cycles_per_instruction(self) -> float | None:
        return self.cycles / self.instructions if self.instructions else None

    def bound(self) -> tuple[str, float]:
        """What held it most, and its share. Pipes count together; those are named that held it about as much as the first."""
        together: Counter[str] = Counter()
        for name, units in self.bounds.items():
            together[_PIPES if name in self.pipes else name] += units
        total = together.total()
        if total <= 0:
            return "-", 0.0
        name, most = together.most_common(1)[0]
        if name == _PIPES:
            shares = {pipe: units for pipe, units in self.bounds.items() if pipe in self.pipes}
            name = " ".join(pipe for pipe, units in shares.items() if 2 * units >= max(shares.values()))
        return name, most / total

    def as_json(self) -> dict[str, Any]:
        ratio = self.cycles_per_instruction
        return {
            "name": self.name,
            "guest_cycles": self.cycles,
            "instructions": self.instructions,
            "cycles_per_instruction": None if ratio is None else round(ratio, 4),
            "bound": self.bound()[0],
            "bounds": {name: round(units / FRACTION, 3) for name, units in self.bounds.items()},
        }


@dataclass(frozen=True)
class HotBlock:
    """A block of code, by the linear address at which it is entered."""

    heat: Heat
    address: int
    bits: int
    user: bool
    """It runs at CPL 3."""
    symbol: str

    def as_json(self) -> dict[str, Any]:
        place = {"address": f"{self.address:#x}", "bits": self.bits, "user": self.user, "symbol": self.symbol}
        return place | self.heat.as_json()


class HotReport:
    """``found`` is what ``Vcpu.hot_blocks`` returns."""

    def __init__(self, found: Mapping[str, Any], symbols: Symbols, profile: Profile) -> None:
        self.profile = profile
        self._pipes = frozenset(profile.pipes)
        # Each gets the whole cycles that end in it, so that all of them together are the run's.
        self._units = 0
        ordered = sorted(found["blocks"], key=lambda row: (-sum(row[4].values()) - sum(row[5]), row[:3]))
        self.blocks = [self._block(row, symbols) for row in ordered]
        self.others = self._heat("others", *found["others"])
        self.waiting = self._whole(found["waiting"])
        self.cycles = sum(block.heat.cycles for block in self.blocks) + self.others.cycles + self.waiting
        self.symbols = self._by_symbol()

    def _whole(self, units: int) -> int:
        before = self._units
        self._units += units
        return self._units // FRACTION - before // FRACTION

    def _heat(self, name: str, instructions: int, bounds: Mapping[str, int], pipes: Sequence[int]) -> Heat:
        together = dict(bounds) | {pipe: units for pipe, units in zip(self.profile.pipes, pipes, strict=False) if units}
        ordered = dict(sorted(together.items(), key=lambda item: -item[1]))
        return Heat(name, self._whole(sum(ordered.values())), instructions, ordered, self._pipes)

    def _block(self, row: tuple[Any, ...], symbols: Symbols) -> HotBlock:
        address, bits, user, *rest = row
        found = symbols.find(address)
        if found is None:
            name = f"{address:#x}"
            symbol = "user code without a symbol" if user else "code without a symbol"
        else:
            symbol, offset = found
            name = f"{symbol}+{offset:#x}"
        return HotBlock(self._heat(name, *rest), address, bits, user, symbol)

    def _by_symbol(self) -> list[Heat]:
        cycles: Counter[str] = Counter()
        instructions: Counter[str] = Counter()
        bounds: dict[str, Counter[str]] = {}
        for block in self.blocks:
            cycles[block.symbol] += block.heat.cycles
            instructions[block.symbol] += block.heat.instructions
            bounds.setdefault(block.symbol, Counter()).update(block.heat.bounds)
        return [
            Heat(name, count, instructions[name], dict(bounds[name].most_common()), self._pipes)
            for name, count in cycles.most_common()
        ]

    # --- as ... -----------------------------------------------------------------------------------------------------------
    def write_tables(self, out: TextIO) -> None:
        for title, rows in (
            ("Hottest symbols", self.symbols),
            ("Hottest blocks", [block.heat for block in self.blocks]),
        ):
            table = self._table(title, rows)
            print_whole(Console(file=out, width=80, highlight=False, markup=False, no_color=True), table)

    def _table(self, title: str, rows: Sequence[Heat]) -> Table:
        table = plain_table(f"{title}, of {self.cycles:,} guest cycles")
        for name in ("Cycles", "Cycles%", "Instructions", "Cycles/instr"):
            table.add_column(name, justify="right", no_wrap=True)
        for name in ("Bound", "Where"):
            table.add_column(name, no_wrap=True)
        for row in rows[:ROWS_SHOWN]:
            bound, share = row.bound()
            table.add_row(*self._figures(row), f"{bound} {share:.0%}", row.name)
        hidden = [*rows[ROWS_SHOWN:], self.others]
        rest = Heat("", sum(r.cycles for r in hidden), sum(r.instructions for r in hidden), {}, self._pipes)
        table.add_row(*self._figures(rest), "", "others")
        table.add_row(*self._figures(Heat("", self.waiting, 0, {}, self._pipes)), "", "waiting")
        return table

    def _figures(self, row: Heat) -> tuple[str, ...]:
        ratio = row.cycles_per_instruction
        return (
            f"{row.cycles:,}",
            f"{row.cycles / self.cycles:.2%}" if self.cycles else "-",
            f"{row.instructions:,}",
            "-" if ratio is None else f"{ratio:.2f}",
        )

    def write_json(self, out: TextIO) -> None:
        content = {
            "profile": self.profile.name,
            "processor": self.profile.processor,
            "guest_cycles": self.cycles,
            "symbols": [symbol.as_json() for symbol in self.symbols],
            "blocks": [block.as_json() for block in self.blocks],
            "others": self.others.as_json(),
            "waiting_guest_cycles": self.waiting,
        }
        json.dump(content, out, indent=1)
        out.write("\n")

    def write_speedscope(self, out: TextIO) -> None:
        """Each block with each of its bounds is a sample that weighs its cycles: symbol, block, bound."""
        frames: dict[str, int] = {}
        samples: list[list[int]] = []
        weights: list[float] = []

        def add(units: float, *stack: str) -> None:
            samples.append([frames.setdefault(name, len(frames)) for name in stack])
            weights.append(units)

        for block in self.blocks:
            for bound, units in block.heat.bounds.items():
                add(units / FRACTION, block.symbol, block.heat.name, f"bound: {bound}")
        for bound, units in self.others.bounds.items():
            add(units / FRACTION, "others", f"bound: {bound}")
        if self.waiting:
            add(self.waiting, "waiting")
        content = {
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "exporter": "hvmx",
            "name": f"guest cycles ({self.profile.processor})",
            "activeProfileIndex": 0,
            "shared": {"frames": [{"name": name} for name in frames]},
            "profiles": [
                {
                    "type": "sampled",
                    "name": "guest cycles",
                    "unit": "none",
                    "startValue": 0,
                    "endValue": sum(weights),
                    "samples": samples,
                    "weights": weights,
                }
            ],
        }
        json.dump(content, out)
        out.write("\n")

    def writer(self, name: str) -> Callable[[TextIO], None]:
        """What writes a file of this name: the suffix says the format."""
        if name.endswith(".speedscope.json"):
            return self.write_speedscope
        return self.write_json if name.endswith(".json") else self.write_tables
