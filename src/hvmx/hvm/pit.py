"""The 8254 interval timer: three counters, computed from guest cycles when they are read.

As in Intel's 82C54 data sheet (order 231244). Offsets: 0-2 the counters, 3 the control word.
"""

from __future__ import annotations

from typing import ClassVar

from hvmx.hvm.device import Device, IrqLine, Oscillator, Saved
from hvmx.hvm.schedule import Schedule

HZ = 1_193_182
"""The input clock, in hertz: a third of the colour subcarrier's 4 x 3.579545 MHz crystal over four."""


class Counter(Saved):
    """One counter. Times are ticks of the input clock since power-on; counts are 1 to 65536 (BCD: 10000)."""

    FIELDS: ClassVar[tuple[str, ...]] = (
        "programmed", "mode", "bcd", "access", "gate", "loaded", "triggered", "reload", "waiting", "switch",
        "count", "anchor", "low_byte", "high_next", "latch", "status",
    )  # fmt: skip

    def __init__(self, gate: bool) -> None:
        self._gate_at_reset = gate
        self.reset()

    def reset(self) -> None:
        """The data sheet leaves this state open: here, not counting, and OUT low."""
        self.programmed = 0x30  # the control word's low six bits, as written
        self.mode = 0
        self.bcd = False
        self.access = 3  # 1: low byte, 2: high byte, 3: low then high
        self.gate = self._gate_at_reset
        self.loaded = False  # a count was written since the control word
        self.triggered = False  # modes 1 and 5: the gate rose since the control word
        self.reload = 65536
        self.waiting: int | None = None  # modes 2 and 3: the count that starts at tick `switch`
        self.switch = 0
        self.count = 0  # modes 0, 1, 4, 5: the count at tick `anchor`, negative once it has passed 0
        self.anchor = 0  # modes 2, 3: the tick at which a period starts
        self.low_byte: int | None = None  # the first of two bytes written
        self.high_next = False  # the next byte read is the high one
        self.latch: int | None = None
        self.status: int | None = None

    @property
    def _periodic(self) -> bool:
        return self.mode == 2 or self.mode == 3

    def _running(self) -> bool:
        if self.mode == 1 or self.mode == 5:
            return self.triggered
        if self.mode == 0 and self.low_byte is not None:
            return False  # the first of two bytes stops mode 0
        return self.loaded and self.gate

    def _remaining(self, tick: int) -> int:
        if tick <= self.anchor or not self._running():
            return self.count
        return self.count - (tick - self.anchor)

    def settle(self, tick: int) -> None:
        """Modes 2 and 3: start a new count that has waited for the end of a (half) period, if that has come."""
        if self.waiting is None or tick < self.switch:
            return
        falls = self.mode == 3 and not self.out(self.switch)
        self.reload, self.waiting = self.waiting, None
        # If a square wave changes its count at its falling edge, the low half of the new period comes next.
        self.anchor = self.switch - (self.reload + 1) // 2 if falls else self.switch

    def out(self, tick: int) -> bool:
        """The level of OUT."""
        mode = self.mode
        if mode == 0:
            return self.loaded and self.low_byte is None and self._remaining(tick) <= 0
        if mode == 1:
            return not self.triggered or self._remaining(tick) <= 0
        if mode == 2 or mode == 3:
            if not self._running() or tick < self.anchor:
                return True
            phase = (tick - self.anchor) % self.reload
            return phase != self.reload - 1 if mode == 2 else phase < (self.reload + 1) // 2
        return not self._running() or tick <= self.anchor or self._remaining(tick) != 0

    def next_rise(self, tick: int) -> int | None:
        """The first tick after `tick` at which OUT may rise without a write or the gate."""
        if not self._running():
            return None
        if self._periodic:
            if self.waiting is not None:
                return self.switch
            # A count of 1, which the data sheet forbids in mode 2, leaves OUT as it is.
            if self.reload == 1:
                return None
            periods = max((tick - self.anchor) // self.reload, 0)
            return self.anchor + (periods + 1) * self.reload
        rise = self.anchor + self.count + (self.mode >= 4)
        return rise if tick < rise else None

    def rose(self, since: int, tick: int) -> bool:
        """Did OUT rise, without a write or the gate, in (since, tick]?"""
        if self.waiting is not None and self.switch <= tick:
            switch = self.switch
            before = self.rose(since, switch - 1) or (not self.out(switch - 1) and self.out(switch))
            self.settle(switch)
            return before or self.rose(switch, tick)
        if not self._running():
            return False
        if self._periodic:
            periods = (tick - self.anchor) // self.reload
            return periods > 0 and self.reload > 1 and self.anchor + periods * self.reload > since
        rise = self.anchor + self.count + (self.mode >= 4)
        return since < rise <= tick

    def value(self, tick: int) -> int:
        """The counting element, as 16 bits of the counter's number system."""
        mode = self.mode
        if (mode == 2 or mode == 3) and self.loaded and self.gate and tick >= self.anchor:
            reload = self.reload
            phase = (tick - self.anchor) % reload
            if mode == 2:
                value = reload - phase
            else:
                # Steps of two; an odd count drops its lowest bit and stays one tick longer in the high half.
                half = (reload + 1) // 2
                value = (reload & ~1) - 2 * (phase if phase < half else phase - half)
        else:
            value = self._remaining(tick)
        return _to_bcd(value % 10000) if self.bcd else value & 0xFFFF

    def control(self, value: int, tick: int) -> None:
        """A control word with an access mode: sets the mode and waits for a count."""
        self.count = _from_bcd(self.value(tick)) if self.bcd else self.value(tick)
        self.anchor = tick
        self.programmed = value & 0x3F
        self.access = value >> 4 & 3
        mode = value >> 1 & 7
        self.mode = mode - 4 if mode > 5 else mode
        self.bcd = bool(value & 1)
        self.loaded = self.triggered = self.high_next = False
        self.waiting = self.low_byte = self.latch = self.status = None

    def latch_count(self, tick: int) -> None:
        if self.latch is None:
            self.latch = self.value(tick)
            self.high_next = False

    def latch_status(self, tick: int) -> None:
        if self.status is None:
            null = not self.loaded or self.waiting is not None or (self._running() and tick < self.anchor)
            if self.mode == 1 or self.mode == 5:
                null = not self.triggered
            self.status = self.out(tick) << 7 | null << 6 | self.programmed

    def read(self, tick: int) -> int:
        if self.status is not None:
            value, self.status = self.status, None
            return value
        value = self.value(tick) if self.latch is None else self.latch
        if self.access == 3:
            high = self.high_next
            self.high_next = not high
            if high:
                self.latch = None
        else:
            high = self.access == 2
            self.latch = None
        return value >> 8 if high else value & 0xFF

    def write(self, value: int, tick: int) -> None:
        if self.access == 3:
            if self.low_byte is None:
                if self.mode == 0:
                    self.count, self.anchor = self._remaining(tick), tick
                self.low_byte = value
                return
            value = value << 8 | self.low_byte
            self.low_byte = None
        elif self.access == 2:
            value <<= 8
        if self.bcd:
            value = _from_bcd(value)
        self._load(value or (10000 if self.bcd else 65536), tick)

    def _load(self, count: int, tick: int) -> None:
        if self.mode == 1 or self.mode == 5:
            self.reload, self.loaded = count, True  # counts from the next trigger on
            return
        if self._periodic and self._running() and tick >= self.anchor:
            phase = (tick - self.anchor) % self.reload
            half = (self.reload + 1) // 2
            length = half if self.mode == 3 and phase < half else self.reload
            self.waiting, self.switch = count, tick - phase + length
            return
        # The next clock pulse loads the count into the counter.
        self.reload = self.count = count
        self.anchor = tick + 1
        self.loaded = True

    def set_gate(self, level: bool, tick: int) -> None:
        if level == self.gate:
            return
        if self._periodic:
            if level:
                self.reload, self.waiting = self.waiting or self.reload, None
                self.gate, self.anchor = True, tick + 1
            else:
                self.count = _from_bcd(self.value(tick)) if self.bcd else self.value(tick)
                self.gate = False
        elif self.mode == 1 or self.mode == 5:
            self.gate = level
            if level and self.loaded:
                self.triggered, self.count, self.anchor = True, self.reload, tick + 1
        else:
            # Modes 0 and 4 do not count while the gate is low; a count that is being loaded still is.
            self.count, self.anchor = self._remaining(tick), max(tick, self.anchor)
            self.gate = level


class Pit(Device):
    """The timer chip: counter 0's OUT drives `irq`; `set_gate2` and `out2` are counter 2's gate and OUT."""

    FIELDS: ClassVar[tuple[str, ...]] = ("counter0", "counter1", "counter2", "_seen", "_level", "_timer")

    def __init__(self, schedule: Schedule, irq: IrqLine) -> None:
        self._oscillator = Oscillator(schedule, HZ)
        self._irq = irq
        self.counter0, self.counter1, self.counter2 = Counter(True), Counter(True), Counter(False)
        self._counters = (self.counter0, self.counter1, self.counter2)
        self._seen = 0  # the tick up to which the interrupt line follows OUT of counter 0
        self._level = False
        self._timer = schedule.timer(self._out_rises)

    def ticks(self) -> int:
        """Ticks of the input clock since power-on."""
        return self._oscillator.now()

    def set_gate2(self, level: bool) -> None:
        """Drive the gate of counter 2."""
        tick = self._oscillator.now()
        self.counter2.settle(tick)
        self.counter2.set_gate(level, tick)

    def out2(self) -> bool:
        """OUT of counter 2."""
        tick = self._oscillator.now()
        self.counter2.settle(tick)
        return self.counter2.out(tick)

    def read(self, offset: int, width: int) -> int:
        if offset == 3:
            return 0xFF  # the control word cannot be read: the bus floats
        counter = self._counters[offset]
        tick = self._oscillator.now()
        if counter.waiting is not None:
            self._follow(tick)
        return counter.read(tick)

    def write(self, offset: int, width: int, value: int) -> None:
        tick = self._oscillator.now()
        if offset == 3 and value < 0xC0 and not value & 0x30:
            counter = self._counters[value >> 6]
            if counter.waiting is not None:
                self._follow(tick)
            counter.latch_count(tick)
            return
        self._follow(tick)
        if offset < 3:
            self._counters[offset].write(value, tick)
        elif value >= 0xC0:
            self._read_back(value, tick)
        else:
            self._counters[value >> 6].control(value, tick)
        self._drive(self.counter0.out(tick))
        self._plan(tick)

    def _read_back(self, value: int, tick: int) -> None:
        for number, counter in enumerate(self._counters):
            if value & 2 << number:
                if not value & 0x20:
                    counter.latch_count(tick)
                if not value & 0x10:
                    counter.latch_status(tick)

    def _follow(self, tick: int) -> None:
        """Bring counts and the interrupt line up to `tick`."""
        rose = self.counter0.rose(self._seen, tick)
        self._seen = tick
        if rose and self._level:
            self._drive(False)  # it has fallen and risen again: the controller must see the edge
        self._drive(self.counter0.out(tick))
        self.counter1.settle(tick)
        self.counter2.settle(tick)

    def _drive(self, level: bool) -> None:
        if level != self._level:
            self._level = level
            self._irq(level)

    def _plan(self, tick: int) -> None:
        # Its fall is no event: the interrupt controllers take a request at the rise, and keep it. The line falls when it is
        # looked at next, at the latest before it rises again.
        rise = self.counter0.next_rise(tick)
        self._timer.due = None if rise is None else self._oscillator.cycle_of(rise)

    def _out_rises(self, now: int) -> None:
        tick = self._oscillator.at(now)
        self._follow(tick)
        self._plan(tick)

    def reset(self) -> None:
        for counter in self._counters:
            counter.reset()
        self._seen = self._oscillator.now()
        self._drive(False)
        self._timer.due = None


def _from_bcd(value: int) -> int:
    return sum((value >> 4 * digit & 15) * 10**digit for digit in range(4))


def _to_bcd(value: int) -> int:
    return sum(value // 10**digit % 10 << 4 * digit for digit in range(4))
