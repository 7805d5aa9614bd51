"""What a board's devices do later: timers on the one clock."""

from __future__ import annotations

from collections.abc import Callable

from hvmx.hvm.device import Clock, Saved


class Timer(Saved):
    """Calls `expired(cycle)` once when the guest cycle `due` has come; None is never. A device saves its timers."""

    FIELDS = ("due",)

    def __init__(self, schedule: Schedule, expired: Callable[[int], None]) -> None:
        self._schedule = schedule
        self._due: int | None = None
        self.expired = expired

    @property
    def due(self) -> int | None:
        """The absolute guest cycle; one that has passed is the next moment."""
        return self._due

    @due.setter
    def due(self, cycle: int | None) -> None:
        self._due = cycle
        self._schedule.changed = True


class Schedule:
    """The clock that devices are given, and the timers that they take from it.

    `next_event` costs a look unless a timer was set since: each access to a device asks for it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.hz = clock.hz
        self._timers: list[Timer] = []
        self._soonest: int | None = None
        self.changed = False

    @property
    def cycles(self) -> int:
        """Guest cycles since power-on; never goes back."""
        return self._clock.cycles

    def timer(self, expired: Callable[[int], None]) -> Timer:
        """A timer that is not set. Those that are due at the same cycle expire in the order in which they were taken."""
        timer = Timer(self, expired)
        self._timers.append(timer)
        return timer

    def next_event(self) -> int | None:
        """The guest cycle at which the first timer expires, or None."""
        if self.changed:
            self.changed = False
            self._soonest = min((timer.due for timer in self._timers if timer.due is not None), default=None)
        return self._soonest

    def advance(self, now: int) -> None:
        """Let all expire that are due up to guest cycle `now`, in the order of the cycles."""
        while (due := self.next_event()) is not None and due <= now:
            for timer in self._timers:
                if timer.due is not None and timer.due <= due:
                    timer.due = None
                    timer.expired(due)
