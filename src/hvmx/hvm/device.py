"""The interface between a device and the board: registers at offsets, time in guest cycles, state that can be saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

IrqLine = Callable[[bool], None]
"""An interrupt line: called with the new level when the device changes it."""

Sink = Callable[[bytes], None]
"""Takes the bytes that the guest sends to the host."""

State = dict[str, Any]
"""A saved state: field names to integers, truth values, None, bytes, or nested states."""


class Clock(Protocol):
    """The machine's one clock."""

    @property
    def cycles(self) -> int:
        """Guest cycles since power-on; never goes back."""

    @property
    def hz(self) -> int:
        """Guest cycles in a guest second; constant for the life of the machine."""


class Oscillator:
    """A crystal of `hz` hertz, derived from the guest clock by exact integer arithmetic."""

    def __init__(self, clock: Clock, hz: int) -> None:
        self._clock = clock
        self._hz = hz
        self._clock_hz = clock.hz

    def now(self) -> int:
        """Whole ticks since power-on."""
        return self._clock.cycles * self._hz // self._clock_hz

    def at(self, cycle: int) -> int:
        """Whole ticks since power-on at guest cycle `cycle`."""
        return cycle * self._hz // self._clock_hz

    def cycle_of(self, tick: int) -> int:
        """The first guest cycle at which `at` gives `tick` or more."""
        return -(-tick * self._clock_hz // self._hz)


class Saved:
    """State that consists of the attributes named in FIELDS; if their meaning changes, VERSION must, too."""

    VERSION: ClassVar[int] = 1
    FIELDS: ClassVar[tuple[str, ...]] = ()

    def save(self) -> State:
        """The state as a dictionary that shares nothing with the device."""
        state: State = {"version": self.VERSION}
        for name in self.FIELDS:
            value = getattr(self, name)
            if isinstance(value, Saved):
                value = value.save()
            elif isinstance(value, bytearray):
                value = bytes(value)
            state[name] = value
        return state

    def load(self, state: State) -> None:
        """Restore a state from `save`; ValueError, with nothing changed, if it is not one."""
        self.check(state)
        for name in self.FIELDS:
            value = getattr(self, name)
            if isinstance(value, Saved):
                value.load(state[name])
            elif isinstance(value, bytearray):
                value[:] = state[name]
            else:
                setattr(self, name, state[name])

    def check(self, state: State) -> None:
        """ValueError unless `load` can take `state`."""
        what = type(self).__name__
        version = state.get("version") if isinstance(state, dict) else None
        if version != self.VERSION:
            raise ValueError(f"{what}: saved state is not of version {self.VERSION}")
        if set(state) != {"version", *self.FIELDS}:
            odd = ", ".join(sorted(set(state) ^ {"version", *self.FIELDS}))
            raise ValueError(f"{what}: saved state has missing or unknown fields: {odd}")
        for name in self.FIELDS:
            value = getattr(self, name)
            if isinstance(value, Saved):
                value.check(state[name])
            elif not isinstance(state[name], bytes if isinstance(value, bytearray) else (int, type(None))):
                raise ValueError(f"{what}: saved field {name} holds {state[name]!r}")  # noqa: TRY004


class Device(Saved, ABC):
    """A device on a bus.

    Offsets and widths are in bytes. The bus never passes an offset outside what the board placed, nor a
    width above `WIDEST`: it splits wider accesses into bytes, as an ISA bus does for an 8-bit card. What it does later it
    has timers for (hvmx.hvm.schedule).
    """

    WIDEST: ClassVar[int] = 1

    @abstractmethod
    def read(self, offset: int, width: int) -> int:
        """The register at `offset`; side effects included."""

    @abstractmethod
    def write(self, offset: int, width: int, value: int) -> None:
        """Write `value`, which fits `width` bytes, to the register at `offset`."""

    @abstractmethod
    def reset(self) -> None:
        """Reset to the state after power-on; time goes on."""
