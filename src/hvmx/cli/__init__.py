"""The command line, a file a command: ``hvmx run``, ``hvmx compare``, ``hvmx calibrate`` and ``hvmx isa``."""

from hvmx.cli.program import commands, main
from hvmx.cli.status import Status

__all__ = ["Status", "commands", "main"]
