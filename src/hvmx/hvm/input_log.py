"""The one door by which serial input enters the machine, so that a run can be recorded and replayed.

File format: one line an entry, the guest cycle in decimal, a space, the bytes in hexadecimal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from hvmx.hvm.device import Clock


class Entry(NamedTuple):
    """Bytes that entered at a guest cycle."""

    cycle: int
    data: bytes


class InputLog:
    """Passes input to `receive` and records it; or passes recorded input at the cycles it was recorded at."""

    def __init__(self, clock: Clock, receive: Callable[[bytes], None]) -> None:
        self.entries: list[Entry] = []
        self._clock = clock
        self._receive = receive
        self._replay: deque[Entry] = deque()

    def enter(self, data: bytes) -> None:
        """Live input, now; RuntimeError while a recorded run is replayed."""
        if self._replay:
            raise RuntimeError("live input during a replay")
        if data:
            self._pass(Entry(self._clock.cycles, data))

    def replay(self, entries: Iterable[Entry]) -> None:
        """Enter `entries` when their cycles come; ValueError if they are out of order or in the past."""
        entries = list(entries)
        earliest = self._clock.cycles
        for entry in entries:
            if entry.cycle < earliest:
                raise ValueError(f"input log: an entry for cycle {entry.cycle} comes after cycle {earliest}")
            earliest = entry.cycle
        self._replay = deque(entries)

    def _pass(self, entry: Entry) -> None:
        self._receive(entry.data)
        self.entries.append(entry)

    def next_event(self) -> int | None:
        """The guest cycle of the next recorded input."""
        return self._replay[0].cycle if self._replay else None

    def advance(self, now: int) -> None:
        """Enter what was recorded for cycles up to `now`."""
        while self._replay and self._replay[0].cycle <= now:
            self._pass(self._replay.popleft())

    def write_file(self, path: Path) -> None:
        """Write all that has entered so far."""
        path.write_text("".join(f"{entry.cycle} {entry.data.hex()}\n" for entry in self.entries))


def read_file(path: Path) -> list[Entry]:
    """The entries of a log; ValueError names the file and the line that is none."""
    entries = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            cycle, data = line.split(" ")
            entries.append(Entry(int(cycle), bytes.fromhex(data)))
        except ValueError:
            raise ValueError(f"{path}:{number}: not an entry of an input log: {line[:60]!r}") from None
    return entries
