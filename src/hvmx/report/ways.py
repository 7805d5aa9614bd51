"""The ways in which the bundled guest is compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """A way of running the guest."""

    name: str
    title: str
    guest: str
    paging: str
    pv: bool = False
    native: bool = False
    """Whether there is no hypervisor: no exit is priced, and page walks have one dimension."""


WAYS = (
    Way("ept", "HVM, nested paging", "hvm64", "ept"),
    Way("shadow", "HVM, shadow paging", "hvm64", "shadow"),
    Way("pv", "PV", "pv64", "ept", pv=True),
    Way("native", "native", "hvm64", "ept", native=True),
)
