"""``hvmx calibrate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from hvmx.cli.outputs import STANDARD_ERROR, Outputs
from hvmx.cli.progress import progress_bars
from hvmx.cli.status import Status
from hvmx.cli.table import print_table
from hvmx.cost import BUNDLED, ProfileError, load_profile, read_profile

if TYPE_CHECKING:
    from hvmx.cost.calibrate import Calibration

DEFAULT_FILE = "calibrated.toml"

_LISTED = 4


@click.command("calibrate")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    default=DEFAULT_FILE,
    show_default=True,
    help="The file to write.",
)
@click.option(
    "--base",
    metavar="NAME|FILE",
    help="The profile that has what cannot be measured; by default the bundled one nearest to this processor.",
)
@click.option("--quick", is_flag=True, help="Fewer runs, and nothing about TLBs, caches and memory.")
@click.option("--force", is_flag=True, help="Write the file even if it is there.")
def calibrate_command(output: str, base: str | None, quick: bool, force: bool) -> int:
    """Measure this computer's processor, and write a cost profile.

    Machine code runs on the processor itself: chains of instructions for latencies, independent ones for throughputs,
    and loops for widths, branches, TLBs and caches, under three minutes in all. What was measured is marked so, with
    the processor's name and how far the measurements are apart. Exits, hypercalls and what else a program cannot
    measure is the base's, with its mark and source. Where too much else runs on this computer nothing is written (exit
    status 18), and the message says why. On a processor with two kinds of cores, choose one: taskset -c 0 hvmx
    calibrate.

    \b
    hvmx calibrate -o mine.toml
    hvmx run --profile mine.toml
    """
    from hvmx.cost.calibrate import CannotCalibrate, calibrate
    from hvmx.cost.calibrate.host import nearest_profile

    if output == STANDARD_ERROR:
        raise click.UsageError("--output: a profile goes to a file")
    if Path(output).exists() and not force:
        raise click.UsageError(f"--output: {output}: is there already; --force writes over it")
    with ExitStack() as stack:
        try:
            name = base or nearest_profile()
            load_profile(name)
            content = read_profile(name)
            inputs = {} if name in BUNDLED else {"--base": Path(name)}
            outputs = Outputs({"output": output}, inputs)
            _, reports = outputs.open(stack, None)
            with progress_bars() as bars:
                task = bars.add_task("whether this computer is quiet", total=None)
                found = calibrate(
                    name,
                    content,
                    quick=quick,
                    progress=lambda done, steps, key: bars.update(task, completed=done, total=steps, description=key),
                )
        except ProfileError as problem:
            raise click.UsageError(f"--base: {problem}") from problem
        except (CannotCalibrate, OSError) as problem:
            click.echo(f"hvmx: {problem}", err=True)
            return Status.UNABLE
        text = found.text()
        _require_loadable(text)
        with reports["output"].written() as file:
            file.write(text)
    print_table(_table(found))
    _print_rest(found, output)
    return Status.GOOD


def _require_loadable(text: str) -> None:
    """A profile that could not be used is an error of calibration's own, and not written."""
    with TemporaryDirectory() as folder:
        trial = Path(folder) / DEFAULT_FILE
        trial.write_text(text, encoding="utf-8")
        load_profile(trial)


def _table(found: Calibration) -> Any:
    """Figure, measured, base's; a figure that is the base's too is plain."""
    from hvmx.report.plain_table import plain_table

    table = plain_table(found.host.title)
    table.add_column("figure")
    table.add_column("measured")
    table.add_column(found.base_name)
    for finding in found.findings:
        before = found.base_entry(finding.key)
        same = all(before.get(name) == value for name, value in finding.values.items())
        table.add_row(
            finding.key,
            _shown(finding.values),
            "the same" if same else _shown({name: before.get(name) for name in finding.values}),
        )
    return table


def _shown(values: Mapping[str, Any]) -> str:
    parts = []
    for name, value in values.items():
        text = _listed(value) if isinstance(value, list | tuple) else "-" if value is None else str(value)
        parts.append(text if len(values) == 1 else f"{name} {text}")
    return ", ".join(parts)


def _listed(values: Sequence[Any]) -> str:
    """The first ones of a list, and how many more."""
    shown = " ".join(map(str, values[:_LISTED]))
    return shown if len(values) <= _LISTED else f"{shown} and {len(values) - _LISTED} more"


def _print_rest(found: Calibration, output: str) -> None:
    for what, figure in found.beside.items():
        click.echo(f"Not in the profile: {what}: {figure}")
    if found.missing:
        click.echo(f"Of {found.base_name}, as they could not be measured:")
        for key, why in found.missing.items():
            click.echo(f"  {key}: {why}")
    click.echo(f"{len(found.findings)} figures measured, written to {output}")
