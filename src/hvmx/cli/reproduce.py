"""``hvmx reproduce``: a subcommand for each result."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvmx.boot import ImageError
from hvmx.cli.options import PROFILE_OPTION, HostSeconds, MemorySize
from hvmx.cli.outputs import json_output
from hvmx.cli.progress import progress_bars
from hvmx.cli.status import Status
from hvmx.cli.table import print_table
from hvmx.cost import Profile

if TYPE_CHECKING:
    from hvmx.reproduce.signs import Signs


@click.group("reproduce")
def reproduce_command() -> None:
    """Reproduce what others measured, on the same kind of guest.

    \b
    hvmx reproduce linux-signs          Linux's system calls, faults and processes, nested and shadow paging and PV
    """


@reproduce_command.command("linux-signs")
@click.option(
    "--kernel",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="VMLINUZ",
    help="A stock 64-bit kernel that also runs as a PV guest with a console: that of Debian's package linux-image-amd64. "
    "Unless given, the one that .ci/fetch-guests has unpacked below $HVMX_GUESTS or .guests.",
)
@click.option("--memory", type=MemorySize(), default="256M", show_default=True, help="Guest RAM: bytes, or with K, M or G.")
@PROFILE_OPTION
@click.option(
    "--json",
    "output",
    metavar="FILE",
    help="Write the same as JSON too, with counts of each boot; to - (standard output) instead of the table.",
)
@click.option("--timeout", type=HostSeconds(), default="600", show_default=True, help="Host time that a boot may take.")
@click.argument("operations", nargs=-1, metavar="[OPERATION]...")
def linux_signs_command(
    kernel: Path | None, memory: int, profile: Profile, output: str | None, timeout: float, operations: Sequence[str]
) -> int:
    """What Linux's services cost with nested paging, with shadow paging and as PV, and whether the signs are as published.

    A stock kernel boots five times: as HVM with nested and with shadow paging, each with page-table isolation (pti=on) and
    without (pti=off), and as PV. A program of a few kilobytes times the OPERATIONS given, or all: getpid, null-io, stat,
    signal-install, signal-handling, protection-fault, page-fault, fork, exec, sh and mmap, which are those of lmbench. The
    table has the guest cycles of one, and the ratios to nested paging beside published ones. Processor, kernel and program
    are others than in the source, so that sizes differ; a sign says which way is the dearer. It takes a minute or two of
    host time.

    \b
    Exit status:
        0  all signs that are published came out so
        2  a bad option, or no kernel     4  a bad image
        6  a kernel did not come to its end, or does not isolate as it was told
       22  a sign came out otherwise
    """
    from hvmx.comparison.runs import GuestFailed
    from hvmx.reproduce import signs
    from hvmx.reproduce.signs_table import signs_table

    for name in operations:
        if name not in signs.NAMES:
            raise click.UsageError(f"no operation {name!r}: there are {', '.join(signs.NAMES)}")
    kernel = kernel or signs.find_kernel()
    if kernel is None:
        raise click.UsageError(
            "no kernel: name one with --kernel (Debian: apt-get download linux-image-amd64 and the package that it depends "
            "on, dpkg -x; or .ci/fetch-guests)"
        )
    with ExitStack() as stack:
        write_json = json_output(stack, output, {"the kernel": kernel})
        try:
            found = _measure(kernel, profile, memory, operations, timeout)
        except FileNotFoundError as problem:
            raise ImageError(str(problem)) from problem
        except MemoryError as problem:
            raise click.UsageError(str(problem)) from problem
        except GuestFailed as problem:
            click.echo(f"hvmx: {problem}", err=True)
            return Status.CRASH
        instead_of_table = write_json(signs.signs_json(found))
    if not instead_of_table:
        print_table(signs_table(found))
    return Status.DIFFERENT if found.wrong else Status.GOOD


def _measure(kernel: Path, profile: Profile, memory: int, operations: Sequence[str], timeout: float) -> Signs:
    from hvmx.reproduce import signs

    boots = {}
    for way in signs.WAYS:
        # The boot itself is a step, and so is each operation.
        with progress_bars() as bars:
            task = bars.add_task(way.description, total=1 + len(operations or signs.NAMES))
            boots[way] = signs.boot(
                way, kernel, profile, memory, operations, timeout=timeout, done=partial(bars.advance, task)
            )
    return signs.Signs(profile, boots)
