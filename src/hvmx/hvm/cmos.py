"""The MC146818 real-time clock and the CMOS memory of a PC.

As in Motorola's MC146818 data sheet; the meaning of the memory bytes is that of IBM's PC AT technical reference.
Offsets: 0 index (bit 7 masks NMI), 1 data. Guest time is `epoch` plus the guest cycles since power-on.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import date
from typing import ClassVar

from hvmx.hvm.device import Device, IrqLine, Oscillator, State
from hvmx.hvm.schedule import Schedule

HZ = 32_768
"""The crystal, in hertz."""

_BEFORE_UPDATE = 73
"""Ticks for which UIP is set before the end of a second: 244 us of warning, then an update of 1984 us."""

_SECONDS, _SECONDS_ALARM, _MINUTES, _MINUTES_ALARM, _HOURS, _HOURS_ALARM = range(6)
_WEEKDAY, _DAY, _MONTH, _YEAR, _A, _B, _C, _D = range(6, 14)
_CENTURY = 0x32
_TIME = {_SECONDS, _MINUTES, _HOURS, _WEEKDAY, _DAY, _MONTH, _YEAR, _CENTURY}

_A_UIP, _A_RATE = 0x80, 0x0F
_B_SET, _B_PERIODIC, _B_ALARM, _B_UPDATE, _B_SQUARE, _B_BINARY, _B_24 = 0x80, 0x40, 0x20, 0x10, 8, 4, 2
_C_IRQ, _C_SOURCES = 0x80, 0x70  # a source has the same bit as its enable in register B
_D_VALID = 0x80

_DAY_SECONDS = 86400
_UNIX = date(1970, 1, 1).toordinal()
_ALL_DAYS = date.max.toordinal()


class Cmos(Device):
    """Clock and memory; `epoch` is in Unix seconds, UTC."""

    FIELDS: ClassVar[tuple[str, ...]] = (
        "index", "nmi_masked", "_ram", "_stopped", "_held", "_origin", "_base", "_weekday_shift", "_seen",
        "_level", "_timer",
    )  # fmt: skip

    def __init__(self, schedule: Schedule, irq: IrqLine, memory_bytes: int, epoch: int) -> None:
        self._oscillator = Oscillator(schedule, HZ)
        self._irq = irq
        self._ram = bytearray(128)
        self._ram[_A], self._ram[_B] = 0x26, _B_24
        _describe_memory(self._ram, memory_bytes)
        self.index = 0
        self.nmi_masked = False
        self._stopped = False  # the divider chain is held in reset
        self._held: int | None = None  # Unix seconds that the clock shows while updates are off
        self._origin = self._oscillator.now()  # the tick at which the divider chain started its first second
        self._base = epoch  # Unix seconds at `_origin`
        self._weekday_shift = 0
        self._seen = self._origin  # the tick up to which register C is up to date
        self._level = False
        self._timer = schedule.timer(self._flag_rises)

    # The calendar

    def _now(self, tick: int) -> int:
        """Unix seconds, kept within the years 1 to 9999."""
        seconds = self._base + (tick - self._origin) // HZ if self._held is None else self._held
        days = (seconds // _DAY_SECONDS + _UNIX - 1) % _ALL_DAYS + 1 - _UNIX
        return days * _DAY_SECONDS + seconds % _DAY_SECONDS

    def _hold(self, tick: int) -> None:
        """Stop the updates; the divider chain keeps running unless it is held in reset."""
        if self._held is None:
            self._held = self._now(tick)

    def _release(self, tick: int) -> None:
        if self._held is not None and not self._stopped and not self._ram[_B] & _B_SET:
            self._base = self._held - (tick - self._origin) // HZ
            self._held = None

    def _in_format(self, value: int) -> int:
        return value if self._ram[_B] & _B_BINARY else value // 10 << 4 | value % 10

    def _from_format(self, value: int) -> int:
        return value if self._ram[_B] & _B_BINARY else (value >> 4) * 10 + (value & 15)

    def _read_time(self, register: int, tick: int) -> int:
        days, second = divmod(self._now(tick), _DAY_SECONDS)
        day = date.fromordinal(days + _UNIX)
        if register == _SECONDS:
            value = second % 60
        elif register == _MINUTES:
            value = second // 60 % 60
        elif register == _HOURS:
            hour = second // 3600
            if self._ram[_B] & _B_24:
                value = hour
            else:
                return self._in_format((hour + 11) % 12 + 1) | (0x80 if hour >= 12 else 0)
        elif register == _WEEKDAY:
            value = (day.isoweekday() + self._weekday_shift) % 7 + 1  # 1 is Sunday
        elif register == _DAY:
            value = day.day
        elif register == _MONTH:
            value = day.month
        else:
            value = day.year % 100 if register == _YEAR else day.year // 100
        return self._in_format(value)

    def _hour(self, value: int) -> int:
        if self._ram[_B] & _B_24:
            return self._from_format(value)
        return self._from_format(value & 0x7F) % 12 + (12 if value & 0x80 else 0)

    def _write_time(self, register: int, raw: int, tick: int) -> None:
        """Set one field; an invalid value becomes the nearest valid one."""
        days, second = divmod(self._now(tick), _DAY_SECONDS)
        day = date.fromordinal(days + _UNIX)
        value = self._from_format(raw)
        if register == _WEEKDAY:
            self._weekday_shift = (value - 1 - day.isoweekday()) % 7
            return
        hours, minutes, seconds = second // 3600, second // 60 % 60, second % 60
        if register == _SECONDS:
            seconds = min(value, 59)
        elif register == _MINUTES:
            minutes = min(value, 59)
        elif register == _HOURS:
            hours = min(self._hour(raw), 23)
        else:
            shown = (day.isoweekday() + self._weekday_shift) % 7
            day = _with_field(day, register, value)
            # The day of the week is a separate counter.
            self._weekday_shift = (shown - day.isoweekday()) % 7
        seconds += (day.toordinal() - _UNIX) * _DAY_SECONDS + hours * 3600 + minutes * 60
        if self._held is None:
            self._base = seconds - (tick - self._origin) // HZ
        else:
            self._held = seconds

    # Interrupts

    def _period(self) -> int:
        """Ticks of the periodic interrupt; 0 for none."""
        rate = self._ram[_A] & _A_RATE
        if rate == 0 or self._stopped:
            return 0
        return 1 << (rate + 6 if rate <= 2 else rate - 1)  # the two lowest settings are 256 and 128 Hz again

    def _next_alarm(self, tick: int) -> int | None:
        """The tick of the next update, after `tick`, whose time matches the alarm."""
        updates = (tick - self._origin) // HZ
        today = self._now(tick) % _DAY_SECONDS
        choices = []
        for register, count in ((_HOURS_ALARM, 24), (_MINUTES_ALARM, 60), (_SECONDS_ALARM, 60)):
            raw = self._ram[register]
            value = self._hour(raw) if register == _HOURS_ALARM else self._from_format(raw)
            any_value = raw >= 0xC0
            choices.append(range(count) if any_value else range(value, min(value + 1, count)))
        match = _first_match(choices, today + 1)
        if match is None:
            match = _first_match(choices, 0)
            if match is None:
                return None
            match += _DAY_SECONDS
        return self._origin + (updates + match - today) * HZ

    def _follow(self, tick: int) -> None:
        """Bring register C and the interrupt line up to `tick`."""
        flags = self._ram[_C] & _C_SOURCES
        period = self._period()
        if period and (tick - self._origin) // period > (self._seen - self._origin) // period:
            flags |= _B_PERIODIC
        if self._held is None and (tick - self._origin) // HZ > (self._seen - self._origin) // HZ:
            flags |= _B_UPDATE
            alarm = self._next_alarm(self._seen)
            if alarm is not None and alarm <= tick:
                flags |= _B_ALARM
        self._seen = tick
        self._set_flags(flags)

    def _set_flags(self, flags: int) -> None:
        level = bool(flags & self._ram[_B] & _C_SOURCES)
        self._ram[_C] = flags | (_C_IRQ if level else 0)
        if level != self._level:
            self._level = level
            self._irq(level)

    def _plan(self) -> None:
        """The guest cycle at which a flag will next raise the interrupt line."""
        tick, origin = self._seen, self._origin
        awaited = self._ram[_B] & _C_SOURCES
        due: list[int] = []
        if awaited and not self._level:
            period = self._period()
            if awaited & _B_PERIODIC and period:
                due.append(tick + period - (tick - origin) % period)
            if awaited & _B_UPDATE and self._held is None:
                due.append(tick + HZ - (tick - origin) % HZ)
            if awaited & _B_ALARM and self._held is None and (alarm := self._next_alarm(tick)) is not None:
                due.append(alarm)
        self._timer.due = self._oscillator.cycle_of(min(due)) if due else None

    def _flag_rises(self, now: int) -> None:
        self._follow(self._oscillator.at(now))
        self._plan()

    # Registers

    def read(self, offset: int, width: int) -> int:
        if offset == 0:
            return 0xFF  # the index cannot be read: nobody drives the bus
        index = self.index
        if index in _TIME:
            return self._read_time(index, self._oscillator.now())
        if index == _A:
            tick = self._oscillator.now()
            updating = self._held is None and (tick - self._origin) % HZ >= HZ - _BEFORE_UPDATE
            return self._ram[_A] | (_A_UIP if updating else 0)
        if index == _C:
            self._follow(self._oscillator.now())
            value = self._ram[_C]
            self._set_flags(0)
            self._plan()
            return value
        return _D_VALID if index == _D else self._ram[index]

    def write(self, offset: int, width: int, value: int) -> None:
        if offset == 0:
            self.index = value & 0x7F
            self.nmi_masked = bool(value & 0x80)
            return
        index = self.index
        if index > _D and index != _CENTURY:
            self._ram[index] = value
            return
        tick = self._oscillator.now()
        self._follow(tick)
        if index in _TIME:
            self._write_time(index, value, tick)
        elif index == _A:
            self._write_a(value, tick)
        elif index == _B:
            self._ram[_B] = value & ~_B_UPDATE if value & _B_SET else value  # SET clears UIE
            if value & _B_SET:
                self._hold(tick)
            self._release(tick)
            self._set_flags(self._ram[_C] & _C_SOURCES)
        elif index not in (_C, _D):
            self._ram[index] = value
        self._plan()

    def _write_a(self, value: int, tick: int) -> None:
        self._ram[_A] = value & 0x7F
        stopped = value & 0x60 == 0x60
        if stopped:
            self._hold(tick)
        elif self._stopped:
            # The first update comes half a second after the divider chain's release.
            self._origin = tick - HZ // 2
        self._stopped = stopped
        self._release(tick)

    def reset(self) -> None:
        """The reset pin: interrupts off; the battery keeps time and memory."""
        tick = self._oscillator.now()
        self._follow(tick)
        self.index = 0
        self.nmi_masked = False
        self._ram[_B] &= ~(_B_PERIODIC | _B_ALARM | _B_UPDATE | _B_SQUARE)
        self._set_flags(0)
        self._plan()

    def check(self, state: State) -> None:
        super().check(state)
        if len(state["_ram"]) != len(self._ram):
            raise ValueError(f"Cmos: saved memory of {len(state['_ram'])} bytes")


def _with_field(day: date, register: int, value: int) -> date:
    """`day` with its day, month, year or century replaced, and kept a date."""
    year, month, number = day.year, day.month, day.day
    if register == _DAY:
        number = value
    elif register == _MONTH:
        month = min(max(value, 1), 12)
    elif register == _YEAR:
        year = year // 100 * 100 + min(value, 99)
    else:
        year = min(value, 99) * 100 + year % 100
    year = max(year, 1)
    return date(year, month, min(max(number, 1), monthrange(year, month)[1]))


def _first_match(choices: list[range], start: int) -> int | None:
    """The first second of the day, from `start` on, whose hour, minute and second are among `choices`."""
    hours, minutes, seconds = choices
    for hour in hours:
        if hour * 3600 + 3599 < start:
            continue
        for minute in minutes:
            first = hour * 3600 + minute * 60
            if first + 59 < start:
                continue
            for second in seconds:
                if first + second >= start:
                    return first + second
    return None


def _describe_memory(ram: bytearray, memory_bytes: int) -> None:
    """The bytes that describe the machine to firmware and kernels: equipment, memory sizes, checksum."""
    ram[0x14] = 0x02  # a floating-point unit
    base = min(memory_bytes >> 10, 640)
    extended = min(max((memory_bytes >> 10) - 1024, 0), 0xFFFF)
    above_16m = min(max((memory_bytes >> 16) - 256, 0), 0xFFFF)
    for at, value in ((0x15, base), (0x17, extended), (0x30, extended), (0x34, above_16m)):
        ram[at : at + 2] = value.to_bytes(2, "little")
    ram[0x2E:0x30] = sum(ram[0x10:0x2E]).to_bytes(2, "big")
