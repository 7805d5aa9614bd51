"""``hvmx profiles``: which cost profiles there are, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from hvmx.cli.options import CostProfile
from hvmx.cli.status import Status
from hvmx.cli.table import print_table
from hvmx.cost import BUNDLED, Profile, load_profile

JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="The same as JSON.")


class ListUnlessShow(click.Group):
    """Files that are given without a subcommand are to be listed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        if first not in self.commands and first not in ctx.help_option_names:
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("profiles", cls=ListUnlessShow, subcommand_metavar="[FILE]... | show [NAME|FILE]...")
def profiles_command() -> None:
    """List cost profiles, and show what is in them.

    Without a subcommand: the bundled profiles and the FILES given, each with its processor, its sources and how many of
    its figures are measured, published, fitted and assumed. A file that cannot be used is an error that names its line.

    \b
    hvmx profiles                              the bundled ones
    hvmx profiles mine.toml                    and one of your own, which is checked
    hvmx profiles show skylake                 each figure, its mark and where it is from
    hvmx profiles show skylake mine.toml       the figures of both side by side
    hvmx profiles show p4-672 | grep '^exits'  what exits cost

    \b
    Exit status:
        0  all can be used     2  a bad option, or a profile that cannot be used
    """


@profiles_command.command("list")
@JSON_OPTION
@click.argument("files", nargs=-1, type=CostProfile(), metavar="[FILE]...")
def list_command(as_json: bool, files: Sequence[Profile]) -> int:
    """List the bundled profiles, and the FILES given: the same as `hvmx profiles` by itself."""
    from hvmx.report.profile_tables import list_table, summary_json

    profiles = _once([*map(load_profile, BUNDLED), *files])
    if as_json:
        click.echo(json.dumps([summary_json(profile) for profile in profiles], indent=2))
    else:
        print_table(list_table(profiles))
    return Status.GOOD


@profiles_command.command("show")
@click.option(
    "--profile", "chosen", multiple=True, type=CostProfile(), help="One more profile to show; may be given several times."
)
@JSON_OPTION
@click.argument("profiles", nargs=-1, type=CostProfile(), metavar="[NAME|FILE]...")
def show_command(chosen: Sequence[Profile], as_json: bool, profiles: Sequence[Profile]) -> int:
    """Show every figure of a profile: value, unit, mark, source, and where it is there.

    Those of several profiles stand side by side, each with its mark. A figure of an instruction is its latency, slots, pipes
    and whether it is serial; skylake.toml explains the keys. With --json it is a list with all of each profile.

    \b
    hvmx profiles show skylake
    hvmx profiles show --profile skylake --profile zen4
    """
    from hvmx.report.profile_tables import profile_json, profile_table, side_by_side

    shown = _once([*profiles, *chosen])
    if not shown:
        raise click.UsageError(f"which profile? There are {', '.join(BUNDLED)}, and files of your own")
    if as_json:
        click.echo(json.dumps([profile_json(profile) for profile in shown], indent=2))
    else:
        print_table(profile_table(shown[0]) if len(shown) == 1 else side_by_side(shown))
    return Status.GOOD


def _once(profiles: Sequence[Profile]) -> list[Profile]:
    """Each name once, where it was first."""
    return list({profile.name: profile for profile in profiles}.values())
