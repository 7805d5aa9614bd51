"""``hvmx compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvmx import guests
from hvmx.boot import ImageError
from hvmx.cli.options import CACHES_OPTION, MEMORY_OPTION, PROFILE_OPTION, profile_as_asked
from hvmx.cli.status import Status
from hvmx.cli.table import print_table
from hvmx.comparison.ways import WAYS, Way
from hvmx.cost import Profile

if TYPE_CHECKING:
    from rich.table import Table

OPERATIONS = "\b\nOperations:\n" + "\n".join(
    f"    {name:15} {workload.does}" for name, workload in guests.WORKLOADS.items()
)


ROWS = ("performance", "compatibility", "security", "resources")
"""Of the comparison at a glance."""


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


def image_tables(ways: Sequence[Way], memory: int) -> list[Table]:
    """In which way each image can run, and why not in the others."""
    from hvmx.inspection import read_facts, ways_to_run
    from hvmx.report.inspection import way_table

    images = {guests.image(way.bundled): None for way in ways}
    facts = [read_facts(image, memory) for image in images]
    return [way_table(ways_to_run(found), memory, Path(found.name).name) for found in facts]


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
@click.option(
    "--details",
    type=click.Choice(ROWS),
    multiple=True,
    help="What is behind this row of the first table, in tables instead; can be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="The same as CSV, a column for each way.")
@click.argument("workloads", nargs=-1, metavar="[OPERATION]...")
def compare_command(
    memory: int,
    profile: Profile,
    caches: bool | None,
    ways: Sequence[Way],
    as_json: bool,
    as_csv: bool,
    details: Sequence[str],
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

    \b
    Exit status:
        0  all ran             2  a bad option
        4  no bundled guest    6  a guest failed
    """
    from hvmx.comparison.compare import compare
    from hvmx.comparison.runs import GuestFailed
    from hvmx.report.comparison import comparison_csv, comparison_json, comparison_table
    from hvmx.report.glance import glance_tables
    from hvmx.report.glance_details import DETAILS

    for name in workloads:
        if name not in guests.WORKLOADS:
            raise click.UsageError(f"no operation {name!r}: there are {', '.join(guests.WORKLOADS)}")
    if details and (as_json or as_csv):
        raise click.UsageError("--details are tables: --json has all of it")
    if as_json and as_csv:
        raise click.UsageError("--json and --csv are different formats")
    profile = profile_as_asked(profile, caches)
    try:
        comparison = compare(
            ways=[way.name for way in ways], profiles=[profile], memory=memory, workloads=workloads
        )
    except FileNotFoundError as problem:
        raise ImageError(str(problem)) from problem
    except MemoryError as problem:
        raise click.UsageError(str(problem)) from problem
    except GuestFailed as problem:
        click.echo(f"hvmx: {problem}", err=True)
        return Status.CRASH
    if as_json:
        click.echo(json.dumps(comparison_json(comparison, {profile.name: profile}), indent=2))
    elif as_csv:
        click.echo(comparison_csv(comparison), nl=False)
    else:
        outcomes = comparison.of()
        if details:
            tables = [table for row in details for table in DETAILS[row](outcomes)]
            if "compatibility" in details:
                tables += image_tables(ways, memory)
        else:
            tables = [*glance_tables(outcomes, comparison.refusals), comparison_table(profile, outcomes)]
        for index, table in enumerate(tables):
            if index:
                click.echo()
            print_table(table)
    return Status.GOOD
