"""What happened to a guest when, as a trace for Perfetto (https://ui.perfetto.dev).

Perfetto's own format: a sequence of packets in protocol buffers, of which this needs five kinds of message. Field
numbers are those of Perfetto's ``trace_packet.proto``, ``track_event.proto``, ``track_descriptor.proto``,
``process_descriptor.proto`` and ``debug_annotation.proto``.

The axis is guest cycles. Perfetto knows nanoseconds only, so that one nanosecond of the trace is one guest cycle; each
process, which is a guest, says so in its name. No host time is in the trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import numpy as np

from hvmx.cost import FRACTION
from hvmx.pv.numbers import KVM_HYPERCALLS, XEN_HYPERCALLS
from hvmx.vocabulary import DETAILS, EXCEPTIONS, EXCEPTIONS_WITH_ERROR, ExitReason, Privilege, SpanKind

Arguments = tuple[tuple[str, int], ...]
"""Of an event, by name: shown as hexadecimal numbers."""
Words = Callable[[int, int], tuple[str, Arguments]]
"""What a span is called and told of, by its number and value."""
_NOTHING = (1 << 64) - 1
"""What an exit is counted by that is counted by its reason alone."""
_PRIVILEGES = {
    Privilege.PV_KERNEL: "kernel",
    Privilege.PV_USER: "user",
    **{level: f"CPL {level.value}" for level in Privilege if level <= Privilege.CPL3},
}
_NMI, _PAGE_FAULT = 2, 14


@dataclass(frozen=True)
class Timeline:
    """One guest's: what ``Vcpu.timeline`` returns, and what the guest and its way are called."""

    name: str
    spans: Any
    dropped: int


# --- what it says -------------------------------------------------------------------------------------------------------
def _exit(number: int, value: int) -> tuple[str, Arguments]:
    reason = ExitReason(number)
    if value == _NOTHING or reason not in DETAILS:
        return reason.name, ()
    return reason.name, ((DETAILS[reason], value),)


def _hypercall(names: Mapping[int, str], number: int) -> tuple[str, Arguments]:
    return names.get(number, f"hypercall {number}"), (("number", number),)


def _exception(vector: int, value: int) -> tuple[str, Arguments]:
    name = EXCEPTIONS.get(vector, f"exception {vector:#x}")
    if vector == _PAGE_FAULT:
        return name, (("address", value),)
    return name, (("error code", value),) if vector in EXCEPTIONS_WITH_ERROR else ()


_WORDS: dict[SpanKind, Words] = {
    SpanKind.EXIT: _exit,
    SpanKind.HYPERCALL: lambda number, _: _hypercall(XEN_HYPERCALLS, number),
    SpanKind.PRIVILEGE: lambda number, _: (_PRIVILEGES[Privilege(number)], ()),
    SpanKind.ADDRESS_SPACE: lambda _, cr3: (f"CR3 {cr3:#x}", ()),
    SpanKind.WAITING: lambda *_: ("waiting", ()),
    SpanKind.EXCEPTION: _exception,
    SpanKind.INTERRUPT: lambda vector, _: ("NMI" if vector == _NMI else f"interrupt {vector:#x}", (("vector", vector),)),
    SpanKind.SOFTWARE_INTERRUPT: lambda vector, _: (f"INT {vector:#x}", (("vector", vector),)),
    SpanKind.UPCALL: lambda *_: ("event upcall", ()),
}

_INSTANTS = (SpanKind.EXCEPTION, SpanKind.INTERRUPT, SpanKind.SOFTWARE_INTERRUPT, SpanKind.UPCALL)

_TRACKS: dict[str, tuple[SpanKind, ...]] = {
    "privilege": (SpanKind.PRIVILEGE,),
    "address space": (SpanKind.ADDRESS_SPACE,),
    "exits": (SpanKind.EXIT,),
    "hypercalls": (SpanKind.HYPERCALL,),
    "interrupts and exceptions": _INSTANTS,
    "waiting": (SpanKind.WAITING,),
}


def _tracks(spans: Any) -> Iterator[tuple[str, Any, dict[SpanKind, Words]]]:
    """Each track that is not empty: its name, its spans, and what they are called."""
    kinds = spans["kind"]
    for name, of_track in _TRACKS.items():
        chosen, words = spans[_among(kinds, of_track)], _WORDS
        if name == "hypercalls":
            # Those of an HVM guest are its exits of VMCALL.
            calls = spans[(kinds == SpanKind.EXIT) & (spans["number"] == ExitReason.VMCALL)]
            if len(calls):
                chosen = calls
                words = {SpanKind.EXIT: lambda _, number: _hypercall(KVM_HYPERCALLS, number)}
        if len(chosen):
            yield name, chosen, words


def _among(kinds: Any, wanted: Iterable[SpanKind]) -> Any:
    return sum(kinds == kind for kind in wanted) > 0


# --- protocol buffers ---------------------------------------------------------------------------------------------------
def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


_SLICE_BEGIN, _SLICE_END, _INSTANT = 1, 2, 3
"""TrackEvent.Type."""
_SEQUENCE = _number(10, 1)
"""TracePacket.trusted_packet_sequence_id: all packets are of one writer."""


def _packet(content: bytes) -> bytes:
    return _bytes(1, content + _SEQUENCE)


def _event(kind: int, track: int, name: str = "", arguments: Arguments = ()) -> bytes:
    """TracePacket.track_event."""
    content = _number(9, kind) + _number(11, track)
    if name:
        content += _text(23, name)
    for argument, value in arguments:
        content += _bytes(4, _text(10, argument) + _number(7, value))
    return _bytes(11, content)


def _process(uuid: int, number: int, name: str) -> bytes:
    process = _number(1, number) + _text(6, f"{name} [1 ns = 1 guest cycle]")
    return _packet(_bytes(60, _number(1, uuid) + _bytes(3, process)))


def _track(uuid: int, process: int, name: str) -> bytes:
    return _packet(_bytes(60, _number(1, uuid) + _number(5, process) + _text(2, name)))


# --- a trace ------------------------------------------------------------------------------------------------------------
_STAMP_BYTES = 9


def _stamps(times: Any) -> bytes:
    """Times as varints, all made at once, as there may be a million; and all of one length: they may have leading zeros."""
    groups = times[:, np.newaxis] >> np.arange(0, 7 * _STAMP_BYTES, 7, dtype=np.uint64) & np.uint64(0x7F)
    groups[:, :-1] |= np.uint64(0x80)
    encoded: bytes = groups.astype(np.uint8).tobytes()
    return encoded


def _around_stamp(event: bytes) -> tuple[bytes, bytes]:
    """What stands before and behind the timestamp in the packet of an event."""
    rest = event + _SEQUENCE
    tag = _varint(8 << 3)  # TracePacket.timestamp
    return _varint(1 << 3 | 2) + _varint(len(tag) + _STAMP_BYTES + len(rest)) + tag, rest


def _events(track: int, spans: Any, words: Mapping[SpanKind, Words]) -> Iterator[bytes]:
    """The packets of one track. A span begins within those that have not ended, and ends no later than they do."""

    @lru_cache(maxsize=1 << 14)
    def around(kind: int, number: int, value: int) -> tuple[bytes, bytes]:
        said = words[SpanKind(kind)](number, value)
        return _around_stamp(_event(_INSTANT if kind in _INSTANTS else _SLICE_BEGIN, track, *said))

    before_end, after_end = _around_stamp(_event(_SLICE_END, track))
    times = [spans[name] // FRACTION for name in ("begin", "end")]
    begin_stamps, end_stamps = map(_stamps, times)
    columns = (*times, spans["kind"], spans["number"], spans["value"])
    going_on: list[tuple[int, bytes]] = []
    at = 0
    for begin, end, kind, number, value in zip(*(column.tolist() for column in columns), strict=True):
        while going_on and going_on[-1][0] <= begin:
            yield before_end + going_on.pop()[1] + after_end
        before, after = around(kind, number, value)
        yield before + begin_stamps[at : at + _STAMP_BYTES] + after
        if kind not in _INSTANTS:
            last = end, end_stamps[at : at + _STAMP_BYTES]
            going_on.append(min(last, going_on[-1]) if going_on else last)
        at += _STAMP_BYTES
    while going_on:
        yield before_end + going_on.pop()[1] + after_end


def write_trace(out: BinaryIO, timelines: Iterable[Timeline]) -> None:
    """One process for each timeline, with a track for each kind of thing that happened there."""
    uuid = 0
    for number, timeline in enumerate(timelines, 1):
        uuid += 1
        process = uuid
        out.write(_process(process, number, timeline.name))
        for name, spans, words in _tracks(timeline.spans):
            uuid += 1
            out.write(_track(uuid, process, name))
            out.writelines(_events(uuid, spans, words))
        if timeline.dropped:
            uuid += 1
            out.write(_track(uuid, process, "not recorded"))
            last = int(timeline.spans["end"].max()) // FRACTION
            name = f"{timeline.dropped:,} more, for which there was no room"
            out.write(_packet(_number(8, last) + _event(_INSTANT, uuid, name)))
