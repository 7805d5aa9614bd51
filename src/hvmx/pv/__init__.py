"""Paravirtual guests: Xen's 64-bit ABI, answered by the C of cext/; here its start of day and its Python face."""

from pathlib import Path

from .domain import Domain
from .start_of_day import start_of_day

__all__ = ["Domain", "include_path", "start_of_day"]


def include_path() -> str:
    """The directory of ``hvmx_hypercall.h``, for extensions that answer hypercalls."""
    installed = Path(__file__).with_name("include")
    return str(installed if installed.is_dir() else Path(__file__).resolve().parents[3] / "cext" / "hypercall")
