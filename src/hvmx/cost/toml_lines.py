"""TOML, and on which line of it a key is."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MOST_TRIES = 100
"""Lines that are tried, of those with the key's name; to parse a long file takes a while."""


def parse(text: str) -> Mapping[str, Any]:
    """The content. ``ValueError`` or ``RecursionError`` if it is none."""
    content: Mapping[str, Any] = tomllib.loads(text)
    return content


def line_of(text: str, key: str) -> int | None:
    """The line, from 1, on which a key is, or else the table that it would stand in; ``None`` if that is the file itself.

    The parser tells no lines. But it tells which line has the key, however it is written there: the one in which the key,
    under another name, is missed.
    """
    lines = text.split("\n")
    path = _path(parse(text), key)
    found = None
    for depth in range(1, len(path) + 1):
        line = _line_of(lines, path[:depth], found or 0)
        found = found if line is None else line
    return None if found is None else found + 1


def _line_of(lines: Sequence[str], path: Sequence[str], start: int) -> int | None:
    """The same for the names of a key, counted from 0, not before ``start``."""
    name = path[-1]
    candidates = [number for number in range(start, len(lines)) if name in lines[number]]
    candidates.sort(key=lambda number: not lines[number].lstrip(" \t['\"").startswith(name))
    for number in candidates[:MOST_TRIES]:
        renamed = lines[number].replace(name, f"renamed-{name}")
        try:
            content = parse("\n".join((*lines[:number], renamed, *lines[number + 1 :])))
        except ValueError:
            continue
        if not _holds(content, path):
            return number
    return None


def _holds(content: Any, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(content, Mapping) or name not in content:
            return False
        content = content[name]
    return True


def _path(content: Any, key: str) -> tuple[str, ...]:
    """The names in a key, with dots between them and perhaps in them, as far as tables have them."""
    if not isinstance(content, Mapping):
        return ()
    if key in content:
        return (key,)
    tables = ((name, inner) for name, inner in content.items() if key.startswith(f"{name}."))
    return max(((name, *_path(inner, key.removeprefix(f"{name}."))) for name, inner in tables), key=len, default=())
