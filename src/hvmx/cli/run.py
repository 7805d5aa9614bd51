"""``hvmx run``: its options, and what it is asked to run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hvmx.boot import ImageError
from hvmx.cli.options import (
    ADDRESS,
    CACHES_OPTION,
    CYCLES,
    MEMORY_OPTION,
    PORT,
    PROFILE_OPTION,
    SEED,
    HostSeconds,
    OptionalValues,
    PortAndFile,
    Trace,
)
from hvmx.cli.session import Session
from hvmx.cli.status import STATUS_HELP
from hvmx.isa.levels import LEVELS


@click.command("run", epilog=STATUS_HELP, cls=OptionalValues)
@click.option("--pv", is_flag=True, help="Run a Xen PV kernel as a paravirtual guest.")
@MEMORY_OPTION
@PROFILE_OPTION
@CACHES_OPTION
@click.option(
    "--cpu",
    type=click.Choice(list(LEVELS)),
    help="The processor's level: its instructions and CPUID; above it an instruction is #UD, or has its older "
    "meaning. Default: the profile's (x86-64-v2; p4-672: x86-64-v1).",
)
@click.option(
    "--paging",
    type=click.Choice(["ept", "shadow"]),
    default="ept",
    show_default=True,
    help="HVM: nested paging (long walks, rare exits) or shadow paging (exits on page-table work).",
)
@click.option(
    "--append",
    default="",
    metavar="S",
    help="The kernel's command line; a Multiboot kernel's begins with the image's name.",
)
@click.option("--initrd", metavar="F", help="An initial RAM disk.")
@click.option(
    "--module", "modules", multiple=True, metavar="F", help="A Multiboot or PVH module; repeatable."
)
@click.option("--bios", metavar="F", help="A ROM image for the reset vector, instead of IMAGE.")
@click.option("--load-address", type=ADDRESS, help="Flat binary: where it is loaded.")
@click.option("--entry", type=ADDRESS, help="Flat binary: where it is entered.")
@click.option(
    "--bits", type=click.Choice(["16", "32", "64"]), help="Flat binary: the width it is entered in."
)
@click.option("--no-decompress", is_flag=True, help="Let a bzImage decompress itself, in the guest.")
@click.option(
    "--serial",
    default="stdio",
    show_default=True,
    metavar="stdio|FILE|null",
    help="Where the guest's serial port (PV: console) goes; stdio also gives it standard input. On a terminal, "
    "Ctrl-A x stops the run.",
)
@click.option(
    "--debug-exit", type=PORT, help="A write of VALUE there ends the run with status (VALUE << 1) | 1."
)
@click.option(
    "--debugcon", type=PortAndFile(), help="A port whose bytes go to FILE (standard error without)."
)
@click.option(
    "--seed", type=SEED, default=0, show_default=True, help="What RDRAND and RDSEED draw their numbers from."
)
@click.option("--record", metavar="FILE", help="Write the guest's input and when it came.")
@click.option("--replay", metavar="FILE", help="Give the guest the input that --record wrote, and no other.")
@click.option("--max-cycles", type=CYCLES, help="Stop after so many guest cycles.")
@click.option("--timeout", type=HostSeconds(), help="Stop after so many seconds of host time.")
@click.option("--stats", metavar="FILE.json", help="Write the counts of the run to a file.")
@click.option(
    "--hash",
    "with_hash",
    is_flag=True,
    help="A hash of the final memory and registers, in --stats and at the end.",
)
@click.option(
    "--trace", type=Trace(), metavar=Trace.name, help="A line for each exit, hypercall or instruction, to FILE (standard error without)."
)
@click.option(
    "--hot",
    metavar="[=FILE]",
    flag_value="-",
    is_flag=False,
    help="Where guest cycles went: the hottest symbols and blocks of code, and what held each. To FILE: as JSON (.json), "
    "for speedscope (.speedscope.json), else as tables; standard error without. The guest runs slower, and the same.",
)
@click.option(
    "--symbols",
    metavar="FILE",
    help="An ELF file with symbols (vmlinux) or a System.map: the names of code for --hot, by addresses as they are "
    "there, so that a kernel needs nokaslr. Default: the image's own, if it is an ELF file.",
)
@click.option(
    "--perfetto",
    metavar="FILE",
    help="What happened when, for ui.perfetto.dev: privilege levels, address spaces, exits, hypercalls, interrupts and "
    "exceptions, waiting. The axis is guest cycles: 1 ns there is one. A million of them; later ones are counted.",
)
@click.option("--quiet", is_flag=True, help="No exit table, no closing line.")
@click.argument("image", required=False)
def run_command(**options: Any) -> int:
    """Run a guest to its end.

    IMAGE is a file, whose format is told by its content (Linux bzImage, Multiboot or PVH ELF, with --pv an ELF with
    Xen's notes; a flat binary needs --load-address, --entry or --bits), or the name of a bundled guest: hvmx-hvm32,
    hvmx-hvm64, hvmx-pv64, or one workload of one, such as test-hvm64-pgfault. Without IMAGE or --bios it is
    hvmx-hvm64, or hvmx-pv64 with --pv. A bundled guest checks itself first, unless --append has checks=no; with
    workloads=A,B,... it runs these. What an operation costs is the same each way, and hvmx compare's figure.

    The guest's console is standard output, everything else standard error, which is - as a FILE to write. No file is
    touched before the guest is loaded; --stats, --record and --perfetto are written at the end, whole or not at all.
    """
    image, append, pv = bundled_image(options["image"], options["append"], options["pv"], options["bios"])
    given = click.get_current_context().get_parameter_source("paging")
    if pv and given is not ParameterSource.DEFAULT:
        raise click.UsageError("--paging is for HVM: a PV guest's page tables are the processor's own")
    return Session({**options, "image": image, "append": append, "pv": pv}).run()


def bundled_image(
    image: str | None, append: str, pv: bool, bios: str | None
) -> tuple[Path | None, str, bool]:
    """The file, command line and kind of what ``hvmx run`` was asked for; a file of that name goes first."""
    from hvmx import guests

    if image is None:
        if bios is not None:
            return None, append, pv
        image = "hvmx-pv64" if pv else "hvmx-hvm64"
    path = Path(image)
    kind, _, name = image.partition("-")
    if os.path.exists(path) or kind not in ("hvmx", "test"):
        return path, append, pv
    name, _, workload = name.partition("-")
    if name not in guests.NAMES or (kind == "hvmx") == bool(workload):
        return path, append, pv
    if workload and workload not in guests.WORKLOADS:
        raise click.UsageError(f"{image}: no workload {workload!r}: there are {', '.join(guests.WORKLOADS)}")
    if pv and name != "pv64":
        raise click.UsageError(f"{image} is no PV guest: that one is hvmx-pv64")
    try:
        built = guests.image(name)
    except FileNotFoundError as problem:
        raise ImageError(str(problem)) from problem
    selected = guests.command_line([workload] if workload else [], append)
    return built, selected, name == "pv64"
