"""TOML, and on which line of it a key is."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse(text: str) -> Mapping[str, Any]:
    """The content. ``ValueError`` or ``RecursionError`` if it is none."""
    content: Mapping[str, Any] = tomllib.loads(text)
    return content


def line_of(text: str, key: str) -> int | None:
    """The line, from 1, on which a key begins, or what it would stand in; ``None`` if that is the file itself.

    The parser tells no lines. But however the key is written, it is on the line with which the text from the first
    line on begins to have it.
    """
    content = parse(text)
    while key and not _has(content, key):
        key = key.rpartition(".")[0]
    if not key:
        return None
    lines = text.split("\n")
    last = bisect_left(range(len(lines)), True, key=lambda count: _has(_parsed(lines, _whole(lines, count)), key))
    return _whole(lines, last - 1) + 1


def _parsed(lines: Sequence[str], count: int) -> Mapping[str, Any]:
    return parse("\n".join(lines[:count]))


def _whole(lines: Sequence[str], count: int) -> int:
    """The first so many lines, without those at their end of a value that goes on after them."""
    while True:
        try:
            _parsed(lines, count)
        except ValueError:
            count -= 1
        else:
            return count


def _has(content: Any, key: str) -> bool:
    """Whether a key with dots, of which there may be some in a name, is in a table or in a table of it."""
    if not isinstance(content, Mapping):
        return False
    return key in content or any(
        _has(inner, key.removeprefix(f"{name}.")) for name, inner in content.items() if key.startswith(f"{name}.")
    )
