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
@click.option("--where", metavar="OPERATION", help="The functions that execute an operation, and their files.")
def isa_command(cpu: str, missing: bool, outside: bool, where: str | None) -> int:
    """List the instructions of a processor level.

    Without an option: the rows of the instruction table that the level has, a line each, with opcode, operation,
    operands, code widths and the feature that brings them. With --missing they are compared with the list of all
    x86 encodings that iced-x86 has: what belongs to the level and is not implemented is printed, with the code widths
    and iced-x86's names of its features. Nothing is printed where nothing is missing. With --where, for each row of an
    operation: its functions, with the file of hvmx/core that has them or makes them, and for which width, place of the
    memory operand (NONE for registers only) and flags.

    \b
    hvmx isa --cpu pentium                     what a Pentium has
    hvmx isa | grep 'sse4.2$'                  what SSE4.2 adds
    hvmx isa --missing --cpu x86-64-v2         what hvmx lacks of x86-64-v2
    hvmx isa --outside                         what it does not intend to have
    hvmx isa --where add                       where ADD is executed
    """
    from hvmx.isa import coverage, rows
    from hvmx.isa.handlers import handlers_of

    if missing + outside + (where is not None) > 1:
        raise click.UsageError("--missing, --outside and --where are different questions")
    level = LEVELS[cpu]
    if where is not None:
        found = [row for row in rows() if row.family == where.lower()]
        if not found:
            raise click.UsageError(f"no operation {where!r} in the instruction table: hvmx isa lists them")
        for row in found:
            click.echo(f"{row.text:18} {row.family:12} {','.join(row.operands)}")
            for each in handlers_of(row):
                click.echo(f"    {each.name:24} {each.source:36} {each.width or 'any':>3} {each.address:8} {each.flags}")
        return Status.GOOD
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
