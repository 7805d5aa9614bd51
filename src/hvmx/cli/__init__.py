"""The command line, a file a command: ``hvmx run``, ``hvmx compare``, ``hvmx reproduce`` and so on."""

from hvmx.cli.program import commands, main
from hvmx.cli.status import Status

__all__ = ["Status", "commands", "main"]
