"""What keeps guests from being run at all, as the program tells it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from hvmx.boot import ImageError


@contextmanager
def problems_told() -> Iterator[None]:
    """ImageError where the package was built without what is to run, UsageError where the host has too little memory."""
    try:
        yield
    except FileNotFoundError as problem:
        raise ImageError(str(problem)) from problem
    except MemoryError as problem:
        raise click.UsageError(str(problem)) from problem
