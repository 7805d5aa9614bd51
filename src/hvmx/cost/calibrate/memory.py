"""Measures what lies beyond the core: strings, locked operations, translation look-aside buffers and caches."""

from __future__ import annotations

import numpy as np

from hvmx.cost.native import DATA_ADDRESS, NativeError

from .bench import Bench, Step, said, whole
from .classes import latency_of
from .loops import SCRATCH, Loop
from .statistics import FAR_TOLERANCE, Series, Unsettled

LINE, PAGE = 64, 4096
_APART = 5
"""Pages from one that is touched to the next: more than a processor can have in one entry (Zen: four that follow each
other), and odd, so that all sets are used."""

_LOADS = 16
"""In a round of a chase."""

_STEP = 1.2
"""A cache is as large as it says if twice its size takes so many times more a load than a part of it."""

_SHARED = 3
"""The level that several cores have together."""

_MEMORY = 4
"""Times the largest cache: enough for nearly every load to miss."""

_NEAR = 1 / 8
"""A buffer is as large as the base says if its measured reach is so near: where it ends, loads miss more and more."""

_LARGEST = 128 << 20
"""Bytes of the largest chase."""


def near_steps() -> list[Step]:
    """What the first-level cache has all of."""
    return [
        Step("memory.locked", _locked), Step("strings.movs_start", _moved), Step("strings.stos_start", _stored),
        Step("strings.lods_element", _elements),
    ]  # fmt: skip


def far_steps() -> list[Step]:
    """What takes its time: translation look-aside buffers, caches and memory."""
    return [
        Step("tlb.data_4k", _tlb), Step("tlb.second_4k", _second_level), Step("caches.l1", _caches),
        Step("caches.memory", _beyond),
    ]  # fmt: skip


def _locked(bench: Bench) -> None:
    """What a locked addition takes besides its load and its addition."""
    series = bench.time("lock add [rsi], rax")
    load, add = bench.time("mov rax, [rax]", "mov [rsi], rsi; mov rax, rsi").value, latency_of(bench, "alu")
    bench.find(
        "memory.locked", {"cycles": max(0, whole(series.value - load - add))},
        f"LOCK ADD to one place: {said(series)}, less {load:.2f} for the load and {add:.2f} for the addition",
    )  # fmt: skip


_SHORT, _MIDDLE, _LONG = (64, 256, 1024), 2048, 8192
"""Bytes of REP MOVS and STOS. Source and destination of the longest are in the first-level cache."""


def _string(bench: Bench, text: str, count: int) -> Series:
    return bench.time(
        f"mov rsi, r12; lea rdi, [r12+{_LONG}]; mov ecx, {count}; {text}", "mov eax, 1", copies=1
    )


def _moved(bench: Bench) -> None:
    _fast_string(bench, "movs")


def _stored(bench: Bench) -> None:
    _fast_string(bench, "stos")


def _fast_string(bench: Bench, name: str) -> None:
    """The rate is that of long ones. By it short ones start in different times, of which the figure is the mean."""
    middle, long = (_string(bench, f"rep {name}b", count) for count in (_MIDDLE, _LONG))
    if long.value <= middle.value:
        raise Unsettled(f"{_LONG} bytes take {said(long)}, and {_MIDDLE} bytes {said(middle)}")
    rate = max(1, whole((_LONG - _MIDDLE) / (long.value - middle.value)))
    text = f"{_MIDDLE} bytes {said(middle)}, {_LONG} bytes {said(long)}"
    bench.find(f"strings.{name}_bytes", {"value": rate}, text)
    short = [_string(bench, f"rep {name}b", count) for count in _SHORT]
    start = sum(series.value - count / rate for count, series in zip(_SHORT, short)) / len(_SHORT)
    shown = ", ".join(f"{count} bytes {said(series)}" for count, series in zip(_SHORT, short))
    bench.find(
        f"strings.{name}_start",
        {"cycles": max(1, whole(start))},
        f"{shown}, less {rate} bytes a cycle: the mean",
    )


_FEW, _MANY = 16, 256
_LEAST = 0.02
"""Guest cycles that a profile gives an element at least: what takes no time would never end."""


def _element(bench: Bench, key: str, text: str) -> None:
    few, many = (_string(bench, text, count) for count in (_FEW, _MANY))
    cycles = (many.value - few.value) / (_MANY - _FEW)
    bench.find(
        f"strings.{key}",
        {"cycles": round(max(cycles, _LEAST), 2)},
        f"{_FEW} and {_MANY} elements: {said(few)} and {said(many)}",
    )


def _elements(bench: Bench) -> None:
    """The bytes that are compared are all 0 and equal, and none is AL."""
    for name, text in (("lods", "rep lodsb"), ("cmps", "repe cmpsb"), ("scas", "repne scasb")):
        _element(bench, f"{name}_element", text)


def chase(count: int, stride: int, line: int = LINE, page: int = 0) -> tuple[bytes, int]:
    """Memory for ``DATA_ADDRESS`` where a pointer in each of ``count`` places leads to the next, all round, at random.

    The places are ``stride`` bytes apart; with ``page`` each is another line of its page, so that they are in different
    sets of a cache. Also the offset of the first. Two words behind the pointer at offset 0 say where to go on.
    """
    order = np.random.default_rng(count).permutation(count).astype(np.int64)
    offsets = order * stride + (order * line % page if page else 0)
    memory = np.zeros((int(offsets.max()) + line) // 8, np.uint64)
    memory[offsets // 8] = np.roll(offsets, -1) + DATA_ADDRESS
    memory[1] = int(offsets[0]) + DATA_ADDRESS
    return memory.tobytes(), int(offsets[0])


def _round(bench: Bench, count: int, stride: int, page: int = 0, huge: bool = False) -> Series:
    """Core cycles of a load, going round all places again and again."""
    memory, first = chase(count, stride, page=page)
    return bench.watch.time(
        Loop(
            "mov rax, [rax]", f"mov rax, {DATA_ADDRESS + first}", copies=_LOADS, data=memory,
            data_bytes=max(len(memory), SCRATCH), huge_pages=huge, least_rounds=-(-count // _LOADS),
        ),
        FAR_TOLERANCE,
    )  # fmt: skip


def _tlb(bench: Bench) -> None:
    """Pages that fit the first level cost a load, those that fit the second the same more, and the others a walk.

    How far a level reaches is where the loads take half of what the next one adds.
    """
    near = _round(bench, 8, _APART * PAGE, PAGE).value
    second = _round(bench, _pages_of_second(bench), _APART * PAGE, PAGE)
    if second.value - near < 1:
        bench.miss(
            "tlb.data_4k", f"no step: {near:.2f} core cycles a load over 8 pages, {said(second)} over many"
        )
        return
    bench.find(
        "tlb.second_hit", {"cycles": max(1, whole(second.value - near))},
        f"loads from {_pages_of_second(bench)} pages {said(second)}, from 8 pages {near:.2f}",
    )  # fmt: skip
    entries = _reach(bench, (near + second.value) / 2, 8, _pages_of_second(bench))
    _buffer(
        bench,
        "tlb.data_4k",
        entries,
        f"where a load from so many pages takes {(near + second.value) / 2:.1f} core cycles",
    )


def _pages_of_second(bench: Bench) -> int:
    """So many pages that their lines are in the first-level cache, and they fit no first-level TLB."""
    level = bench.host.caches.get(1)
    return (level.size << 10) // LINE * 3 // 4 if level else 384


_FIRST_TRIED, _MOST_TRIED = 1024, 16384
"""Pages among which the second level's reach is looked for. Their lines are in the second-level cache."""

_WALKS = 1.5
"""Between so many pages and twice as many the second level ends if a load takes so many times longer."""


def _second_level(bench: Bench) -> None:
    """Look for the step by doubling, then for the middle of it."""
    pages = _FIRST_TRIED
    before = _round(bench, pages, _APART * PAGE, PAGE)
    while (after := _round(bench, 2 * pages, _APART * PAGE, PAGE)).value < _WALKS * before.value:
        pages, before = 2 * pages, after
        if pages == _MOST_TRIED:
            bench.miss("tlb.second_4k", f"no step up to {pages} pages: a load still takes {said(before)}")
            return
    text = f"loads from {pages} pages {said(before)}, from {2 * pages} {said(after)}"
    middle = (before.value + after.value) / 2
    _buffer(
        bench, "tlb.second_4k", _reach(bench, middle, pages, 2 * pages), f"{text}; so many take {middle:.1f}"
    )
    if bench.host.under_hypervisor:
        bench.miss(
            "paging.reference",
            "this computer is a virtual machine, and a walk is through the hypervisor's tables as well",
        )
    else:
        bench.find(
            "paging.reference", {"cycles": round(after.value - before.value, 1)},
            f"{text}: a walk of one reference, the rest of which is in the paging-structure caches",
        )  # fmt: skip


def _reach(bench: Bench, limit: float, fits: int, misses: int) -> int:
    """The most pages for which a load takes less than ``limit``, within an eighth of what stands between multiples."""
    while misses - fits > max(1, fits // 32):
        middle = (fits + misses) // 2
        if _round(bench, middle, _APART * PAGE, PAGE).value < limit:
            fits = middle
        else:
            misses = middle
    return fits


def _buffer(bench: Bench, key: str, measured: int, text: str) -> None:
    """The base's figure, if what was measured is near; otherwise what was measured, in whole sets of its ways."""
    entry = bench.entry(key)
    entries, ways = entry.get("entries", 0), entry.get("ways", 0)
    if entries and abs(measured - entries) <= _NEAR * entries:
        bench.find(
            key, {"entries": entries, "ways": ways}, f"about {measured} measured, so the base's stand; {text}"
        )
        return
    step = ways if 0 < ways < entries else 8
    entries = max(step, whole(measured / step) * step)
    ways = step if step == ways else entries
    bench.find(
        key, {"entries": entries, "ways": ways}, f"about {measured} measured, in the base's ways; {text}"
    )


def _caches(bench: Bench) -> None:
    """The latency is that of loads from a quarter of a level, or from twice the level before, whichever is more.

    Sizes and ways are what CPUID says, if there is a step; those of a cache that other virtual machines use as well are
    the base's.
    """
    smaller = 0
    for level in (1, 2, 3):
        told, key = bench.host.caches.get(level), f"caches.l{level}"
        if told is None:
            bench.miss(key, "the processor does not say that it has one")
            continue
        shared = level == _SHARED and bench.host.under_hypervisor
        kilobytes = 2 * smaller if shared else max(told.size // 4, 2 * smaller)
        smaller = told.size
        try:
            inside = _lines(bench, kilobytes)
            text = f"loads from {kilobytes} KB {said(inside)}"
            if shared:
                bench.find(
                    key,
                    {"cycles": whole(inside.value)},
                    f"{text}; size and ways are the base's: other virtual machines use it",
                )
                continue
            outside = _lines(bench, 2 * told.size)
        except (Unsettled, NativeError) as problem:
            bench.miss(key, str(problem))
            continue
        text += f", from {2 * told.size} KB {said(outside)}"
        if outside.value < _STEP * inside.value:
            bench.miss(key, f"no step at {told.size} KB, the size by CPUID: {text}")
        else:
            bench.find(
                key,
                {"size": told.size, "ways": told.ways, "cycles": whole(inside.value)},
                f"size and ways by CPUID; {text}",
            )


def _lines(bench: Bench, kilobytes: int) -> Series:
    return _round(bench, (kilobytes << 10) // LINE, LINE, huge=True)


def _beyond(bench: Bench) -> None:
    """From memory: each run goes on where the one before it ended, as what it had is in a cache."""
    largest = max((level.size for level in bench.host.caches.values()), default=32 << 10) << 10
    memory, _ = chase(min(_MEMORY * largest, _LARGEST) // LINE, LINE)
    loop = Loop(
        "mov rax, [rax]",
        "mov rax, [rsi+8]",
        "mov [rsi+8], rax",
        copies=_LOADS,
        data=memory,
        data_bytes=len(memory),
        huge_pages=True,
    )
    series = bench.watch.time(loop, FAR_TOLERANCE)
    bench.find(
        "caches.memory", {"cycles": whole(series.value)}, f"loads from {len(memory) >> 20} MB: {said(series)}"
    )
