"""Reads the entries of a profile's file, and checks them."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hvmx.isa import families
from hvmx.isa.levels import LEVELS

from .figures import (
    FRACTION,
    Buffer,
    Cache,
    Count,
    Counts,
    Families,
    Figure,
    Kinds,
    Mark,
    Provenance,
    Timing,
    Validation,
)
from .toml_lines import line_of, parse

LARGEST = 1_000_000
"""The most guest cycles that an operation may cost, and the most entries that anything may have."""

MOST_PIPES = 16
MOST_USES = 6
REGISTER_KINDS = ("general", "vector")

Noted = TypeVar("Noted", bound=Provenance)

_LARGEST_FILE = 1 << 20
_PROVENANCE = ("mark", "source", "where")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_USE = re.compile(r"([a-z][a-z0-9_-]*)(?:\*([0-9]{1,6}))?")


class ProfileError(ValueError):
    """A profile cannot be used; the message names the file, the line, the key and the value."""


def contents(name: str, path: Path, bundled: Collection[str]) -> tuple[str, Mapping[str, Any]]:
    """A file's text, and that as TOML has it. ``ProfileError`` if it is not TOML, or not there."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as problem:
        raise ProfileError(
            f"profile {name}: cannot be read: {problem.strerror}; the bundled ones are {', '.join(bundled)}"
        ) from problem
    if len(data) > _LARGEST_FILE:
        raise ProfileError(f"profile {name}: larger than {_LARGEST_FILE:#x} bytes")
    try:
        text = data.decode()
        content = parse(text)
    except (ValueError, RecursionError) as problem:  # of the syntax, of UTF-8, of an endless integer
        raise ProfileError(f"profile {name}: is not TOML: {problem}") from problem
    return text, content


class Reader:
    """The content of one file."""

    def __init__(self, name: str, text: str, content: Mapping[str, Any]) -> None:
        self._name = name
        self._text = text
        self._content = content
        self.sources: dict[str, str] = {}
        """Titles, by key."""
        self._units: set[str] = set()
        self.written: dict[str, Provenance] = {}
        """All figures that were read, by key."""

    def read_sources(self) -> None:
        """The titles to which figures refer."""
        for key, title in self.table("sources").items():
            self.sources[key] = self.text(f"sources.{key}", title, "a source has a title")

    def pipes(self) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
        """The names of the pipes, and of the groups of them."""
        self.keys("pipes", self.table("pipes"), ("names",))
        names = self._names("pipes.names", self.table("pipes")["names"])
        if len(names) > MOST_PIPES:
            raise self.error("pipes.names", list(names), f"more than {MOST_PIPES}")
        groups = {}
        for group, members in self.table("groups").items():
            if group in names or not _NAME.fullmatch(group):
                raise self.error("groups", group, "a pipe's name, or none")
            groups[group] = self._names(f"groups.{group}", members, names, "not one of [pipes]")
            if not groups[group]:
                raise self.error(f"groups.{group}", members, "no pipes")
        self._units = {*names, *groups}
        return names, groups

    def level(self, name: Any) -> str:
        """The processor level."""
        if not isinstance(name, str) or name not in LEVELS:
            raise self.error("cpu", name, f"not one of {', '.join(LEVELS)}")
        return name

    def figures(
        self,
        table: str,
        required: Collection[str],
        least: float = 1 / FRACTION,
        most: float = LARGEST,
        optional: Collection[str] = (),
        only: Collection[str] | None = None,
        whole: bool = False,
    ) -> dict[str, Figure]:
        """A table of times; of ``only`` some of its keys, if given."""
        content = self.table(table)
        self.keys(table, content, required, optional)
        order = [
            name for name in (*required, *optional) if name in content and (only is None or name in only)
        ]
        return {name: self._figure(f"{table}.{name}", content[name], least, most, whole) for name in order}

    def timings(self, table: str, required: Collection[str], optional: Collection[str]) -> dict[str, Timing]:
        """A table of what instructions take."""
        content = self.table(table)
        self.keys(table, content, required, optional)
        return {name: self._timing(f"{table}.{name}", entry) for name, entry in content.items()}

    def accesses(self, table: str, names: Collection[str], latencies: Mapping[str, int]) -> dict[str, Timing]:
        """Entries of a table that say what accesses to memory take besides their latency."""
        content = self.table(table)
        return {
            name: self._timing(f"{table}.{name}", content[name], latencies.get(name, 0)) for name in names
        }

    def entry(self, key: str, value: Any, kind: type, *, whole: bool) -> Any:
        """An entry of the type that its place has."""
        if kind is bool:
            if not isinstance(value, bool):
                raise self.error(key, value, "not true or false")
            return value
        if kind is Figure:
            return self._figure(key, value, 0 if whole else 1 / FRACTION, LARGEST, whole)
        given = {
            Count: ("value",), Counts: ("values",), Families: ("families",), Kinds: ("kinds",),
            Buffer: ("entries", "ways"), Cache: ("size", "ways", "cycles"), Validation: ("percent", "programs"),
        }[kind]  # fmt: skip
        self._entry(key, value, given, ("shared",) if kind is Buffer else ())
        read: dict[str, Any] = {}
        for name in given:
            place, content = f"{key}.{name}", value[name]
            if kind is Families:
                read[name] = self._names(place, content, families(), "not a family of the instruction table")
            elif kind is Kinds:
                read[name] = self._names(
                    place, content, REGISTER_KINDS, f"not of {', '.join(REGISTER_KINDS)}"
                )
            elif kind is Counts:
                read[name] = tuple(self._whole(place, item, "entries") for item in self._list(place, content))
            else:
                read[name] = self._whole(place, content, "guest cycles" if name == "cycles" else name)
        if kind is Buffer:
            read["shared"] = self.entry(f"{key}.shared", value.get("shared", False), bool, whole=True)
            if read["entries"] and (not read["ways"] or read["entries"] % read["ways"]):
                raise self.error(f"{key}.ways", read["ways"], f"does not divide {read['entries']:#x} entries")
        return self._note(key, kind(**read, **self._provenance(key, value)))

    def table(self, name: str) -> Mapping[str, Any]:
        """A table of the file."""
        table = self._content[name]
        if not isinstance(table, dict):
            raise self.error(name, table, "not a table")
        return table

    def keys(
        self,
        table: str,
        content: Mapping[str, Any],
        required: Collection[str],
        optional: Collection[str] = (),
    ) -> None:
        """Check that a table has what it must, and nothing unknown."""
        where = f"[{table}] " if table else ""
        missing = [key for key in required if key not in content]
        if missing:
            raise ProfileError(f"{self._place(table)}: {where}lacks {', '.join(missing)}")
        unknown = [key for key in content if key not in required and key not in optional]
        if unknown:
            place = self._place(f"{table}.{unknown[0]}" if table else unknown[0])
            raise ProfileError(f"{place}: {where}has unknown keys: {', '.join(unknown)}")

    def text(self, key: str, value: Any, problem: str = "not a text") -> str:
        """A text that is not empty."""
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, value, problem)
        return value

    def error(self, key: str, value: Any, problem: str) -> ProfileError:
        """What is wrong with a value."""
        shown = hex(value) if isinstance(value, int) else reprlib.repr(value)
        return ProfileError(f"{self._place(key)}: {key} = {shown}: {problem}")

    def _place(self, key: str) -> str:
        """The file and the line where a key is, as compilers say it."""
        line = line_of(self._text, key)
        return f"profile {self._name}" if line is None else f"profile {self._name}:{line}"

    def _note(self, key: str, figure: Noted) -> Noted:
        self.written[key] = figure
        return figure

    def _entry(self, key: str, value: Any, given: Collection[str], optional: Collection[str] = ()) -> None:
        if not isinstance(value, dict):
            raise self.error(key, value, f"a figure is {{ {', '.join((*given, *_PROVENANCE))} }}")
        self.keys(key, value, (*given, *_PROVENANCE), optional)

    def _provenance(self, key: str, value: Mapping[str, Any]) -> dict[str, Any]:
        mark, source = value["mark"], value["source"]
        marks = [known.value for known in Mark]
        if mark not in marks:
            raise self.error(f"{key}.mark", mark, f"not one of {', '.join(marks)}")
        if not isinstance(source, str) or source not in self.sources:
            raise self.error(f"{key}.source", source, "not a key of [sources]")
        return {
            "mark": Mark(mark), "source": self.sources[source], "where": self.text(f"{key}.where", value["where"]),
        }  # fmt: skip

    def _figure(self, key: str, value: Any, least: float, most: float, whole: bool = False) -> Figure:
        self._entry(key, value, ("cycles",))
        cycles = value["cycles"]
        if isinstance(cycles, bool) or not isinstance(cycles, int | float):
            raise self.error(f"{key}.cycles", cycles, "not a number of guest cycles")
        if not least <= cycles <= most:  # NaN fails this, too
            raise self.error(f"{key}.cycles", cycles, f"not within {least} and {most} guest cycles")
        if whole and cycles != int(cycles):
            raise self.error(f"{key}.cycles", cycles, "not a whole number of guest cycles")
        return self._note(key, Figure(cycles=cycles, **self._provenance(key, value)))

    def _timing(self, key: str, value: Any, latency: int | None = None) -> Timing:
        """``latency`` is given where it stands elsewhere in the file."""
        self._entry(key, value, ("latency",) if latency is None else ("slots",), ("slots", "uses", "serial"))
        return self._note(
            key,
            Timing(
                latency=self._whole(f"{key}.latency", value["latency"], "guest cycles")
                if latency is None
                else latency,
                slots=self._whole(f"{key}.slots", value.get("slots", 1), "slots"),
                uses=self._uses(f"{key}.uses", value.get("uses", "")),
                serial=self.entry(f"{key}.serial", value.get("serial", False), bool, whole=True),
                **self._provenance(key, value),
            ),
        )

    def _uses(self, key: str, value: Any) -> tuple[tuple[str, int], ...]:
        if not isinstance(value, str):
            raise self.error(key, value, "not a text")
        uses = []
        for word in value.split():
            parts = _USE.fullmatch(word)
            if not parts or parts[1] not in self._units:
                raise self.error(key, word, "not a pipe or a group, with *CYCLES after it or without")
            cycles = int(parts[2] or 1)
            if not 1 <= cycles <= LARGEST:
                raise self.error(key, word, f"not within 1 and {LARGEST} guest cycles")
            uses.append((parts[1], cycles))
        if len(uses) > MOST_USES:
            raise self.error(key, value, f"more than {MOST_USES} pipes")
        return tuple(uses)

    def _whole(self, key: str, value: Any, what: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(key, value, f"not a whole number of {what}")
        if not 0 <= value <= LARGEST:
            raise self.error(key, value, f"not within 0 and {LARGEST} {what}")
        return value

    def _list(self, key: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.error(key, value, "not a list")
        return value

    def _names(
        self, key: str, value: Any, known: Collection[str] | None = None, problem: str = "not a name"
    ) -> tuple[str, ...]:
        names = self._list(key, value)
        for name in names:
            if not isinstance(name, str) or not (_NAME.fullmatch(name) if known is None else name in known):
                raise self.error(key, name, problem)
        if len(set(names)) < len(names):
            raise self.error(key, names, "a name twice")
        return tuple(names)
