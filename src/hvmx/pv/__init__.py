"""Paravirtual guests: Xen's 64-bit ABI, answered by the C of cext/; here its start of day and its Python face."""

from .domain import Domain
from .start_of_day import start_of_day

__all__ = ["Domain", "start_of_day"]
