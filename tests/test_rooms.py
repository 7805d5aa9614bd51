"""The core is built in floors: a file takes in only what stands on its own floor or below (README.md, "Where things are")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

CORE = Path(__file__).parents[1] / "src" / "hvmx" / "core"
FLOORS = ("state", "pipeline", "exit", "memory", "execute", "translate", "decode", "")
"""From the bottom up; the last is the folder itself."""

TAKES_IN = re.compile(
    r'^(?:from|import) hvmx\.core\.([\w.]+)|^from hvmx\.core cimport (\w+)|(?:cdef extern from|#include) "([\w/]+\.h)"',
    re.MULTILINE,
)


def sources() -> Iterator[tuple[Path, str]]:
    """What is written by hand, with the floor that it is on."""
    for path in sorted(CORE.rglob("*")):
        place = path.relative_to(CORE).parts
        rendered = path.with_name(path.name + ".in").exists()
        if re.search(r"\.(pyx|pxd|h)(\.in)?$", path.name) and not rendered and "generated" not in place:
            yield path, place[0] if len(place) > 1 else ""


def test_every_file_takes_in_only_what_is_on_its_floor_or_below() -> None:
    floor_of_header = {path.name: floor for path, floor in sources() if path.suffix == ".h"}
    wrong, looked_at = [], 0
    for path, floor in sources():
        for module, name, header in TAKES_IN.findall(path.read_text()):
            if header:
                below = floor_of_header.get(Path(header).name, "state")  # the generated tables are everybody's
            else:
                parts = (module or name).split(".")
                below = parts[0] if len(parts) > 1 or parts[0] in FLOORS else ""
                if below == "generated":
                    continue
            looked_at += 1
            if FLOORS.index(below) > FLOORS.index(floor):
                wrong.append(f"{path.relative_to(CORE)} takes in {header or module or name}")
    assert not wrong, "\n".join(wrong)
    assert looked_at > 400


def test_nothing_in_cext_hypercall_knows_of_xen() -> None:
    folder = Path(__file__).parents[1] / "cext" / "hypercall"
    files = sorted(folder.glob("*.[ch]"))
    assert len(files) > 4
    assert not [file.name for file in files if re.search(r'#include "(\.\./)?(xen/)?xen', file.read_text())]
