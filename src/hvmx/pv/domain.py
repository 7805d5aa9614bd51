"""A paravirtual domain, as part of a machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hvmx.nocopies import NoCopies

from .numbers import SHUTDOWN_REASONS, XEN_HYPERCALLS
from .xen import Hypercalls, XenDomain

SIF_INITDOMAIN = 2


class Domain(NoCopies):
    """One Xen domain on the processor ``vcpu`` (a ``hvmx.core.vcpu.Vcpu``).

    ``frequency`` is the guest's clock in guest cycles a second, ``epoch`` its wall clock at cycle 0 in seconds since
    1970; the guest learns nothing else about time. ``privileged`` makes it a dom0: console by ``console_io``,
    ports of the machine's board. ``console`` receives what it prints.
    ``update_cost`` is the cost of each list element that a hypercall handles, ``entry_cost`` that of validating a
    page-table entry, in units of 1/64 guest cycle.
    """

    def __init__(
        self,
        vcpu: Any,
        *,
        frequency: int,
        epoch: int,
        privileged: bool,
        console: Callable[[bytes], object],
        update_cost: int = 0,
        entry_cost: int = 0,
    ) -> None:
        self.xen = XenDomain(
            vcpu,
            frequency=frequency,
            epoch=epoch,
            privileged=privileged,
            console=console,
            names=XEN_HYPERCALLS,
            update_cost=update_cost,
            entry_cost=entry_cost,
        )

    @property
    def hypercalls(self) -> Hypercalls:
        """The hypercall table: registration, counts, costs."""
        return self.xen.hypercalls

    def counts(self) -> Mapping[str, int]:
        """Calls by the hypercall's name, without those never made."""
        return self.xen.hypercalls.counts()

    @property
    def privileged(self) -> bool:
        """Whether it is a dom0."""
        return bool(self.xen.flags & SIF_INITDOMAIN)

    @property
    def running(self) -> bool:
        """Neither shut down nor crashed."""
        return self.xen.running

    @property
    def crash_reason(self) -> str | None:
        """Why the hypervisor crashed the domain; None if it did not."""
        return self.xen.crash_reason

    @property
    def shutdown_reason(self) -> str | None:
        """The domain's reason for its shutdown (``"poweroff"``, ``"reboot"``, ``"crash"``, ...); None while it runs.

        A reason that Xen has no name for is ``"reason N"``.
        """
        code = self.xen.shutdown_code
        return None if code is None else SHUTDOWN_REASONS.get(code, f"reason {code}")

    @property
    def room(self) -> int:
        """How many bytes of console input there is room for until the guest reads some."""
        return self.xen.input_room

    def receive(self, data: bytes) -> None:
        """Add console input: at most `room` bytes, the rest is lost."""
        self.xen.input(data)
