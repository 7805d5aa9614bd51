"""``hvmx compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from hvmx import guests
from hvmx.boot import ImageError
from hvmx.cli.options import (
    CACHES_OPTION,
    CYCLES,
    MEMORY_OPTION,
    PROFILE_OPTION,
    HostSeconds,
    Number,
    profile_as_asked,
)
from hvmx.cli.progress import steps
from hvmx.cli.status import Status
from hvmx.cli.table import print_table
from hvmx.comparison.ways import BY_NAME, WAYS, Way
from hvmx.cost import Profile

OPERATIONS = "\b\nOperations:\n" + "\n".join(
    f"    {name:15} {workload.does}" for name, workload in guests.WORKLOADS.items()
)


class Ways(click.ParamType[Sequence[Way]]):
    """Names of ways, with commas between them."""

    name = "way"

    def convert(self, value: str | Sequence[Way], param: click.Parameter | None, ctx: click.Context | None) -> Sequence[Way]:
        if not isinstance(value, str):
            return value
        known, asked = [way.name for way in WAYS], value.split(",")
        for name in asked:
            if name not in known:
                self.fail(f"no way {name!r}: there are {', '.join(known)}", param, ctx)
        return [way for way in WAYS if way.name in asked]


def _beginning_and_end(why: str) -> str:
    """Of what a failure says, without most of a guest's console between."""
    lines = why.splitlines()
    return why if len(lines) <= 10 else "\n".join([lines[0], "...", *lines[-8:]])


@click.command("compare", epilog=OPERATIONS)
@MEMORY_OPTION
@PROFILE_OPTION
@CACHES_OPTION
@click.option(
    "--ways",
    type=Ways(),
    default=WAYS,
    metavar="WAY[,WAY]...",
    help=f"Only these, with commas between them: {', '.join(f'{way.name} ({way.title})' for way in WAYS)}.",
)
@click.option("--cycles", type=CYCLES, help="End each run after so many guest cycles.")
@click.option("--timeout", type=HostSeconds(), help="A run that takes more seconds of host time has failed.")
@click.option("--jobs", type=Number(1, 4096), help="Runs at a time; unless given, one on each core.")
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Let the workers of a Dask cluster carry out the runs (pip install 'hvmx[dask]'): tcp://HOST:8786, say. Nothing but "
    "host time depends on who does.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="The same as CSV, a column for each way.")
@click.argument("workloads", nargs=-1, metavar="[OPERATION]...")
def compare_command(
    memory: int,
    profile: Profile,
    caches: bool | None,
    ways: Sequence[Way],
    cycles: int | None,
    timeout: float | None,
    jobs: int | None,
    scheduler: str | None,
    as_json: bool,
    as_csv: bool,
    workloads: Sequence[str],
) -> int:
    """Compare HVM with nested paging, HVM with shadow paging, PV, and the processor without a hypervisor.

    The bundled guest runs once each way, with the OPERATIONs given or with all. The table holds guest cycles per
    operation, each with the ratio to the cheapest way, then the counts of the whole runs. An operation that a way
    does not allow is left empty. Native is the HVM guest where no exit is priced and page walks have one dimension;
    where the profile has no figure for what a port takes, its operations with ports are left empty.

    \b
    hvmx compare                               all operations, each way
    hvmx compare pt-write tlb-miss             two of them
    hvmx compare --ways ept,native --csv       what nested paging and exits cost, for a spreadsheet
    hvmx compare --profile p4-672              on the first processor with VT-x

    A run that fails, and why, is named on standard error; the others are shown nevertheless, also after Ctrl-C.

    \b
    Exit status:
        0  all ran             2  a bad option, or no Dask cluster
        4  no bundled guest    6  a run failed    130  stopped by Ctrl-C
    """
    from hvmx.comparison import Interrupted, SchedulerError, compare
    from hvmx.report.comparison import comparison_csv, comparison_json, comparison_table

    for name in workloads:
        if name not in guests.WORKLOADS:
            raise click.UsageError(f"no operation {name!r}: there are {', '.join(guests.WORKLOADS)}")
    if as_json and as_csv:
        raise click.UsageError("--json and --csv are different formats")
    if jobs is not None and scheduler is not None:
        raise click.UsageError("--jobs is of this host, and --scheduler of others")
    profile = profile_as_asked(profile, caches)
    interrupted = False
    try:
        with steps("runs", len(ways)) as step:
            comparison = compare(
                ways=[way.name for way in ways], profiles=[profile], memory=memory, workloads=workloads,
                cycles=cycles, timeout=timeout, jobs=jobs, scheduler=scheduler, done=step,
            )  # fmt: skip
    except Interrupted as stop:
        comparison, interrupted = stop.comparison, True
    except FileNotFoundError as problem:
        raise ImageError(str(problem)) from problem
    except (MemoryError, SchedulerError) as problem:
        raise click.UsageError(str(problem)) from problem
    if as_json:
        click.echo(json.dumps(comparison_json(comparison, {profile.name: profile}), indent=2))
    elif as_csv:
        click.echo(comparison_csv(comparison), nl=False)
    elif comparison.outcomes:
        print_table(comparison_table(profile, comparison.of()))
    for failure in comparison.failures:
        click.echo(f"hvmx: {BY_NAME[failure.way].title}, {failure.profile}: {_beginning_and_end(failure.why)}", err=True)
    return Status.INTERRUPTED if interrupted else Status.CRASH if comparison.failures else Status.GOOD
