"""The only way for console input to enter the machine, so that a run can be recorded and replayed.

Live input is assigned a future guest cycle, and enters the machine at that cycle, just as recorded input does: so the
machine behaves the same with either.

File format: a line with the word seed, a space, and the seed of the machine's random numbers in decimal; then one line an
entry, the guest cycle in decimal, a space, the bytes in hexadecimal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol, TextIO

from hvmx.hvm.schedule import Schedule

_SEED = "seed"


class Entry(NamedTuple):
    """The bytes that entered at one guest cycle."""

    cycle: int
    data: bytes


class Log(NamedTuple):
    """Everything that a run got from outside: its seed and its input."""

    seed: int
    entries: list[Entry]


class Receiver(Protocol):
    """The device that gets the input."""

    @property
    def room(self) -> int:
        """How many bytes `receive` takes."""

    def receive(self, data: bytes) -> None: ...


class InputLog:
    """Passes input on at its guest cycles, and records it."""

    def __init__(self, schedule: Schedule, receiver: Receiver) -> None:
        self.entries: list[Entry] = []
        self._clock = schedule
        self._timer = schedule.timer(self._pass_on)
        self._receiver = receiver
        self._due: deque[Entry] = deque()
        self._recorded = False

    def connect(self, receiver: Receiver) -> None:
        """Send input to another receiver from now on."""
        self._receiver = receiver

    @property
    def room(self) -> int:
        """How many more bytes `enter` takes until the guest reads some."""
        return self._receiver.room - sum(len(entry.data) for entry in self._due)

    def enter(self, data: bytes) -> None:
        """Live input, for the next guest cycle; ValueError above `room`, RuntimeError while a run is replayed."""
        if self._recorded and self._due:
            raise RuntimeError("live input during a replay")
        if len(data) > self.room:
            raise ValueError(f"input of {len(data)} bytes, room for {self.room}")
        self._recorded = False
        if data:
            self._due.append(Entry(self._clock.cycles + 1, data))
            self._plan()

    def replay(self, entries: Iterable[Entry]) -> None:
        """Enter `entries` when their cycles come; ValueError if they are out of order or in the past."""
        entries = list(entries)
        earliest = self._clock.cycles
        for entry in entries:
            if entry.cycle < earliest:
                raise ValueError(f"input log: an entry for cycle {entry.cycle} comes after cycle {earliest}")
            earliest = entry.cycle
        self._due = deque(entries)
        self._recorded = True
        self._plan()

    def _plan(self) -> None:
        self._timer.due = self._due[0].cycle if self._due else None

    def _pass_on(self, now: int) -> None:
        while self._due and self._due[0].cycle <= now:
            entry = self._due.popleft()
            self._receiver.receive(entry.data)
            self.entries.append(entry)
        self._plan()

    def write(self, out: TextIO, seed: int) -> None:
        """Write all that has entered so far, with the machine's seed."""
        out.write(f"{_SEED} {seed}\n")
        out.writelines(f"{entry.cycle} {entry.data.hex()}\n" for entry in self.entries)


def read_file(path: Path) -> Log:
    """A log; ValueError names the file and the line that is not of one."""
    lines = path.read_text("ascii", "replace").splitlines()
    word, _, seed = lines[0].partition(" ") if lines else ("", "", "")
    if word != _SEED or not seed.isdecimal():
        raise ValueError(f"{path}:1: not the seed that an input log begins with: {word[:60]!r}")
    entries = []
    for number, line in enumerate(lines[1:], 2):
        try:
            cycle, data = line.split(" ")
            entries.append(Entry(int(cycle), bytes.fromhex(data)))
        except ValueError:
            raise ValueError(f"{path}:{number}: not an entry of an input log: {line[:60]!r}") from None
    return Log(int(seed), entries)
