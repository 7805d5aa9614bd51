"""The kinds of value that options of the command line have, and the options of more than one command."""

from __future__ import annotations

from typing import Any

import click

from hvmx.cost import BUNDLED, Profile, ProfileError, load_profile, marks_in_words


class MemorySize(click.ParamType[int]):
    """Bytes, with K, M or G."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from hvmx.machine import memory_size

        try:
            return memory_size(value)
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


class Number(click.ParamType[int]):
    """An integer in C's notation, within limits, which messages give as people write such numbers."""

    def __init__(self, least: int, most: int, name: str = "N", form: str = "d") -> None:
        self.least, self.most, self.name, self.form = least, most, name, form

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = value if isinstance(value, int) else int(value, 0)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not self.least <= number <= self.most:
            self.fail(
                f"{value} is not within {self.least:{self.form}} and {self.most:{self.form}}", param, ctx
            )
        return number


PORT = Number(0, 0xFFFF, "PORT", "#x")
ADDRESS = Number(0, (1 << 64) - 1, "ADDRESS", "#x")
SEED = Number(0, (1 << 64) - 1)
CYCLES = Number(1, (1 << 63) - 1)


class PortAndFile(click.ParamType[tuple[int, str | None]]):
    """PORT or PORT=FILE."""

    name = "PORT[=FILE]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, str | None]:
        port, _, path = value.partition("=")
        return PORT.convert(port, param, ctx), path or None


class Trace(click.ParamType[tuple[str, str | None]]):
    """What to trace, and =FILE."""

    KINDS = ("exits", "hypercalls", "instructions")
    name = f"{'|'.join(KINDS)}[=FILE]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str | None]:
        kind, _, path = value.partition("=")
        if kind not in self.KINDS:
            self.fail(f"{kind!r} is none of {', '.join(self.KINDS)}", param, ctx)
        return kind, path or None


class CostProfile(click.ParamType[Profile]):
    """A bundled profile or a file."""

    name = "NAME|FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Profile:
        try:
            return value if isinstance(value, Profile) else load_profile(value)
        except ProfileError as problem:
            self.fail(str(problem), param, ctx)


class HostSeconds(click.ParamType[float]):
    """More than 0 seconds."""

    name = "SECONDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from hvmx.machine import LONGEST_TIMEOUT

        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        if not 0 < seconds <= LONGEST_TIMEOUT:
            self.fail(f"{value} is not a positive number of seconds up to {LONGEST_TIMEOUT:g}", param, ctx)
        return seconds


class OptionalValues(click.Command):
    """A value that an option may lack is given after `=` only: the next word is never taken for it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        lacking = {
            name: f"{name}={param.flag_value}"
            for param in self.params
            if isinstance(param, click.Option) and not param.is_flag and isinstance(param.flag_value, str)
            for name in param.opts
        }
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*(lacking.get(word, word) for word in args[:end]), *args[end:]])


MEMORY_OPTION = click.option(
    "--memory",
    type=MemorySize(),
    default="128M",
    show_default=True,
    help="Guest RAM: bytes, or with K, M or G.",
)


class ProfileOption(click.Option):
    """Its help says what the figures of the bundled profiles are."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        known = (f"{name} ({marks_in_words(load_profile(name).marks())})" for name in BUNDLED)
        self.help = (
            f"What operations cost in guest cycles, by figures that are measured, published, fitted to "
            f"published ones, or assumed: {', '.join(known)}, or a TOML file of your own."
        )
        return super().get_help_record(ctx)


PROFILE_OPTION = click.option(
    "--profile", cls=ProfileOption, type=CostProfile(), default="skylake", show_default=True
)

CACHES_OPTION = click.option(
    "--caches/--no-caches",
    default=None,
    help="Model the data caches, or let every access hit the first level. Unless given, as the profile says: those that "
    "come with hvmx do not. Guests then run several times slower.",
)


def profile_as_asked(profile: Profile, caches: bool | None) -> Profile:
    """The chosen profile, with what ``CACHES_OPTION`` says of its caches."""
    return profile if caches is None else profile.with_caches(caches)
