"""The 8042 keyboard controller of a PS/2 with nothing plugged in: A20, reset, and the answers of absent devices.

As in IBM's PS/2 hardware interface technical reference, "Keyboard and auxiliary device controller".
Offsets: 0 data (port 0x60), 4 status and command (port 0x64).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from hvmx.hvm.device import Device, IrqLine

# Status
_FULL, _AUX, _TIMEOUT, _UNLOCKED, _COMMAND, _SYSTEM = 0x01, 0x20, 0x40, 0x10, 0x08, 0x04
# Command byte
_KEYBOARD_INTERRUPT, _AUX_INTERRUPT, _SYSTEM_FLAG, _KEYBOARD_OFF, _AUX_OFF = 0x01, 0x02, 0x04, 0x10, 0x20
# Output port
_NO_RESET, _A20, _KEYBOARD_FULL, _AUX_FULL = 0x01, 0x02, 0x10, 0x20
_IDLE = 0xCC  # the clock and data lines of both plugs are high, with no device to pull them low

_NO_ANSWER = 0xFE
"""The controller's answer in place of an absent device: RESEND, with the time-out bit."""

_WRITE_COMMAND_BYTE, _WRITE_OUTPUT_PORT, _ECHO_KEYBOARD, _ECHO_AUX, _TO_AUX = 0x60, 0xD1, 0xD2, 0xD3, 0xD4
_TAKE_A_BYTE = {_WRITE_COMMAND_BYTE, _WRITE_OUTPUT_PORT, _ECHO_KEYBOARD, _ECHO_AUX, _TO_AUX}


class I8042(Device):
    """The controller; `on_a20` is called when its gate, `a20`, changes, `on_reset` when it pulls reset."""

    FIELDS: ClassVar[tuple[str, ...]] = (
        "status", "command_byte", "output_port", "_data", "_awaiting", "_levels"
    )  # fmt: skip

    def __init__(
        self,
        keyboard_irq: IrqLine,
        aux_irq: IrqLine,
        on_a20: Callable[[], None],
        on_reset: Callable[[], None],
    ) -> None:
        self._irqs = (keyboard_irq, aux_irq)
        self._on_a20 = on_a20
        self._on_reset = on_reset
        self._levels = 0  # of the interrupt lines: a bit for each
        self._power_on()

    def _power_on(self) -> None:
        self.status = _UNLOCKED | _COMMAND
        self.command_byte = _KEYBOARD_INTERRUPT | _AUX_INTERRUPT
        self.output_port = _IDLE | _A20 | _NO_RESET
        self._data = 0
        self._awaiting = 0  # the command whose data byte comes next

    @property
    def a20(self) -> bool:
        """Does the controller let address line 20 through?"""
        return bool(self.output_port & _A20)

    def _answer(self, value: int, flags: int = 0) -> None:
        self._data = value
        self.status = self.status & ~(_AUX | _TIMEOUT) | _FULL | flags
        self._update()

    def _update(self) -> None:
        wanted = 0
        full = self.status & (_FULL | _AUX)
        self.output_port &= ~(_KEYBOARD_FULL | _AUX_FULL)
        if full == _FULL:
            self.output_port |= _KEYBOARD_FULL
            if self.command_byte & (_KEYBOARD_INTERRUPT | _KEYBOARD_OFF) == _KEYBOARD_INTERRUPT:
                wanted = 1
        elif full:
            self.output_port |= _AUX_FULL
            if self.command_byte & _AUX_INTERRUPT:
                wanted = 2
        changed, self._levels = wanted ^ self._levels, wanted
        for number, line in enumerate(self._irqs):
            if changed >> number & 1:
                line(bool(wanted >> number & 1))

    def read(self, offset: int, width: int) -> int:
        if offset == 4:
            return self.status
        self.status &= ~(_FULL | _AUX | _TIMEOUT)
        self._update()
        return self._data

    def write(self, offset: int, width: int, value: int) -> None:
        if offset == 4:
            self.status |= _COMMAND
            self._command(value)
            return
        self.status &= ~_COMMAND
        awaiting, self._awaiting = self._awaiting, 0
        if awaiting == _WRITE_COMMAND_BYTE:
            self.command_byte = value
            self.status = self.status & ~_SYSTEM | (_SYSTEM if value & _SYSTEM_FLAG else 0)
            self._update()
        elif awaiting == _WRITE_OUTPUT_PORT:
            self._write_output_port(value)
        elif awaiting == _ECHO_KEYBOARD:
            self._answer(value)
        elif awaiting == _ECHO_AUX:
            self._answer(value, _AUX)
        elif awaiting == _TO_AUX:
            self.command_byte &= ~_AUX_OFF
            self._answer(_NO_ANSWER, _AUX | _TIMEOUT)
        else:
            self.command_byte &= ~_KEYBOARD_OFF  # writing to the keyboard turns its clock on
            self._answer(_NO_ANSWER, _TIMEOUT)

    def _command(self, command: int) -> None:
        self._awaiting = command if command in _TAKE_A_BYTE else 0
        if command == 0x20:
            self._answer(self.command_byte)
        elif command == 0xAA:
            self.status |= _SYSTEM
            self._answer(0x55)  # self test passed
        elif command == 0xA9 or command == 0xAB:
            self._answer(0x00)  # aux and keyboard lines are neither stuck high nor low
        elif command == 0xA7 or command == 0xA8:
            self._set_command_bit(_AUX_OFF, command == 0xA7)
        elif command == 0xAD or command == 0xAE:
            self._set_command_bit(_KEYBOARD_OFF, command == 0xAD)
        elif command == 0xC0:
            self._answer(0x80)  # input port: not locked
        elif command == 0xD0:
            self._answer(self.output_port)
        elif command == 0xDD or command == 0xDF:
            # Gate A20 off and on: not in the reference, but in every chip set since, and kernels use them.
            self._write_output_port(self.output_port & ~_A20 | (_A20 if command == 0xDF else 0))
        elif command >= 0xF0 and not command & 1:
            self._on_reset()  # pulses the low output lines whose bits are 0; bit 0 is reset

    def _set_command_bit(self, bit: int, on: bool) -> None:
        self.command_byte = self.command_byte & ~bit | (bit if on else 0)
        self._update()

    def _write_output_port(self, value: int) -> None:
        before = self.a20
        self.output_port = value
        self._update()
        if self.a20 != before:
            self._on_a20()
        if not value & _NO_RESET:
            self._on_reset()

    def reset(self) -> None:
        before = self.a20
        self._power_on()
        self._update()
        if self.a20 != before:
            self._on_a20()
