"""``hvmx compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from hvmx.boot import ImageError
from hvmx.cli.options import CACHES_OPTION, MEMORY_OPTION, PROFILE_OPTION, profile_as_asked
from hvmx.cli.status import Status
from hvmx.cli.table import print_table
from hvmx.cost import Profile


@click.command("compare")
@MEMORY_OPTION
@PROFILE_OPTION
@CACHES_OPTION
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.argument("workloads", nargs=-1, metavar="[OPERATION]...")
def compare_command(
    memory: int, profile: Profile, caches: bool | None, as_json: bool, workloads: Sequence[str]
) -> int:
    """Compare HVM with nested paging, HVM with shadow paging, and PV.

    The bundled guest runs once each way, with the OPERATIONs given or with all. The table holds guest cycles per
    operation, each with the ratio to the cheapest way, then the counts of the whole runs. An operation that a way
    does not allow is left empty.
    """
    from hvmx import guests
    from hvmx.report.comparison import GuestFailed, compare, comparison_json, comparison_table

    for name in workloads:
        if name not in guests.WORKLOADS:
            raise click.UsageError(f"no operation {name!r}: there are {', '.join(guests.WORKLOADS)}")
    profile = profile_as_asked(profile, caches)
    try:
        results = compare(profile, memory, workloads)
    except FileNotFoundError as problem:
        raise ImageError(str(problem)) from problem
    except MemoryError as problem:
        raise click.UsageError(str(problem)) from problem
    except GuestFailed as problem:
        click.echo(f"hvmx: {problem}", err=True)
        return Status.CRASH
    if as_json:
        click.echo(json.dumps(comparison_json(profile, results), indent=2))
    else:
        print_table(comparison_table(profile, results))
    return Status.GOOD
