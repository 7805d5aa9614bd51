"""The least PC board that boots Linux: what is placed where, and which wire goes to which input."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from hvmx.hvm import debug_exit as debug_exit_port
from hvmx.hvm.bus import Bus, Region
from hvmx.hvm.cmos import Cmos
from hvmx.hvm.debug_console import DebugConsole
from hvmx.hvm.debug_exit import DebugExit
from hvmx.hvm.device import Clock, Device, Saved, Sink, State
from hvmx.hvm.i8042 import I8042
from hvmx.hvm.input_log import InputLog
from hvmx.hvm.numeric_error import NumericError
from hvmx.hvm.pic import PicPair
from hvmx.hvm.pit import Pit
from hvmx.hvm.port61 import Port61
from hvmx.hvm.port92 import Port92
from hvmx.hvm.schedule import Schedule
from hvmx.hvm.uart import Uart
from hvmx.nocopies import NoCopies
from hvmx.platform import Platform

EPOCH = 1_577_836_800
"""What the real-time clock shows at power-on by default: 2020-01-01 00:00:00 UTC, in Unix seconds."""


class Added(Saved):
    """The state of devices that were added to a board, by where they were first placed."""

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}

    def save(self) -> State:
        return {"version": self.VERSION} | {place: device.save() for place, device in self.devices.items()}

    def load(self, state: State) -> None:
        self.check(state)
        for place, device in self.devices.items():
            device.load(state[place])

    def check(self, state: State) -> None:
        if not isinstance(state, dict) or state.get("version") != self.VERSION:
            raise ValueError(f"Added: saved state is not of version {self.VERSION}")
        if odd := sorted(set(state) ^ {"version", *self.devices}):
            raise ValueError(f"the board has not the devices that were saved: {', '.join(odd)}")
        for place, device in self.devices.items():
            device.check(state[place])


class Board(Saved, NoCopies, Platform):
    """An ISA board: interrupt controllers, timer, serial port, clock, keyboard controller, system ports.

    `on_interrupt` gets the level of the line to the processor, `on_a20` whether address line 20 is let
    through; both are called on change, after a reset and after a load. `on_reset` asks for a machine reset,
    `on_ignore_error` lets the x87 go on in spite of its error, `on_shutdown` hands over what the guest wrote to the
    debug-exit port: they are called within the guest's access, so they should only note it.

    A device that is placed on `ports` or `mmio` later is one of the board's from then on; `pic.line()` gives it an
    interrupt, and `schedule.timer()` what it does later. Who sets a timer otherwise than within an access to a port or a
    register, or an event, calls `Machine.reschedule`.
    """

    FIELDS: ClassVar[tuple[str, ...]] = (
        "pic", "pit", "serial", "cmos", "i8042", "port61", "port92", "numeric", "added",
    )  # fmt: skip

    def __init__(
        self,
        clock: Clock,
        memory_bytes: int,
        *,
        serial: Sink,
        on_interrupt: Callable[[bool], None],
        on_reset: Callable[[], None],
        on_a20: Callable[[bool], None],
        on_shutdown: Callable[[int], None],
        on_ignore_error: Callable[[], None],
        debug_exit: int | None = None,
        debugcon: tuple[int, Sink] | None = None,
        epoch: int = EPOCH,
    ) -> None:
        """`debug_exit` is a first port, `debugcon` a port and its sink; ValueError where they are taken."""
        self._on_interrupt = on_interrupt
        self._on_a20 = on_a20
        self.ports = Bus("port", 1 << 16)
        self.mmio = Bus("MMIO")
        self.schedule = Schedule(clock)
        # The parts' own methods, so that an access costs no call in between.
        self.read_port, self.write_port = self.ports.read, self.ports.write  # type: ignore[method-assign]
        self.read_mmio, self.write_mmio = self.mmio.read, self.mmio.write  # type: ignore[method-assign]
        self.next_event, self.advance = self.schedule.next_event, self.schedule.advance  # type: ignore[method-assign]
        self.pic = PicPair(on_interrupt)
        self.pit = Pit(self.schedule, self.pic.line(0))
        self.serial = Uart(self.schedule, self.pic.line(4), serial)
        self.cmos = Cmos(self.schedule, self.pic.line(8), memory_bytes, epoch)
        self.i8042 = I8042(self.pic.line(1), self.pic.line(12), self._a20_changed, on_reset)
        self.port61 = Port61(self.pit)
        self.port92 = Port92(self._a20_changed, on_reset)
        self.numeric = NumericError(self.pic.line(13), on_ignore_error)
        self.input = InputLog(self.schedule, self.serial)
        self.added = Added()
        self._a20 = True
        self._devices: list[Device] = [
            self.pit, self.serial, self.cmos, self.i8042, self.port61, self.port92, self.numeric, self.pic,
        ]  # fmt: skip

        # In the kernel is what KVM has there: the interrupt controllers, and the timer with the speaker's port.
        self.ports.add(0x20, 2, self.pic, "master interrupt controller", in_kernel=True)
        self.ports.add(0xA0, 2, self.pic, "slave interrupt controller", offset=2, in_kernel=True)
        self.ports.add(0x4D0, 2, self.pic, "edge/level registers", offset=4, in_kernel=True)
        self.ports.add(0x40, 4, self.pit, "interval timer", in_kernel=True)
        self.ports.add(0x60, 1, self.i8042, "keyboard controller, data")
        self.ports.add(0x64, 1, self.i8042, "keyboard controller, command", offset=4)
        self.ports.add(0x61, 1, self.port61, "port 0x61", in_kernel=True)
        self.ports.add(0x70, 2, self.cmos, "real-time clock and CMOS memory")
        self.ports.add(0x92, 1, self.port92, "port 0x92")
        self.ports.add(0xF0, 1, self.numeric, "x87 error")
        self.ports.add(0x3F8, 8, self.serial, "serial port")
        if debug_exit is not None:
            self.ports.add(debug_exit, debug_exit_port.LENGTH, DebugExit(on_shutdown), "debug-exit port")
        if debugcon is not None:
            port, sink = debugcon
            self.ports.add(port, 1, DebugConsole(sink), "debug console port")
        self.ports.watch(lambda region: self._placed(self.ports, region))
        self.mmio.watch(lambda region: self._placed(self.mmio, region))

    def _placed(self, bus: Bus, region: Region) -> None:
        device = region.device
        if any(device is other for other in self._devices):
            return
        self._devices.append(device)
        self.added.devices[f"{region.name} at {bus.name} {region.base:#x}"] = device

    @property
    def a20(self) -> bool:
        """Whether address line 20 is let through: the keyboard controller's gate or port 0x92's will do."""
        return self.i8042.a20 or self.port92.a20

    def _a20_changed(self) -> None:
        if self.a20 != self._a20:
            self._a20 = self.a20
            self._on_a20(self._a20)

    def numeric_error(self) -> None:
        """The processor's FERR# wire is active."""
        self.numeric.error()

    def acknowledge_interrupt(self) -> int:
        """The processor takes the interrupt: its vector."""
        return self.pic.acknowledge()

    def reset(self) -> None:
        """The reset line: every device as after power-on; guest cycles and the time of day go on."""
        for device in self._devices:
            if device is not self.pic:
                device.reset()
        self.pic.reset()  # last: it finds its inputs at rest
        self._announce()

    def load(self, state: dict[str, object]) -> None:
        super().load(state)
        self._announce()

    def _announce(self) -> None:
        self._a20 = self.a20
        self._on_a20(self._a20)
        self._on_interrupt(self.pic.output)
