"""The ways in which a guest is compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """A way of running a guest."""

    name: str
    title: str
    bundled: str
    """The environment of the bundled guest that runs so (``hvmx.guests.NAMES``)."""
    paging: str
    """As ``Machine`` has it."""
    pv: bool = False
    native: bool = False
    """Whether there is no hypervisor: no exit is priced, and page walks have one dimension."""


WAYS = (
    Way("ept", "HVM, nested paging", "hvm64", "ept"),
    Way("shadow", "HVM, shadow paging", "hvm64", "shadow"),
    Way("pv", "PV", "pv64", "ept", pv=True),
    Way("native", "native", "hvm64", "ept", native=True),
)

BY_NAME = {way.name: way for way in WAYS}
