"""What a processor asks of its surroundings while it runs: of the guest's hardware, and of the host.

``Vcpu.platform`` is the hardware beside the processor: interrupt controller, timers, devices. A machine's board is one; a
simulator that embeds hvmx gives its own. A paravirtual domain has its timers and events in C, beside such hardware.
``Vcpu.host`` is what the guest cannot see: where input comes from, and when a run has lasted long enough. A ``Machine``
sets its own.

Classes that inherit from these say only what they have; the rest is as on a processor with nothing around it.

All calls come in the thread that runs the processor, between two instructions unless it is said otherwise. Cycles are
absolute guest cycles, as ``Vcpu.cycles`` counts them. What a method raises comes out of ``run()``; the guest can go on.
"""

from __future__ import annotations

from typing import Protocol


class Platform(Protocol):
    """The hardware beside the processor."""

    def acknowledge_interrupt(self) -> int:
        """The vector, from 0 to 255, of the interrupt that the processor takes now, or -1 for none after all.

        Asked after ``Vcpu.set_interrupt(True)``, when the guest can be interrupted. The line stays as it is: lower it here by
        ``Vcpu.set_interrupt(False)`` unless there is another interrupt to come.
        """
        raise RuntimeError(f"{type(self).__name__} has no interrupt controller")

    def next_event(self) -> int | None:
        """The guest cycle at which ``advance`` has something to do, or None for never.

        Asked when a run of a machine begins, after ``advance``, and after each access to a port or to memory that there is not.
        Whoever changes the answer in another way calls ``Vcpu.reschedule()``, or ``Machine.reschedule()``, which is the same.
        """
        return None

    def advance(self, now: int) -> None:
        """Do all that is due up to guest cycle ``now``."""
        return

    def numeric_error(self) -> None:
        """FERR#: an unmasked x87 exception, with CR0.NE clear (SDM vol. 1, 8.7.2). The instruction has not run yet."""
        return

    def read_port(self, port: int, width: int, /) -> int:
        """What IN reads from a port that no handler was given for; ``width`` is 1, 2 or 4 bytes. Called within the exit, as a
        handler is. String I/O exits once for each iteration (SDM vol. 3, table 27-5)."""
        return (1 << 8 * width) - 1

    def write_port(self, port: int, width: int, value: int, /) -> None:
        """OUT, likewise."""
        return

    def read_mmio(self, address: int, width: int) -> int:
        """What a load reads at a guest-physical address that no memory backs, and that no handler was given for; ``width`` is
        1, 2, 4 or 8 bytes. Called within the exit, as a handler is."""
        return (1 << 8 * width) - 1

    def write_mmio(self, address: int, width: int, value: int) -> None:
        """A store, likewise."""
        return


class _Nothing(Platform):
    """No device, no timer, no interrupt."""


NOTHING = _Nothing()


class Host(Protocol):
    """The host's side of a run."""

    def on_idle(self) -> bool:
        """The processor is halted, and by itself the platform will not wake it.

        False ends the run as halted for good; True looks again whether there is something to do, so wait for it here, but
        not for long (0.1 s of host time): the run loop also looks at signals.
        """
        return False

    def on_input(self) -> None:
        """Guest cycle ``Vcpu.input_at`` has come: look for input, and set that for another look, or there is none."""
        return

    def on_poll(self) -> None:
        """Some 10 ms of host time have passed, or the time given to ``Vcpu.poll_by()`` has come: look at limits of host
        time. ``Vcpu.stop()`` ends the run."""
        return
