"""What an image is and how it can run, as tables of 80 columns and as data.

What comes from the image is untrusted: control characters are escaped, and what is long is cut in the tables only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntFlag
from typing import Any

from rich.table import Table
from rich.text import Text

from hvmx.boot import linux
from hvmx.inspection import ImageFacts, Note, Segment, Verdict, Way
from hvmx.report.plain_table import plain_table

_COLUMNS = 80
_NAME_WIDTH = 20
_VALUE_WIDTH = _COLUMNS - _NAME_WIDTH - 1
_ROWS_SHOWN = 24
"""At most this many notes or segments."""
_CHARACTERS_SHOWN = 160
"""At most this many of a value in a note."""


def inspection_tables(facts: ImageFacts, ways: Sequence[Way]) -> Iterator[Table]:
    """One for the image, its notes, its segments and the ways to run it, as far as there are any."""
    image = _pairs(_printable(facts.name))
    formats = facts.formats or [f"none known (the file starts with {facts.octets[:8].hex()})"]
    for index, found in enumerate(formats):
        image.add_row("" if index else "formats", Text(found))
    image.add_row("size", f"{len(facts.file):#x} bytes")
    for entry in facts.entries:
        image.add_row(f"entry, {entry.what}", f"{entry.address:#x}")
    for name, value in (*_linux_rows(facts), *_multiboot_rows(facts), *_xen_rows(facts)):
        image.add_row(name, Text(value))
    for problem in facts.problems:
        image.add_row("wrong", Text(_printable(problem)))
    yield image
    if facts.notes:
        yield _note_table(facts.notes)
    if facts.segments:
        yield _segment_table(facts)
    yield way_table(ways, facts.memory_bytes)


def _pairs(title: str) -> Table:
    # rich.Table takes a title as markup unless it is a Text.
    table = plain_table("")
    table.title = Text(title)
    table.show_header = False
    table.add_column(width=_NAME_WIDTH, overflow="fold")
    table.add_column(width=_VALUE_WIDTH, overflow="fold")
    return table


def _linux_rows(facts: ImageFacts) -> Iterator[tuple[str, str]]:
    header = facts.linux
    if header is None:
        return
    yield "loadflags", _flags(linux.LoadFlag, header.loadflags)
    yield "xloadflags", _flags(linux.XLoadFlag, header.xloadflags)
    yield "relocatable", f"yes, aligned to {header.kernel_alignment:#x}" if header.relocatable else "no"
    yield "pref_address", f"{header.pref_address:#x}"
    yield "init_size", f"{header.init_size:#x} bytes, from {header.runtime_start:#x} on"
    yield "command line", f"at most {header.cmdline_size:#x} bytes"
    yield "initrd", f"up to {header.initrd_addr_max:#x}"
    yield "setup code", f"{header.setup_bytes:#x} bytes"
    if facts.payload is None:
        yield "payload", "none that the header tells of"
    else:
        unknown = f"unknown (it starts with {facts.payload.first.hex()})"
        yield "payload", f"{facts.payload.size:#x} bytes at {facts.payload.offset:#x}"
        yield "compression", facts.payload.compression or unknown


def _multiboot_rows(facts: ImageFacts) -> Iterator[tuple[str, str]]:
    if (part := facts.multiboot_segment) is not None:
        where = f"{part.file_bytes:#x} bytes from {part.offset:#x} on to {part.physical:#x}"
        yield "Multiboot loads", f"{where}, {part.memory_bytes:#x} with zeros"


def _xen_rows(facts: ImageFacts) -> Iterator[tuple[str, str]]:
    if facts.features is not None:
        for what, names in zip(("Xen, required", "Xen, optional"), facts.features, strict=True):
            yield what, _shown(" ".join(names)) or "none"
    if facts.supported_features is not None:
        yield "Xen, supported", " ".join(facts.supported_features) or "none"


def _flags(kind: type[IntFlag], value: int) -> str:
    return " ".join([f"{value:#x}", *_names(kind, value)])


def _names(kind: type[IntFlag], value: int) -> list[str]:
    return [str(flag.name) for flag in kind if value & flag]


def _note_table(notes: Sequence[Note]) -> Table:
    table = _pairs("Notes")
    for note in notes[:_ROWS_SHOWN]:
        owner = "" if note.owner == "Xen" and not note.name.startswith("0x") else f"{_printable(note.owner)[:10]} "
        table.add_row(Text(f"{owner}{note.name}"), Text(_shown(note.value)))
    _add_rest(table, len(notes))
    return table


def _shown(value: int | str | list[tuple[int, int]] | bytes) -> str:
    """A value of the image's, as much of it as there is room for."""
    if isinstance(value, int):
        return f"{value:#x}"
    if isinstance(value, bytes):
        text = value.hex(" ")
        if len(value) > 1 and value[-1] == 0 and value[:-1].isascii() and value[:-1].decode("ascii").isprintable():
            text = value[:-1].decode("ascii")
    elif isinstance(value, str):
        text = _printable(value)
    else:
        text = ", ".join(f"mask {mask:#x} value {bits:#x}" for mask, bits in value)
    return text if len(text) <= _CHARACTERS_SHOWN else f"{text[:_CHARACTERS_SHOWN]}..."


def _segment_table(facts: ImageFacts) -> Table:
    table = plain_table("Segments of its payload" if facts.payload and facts.executable else "Segments")
    for name in ("Offset", "In the file", "Virtual", "Physical", "In memory"):
        table.add_column(name, justify="right", no_wrap=True)
    for segment in facts.segments[:_ROWS_SHOWN]:
        table.add_row(*_segment_cells(segment))
    _add_rest(table, len(facts.segments))
    return table


def _segment_cells(segment: Segment) -> list[str]:
    numbers = (segment.offset, segment.file_bytes, segment.virtual, segment.physical, segment.memory_bytes)
    return ["-" if number is None else f"{number:#x}" for number in numbers]


def _add_rest(table: Table, count: int) -> None:
    if count > _ROWS_SHOWN:
        table.add_row(f"+ {count - _ROWS_SHOWN} more")


def way_table(ways: Sequence[Way], memory_bytes: int, image: str = "it") -> Table:
    table = plain_table(f"Ways to run {image}, in {memory_bytes:#x} bytes of memory")
    names, verdicts = 15, 7
    table.add_column("Way", width=names)
    table.add_column("Runs", width=verdicts, no_wrap=True)
    table.add_column("How, or why not", width=_COLUMNS - names - verdicts - 2, overflow="fold")
    for way in ways:
        says = Text(_printable(way.says))
        if way.verdict is not Verdict.NO:
            says.append(f"\n{f'hvmx run {way.options}'.strip()} IMAGE")
        table.add_row(way.name, way.verdict.value, says, style="bold" if way.verdict is Verdict.YES else "")
    return table


def _printable(text: str) -> str:
    """``text`` with what a terminal would obey, or not show, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def inspection_json(facts: ImageFacts, ways: Sequence[Way]) -> dict[str, Any]:
    """The same as data: sizes are numbers; addresses, flags and the values of notes are hexadecimal text."""
    return {
        "image": facts.name,
        "memory_bytes": facts.memory_bytes,
        "bytes": len(facts.file),
        "unpacked_bytes": len(facts.octets) if facts.is_packed else None,
        "formats": facts.formats,
        "linux": _linux_json(facts),
        "multiboot": facts.multiboot and {name: f"{value:#x}" for name, value in facts.multiboot._asdict().items()},
        "multiboot_loads": facts.multiboot_segment and _segment_json(facts.multiboot_segment),
        "multiboot2": None if facts.multiboot_2 is None else f"{facts.multiboot_2:#x}",
        "elf": facts.executable
        and {
            "bits": facts.executable.bits,
            "machine": f"{facts.executable.machine:#x}",
            "type": f"{facts.executable.type:#x}",
            "bytes": len(facts.executable.image),
            "in_payload": facts.payload is not None,
        },
        "features": {
            "required": facts.features and facts.features[0],
            "optional": facts.features and facts.features[1],
            "supported": facts.supported_features,
        },
        "entries": [{"what": entry.what, "address": f"{entry.address:#x}"} for entry in facts.entries],
        "notes": [_note_json(note) for note in facts.notes],
        "segments": [_segment_json(segment) for segment in facts.segments],
        "problems": facts.problems,
        "runs": any(way.verdict is Verdict.YES for way in ways),
        "ways": [
            {"way": way.name, "runs": way.verdict.value, "options": way.options, "says": way.says} for way in ways
        ],
    }


def _linux_json(facts: ImageFacts) -> dict[str, Any] | None:
    header, payload = facts.linux, facts.payload
    if header is None:
        return None
    return {
        "protocol": header.protocol,
        "loadflags": f"{header.loadflags:#x}",
        "loadflags_names": _names(linux.LoadFlag, header.loadflags),
        "xloadflags": f"{header.xloadflags:#x}",
        "xloadflags_names": _names(linux.XLoadFlag, header.xloadflags),
        "relocatable": header.relocatable,
        "kernel_alignment": f"{header.kernel_alignment:#x}",
        "pref_address": f"{header.pref_address:#x}",
        "runtime_start": f"{header.runtime_start:#x}",
        "init_size": header.init_size,
        "cmdline_size": header.cmdline_size,
        "initrd_addr_max": f"{header.initrd_addr_max:#x}",
        "setup_bytes": header.setup_bytes,
        "payload": payload
        and {
            "offset": f"{payload.offset:#x}",
            "bytes": payload.size,
            "compression": payload.compression,
            "first": payload.first.hex(),
        },
    }


def _note_json(note: Note) -> dict[str, Any]:
    value: Any = note.value
    if isinstance(value, bytes):
        value = value.hex()
    elif isinstance(value, int):
        value = f"{value:#x}"
    elif isinstance(value, list):
        value = [{"mask": f"{mask:#x}", "value": f"{bits:#x}"} for mask, bits in value]
    return {"owner": note.owner, "name": note.name, "value": value, "raw": isinstance(note.value, bytes)}


def _segment_json(segment: Segment) -> dict[str, Any]:
    return {
        "offset": f"{segment.offset:#x}",
        "file_bytes": segment.file_bytes,
        "virtual": None if segment.virtual is None else f"{segment.virtual:#x}",
        "physical": f"{segment.physical:#x}",
        "memory_bytes": segment.memory_bytes,
    }
