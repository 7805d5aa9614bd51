"""hvmx: one deterministic, cycle-approximate x86 machine; hardware-assisted and paravirtual guests side by side."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvmx.comparison.side_by_side import compare as compare
    from hvmx.exits import ExitReason as ExitReason
    from hvmx.machine import Machine as Machine
    from hvmx.stops import Stop as Stop
    from hvmx.stops import StopKind as StopKind

__version__ = "0.1.0"
__all__ = ["ExitReason", "Machine", "Stop", "StopKind", "compare", "include_path"]

_PLACES = {
    "ExitReason": "hvmx.exits",
    "Machine": "hvmx.machine",
    "Stop": "hvmx.stops",
    "StopKind": "hvmx.stops",
    "compare": "hvmx.comparison.side_by_side",
}
"""Where each is that is imported on demand."""


def include_path() -> str:
    """The directory of hvmx's public C headers, and of nothing else: for extensions that answer hypercalls."""
    package = Path(__file__).resolve().parent
    installed = package / "include"
    return str(installed if installed.is_dir() else package.parents[1] / "cext" / "include")


def __getattr__(name: str) -> Any:
    # On demand: the package's build imports hvmx.isa before the compiled modules exist.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
