"""``hvmx reproduce``: a subcommand for each result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hvmx.cli.options import PROFILE_OPTION, CostProfile, HostSeconds, MemorySize, ProfileOption
from hvmx.cli.outputs import json_output
from hvmx.cli.problems import problems_told
from hvmx.cli.progress import progress_bars
from hvmx.cli.status import Status
from hvmx.cli.table import print_table
from hvmx.cost import Profile

if TYPE_CHECKING:
    from hvmx.reproduce.published import Publication, Row
    from hvmx.reproduce.signs import Signs, Way

_KERNEL_OPTION = click.option(
    "--kernel",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="VMLINUZ",
    help="A stock 64-bit kernel that also runs as a PV guest with a console: that of Debian's package linux-image-amd64. "
    "Unless given, the one that .ci/fetch-guests has unpacked below $HVMX_GUESTS or .guests. Its initial RAM disk is hvmx's "
    "own.",
)
_MEMORY_OPTION = click.option(
    "--memory", type=MemorySize(), default="256M", show_default=True, help="Guest RAM: bytes, or with K, M or G."
)
_TIMEOUT_OPTION = click.option(
    "--timeout", type=HostSeconds(), default="600", show_default=True, help="Host time that a boot may take."
)

_HOW_TO_GET_ONE = (
    "name one with --kernel (Debian: apt-get download linux-image-amd64 and the package that it depends on, dpkg -x; or "
    ".ci/fetch-guests)"
)


def _options_of_table(profile: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Those of a published table."""

    def add(command: Callable[..., int]) -> Callable[..., int]:
        for option in (
            click.argument("operations", nargs=-1, metavar="[OPERATION]..."),
            click.option(
                "--at-most",
                type=click.FloatRange(min=0),
                metavar="PERCENT",
                help="Fail (exit status 20) if the mean error of the predictions is greater.",
            ),
            click.option(
                "--json", "output", metavar="FILE", help="Write the same as JSON too; to - (standard output) instead of the table."
            ),
            click.option("--profile", cls=ProfileOption, type=CostProfile(), default=profile, show_default=True),
        ):
            command = option(command)
        return command

    return add


@click.group("reproduce")
def reproduce_command() -> None:
    """Reproduce what others measured, on the same kind of guest.

    \b
    hvmx reproduce adams-agesen-2006    single operations on the first VT-x and natively, beside a binary translator
    hvmx reproduce kvm-vmexit           kvm-unit-tests' exits
    hvmx reproduce pvm-sosp23           exits, and Linux's services with nested and shadow paging, in microseconds
    hvmx reproduce linux-signs          Linux's system calls, faults and processes, nested and shadow paging and PV

    The first three are tables of figures. Beside each stands what the model has, with its error, unless the cost profile
    was made from the figure: such a one is marked as fitted, since nothing is predicted by it. The last compares signs: which
    way is the dearer.
    """


@reproduce_command.command("linux-signs")
@_KERNEL_OPTION
@_MEMORY_OPTION
@PROFILE_OPTION
@click.option(
    "--json",
    "output",
    metavar="FILE",
    help="Write the same as JSON too, with counts of each boot; to - (standard output) instead of the table.",
)
@_TIMEOUT_OPTION
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

    _check(operations, signs.NAMES)
    kernel = _kernel(kernel, f"no kernel: {_HOW_TO_GET_ONE}")
    with ExitStack() as stack:
        write_json = json_output(stack, output, {"the kernel": kernel})
        try:
            with problems_told():
                found = _measure(kernel, profile, memory, operations, timeout)
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
        with _bar_of_boot(way, operations or signs.NAMES) as done:
            boots[way] = signs.boot(way, kernel, profile, memory, operations, timeout=timeout, done=done)
    return signs.Signs(profile, boots)


@reproduce_command.command("adams-agesen-2006")
@_options_of_table("p4-672")
def adams_agesen_command(profile: Profile, output: str | None, at_most: float | None, operations: Sequence[str]) -> int:
    """What single operations cost natively and under the first VMM with VT-x, as VMware measured it in 2006.

    Each operation runs by itself in a loop, in hvmx on the bare machine, natively and with shadow paging: there was no
    nested paging yet. OPERATIONS are in, cr8wr, callret, pgfault, divzero, ptemod and syscall; all unless given. The third
    column, of a binary translator, is as published: hvmx has none. A figure that the profile was made from says fitted in
    place of an error.

    \b
    Exit status:
        0  it was reproduced           2  a bad option
        4  the operations were not built here
        6  an operation does not come to its end
       20  the mean error is greater than --at-most
       22  another operation is the dearest than is published
    """
    from hvmx.reproduce.publications import ADAMS_AGESEN

    return _reproduce(ADAMS_AGESEN, profile, output, at_most, operations)


@reproduce_command.command("kvm-vmexit")
@_options_of_table("cascade-lake")
def kvm_vmexit_command(profile: Profile, output: str | None, at_most: float | None, operations: Sequence[str]) -> int:
    """What exits cost under KVM by kvm-unit-tests' vmexit, as a commit of Linux's has it.

    OPERATIONS are cpuid, vmcall, inl_from_qemu (a port of user space), mov_from_cr8 and mov_to_cr8; all unless given. The
    source does not state its processor. Unless you choose, the profile is one of whose exits no price is from this source, so
    that all is predicted; of skylake and nehalem some is, and says fitted.

    \b
    Exit status:
        0  it was reproduced           2  a bad option
        4  the operations were not built here
        6  an operation does not come to its end
       20  the mean error is greater than --at-most
       22  another operation is the dearest than is published
    """
    from hvmx.reproduce.publications import KVM_VMEXIT

    return _reproduce(KVM_VMEXIT, profile, output, at_most, operations)


@reproduce_command.command("pvm-sosp23")
@_KERNEL_OPTION
@_MEMORY_OPTION
@_TIMEOUT_OPTION
@_options_of_table("cascade-lake")
def pvm_command(
    kernel: Path | None,
    memory: int,
    timeout: float,
    profile: Profile,
    output: str | None,
    at_most: float | None,
    operations: Sequence[str],
) -> int:
    """What exits and Linux's services cost under KVM, with nested and with shadow paging, as the authors of PVM measured it.

    OPERATIONS are hypercall, exception, msr, cpuid and port-io, which run on the bare machine, and getpid, page-fault and fork,
    for which a stock kernel boots four times; all unless given. Times are guest time: guest cycles by the profile's clock.
    PVM's own column is as published. It takes some twenty seconds of host time; without getpid, page-fault and fork none, and
    no kernel is needed.

    \b
    hvmx reproduce pvm-sosp23 hypercall exception msr cpuid port-io         without a kernel
    hvmx reproduce pvm-sosp23 --kernel vmlinuz --json pvm.json

    \b
    Exit status:
        0  it was reproduced           2  a bad option, or no kernel
        4  a bad image, or the operations were not built here
        6  an operation or a kernel does not come to its end
       20  the mean error is greater than --at-most
       22  another operation is the dearest than is published
    """
    from hvmx.reproduce.publications import PVM_SOSP23

    rows = _chosen(PVM_SOSP23, operations)
    needing = dict.fromkeys(row.operation for row in rows if row.kernel)
    if not needing:
        return _reproduce(PVM_SOSP23, profile, output, at_most, operations)
    others = dict.fromkeys(row.operation for row in PVM_SOSP23.rows if not row.kernel)
    without = f"no kernel, for {', '.join(needing)}: {_HOW_TO_GET_ONE}; or ask for {' '.join(others)} only"
    kernel = _kernel(kernel, without)
    return _reproduce(PVM_SOSP23, profile, output, at_most, operations, _Linux(kernel, memory, timeout))


@dataclass(frozen=True)
class _Linux:
    """A kernel, and how it is booted for the rows that need one."""

    kernel: Path
    memory: int
    timeout: float

    def cycles(self, publication: Publication, rows: Sequence[Row], profile: Profile) -> Mapping[tuple[str, str], float]:
        from hvmx.reproduce.predictions import boots

        cycles: dict[tuple[str, str], float] = {}
        for boot in boots(publication, rows):
            with _bar_of_boot(boot.way, boot.rows) as done:
                cycles.update(boot.cycles(self.kernel, profile, self.memory, self.timeout, done))
        return cycles


def _kernel(named: Path | None, without: str) -> Path:
    """The one that was named, or else one that is found; UsageError where there is none."""
    from hvmx.reproduce import signs

    kernel = named or signs.find_kernel()
    if kernel is None:
        raise click.UsageError(without)
    return kernel


@contextmanager
def _bar_of_boot(way: Way, operations: Collection[object]) -> Iterator[Callable[[], object]]:
    """The boot itself is a step, and so is each operation: to be called after each."""
    with progress_bars() as bars:
        yield partial(bars.advance, bars.add_task(way.description, total=1 + len(operations)))


def _check(operations: Sequence[str], known: Collection[str]) -> None:
    """UsageError for a name that there is not."""
    for name in operations:
        if name not in known:
            raise click.UsageError(f"no operation {name!r}: there are {', '.join(known)}")


def _chosen(publication: Publication, operations: Sequence[str]) -> Sequence[Row]:
    _check(operations, publication.operations)
    return publication.chosen(operations)


def _reproduce(
    publication: Publication,
    profile: Profile,
    output: str | None,
    at_most: float | None,
    operations: Sequence[str],
    linux: _Linux | None = None,
) -> int:
    from hvmx.comparison.runs import GuestFailed
    from hvmx.reproduce.predictions import of_operations
    from hvmx.reproduce.published import published_json, reproduction
    from hvmx.reproduce.published_table import published_table, summary

    rows = _chosen(publication, operations)
    with ExitStack() as stack:
        write_json = json_output(stack, output, {} if linux is None else {"the kernel": linux.kernel})
        try:
            with problems_told():
                cycles = dict(of_operations(publication, rows, profile))
                if linux is not None:
                    cycles.update(linux.cycles(publication, rows, profile))
        except GuestFailed as problem:
            click.echo(f"hvmx: {problem}", err=True)
            return Status.CRASH
        found = reproduction(publication, profile, rows, cycles)
        instead_of_table = write_json(published_json(found))
    if not instead_of_table:
        print_table(published_table(found))
        click.echo(summary(found))
    if found.wrong_signs:
        return Status.DIFFERENT
    error = found.mean_error()
    if at_most is not None and error is not None and error * 100 > at_most:
        click.echo(f"hvmx: the mean error is {error:.1%}, more than {at_most:g}%", err=True)
        return Status.EXCEEDED
    return Status.GOOD

