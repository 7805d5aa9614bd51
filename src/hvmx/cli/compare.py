"""``hvmx compare``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hvmx import guests
from hvmx.cli.compare_files import (
    DIFF_OPTION,
    HTML_OPTION,
    PERFETTO_OPTION,
    PNG_OPTION,
    Earlier,
    files_output,
)
from hvmx.cli.options import (
    CACHES_OPTION,
    CYCLES,
    MEMORY_OPTION,
    CostProfile,
    HostSeconds,
    Number,
    ProfileOption,
    profile_as_asked,
)
from hvmx.cli.problems import problems_told
from hvmx.cli.progress import steps
from hvmx.cli.status import Status
from hvmx.cli.table import print_table
from hvmx.comparison.ways import BY_NAME, WAYS, Way
from hvmx.cost import Profile

if TYPE_CHECKING:
    from hvmx.comparison.outcome import Comparison

OPERATIONS = "\b\nOperations:\n" + "\n".join(
    f"    {name:15} {workload.does}" for name, workload in guests.WORKLOADS.items()
)


PASSED_ON = ("memory", "initrd", "append", "timeout", "jobs", "scheduler")
"""Options that are ``hvmx.compare``'s, too."""

WRITTEN = ("html", "png", "perfetto")
"""Options that name a file to write."""

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


def _beginning_and_end(why: str) -> str:
    """Of what a failure says, without most of a guest's console between."""
    lines = why.splitlines()
    return why if len(lines) <= 10 else "\n".join([lines[0], "...", *lines[-8:]])


@click.command("compare", epilog=OPERATIONS)
@MEMORY_OPTION
@click.option("--profile", "profiles", cls=ProfileOption, type=CostProfile(), multiple=True, default=["skylake"])
@CACHES_OPTION
@click.option(
    "--ways",
    type=Ways(),
    default=WAYS,
    metavar="WAY[,WAY]...",
    help=f"Only these, with commas between them: {', '.join(f'{way.name} ({way.title})' for way in WAYS)}.",
)
@click.option("--max-cycles", type=CYCLES, help="End each run after so many guest cycles.")
@click.option("--timeout", type=HostSeconds(), help="A run that takes more seconds of host time has failed.")
@click.option("--jobs", type=Number(1, 4096), help="Runs at a time; unless given, one on each core.")
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Let the workers of a Dask cluster carry out the runs (pip install 'hvmx[dask]'): tcp://HOST:8786, say. Nothing but "
    "host time depends on who does.",
)
@click.option("--initrd", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE", help="For an IMAGE.")
@click.option("--append", default="", metavar="TEXT", help="Command line of an IMAGE, the same each way.")
@click.option(
    "--explain", is_flag=True, help="Take each figure apart, to the last cycle: what was charged, at which price, and whose."
)
@click.option(
    "--details",
    type=click.Choice(ROWS),
    multiple=True,
    help="What is behind this row of the first table, in tables instead; can be given several times.",
)
@click.option("--json", "as_json", is_flag=True, help="All that was found, as JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="The figures of the table as CSV, one in a line.")
@HTML_OPTION
@PNG_OPTION
@PERFETTO_OPTION
@DIFF_OPTION
@click.argument("what", nargs=-1, metavar="[IMAGE | OPERATION]...")
def compare_command(**options: Any) -> int:
    """Compare HVM with nested paging, HVM with shadow paging, PV, and the processor without a hypervisor.

    A guest runs once each way: the bundled one, with the OPERATIONs given or with all, or a kernel of your own, whose
    IMAGE is read as by hvmx run. The first table says at a glance how the ways differ, in guest cycles, compatibility,
    security and resources; then comes what the runs took of this host. The last holds guest cycles per operation, each
    with the ratio to the cheapest way, then counts of the whole runs. An operation that a way does not allow is left
    empty. Native is the HVM guest where no exit is priced and page walks have one dimension; where the profile has no
    figure for what a port takes, its operations with ports are left empty. Several profiles have their tables each.

    \b
    hvmx compare                               all operations, each way
    hvmx compare pt-write tlb-miss             two of them
    hvmx compare --explain port-out            why it takes as many guest cycles as it does, each way
    hvmx compare --details security            what the guest could reach of the hypervisor, and did
    hvmx compare --ways ept,native --csv       what nested paging and exits cost, for a spreadsheet
    hvmx compare --profile p4-672              on the first processor with VT-x
    hvmx compare --memory 256M vmlinuz --initrd initrd --append "console=hvc0 console=ttyS0"
    hvmx compare --html rift.html              a page with charts, to show to others
    hvmx compare --json > old.json             to be kept
    hvmx compare --diff old.json               what has changed since

    A run that fails, and why, is named on standard error; the others are shown nevertheless, also after Ctrl-C.

    \b
    Exit status:
        0  all ran             2  a bad option, or no Dask cluster
        4  a bad image, or no bundled guest
        6  a run failed       16  a file could not be written
       22  some figure is another than in the file of --diff
      130  stopped by Ctrl-C
    """
    images, workloads = _images_and_workloads(options["what"])
    _check(options, images)
    chosen = [profile_as_asked(profile, options["caches"]) for profile in options["profiles"]]
    by_name = {profile.name: profile for profile in chosen}
    earlier = None if options["diff"] is None else Earlier(options["diff"])
    with ExitStack() as stack:
        write_files = files_output(stack, {name: options[name] for name in WRITTEN}, _read(options, images))
        comparison, interrupted = _compared(images, workloads, chosen, options)
        write_files(comparison, by_name)
    status: int = Status.INTERRUPTED if interrupted else Status.CRASH if comparison.failures else Status.GOOD
    if earlier is not None:
        from hvmx.report.comparison import comparison_json

        differences = earlier.print_differences(comparison_json(comparison, by_name))
        status = status or differences
    else:
        _print(comparison, by_name, images, workloads, options)
    for failure in comparison.failures:
        who = f"{failure.guest}, {BY_NAME[failure.way].title}, {failure.profile}"
        click.echo(f"hvmx: {who}: {_beginning_and_end(failure.why)}", err=True)
    return status


def _check(options: Mapping[str, Any], images: Sequence[Path]) -> None:
    """UsageError for options that do not go together."""
    if sum((options["as_json"], options["as_csv"], options["diff"] is not None)) > 1:
        raise click.UsageError("--json, --csv and --diff print different things: one of them at a time")
    if options["details"] and (
        options["as_json"] or options["as_csv"] or options["explain"] or options["diff"] is not None
    ):
        raise click.UsageError("--details are tables of their own: --json has all of it, --explain is for operations")
    if options["jobs"] is not None and options["scheduler"] is not None:
        raise click.UsageError("--jobs is of this host, and --scheduler of others")
    if not images and options["initrd"] is not None:
        raise click.UsageError("--initrd is for an image of your own")


def _read(options: Mapping[str, Any], images: Sequence[Path]) -> dict[str, Path]:
    """The files that are read."""
    files = {"the file of --diff": options["diff"], "the initrd": options["initrd"]}
    files |= {f"the image {image}": image for image in images}
    return {what: path for what, path in files.items() if path is not None}


def _print(
    comparison: Comparison,
    profiles: Mapping[str, Profile],
    images: Sequence[Path],
    workloads: Sequence[str],
    options: Mapping[str, Any],
) -> None:
    from hvmx.report.comparison import comparison_csv, comparison_json

    if options["as_json"]:
        click.echo(json.dumps(comparison_json(comparison, profiles), indent=2))
    elif options["as_csv"]:
        click.echo(comparison_csv(comparison), nl=False)
    else:
        _print_tables(comparison, profiles, workloads if options["explain"] else None, options["details"])
        if "compatibility" in options["details"]:
            bundled = dict.fromkeys(guests.image(way.bundled) for way in options["ways"])
            _print_ways(images or bundled, options["memory"])


def _compared(
    images: Sequence[Path], workloads: Sequence[str], profiles: Sequence[Profile], options: Mapping[str, Any]
) -> tuple[Comparison, bool]:
    """What came of the runs, and whether Ctrl-C stopped them."""
    from hvmx.comparison.cluster import SchedulerError
    from hvmx.comparison.side_by_side import Interrupted, compare

    ways = [way.name for way in options["ways"]]
    try:
        with problems_told(), steps("runs", len(ways) * len(profiles) * (len(images) or 1)) as step:
            return compare(
                *images, ways=ways, profiles=profiles, workloads=() if options["explain"] else workloads, cycles=options["max_cycles"],
                timeline=options["perfetto"] is not None, done=step, **{name: options[name] for name in PASSED_ON},
            ), False  # fmt: skip
    except Interrupted as stop:
        return stop.comparison, True
    except SchedulerError as problem:
        raise click.UsageError(str(problem)) from problem


def _images_and_workloads(what: Sequence[str]) -> tuple[list[Path], list[str]]:
    """An operation by its name, or else a file; ``./syscall`` is a file whatever it is called."""
    workloads = [word for word in what if word in guests.WORKLOADS]
    images = [Path(word) for word in what if word not in guests.WORKLOADS]
    for image in images:
        if not image.exists():
            operations = ", ".join(guests.WORKLOADS)
            raise click.UsageError(f"no operation {str(image)!r}, and no image of that name: operations are {operations}")
    if images and workloads:
        raise click.UsageError(f"{workloads[0]}: operations are the bundled guest's, not {images[0]}'s")
    return images, workloads


def _print_tables(
    comparison: Comparison, profiles: Mapping[str, Profile], explain: Sequence[str] | None, details: Sequence[str]
) -> None:
    """``explain``: these operations, or if there are none all; None for the tables."""
    from hvmx.report.comparison import comparison_table
    from hvmx.report.explanation import explanation, explanation_of_runs
    from hvmx.report.glance import glance_tables
    from hvmx.report.glance_details import DETAILS

    for guest, name in comparison.pairs():
        profile, outcomes = profiles[name], comparison.of(guest, name)
        refusals = [refusal for refusal in comparison.refusals if (refusal.guest, refusal.profile) == (guest, name)]
        if outcomes and explain is None and not details:
            for table in (*glance_tables(outcomes, refusals), comparison_table(profile, outcomes)):
                print_table(table)
                click.echo()
            continue
        for refusal in refusals:
            click.echo(f"{BY_NAME[refusal.way].title}: {refusal.why}", err=True)
        if not outcomes:
            continue
        if details:
            for table in (table for row in details for table in DETAILS[row](outcomes)):
                print_table(table)
                click.echo()
            continue
        operations = dict.fromkeys(name for outcome in outcomes.values() for name in outcome.operations)
        for operation in operations:
            if not explain or operation in explain:
                print_table(explanation(profile, outcomes, operation))
                click.echo()
        if not operations:
            print_table(explanation_of_runs(profile, outcomes))


def _print_ways(images: Iterable[Path], memory: int) -> None:
    """In which way each image can run, and why not in the others."""
    from hvmx.inspection import read_facts, ways_to_run
    from hvmx.report.inspection import way_table

    for image in images:
        print_table(way_table(ways_to_run(read_facts(image, memory)), memory, image.name))
        click.echo()
