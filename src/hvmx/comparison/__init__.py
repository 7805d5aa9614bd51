"""A guest in several ways under one clock: what each took, where the guest cycles went, and why.

``runs`` carries out one run and ``schedule`` many, each ``apart`` from the others or on a ``cluster``; ``ledger`` splits a run's
guest cycles by cause, ``explained`` those of one operation; ``outcome`` is what all reports are made of.
"""

from .cluster import SchedulerError
from .compare import Interrupted, compare, compared
from .ledger import Item, Part, Reading
from .outcome import TOTALS, Comparison, Failure, Operation, Outcome, Refusal
from .runs import GuestFailed, NotThisWay, WorkerFailed
from .ways import WAYS, Way

__all__ = [
    "TOTALS",
    "WAYS",
    "Comparison",
    "Failure",
    "GuestFailed",
    "Interrupted",
    "Item",
    "NotThisWay",
    "Operation",
    "Outcome",
    "Part",
    "Reading",
    "Refusal",
    "SchedulerError",
    "Way",
    "WorkerFailed",
    "compare",
    "compared",
]
