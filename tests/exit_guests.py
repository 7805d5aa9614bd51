"""What handlers of exits do in tests, a paravirtual guest, and what is compared of machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pv.kernel import assemble

from hvmx import Machine

if TYPE_CHECKING:
    from hvmx.core.exit_info import Exit
    from hvmx.core.vcpu import Vcpu

FLAT_CODE64 = 0xA09B
RING3 = 0x60
"""The DPL in a segment's rights."""


class Seen(Exception):
    """Raised by a handler that was called."""


def refuse(vcpu: Vcpu, exit: Exit) -> None:
    raise Seen


def pv_guest(code: str, data: str = "") -> Machine:
    machine = Machine("16M", board=False)
    machine.load(assemble(code + "\n", data=data), pv=True)
    return machine


def answer(vcpu: Vcpu, exit: Exit) -> None:
    exit.value = 0


def of_the_guest(machine: Machine) -> dict[str, Any]:
    """The statistics without host time and hvmx's own work."""

    def strip(figures: dict[str, Any]) -> dict[str, Any]:
        return {
            name: strip(value) if isinstance(value, dict) else value
            for name, value in figures.items()
            if not name.startswith(("host_", "blocks_", "code_"))
        }

    return strip(machine.statistics())


def state_of(machine: Machine) -> tuple[object, ...]:
    cpu = machine.cpu
    return (
        cpu.registers(),
        cpu.cycles,
        cpu.instructions,
        cpu.counters()["hypercalls"],
        machine.hypercalls.counts(),
    )
