"""The exit statuses of the program."""

from __future__ import annotations

from enum import IntEnum

from hvmx.stops import Stop, StopKind


class Status(IntEnum):
    """Exit statuses. All are even: a write to the debug-exit port gives the odd ones, as with QEMU."""

    GOOD = 0
    BAD_OPTION = 2
    BAD_IMAGE = 4
    CRASH = 6
    LIMIT = 8
    INTERNAL = 10
    RESET = 12
    STOPPED = 14
    UNWRITABLE = 16
    UNABLE = 18
    EXCEEDED = 20
    DIFFERENT = 22
    INTERRUPTED = 130


STATUS_HELP = """\b
Exit status:
    0  the guest powered off, or halted for good with nothing to wake it
    (VALUE << 1) | 1  it wrote VALUE to the debug-exit port (modulo 256)
    2  a bad option        4  a bad image
    6  the guest crashed (triple fault, or Xen would have killed it)
    8  --max-cycles or --timeout was reached, also while a pipe waited for its other end
   10  an error of hvmx's own
   12  the guest reset the machine
   14  stopped by Ctrl-A x, SIGTERM or SIGHUP, or nobody reads standard output any more
   16  what it had to say could not be written: standard output, --stats, --serial, ...
    18  20  22  of `hvmx validate`, `calibrate`, `reproduce` and `compare`, whose help has them
  130  stopped by Ctrl-C
"""


def status_of(stop: Stop) -> int:
    """The exit status that tells how a run ended."""
    if stop.kind is StopKind.DEBUG_EXIT:
        return (stop.value << 1 | 1) & 0xFF
    return {
        StopKind.POWEROFF: Status.GOOD,
        StopKind.HALTED: Status.GOOD,
        StopKind.TRIPLE_FAULT: Status.CRASH,
        StopKind.CRASHED: Status.CRASH,
        StopKind.CYCLES: Status.LIMIT,
        StopKind.TIMEOUT: Status.LIMIT,
        StopKind.RESET: Status.RESET,
        StopKind.REQUESTED: Status.STOPPED,
    }[stop.kind]
