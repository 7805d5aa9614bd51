"""The host's side of a machine's run: how long it may last, and when it looks for input."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hvmx.hvm.console import LOOK_UP, KeySource
from hvmx.hvm.input_log import InputLog
from hvmx.nocopies import NoCopies
from hvmx.platform import Host
from hvmx.stops import Stop, StopKind

if TYPE_CHECKING:
    from hvmx.core.vcpu import Vcpu

INTERRUPT_FLAG = 1 << 9
"""IF of RFLAGS."""

CYCLES_BETWEEN_LOOKS = 1 << 22
"""Guest cycles after which input is looked for again, so that a file's or a pipe's comes at the same ones in each run."""


class Pacing(NoCopies, Host):
    """Limits of host time, and no input.

    ``request_stop`` ends the run with what it is given.
    """

    def __init__(self, vcpu: Vcpu, request_stop: Callable[[Stop], None]) -> None:
        self._vcpu = vcpu
        self._request_stop = request_stop
        self._limit: float | None = None
        self._last_cycle: int | None = None
        self.stop_asked = False
        """Somebody asked for the end of this run, and nothing has told of it yet."""
        self.paravirtual = False
        """Whether input wakes the processor also where IF is clear: a domain is sent an event."""

    def begin(self, cycles: int | None, timeout: float | None) -> None:
        """A run begins, of so many guest cycles and seconds of host time at most."""
        self._limit = None if timeout is None else time.monotonic() + timeout
        self._last_cycle = None if cycles is None else self._vcpu.cycles + cycles
        if self._limit is not None:
            self._vcpu.poll_by(int(self._limit * 1e9))

    def on_poll(self) -> None:
        self._over()

    def _over(self) -> bool:
        """Whether host time is up, or the user has had enough: the run then stops."""
        if self._limit is not None and time.monotonic() >= self._limit:
            self._request_stop(Stop(StopKind.TIMEOUT))
        elif self.stop_asked:
            self._vcpu.stop()  # it was asked before the processor ran
        else:
            return False
        return True

    def _seconds_left(self) -> float | None:
        return None if self._limit is None else max(0.0, self._limit - time.monotonic())


class PacingWithKeys(Pacing):
    """Limits of host time, and input from ``keys``, which goes to ``input``; ``entered`` is called after that.

    ``hz`` is how many guest cycles there are in a guest second.
    """

    def __init__(
        self,
        vcpu: Vcpu,
        request_stop: Callable[[Stop], None],
        keys: KeySource,
        input: InputLog,
        entered: Callable[[], None],
        hz: int,
    ) -> None:
        super().__init__(vcpu, request_stop)
        self._keys = keys
        self._input = input
        self._entered = entered
        self._hz = hz
        self._waited = 0
        vcpu.input_at = CYCLES_BETWEEN_LOOKS

    def on_idle(self) -> bool:
        """The processor is halted and nothing is due: True when input has come that may wake it, or time is up."""
        keys, room = self._keys, self._input.room
        if not self.paravirtual and not self._vcpu.rflags & INTERRUPT_FLAG:
            return False
        if self._last_cycle is not None and not keys.ended:
            # Nothing is due before the limit but what a person may type: guest time passes to the limit.
            data = keys.poll(room)
            if not data and not keys.ended:
                self._vcpu.charge(max(0, self._last_cycle - self._vcpu.cycles))
                return True
        else:
            # Not for long: the run loop has to look at signals.
            left = self._seconds_left()
            data = keys.wait(room, LOOK_UP if left is None else min(left, LOOK_UP))
        if data:
            self._enter(data)
            return True
        return self._over() or not keys.ended and self._input.room > 0

    def on_input(self) -> None:
        """Look for input; called at guest cycles that are the same however the machine is run."""
        vcpu = self._vcpu
        vcpu.input_at = (vcpu.cycles // CYCLES_BETWEEN_LOOKS + 1) * CYCLES_BETWEEN_LOOKS
        if self._keys.interactive:
            data = self._keys.wait(self._input.room, self._idle_seconds())
        else:
            data = self._keys.poll(self._input.room)
        if data:
            self._enter(data)

    def _over(self) -> bool:
        if super()._over():
            return True
        if self._keys.quit:
            self._request_stop(Stop(StopKind.REQUESTED, reason="Ctrl-A x"))
        return self._keys.quit

    def _enter(self, data: bytes) -> None:
        """Input for the serial port or, of a domain, for its console."""
        self._input.enter(data)
        self._entered()

    def _idle_seconds(self) -> float:
        """How long the guest's processor has waited since this was asked last, in guest seconds.

        Before a person a guest that waits is let wait as long on the wall: it then costs its host nothing, and a
        second that it sleeps is one. The guest cannot tell.
        """
        halted = self._vcpu.halted_cycles
        waited, self._waited = halted - self._waited, halted
        seconds, left = waited / self._hz, self._seconds_left()
        return seconds if left is None else min(seconds, left)
