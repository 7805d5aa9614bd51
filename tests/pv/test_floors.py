"""cext/xen/ is built in floors: a file includes and calls only what stands below it, so that nothing goes in a circle."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .harness import CEXT, compile_c

XEN = CEXT / "xen"
FLOORS = (
    "addresses", "domain",                                      # what a domain is
    "frames", "descriptors", "mode", "mmu", "memory_op", "grant_table",  # its memory
    "clock", "ports", "console", "events", "vcpu",              # its time and events
    "version", "instruction", "ptwr", "emulate",                # what it may not do itself
    "bounce", "traps", "hypercalls",                            # the ways in and out
    "create",
)  # fmt: skip
"""From the bottom up; of each a .c, a .h, or both."""


def symbols(source: Path, folder: Path) -> tuple[set[str], set[str]]:
    """The symbols that a C file exports, and those that it uses from other files."""
    compiled = folder / f"{source.stem}.o"
    compile_c(compiled, source, flags=("-c",))
    listing = subprocess.run(["nm", compiled], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^[\da-f ]{17}([TDBRU]) (\w+)$", listing, re.MULTILINE)
    return {name for kind, name in found if kind != "U"}, {name for kind, name in found if kind == "U"}


def test_every_file_has_its_floor() -> None:
    names = {path.stem for path in XEN.glob("*.[ch]")} - {"xen_abi"}
    assert names == set(FLOORS)


def test_a_file_includes_only_headers_of_its_floor_or_below() -> None:
    wrong, looked_at = [], 0
    for path in sorted(XEN.glob("*.[ch]")):
        if path.stem == "xen_abi":
            continue
        for header in re.findall(r'#include "(\w+)\.h"', path.read_text()):
            if header in FLOORS:
                looked_at += 1
                if FLOORS.index(header) > FLOORS.index(path.stem):
                    wrong.append(f"{path.name} includes {header}.h")
    assert not wrong, "\n".join(wrong)
    assert looked_at > 60


def test_a_file_calls_only_files_below(tmp_path: Path) -> None:
    tables = {path.stem: symbols(path, tmp_path) for path in sorted(XEN.glob("*.c"))}
    home: Mapping[str, str] = {symbol: name for name, (has, _) in tables.items() for symbol in has}
    calls = {(name, home[symbol], symbol) for name, (_, needs) in tables.items() for symbol in needs if symbol in home}
    wrong = [f"{name}.c calls {symbol}, of {to}.c" for name, to, symbol in calls if FLOORS.index(to) > FLOORS.index(name)]
    assert not wrong, "\n".join(sorted(wrong))
    assert len(calls) > 80
