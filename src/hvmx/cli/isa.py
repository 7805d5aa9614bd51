"""``hvmx isa``."""

from __future__ import annotations

import click

from hvmx.cli.status import Status
from hvmx.isa.levels import DEFAULT_LEVEL, LEVELS


@click.command("isa")
@click.option(
    "--cpu",
    type=click.Choice(list(LEVELS)),
    default=DEFAULT_LEVEL.name,
    show_default=True,
    help="The level that is asked about.",
)
@click.option(
    "--missing", is_flag=True, help="Encodings that belong to the level and that hvmx does not implement."
)
@click.option("--outside", is_flag=True, help="Extensions that belong to no level, and why.")
def isa_command(cpu: str, missing: bool, outside: bool) -> int:
    """List the instructions of a processor level.

    Without an option: the rows of the instruction table that the level has, a line each, with opcode, operation,
    operands, code widths and the feature that brings them. With --missing they are compared with the list of all
    x86 encodings that iced-x86 has: what belongs to the level and is not implemented is printed, with the code widths
    and iced-x86's names of its features. Nothing is printed where nothing is missing.

    \b
    hvmx isa --cpu pentium                     what a Pentium has
    hvmx isa | grep 'sse4.2$'                  what SSE4.2 adds
    hvmx isa --missing --cpu x86-64-v2         what hvmx lacks of x86-64-v2
    hvmx isa --outside                         what it does not intend to have
    """
    from hvmx.isa import coverage, rows

    if missing and outside:
        raise click.UsageError("--missing and --outside are two questions")
    level = LEVELS[cpu]
    if outside:
        for reason in dict.fromkeys(coverage.OUTSIDE.values()):
            names = (name for name, why in coverage.OUTSIDE.items() if why == reason)
            click.echo(f"{reason}: {' '.join(names)}")
    elif missing:
        for encoding, lacking in coverage.missing(level):
            click.echo(f"{encoding.line} ({', '.join(map(str, lacking))} bits)")
    else:
        for row in rows():
            if row.feature in level.features:
                widths = ",".join(str(width) for width in row.modes if width < 64 or "lm" in level.features)
                if widths:
                    operands = ",".join(row.operands)
                    click.echo(f"{row.text:18} {row.family:12} {operands:16} {widths:9} {row.feature}")
    return Status.GOOD
