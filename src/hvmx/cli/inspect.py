"""``hvmx inspect``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from hvmx.cli.options import MEMORY_OPTION, OptionalValues
from hvmx.cli.outputs import json_output
from hvmx.cli.run import bundled_image
from hvmx.cli.status import Status
from hvmx.cli.table import print_table


@click.command("inspect", cls=OptionalValues)
@MEMORY_OPTION
@click.option(
    "--json",
    "output",
    metavar="[=FILE]",
    flag_value="-",
    is_flag=False,
    help="The same as JSON instead, on standard output; or to FILE, besides the tables.",
)
@click.argument("image")
def inspect_command(memory: int, output: str | None, image: str) -> int:
    """Say what an image is and how it can run.

    IMAGE is a file or the name of a bundled guest, as for hvmx run, and is read as there: nothing runs. The first
    table has the formats found in it, with the payload of a bzImage unpacked, its size, the addresses at which it can
    be entered, and the features that a Linux or Xen kernel declares; then come the ELF notes, Xen's by their names,
    and the segments. The last table has a line for each way of running: yes, with the entry; no, with the reason; or
    "if told", which holds of any file: nothing in this one says that it is a flat binary or a ROM. A way that is yes
    fits into --memory with neither command line nor initrd. What hvmx run does with the image is the way whose options
    it gets.

    Numbers are hexadecimal. In JSON sizes are numbers, and addresses, flags and values are hexadecimal text.

    \b
    hvmx inspect vmlinuz                        a stock kernel: HVM, PV or both?
    hvmx inspect --json hvmx-pv64 | jq .notes   the Xen notes of the bundled PV guest

    \b
    Exit status:
        0  it can run in some way, and not only if told
        2  a bad option
        4  it cannot, or cannot be read
       16  what there is to say could not be written
    """
    from hvmx.inspection import Verdict, read_facts, ways_to_run
    from hvmx.report.inspection import inspection_json, inspection_tables

    path, _, _ = bundled_image(image, "", False, None)
    assert path is not None, "there is an image"
    with ExitStack() as stack:
        write_json = json_output(stack, output, {"the image": Path(path)})
        try:
            facts = read_facts(path, memory)
            ways = ways_to_run(facts)
        except MemoryError as problem:
            raise click.UsageError(str(problem)) from problem
        instead_of_tables = write_json(inspection_json(facts, ways))
    if not instead_of_tables:
        for index, table in enumerate(inspection_tables(facts, ways)):
            if index:
                click.echo()
            print_table(table)
    return Status.GOOD if any(way.verdict is Verdict.YES for way in ways) else Status.BAD_IMAGE
