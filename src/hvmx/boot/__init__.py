"""Image formats: each one a function from an image to a prepared machine, which is pure data."""

from .cpu import CpuState, SegmentState, TableRegister
from .prepare import Source, prepare, source_name
from .prepared import ImageError, Module, Prepared, Rom, Segment
from .scratch import read_segments
from .xen import XenImage

__all__ = [
    "CpuState",
    "ImageError",
    "Module",
    "Prepared",
    "Rom",
    "Segment",
    "SegmentState",
    "Source",
    "TableRegister",
    "XenImage",
    "prepare",
    "read_segments",
    "source_name",
]
