"""Profiles from TOML files."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Collection, Mapping
from functools import cache
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hvmx.exits import ExitReason
from hvmx.isa import cost_classes
from hvmx.isa.levels import LEVELS

from .profile import FRACTION, Figure, Mark, Paravirtual, Profile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUNDLED = ("skylake", "p4-672")
"""Names of the profiles that come with the package."""

LARGEST = 1_000_000
"""The most guest cycles that an operation may cost."""

SLOWEST, FASTEST = 1_000_000, 100_000_000_000
"""Guest cycles in a guest second."""

_LARGEST_FILE = 1 << 20
_TABLES = ("sources", "clock", "classes", "paging", "events", "exits", "paravirtual")


class ProfileError(ValueError):
    """A profile cannot be used; the message names the file, the key and the value."""


def load_profile(name_or_path: str | PathLike[str]) -> Profile:
    """A bundled profile by its name, or one of your own by its path. ``ProfileError`` if it cannot be used."""
    name = str(name_or_path)
    return _bundled(name) if name in BUNDLED else _read(name, Path(name_or_path))


@cache
def _bundled(name: str) -> Profile:
    return _read(name, Path(__file__).with_name(f"{name}.toml"))


def _read(name: str, path: Path) -> Profile:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as problem:
        raise ProfileError(
            f"profile {name}: cannot be read: {problem.strerror}; the bundled ones are {', '.join(BUNDLED)}"
        ) from problem
    if len(data) > _LARGEST_FILE:
        raise ProfileError(f"profile {name}: larger than {_LARGEST_FILE:#x} bytes")
    try:
        content = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as problem:  # of the syntax, of UTF-8, of an endless integer
        raise ProfileError(f"profile {name}: is not TOML: {problem}") from problem
    return _Reader(name, content).profile()


class _Reader:
    """Parses the content of a file, and checks it."""

    def __init__(self, name: str, content: Mapping[str, Any]) -> None:
        self._name = name
        self._content = content
        self._sources: Mapping[str, Any] = {}
        self._written: dict[str, Figure] = {}

    def profile(self) -> Profile:
        self._keys("", self._content, ("processor", "cpu", *_TABLES))
        self._sources = self._table("sources")
        for key, title in self._sources.items():
            if not isinstance(title, str) or not title.strip():
                raise self._error(f"sources.{key}", title, "a source has a title")
        classes = self._figures("classes", cost_classes())
        reasons = [reason.name for reason in ExitReason]
        exits = self._figures("exits", ("default", "user_device"), optional=reasons)
        second = self._figures("clock", ("second",), SLOWEST, FASTEST)["second"]
        if second.cycles != int(second.cycles):
            raise self._error("clock.second.cycles", second.cycles, "not a whole number of guest cycles")
        return Profile(
            name=self._name,
            processor=self._text("processor", self._content["processor"]),
            cpu=self._level(self._content["cpu"]),
            second=second,
            classes=MappingProxyType(classes),  # machines share a bundled profile
            page_reference=self._figures("paging", ("reference",))["reference"],
            exception=self._figures("events", ("exception",))["exception"],
            exits=MappingProxyType({reason: exits.get(reason.name, exits["default"]) for reason in ExitReason}),
            user_device=exits["user_device"],
            paravirtual=Paravirtual(
                **self._figures("paravirtual", ("hypercall", "bounce", "update", "entry", "emulation"))
            ),
            written=MappingProxyType(self._written),
        )

    def _level(self, name: Any) -> str:
        if not isinstance(name, str) or name not in LEVELS:
            raise self._error("cpu", name, f"not one of {', '.join(LEVELS)}")
        return name

    def _figures(
        self,
        table: str,
        required: Collection[str],
        least: float = 1 / FRACTION,
        most: float = LARGEST,
        optional: Collection[str] = (),
    ) -> dict[str, Figure]:
        content = self._table(table)
        self._keys(table, content, required, optional)
        order = [name for name in (*required, *optional) if name in content]
        figures = {name: self._figure(f"{table}.{name}", content[name], least, most) for name in order}
        self._written.update((f"{table}.{name}", figure) for name, figure in figures.items())
        return figures

    def _figure(self, key: str, value: Any, least: float, most: float) -> Figure:
        if not isinstance(value, dict):
            raise self._error(key, value, "a figure is { cycles, mark, source, where }")
        self._keys(key, value, ("cycles", "mark", "source", "where"))
        cycles, mark, source = value["cycles"], value["mark"], value["source"]
        if isinstance(cycles, bool) or not isinstance(cycles, int | float):
            raise self._error(f"{key}.cycles", cycles, "not a number of guest cycles")
        if not least <= cycles <= most:  # NaN fails this, too
            raise self._error(f"{key}.cycles", cycles, f"not within {least} and {most} guest cycles")
        marks = [known.value for known in Mark]
        if mark not in marks:
            raise self._error(f"{key}.mark", mark, f"not one of {', '.join(marks)}")
        if not isinstance(source, str) or source not in self._sources:
            raise self._error(f"{key}.source", source, "not a key of [sources]")
        where = self._text(f"{key}.where", value["where"])
        return Figure(cycles, Mark(mark), self._sources[source], where)

    def _table(self, name: str) -> Mapping[str, Any]:
        table = self._content[name]
        if not isinstance(table, dict):
            raise self._error(name, table, "not a table")
        return table

    def _keys(
        self,
        table: str,
        content: Mapping[str, Any],
        required: Collection[str],
        optional: Collection[str] = (),
    ) -> None:
        where = f"[{table}] " if table else ""
        missing = [key for key in required if key not in content]
        if missing:
            raise ProfileError(f"profile {self._name}: {where}lacks {', '.join(missing)}")
        unknown = [key for key in content if key not in required and key not in optional]
        if unknown:
            raise ProfileError(f"profile {self._name}: {where}has unknown keys: {', '.join(unknown)}")

    def _text(self, key: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self._error(key, value, "not a text")
        return value

    def _error(self, key: str, value: Any, problem: str) -> ProfileError:
        shown = hex(value) if isinstance(value, int) else reprlib.repr(value)
        return ProfileError(f"profile {self._name}: {key} = {shown}: {problem}")
