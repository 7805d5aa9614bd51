"""What an image is and how it can run: facts by the readers of ``hvmx.boot``, ways by its loaders, and nothing runs."""

from .facts import EntryPoint, ImageFacts, Note, Payload, Segment, read_facts
from .ways import Verdict, Way, ways_to_run

__all__ = [
    "EntryPoint",
    "ImageFacts",
    "Note",
    "Payload",
    "Segment",
    "Verdict",
    "Way",
    "read_facts",
    "ways_to_run",
]
