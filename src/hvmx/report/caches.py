"""What reports say of the data caches."""

from __future__ import annotations

from collections.abc import Mapping

NOT_MODELLED = "caches: not modelled, every access hits the first level"

PLACES = {"l1": "L1", "l2": "L2", "l3": "L3", "memory": "memory"}
"""Where an access to data may find its line."""


def caches_in_words(hits: Mapping[str, int] | None) -> str:
    """Where accesses found their lines (``Vcpu.cache_hits``), in one line."""
    if hits is None:
        return NOT_MODELLED
    total = sum(hits[place] for place in PLACES)
    found = ", ".join(f"{hits[place]:,} in {title}" for place, title in PLACES.items())
    walks = sum(count for name, count in hits.items() if name.startswith("walk_"))
    return (
        f"caches: {total:,} accesses to data, found {found}; "
        f"{hits['prefetched']:,} of L1's fetched ahead; {walks:,} by page walks besides"
    )
