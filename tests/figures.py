"""Statistics as two runs may be compared by."""

from __future__ import annotations

from typing import Any


def without_host_time(figures: dict[str, Any]) -> dict[str, Any]:
    """What a run came to but for what a clock on the wall said, at every level."""
    return {
        name: without_host_time(value) if isinstance(value, dict) else value
        for name, value in figures.items()
        if not name.startswith("host_")
    }
