"""The 16550A serial port.

As in National's PC16550D data sheet (order TL/C/8652), except that sending takes no time: a byte written reaches the
sink at once, the line status always shows an empty transmitter, and the transmitter's interrupt is raised again at
once. So nothing that a guest has sent is lost when it powers off. Input arrives at the speed of the line.
"""

from __future__ import annotations

from typing import ClassVar

from hvmx.hvm.device import Device, IrqLine, Sink
from hvmx.hvm.schedule import Schedule

CRYSTAL_HZ = 1_843_200
"""The input clock of the baud generator, in hertz; a bit takes 16 x divisor of its periods."""

_FIFO = 16
_INCOMING_LIMIT = 4096

# Interrupt enable
_IER_RECEIVED, _IER_TRANSMITTER, _IER_LINE, _IER_MODEM = 1, 2, 4, 8
# Interrupt identification, highest priority first
_IIR_LINE, _IIR_RECEIVED, _IIR_TIMEOUT, _IIR_TRANSMITTER, _IIR_MODEM, _IIR_NONE = 6, 4, 12, 2, 0, 1
# Line status
_LSR_READY, _LSR_OVERRUN, _LSR_TRANSMITTER_EMPTY = 0x01, 0x02, 0x60
# Modem control
_MCR_OUT2, _MCR_LOOP = 0x08, 0x10
_MSR_CONNECTED = 0xB0  # DCD, DSR and CTS: the other end is connected and ready

_BYTES = [bytes((value,)) for value in range(256)]


class Uart(Device):
    """One serial port; `transmit` gets every byte that the guest sends, `receive` takes its input.

    `character_cycles` is the time of one character on the line, with start, parity and stop bits, in guest cycles; at
    least 1.
    """

    FIELDS: ClassVar[tuple[str, ...]] = (
        "ier", "fcr", "lcr", "mcr", "lsr", "msr", "scratch", "divisor", "character_cycles",
        "transmitter_pending", "timed_out", "_fifo", "_incoming", "_arrival_due", "_timeout_due",
        "_level", "_timer",
    )  # fmt: skip

    def __init__(self, schedule: Schedule, irq: IrqLine, transmit: Sink) -> None:
        self._clock = schedule
        self._timer = schedule.timer(self._advance)
        self._irq = irq
        self._transmit = transmit
        self._incoming = bytearray()  # on the line, in order
        self._fifo = bytearray()  # received
        self._level = False
        self._clear()

    def _clear(self) -> None:
        self.ier = self.fcr = self.mcr = self.scratch = 0
        self.lsr = _LSR_TRANSMITTER_EMPTY
        self.msr = _MSR_CONNECTED
        self._set_format(0, 12)  # 9600 baud; the data sheet leaves the divisor open
        self.transmitter_pending = False  # the condition of the transmitter interrupt
        self.timed_out = False  # the FIFO has characters, and was not read or filled for the time of four
        self._arrival_due: int | None = None
        self._timeout_due: int | None = None
        self._fifo.clear()

    def _set_format(self, lcr: int, divisor: int) -> None:
        self.lcr, self.divisor = lcr, divisor
        half_bits = 2 * (1 + 5 + (lcr & 3) + (lcr >> 3 & 1) + 1)
        if lcr & 0x04:
            half_bits += 2 if lcr & 3 else 1  # two stop bits, or one and a half with five data bits
        self.character_cycles = half_bits * 8 * (divisor or 65536) * self._clock.hz // CRYSTAL_HZ or 1

    # Input

    @property
    def room(self) -> int:
        """How many more bytes `receive` takes until the guest reads some."""
        return _INCOMING_LIMIT - len(self._incoming)

    def receive(self, data: bytes) -> None:
        """Put input on the line; ValueError above `room` bytes. The line has flow control: no input is lost."""
        if len(data) > self.room:
            raise ValueError(f"serial input of {len(data)} bytes, room for {self.room}")
        self._incoming += data
        self._expect_arrival()
        self._plan()

    def _expect_arrival(self) -> None:
        capacity = _FIFO if self.fcr & 1 else 1
        if not self._incoming or len(self._fifo) >= capacity or self.mcr & _MCR_LOOP:
            self._arrival_due = None
        elif self._arrival_due is None:
            self._arrival_due = self._clock.cycles + self.character_cycles

    def _take_in(self, value: int, now: int) -> None:
        if len(self._fifo) < (_FIFO if self.fcr & 1 else 1):
            self._fifo.append(value)
        else:
            self.lsr |= _LSR_OVERRUN
            if not self.fcr & 1:
                self._fifo[0] = value  # without FIFOs the new character replaces the unread one
        self.lsr |= _LSR_READY
        self._restart_timeout(now)

    def _restart_timeout(self, now: int) -> None:
        self.timed_out = False
        self._timeout_due = now + 4 * self.character_cycles if self.fcr & 1 and self._fifo else None

    # Interrupts

    def _identify(self) -> int:
        ier = self.ier
        if ier & _IER_LINE and self.lsr & _LSR_OVERRUN:
            return _IIR_LINE
        if ier & _IER_RECEIVED and self._fifo:
            if len(self._fifo) >= self._trigger():
                return _IIR_RECEIVED
            if self.timed_out:
                return _IIR_TIMEOUT
        if ier & _IER_TRANSMITTER and self.transmitter_pending:
            return _IIR_TRANSMITTER
        if ier & _IER_MODEM and self.msr & 0x0F:
            return _IIR_MODEM
        return _IIR_NONE

    def _trigger(self) -> int:
        return (1, 4, 8, 14)[self.fcr >> 6] if self.fcr & 1 else 1

    def _update(self) -> None:
        # On a PC OUT2 gates the interrupt line; in loop-back mode it is inactive.
        level = self.mcr & (_MCR_OUT2 | _MCR_LOOP) == _MCR_OUT2 and self._identify() != _IIR_NONE
        if level != self._level:
            self._level = level
            self._irq(level)

    # Registers

    def read(self, offset: int, width: int) -> int:
        if offset == 5:
            status = self.lsr
            if status & _LSR_OVERRUN:
                self.lsr &= ~_LSR_OVERRUN
                self._update()
            return status
        if offset == 0:
            return self.divisor & 0xFF if self.lcr & 0x80 else self._read_received()
        if offset == 1:
            return self.divisor >> 8 if self.lcr & 0x80 else self.ier
        if offset == 2:
            return self._read_identification()
        if offset == 3:
            return self.lcr
        if offset == 4:
            return self.mcr
        if offset == 6:
            status = self.msr
            self.msr &= 0xF0
            self._update()
            return status
        return self.scratch

    def _read_received(self) -> int:
        if not self._fifo:
            return 0
        value = self._fifo.pop(0)
        if not self._fifo:
            self.lsr &= ~_LSR_READY
        self._restart_timeout(self._clock.cycles)
        self._expect_arrival()
        self._update()
        self._plan()
        return value

    def _read_identification(self) -> int:
        cause = self._identify()
        if cause == _IIR_TRANSMITTER:
            self.transmitter_pending = False
            self._update()
        return cause | (0xC0 if self.fcr & 1 else 0)

    def write(self, offset: int, width: int, value: int) -> None:
        if offset == 0:
            if self.lcr & 0x80:
                self._set_format(self.lcr, self.divisor & 0xFF00 | value)
            else:
                self._send(value)
        elif offset == 1:
            if self.lcr & 0x80:
                self._set_format(self.lcr, value << 8 | self.divisor & 0xFF)
            else:
                self._enable(value & 0x0F)
        elif offset == 2:
            self._control_fifos(value)
        elif offset == 3:
            self._set_format(value, self.divisor)
        elif offset == 4:
            self._control_modem(value & 0x1F)
        elif offset == 7:
            self.scratch = value
        # The status registers are read-only.
        self._update()
        self._plan()

    def _send(self, value: int) -> None:
        # The write clears the interrupt's condition, and the empty transmitter sets it again: an edge each time.
        self.transmitter_pending = False
        self._update()
        if self.mcr & _MCR_LOOP:
            self._take_in(value, self._clock.cycles)
        else:
            self._transmit(_BYTES[value])
        self.transmitter_pending = True

    def _enable(self, ier: int) -> None:
        now = self._clock.cycles
        enabled = ier & ~self.ier
        if enabled & _IER_TRANSMITTER:
            self.transmitter_pending = True
        if enabled & _IER_RECEIVED and self._timeout_due is not None and self._timeout_due <= now:
            self._timeout_due = None
            self.timed_out = True
        self.ier = ier

    def _control_fifos(self, value: int) -> None:
        if (value ^ self.fcr) & 1:
            value |= 0x06  # turning the FIFOs on or off empties them
        if value & 0x02:
            self._fifo.clear()
            self.lsr &= ~_LSR_READY
            self._restart_timeout(self._clock.cycles)
        self.fcr = value & 0xC9 if value & 1 else 0
        self._expect_arrival()

    def _control_modem(self, mcr: int) -> None:
        self.mcr = mcr
        if mcr & _MCR_LOOP:
            rts, dtr, outs = mcr >> 1 & 1, mcr & 1, mcr >> 2 & 3
            lines = rts << 4 | dtr << 5 | outs << 6
        else:
            lines = _MSR_CONNECTED
        changed = (lines ^ self.msr) >> 4 & 0x0F
        # TERI is only set at the end of a ring.
        deltas = changed & 0x0B | (changed & 0x04 if not lines & 0x40 else 0)
        self.msr = lines | self.msr & 0x0F | deltas
        self._expect_arrival()

    # Time

    def _plan(self) -> None:
        """What comes next: the next character, or the end of the wait for one, where that interrupts."""
        soonest, timeout = self._arrival_due, self._timeout_due
        if self.ier & _IER_RECEIVED and timeout is not None and (soonest is None or timeout < soonest):
            soonest = timeout
        self._timer.due = soonest

    def _advance(self, now: int) -> None:
        if now == self._arrival_due:
            self._arrival_due = now + self.character_cycles
            self._take_in(self._incoming.pop(0), now)
            self._expect_arrival()
        else:
            self._timeout_due = None
            self.timed_out = True
        self._update()
        self._plan()

    def reset(self) -> None:
        self._clear()
        self._expect_arrival()
        self._update()
        self._plan()
