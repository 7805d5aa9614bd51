"""The pair of 8259A interrupt controllers of a PC, with the edge/level registers of the later chip sets.

As in Intel's 8259A data sheet (order 231468). Offsets: 0-1 master, 2-3 slave, 4-5 edge/level registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from hvmx.hvm.device import Device, IrqLine, Saved

CASCADE = 2
"""The master's input that the slave's output drives."""

_SPURIOUS = 7
_LEVEL_CAPABLE = (0xF8, 0xDE)  # timer, keyboard, cascade, RTC and FPU inputs are always edge-triggered


class _Chip(Saved):
    """One 8259A, master or slave."""

    FIELDS: ClassVar[tuple[str, ...]] = (
        "lines", "irr", "imr", "isr", "level", "base", "lowest", "next_icw", "wants_icw4", "single",
        "auto_eoi", "rotate_on_auto_eoi", "special_mask", "special_fully_nested", "reads_isr", "polled",
    )  # fmt: skip

    def __init__(self) -> None:
        self.lines = 0  # the levels of the inputs, which a reset does not change
        self.power_on()

    def power_on(self) -> None:
        self.irr = self.imr = self.isr = 0
        self.level = 0  # ELCR: one bit for each level-triggered input
        self.base = 0  # vector of input 0
        self.lowest = 7  # the input with the lowest priority
        self.next_icw = 0  # 2, 3 or 4 within an initialisation, else 0
        self.wants_icw4 = self.single = False
        self.auto_eoi = self.rotate_on_auto_eoi = False
        self.special_mask = self.special_fully_nested = False
        self.reads_isr = self.polled = False

    def _highest(self, inputs: int) -> int:
        """Priority, 0 being the highest, of the first of `inputs` (a mask); 8 if there is none."""
        if not inputs:
            return 8
        first = self.lowest + 1
        rotated = (inputs << 8 | inputs) >> first % 8 & 0xFF
        return (rotated & -rotated).bit_length() - 1

    def _input_of(self, priority: int) -> int:
        return self.lowest + 1 + priority & 7

    def pending(self) -> int:
        """The input for which the chip requests service, or -1."""
        requests = self.irr & ~self.imr
        if not requests:
            return -1
        blocking = self.isr
        if self.special_mask:
            blocking &= ~self.imr
        if self.special_fully_nested:
            # The slave may interrupt again while one of its inputs is in service.
            blocking &= ~(1 << CASCADE)
        priority = self._highest(requests)
        return self._input_of(priority) if priority < self._highest(blocking) else -1

    def drive(self, number: int, level: bool) -> None:
        bit = 1 << number
        if not level:
            # An edge stays requested until it is acknowledged, as in QEMU and KVM: the data sheet ("Interrupt Sequence")
            # drops it, and kernels that are used to these halt for good.
            self.lines &= ~bit
            self.irr &= ~(bit & self.level)
        elif not self.lines & bit:
            self.lines |= bit
            self.irr |= bit

    def accept(self, number: int) -> None:
        """Input `number` was acknowledged by the processor, or by a poll."""
        bit = 1 << number
        if not self.level & bit:
            self.irr &= ~bit
        if not self.auto_eoi:
            self.isr |= bit
        elif self.rotate_on_auto_eoi:
            self.lowest = number

    def set_level(self, mask: int) -> None:
        self.level = mask
        self.irr |= self.lines & mask

    def read(self, a0: int) -> int:
        if self.polled:
            self.polled = False
            number = self.pending()
            if number < 0:
                return 0
            self.accept(number)
            return 0x80 | number
        if a0:
            return self.imr
        return self.isr if self.reads_isr else self.irr

    def write_command(self, value: int) -> None:
        if value & 0x10:
            self._icw1(value)
        elif value & 0x08:
            self._ocw3(value)
        else:
            self._ocw2(value >> 5, value & 7)

    def _icw1(self, value: int) -> None:
        level = self.level
        self.power_on()
        # Edge detection is reset: an input that is already high must first fall.
        self.set_level(level)
        self.wants_icw4 = bool(value & 1)
        self.single = bool(value & 2)
        self.next_icw = 2

    def _ocw2(self, command: int, number: int) -> None:
        if command == 0 or command == 4:
            self.rotate_on_auto_eoi = command == 4
        elif command == 1 or command == 5:
            # In special mask mode a non-specific EOI skips masked inputs.
            ending = self.isr & ~self.imr if self.special_mask else self.isr
            if ending:
                number = self._input_of(self._highest(ending))
                self.isr &= ~(1 << number)
                if command == 5:
                    self.lowest = number
        elif command == 3 or command == 7:
            self.isr &= ~(1 << number)
            if command == 7:
                self.lowest = number
        elif command == 6:
            self.lowest = number

    def _ocw3(self, value: int) -> None:
        if value & 0x40:
            self.special_mask = bool(value & 0x20)
        if value & 0x04:
            self.polled = True
        elif value & 0x02:
            self.reads_isr = bool(value & 0x01)

    def write_data(self, value: int) -> None:
        if self.next_icw == 0:
            self.imr = value
        elif self.next_icw == 2:
            self.base = value & 0xF8
            self.next_icw = 3 if not self.single else 4 if self.wants_icw4 else 0
        elif self.next_icw == 3:
            # The cascade input is wired on the board: the value has no effect.
            self.next_icw = 4 if self.wants_icw4 else 0
        else:
            self.auto_eoi = bool(value & 0x02)
            self.special_fully_nested = bool(value & 0x10)
            self.next_icw = 0


class PicPair(Device):
    """Master and slave; `on_output` is called with the level of the line to the processor when it changes."""

    FIELDS: ClassVar[tuple[str, ...]] = ("master", "slave", "output")

    def __init__(self, on_output: Callable[[bool], None]) -> None:
        self.master = _Chip()
        self.slave = _Chip()
        self.output = False
        self._on_output = on_output

    def line(self, number: int) -> IrqLine:
        """The interrupt line of input `number` (0-15); ValueError for the cascade input, which no device can have."""
        if not 0 <= number <= 15 or number == CASCADE:
            raise ValueError(f"IRQ {number} is not an input of the interrupt controllers")
        chip = self.master if number < 8 else self.slave
        chip_input = number & 7

        def drive(level: bool) -> None:
            chip.drive(chip_input, level)
            self._update()

        return drive

    def acknowledge(self) -> int:
        """The processor's interrupt acknowledge: the vector; that of input 7 if the request has gone (spurious)."""
        master, slave = self.master, self.slave
        number = master.pending()
        if number < 0:
            return master.base | _SPURIOUS
        master.accept(number)
        vector = master.base | number
        if number == CASCADE:
            number = slave.pending()
            vector = slave.base | (number if number >= 0 else _SPURIOUS)
            if number >= 0:
                slave.accept(number)
            # The acknowledge lowers INT; if the slave has more requests, the master sees a new edge.
            master.drive(CASCADE, False)
        self._update()
        return vector

    def _update(self) -> None:
        master = self.master
        master.drive(CASCADE, self.slave.pending() >= 0)
        output = master.pending() >= 0
        if output != self.output:
            self.output = output
            self._on_output(output)

    def read(self, offset: int, width: int) -> int:
        if offset >= 4:
            return (self.master, self.slave)[offset - 4].level
        chip = self.slave if offset & 2 else self.master
        if not chip.polled:
            return chip.read(offset & 1)
        value = chip.read(offset & 1)
        self._update()
        return value

    def write(self, offset: int, width: int, value: int) -> None:
        if offset >= 4:
            (self.master, self.slave)[offset - 4].set_level(value & _LEVEL_CAPABLE[offset - 4])
        else:
            chip = self.slave if offset & 2 else self.master
            if offset & 1:
                chip.write_data(value)
            else:
                chip.write_command(value)
        self._update()

    def reset(self) -> None:
        self.master.power_on()
        self.slave.power_on()
        self._update()
