"""A guest in several ways under one clock: what each took, where the guest cycles went, and why.

``runs`` carries out one run, ``ledger`` splits its guest cycles by cause, ``explained`` those of one operation; ``outcome`` is
what all reports are made of.
"""

from .compare import compare, compared
from .ledger import Item, Part, Reading
from .outcome import TOTALS, Comparison, Operation, Outcome, Refusal
from .runs import GuestFailed, NotThisWay
from .ways import WAYS, Way

__all__ = [
    "TOTALS",
    "WAYS",
    "Comparison",
    "GuestFailed",
    "Item",
    "NotThisWay",
    "Operation",
    "Outcome",
    "Part",
    "Reading",
    "Refusal",
    "Way",
    "compare",
    "compared",
]
