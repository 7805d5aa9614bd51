"""Profiles from TOML files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from hvmx.exits import ExitReason
from hvmx.isa import MEMORY_CLASSES, SIZED_CLASSES, SIZES, cost_classes

from .figures import Provenance, Timing, Validation
from .profile import Branches, Caches, Paravirtual, Pipeline, Profile, Strings, Tlb
from .reader import ProfileError, Reader, contents

BUNDLED = ("skylake", "cascade-lake", "zen4", "golden-cove", "nehalem", "p4-672")
"""Names of the profiles that come with the package."""

FORMAT = 2
"""The version of the files' format."""

SLOWEST, FASTEST = 1_000_000, 100_000_000_000
"""Guest cycles in a guest second."""

_HEAD = ("format", "processor", "cpu")
_TABLES = (
    "sources", "clock", "pipeline", "pipes", "groups", "instructions", "memory", "strings", "branches", "caches",
    "tlb", "paging", "events", "exits", "paravirtual",
)  # fmt: skip


def load_profile(name_or_path: str | PathLike[str]) -> Profile:
    """A bundled profile by its name, or one of your own by its path. ``ProfileError`` if it cannot be used."""
    name = str(name_or_path)
    return _bundled(name) if name in BUNDLED else _read(name, Path(name_or_path))


def read_profile(name_or_path: str | PathLike[str]) -> Mapping[str, Any]:
    """The content of the same file, as TOML has it and not checked any further."""
    name = str(name_or_path)
    _, content = contents(name, _path(name) if name in BUNDLED else Path(name_or_path), BUNDLED)
    return content


def _path(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.toml")


@cache
def _bundled(name: str) -> Profile:
    return _read(name, _path(name))


def _read(name: str, path: Path) -> Profile:
    text, content = contents(name, path, BUNDLED)
    _require_format(name, content)
    reader = Reader(name, text, content)
    reader.keys("", content, (*_HEAD, *_TABLES), ("validation",))
    reader.read_sources()
    pipes, groups = reader.pipes()
    classes = _classes(reader)
    reasons = [reason.name for reason in ExitReason]
    exits = reader.figures("exits", ("default", "user_device"), optional=reasons)
    second = reader.figures("clock", ("second",), SLOWEST, FASTEST)["second"]
    if second.cycles != int(second.cycles):
        raise reader.error("clock.second.cycles", second.cycles, "not a whole number of guest cycles")
    pipeline = Pipeline(**_entries(reader, "pipeline", Pipeline))
    profile = Profile(
        name=name,
        processor=reader.text("processor", content["processor"]),
        cpu=reader.level(content["cpu"]),
        second=second,
        pipeline=pipeline,
        pipes=pipes,
        groups=MappingProxyType(groups),
        instructions=MappingProxyType(
            {**_memory(reader, pipeline), **classes}
        ),  # machines share a bundled profile
        strings=Strings(**_entries(reader, "strings", Strings)),
        branches=Branches(**_entries(reader, "branches", Branches)),
        tlb=Tlb(**_entries(reader, "tlb", Tlb)),
        caches=Caches(**_entries(reader, "caches", Caches)),
        page_reference=reader.figures("paging", ("reference",))["reference"],
        exception=reader.figures("events", ("exception",))["exception"],
        exits=MappingProxyType({reason: exits.get(reason.name, exits["default"]) for reason in ExitReason}),
        user_device=exits["user_device"],
        paravirtual=Paravirtual(**_entries(reader, "paravirtual", Paravirtual)),
        validation=_validation(reader, content),
        sources=MappingProxyType(reader.sources),
        written=MappingProxyType(_by_tables(reader.written, content)),
    )
    _require_progress(reader, profile)
    _require_caches(reader, profile.caches)
    return profile


def _by_tables(written: Mapping[str, Provenance], content: Mapping[str, Any]) -> dict[str, Provenance]:
    """In the order of the file's tables: they are read in another."""
    tables = [*content]
    return {key: written[key] for key in sorted(written, key=lambda key: tables.index(key.partition(".")[0]))}


def _validation(reader: Reader, content: Mapping[str, Any]) -> Validation | None:
    if "validation" not in content:
        return None
    reader.keys("validation", reader.table("validation"), ("plain_code",))
    found: Validation = reader.entry(
        "validation.plain_code", reader.table("validation")["plain_code"], Validation, whole=True
    )
    return found


def _require_format(name: str, content: Mapping[str, Any]) -> None:
    version = content.get("format")
    if version == FORMAT and type(version) is int:
        return
    found = "has no format" if version is None else f"has format {version!r}"
    if "format" in content and "classes" not in content:
        raise ProfileError(f"profile {name}: {found}; this version reads format {FORMAT}")
    lacks = [key for key in (*_HEAD, *_TABLES) if key not in content]
    raise ProfileError(
        f"profile {name}: {found}; format {FORMAT} adds {', '.join(lacks)}, and has [instructions], with latency, slots and "
        f"uses, in place of [classes] (skylake.toml explains it)"
    )


def _classes(reader: Reader) -> dict[str, Timing]:
    """The table of instructions, where a class with sizes may stand for all of them that have no line of their own."""
    wanted = [name for name in cost_classes() if name not in MEMORY_CLASSES]
    stands_for = {f"{name}{size}": name for name in SIZED_CLASSES for size in SIZES}
    table = reader.table("instructions")
    required = [name for name in wanted if stands_for.get(name) not in table]
    read = reader.timings("instructions", required, optional=(*SIZED_CLASSES, *wanted))
    return {name: read[name] if name in read else read[stands_for[name]] for name in wanted}


def _memory(reader: Reader, pipeline: Pipeline) -> dict[str, Timing]:
    """What memory operands and LOCK add, as classes; the latency of a load is the pipeline's."""
    *accesses, lock = MEMORY_CLASSES
    latencies = {"load": int(pipeline.load.cycles), "load-vector": int(pipeline.load_vector.cycles)}
    reader.keys("memory", reader.table("memory"), MEMORY_CLASSES)
    read = reader.accesses("memory", accesses, latencies)
    locked = reader.figures("memory", (lock,), 0, optional=accesses, only=(lock,), whole=True)[lock]
    serial = Timing(
        latency=int(locked.cycles), slots=0, uses=(), serial=True,
        mark=locked.mark, source=locked.source, where=locked.where,
    )  # fmt: skip
    return {**read, lock: serial}


def _entries(reader: Reader, table: str, shape: type) -> dict[str, Any]:
    """The entries of a table that is a dataclass, each by the type of its field."""
    content = reader.table(table)
    kinds = get_type_hints(shape)
    reader.keys(table, content, [field.name for field in fields(shape)])
    whole = shape in (Pipeline, Tlb, Caches)
    return {name: reader.entry(f"{table}.{name}", content[name], kinds[name], whole=whole) for name in kinds}


def _require_caches(reader: Reader, caches: Caches) -> None:
    """What Vcpu.set_caches would refuse."""
    line = caches.line.value
    if not 8 <= line <= 4096 or line & (line - 1):
        raise reader.error("caches.line.value", line, "not a power of 2 from 8 to 4096")
    if not caches.overlapping_stores.value:
        raise reader.error("caches.overlapping_stores.value", 0, "a store alone is 1")
    cycles: float = caches.l1.cycles
    for name, level in (("l1", caches.l1), ("l2", caches.l2), ("l3", caches.l3)):
        if not level.ways or not level.size or (level.size << 10) % (level.ways * line):
            raise reader.error(f"caches.{name}.ways", level.ways, f"{level.size} KB are no whole number of such sets")
        if level.cycles < cycles:
            raise reader.error(f"caches.{name}.cycles", level.cycles, "faster than the level before it")
        cycles = level.cycles
    if caches.memory.cycles < cycles:
        raise reader.error("caches.memory.cycles", caches.memory.cycles, "faster than l3")


def _require_progress(reader: Reader, profile: Profile) -> None:
    """A guest that never ends must make time pass: what does not overlap by its latency, the rest by its slots."""
    overlaps = profile.pipeline.window.value > 0
    if not profile.pipeline.dispatch.value:
        raise reader.error("pipeline.dispatch.value", 0, "no instruction could begin")
    for name, timing in profile.instructions.items():
        if name not in MEMORY_CLASSES and not (timing.slots if overlaps else timing.latency):
            quantity = "slots" if overlaps else "latency"
            raise reader.error(f"instructions.{name}.{quantity}", 0, "the instruction would take no time")
