"""The files that a run writes: opened once the guest is loaded, and never onto what it reads or onto each other.

What is written at the end takes the place of the file that was there in one step, or leaves it as it was.
"""

from __future__ import annotations

import errno
import io
import json
import os
import secrets
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TextIO, TypeGuard

import click

from hvmx.hvm.console import Output, StreamSink

STANDARD_ERROR = "-"
"""As the name of a file: standard output is the guest's console."""

_LAST_CHANCE = 0.1
"""Seconds of host time for who reads what is written at the end, also where the time of the run is over."""

Place = Path | int
"""A file by its name, or a descriptor that is open."""


class Outputs:
    """The files to write, by the option that names them; a number is a standard stream.

    UsageError where one is what ``inputs`` (by what messages call them) names too, or what another one is.
    """

    def __init__(self, named: Mapping[str, str | int], inputs: Mapping[str, Place]) -> None:
        self._named = named
        self._places = {option: self._place(option) for option in named}
        self._sinks: dict[str, StreamSink] = {}
        self._open: list[StreamSink | TextIO] = []
        read = {_identity(place): what for what, place in inputs.items()}
        read.pop(None, None)
        for stream in _standard_streams():
            if (key := _identity(stream)) in read:
                raise click.UsageError(f"standard output or error is {read[key]} too")
        written: dict[object, str] = {}
        for option, place in self._places.items():
            if (key := _identity(place)) in read:
                raise self._error(option, f"is {read[key]} too")
            # What goes to one open descriptor overwrites nothing.
            if key is not None and isinstance(place, Path) and written.setdefault(key, option) != option:
                raise self._error(option, f"is --{written[key]} too")

    def sink(self, option: str) -> StreamSink | None:
        """What takes the bytes of a device, if there is the option, once ``open`` was called."""
        return self._sinks.setdefault(option, StreamSink()) if option in self._named else None

    def open(self, stack: ExitStack, until: float | None) -> tuple[TextIO | None, dict[str, Report]]:
        """Open the sinks, --trace for lines, and the others for the end; ``stack`` closes them.

        After ``until``, in seconds of time.monotonic(), nothing waits for a reader.
        """
        trace, reports = None, {}
        files: dict[str, Path] = {o: place for o, place in self._places.items() if _is_regular(place)}
        others = {option: place for option, place in self._places.items() if option not in files}
        for option, path in files.items():
            with self._naming(option):
                _check_writable(path)
        # What may have to wait for a reader comes before anything is emptied.
        for option, place in [*others.items(), *files.items()]:
            with self._naming(option):
                if option in self._sinks:
                    self._sinks[option].open(Output(place, until))
                    stack.callback(self._sinks[option].close)
                    self._open.append(self._sinks[option])
                elif option == "trace":
                    trace = self._text(Output(place, until), stack)
                else:
                    reports[option] = self._report(option, place, until, stack)
        return trace, reports

    def flush(self) -> None:
        """Bring out what the guest and its trace have said so far, but for what nobody has taken in time."""
        for output in self._open:
            with suppress(TimeoutError):
                output.flush()

    def _report(self, option: str, place: Place, until: float | None, stack: ExitStack) -> Report:
        name = str(self._named[option])
        if _is_regular(place):
            target = Path(os.path.realpath(place))
            tempfile.TemporaryFile(dir=target.parent).close()  # as there will have to be one
            return Report(name, partial(_replacing, target))
        output = Output(place, until)
        return Report(name, partial(_directly, self._text(output, stack), output))

    def _text(self, output: Output, stack: ExitStack) -> TextIO:
        # Lines to a standard stream come between others.
        text = io.TextIOWrapper(
            io.BufferedWriter(output), encoding="utf-8", line_buffering=isinstance(output.name, int)
        )
        stack.enter_context(_closing(text))
        self._open.append(text)
        return text

    def _place(self, option: str) -> Place:
        """A path, or the standard stream whose file it is: written by another descriptor both would lose."""
        name = self._named[option]
        if isinstance(name, int):
            return name
        if name == STANDARD_ERROR:
            if sys.stderr is None:
                raise self._error(option, f"cannot be written: {os.strerror(errno.EBADF)}")
            return sys.stderr.fileno()
        for stream in _standard_streams():
            with suppress(OSError):
                if os.path.samestat(os.stat(name), os.fstat(stream)):
                    return stream
        return Path(name)

    @contextmanager
    def _naming(self, option: str) -> Iterator[None]:
        try:
            yield
        except OSError as problem:
            raise self._error(option, f"cannot be written: {problem.strerror}") from problem

    def _error(self, option: str, problem: str) -> click.UsageError:
        return click.UsageError(f"--{option}: {self._named[option]}: {problem}")


class Report:
    """A file that is written at the end."""

    def __init__(self, name: str, stream: Callable[[], AbstractContextManager[TextIO]]) -> None:
        self._name, self._stream = name, stream

    @contextmanager
    def written(self) -> Iterator[TextIO]:
        """What to write to; an OSError names the file."""
        try:
            with self._stream() as text:
                yield text
        except OSError as problem:
            problem.filename, problem.filename2 = self._name, None
            raise


def json_output(
    stack: ExitStack, output: str | None, inputs: Mapping[str, Path]
) -> Callable[[object], bool]:
    """``--json FILE``, known to be writable before the work takes its time. What this gives writes the result there; it says
    whether that was standard output, ``-``, where it stands in place of a table."""
    to_standard_output = output == "-"
    outputs = Outputs({} if output is None or to_standard_output else {"json": output}, inputs)
    report = outputs.open(stack, None)[1].get("json")

    def write(result: object) -> bool:
        text = json.dumps(result, indent=2)
        if to_standard_output:
            click.echo(text)
        elif report is not None:
            with report.written() as file:
                file.write(text + "\n")
        return to_standard_output

    return write


@contextmanager
def _directly(text: TextIO, output: Output) -> Iterator[TextIO]:
    """To what is no regular file, such as a pipe, or to an open descriptor."""
    if output.until is not None:
        output.until = max(output.until, time.monotonic() + _LAST_CHANCE)
    yield text
    text.flush()


@contextmanager
def _replacing(target: Path) -> Iterator[TextIO]:
    """To a new file, which takes the name of ``target`` once it is whole."""
    new = target.with_name(f".hvmx-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with open(descriptor, "w", encoding="utf-8") as text:
            with suppress(FileNotFoundError):
                before = target.stat()
                with suppress(PermissionError):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
            yield text
        os.replace(new, target)
    finally:
        new.unlink(missing_ok=True)


def _is_regular(place: Place) -> TypeGuard[Path]:
    """Whether it is a regular file, or none yet."""
    return isinstance(place, Path) and (place.is_file() or not place.exists())


def _check_writable(path: Path) -> None:
    """OSError where a regular file may not be written or made; nothing of it changes."""
    if path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    else:
        tempfile.TemporaryFile(dir=Path(os.path.realpath(path)).parent).close()


@contextmanager
def _closing(text: TextIO) -> Iterator[None]:
    """Close it at the end, but for what nobody has taken in time."""
    try:
        yield
    finally:
        with suppress(TimeoutError):
            text.close()


def _standard_streams() -> list[int]:
    """Standard output and error, as far as there are and they are files."""
    streams = []
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(io.UnsupportedOperation):
                streams.append(stream.fileno())
    return streams


def _identity(place: Place) -> object:
    """What all names of a file have in common; None for a device, pipe or terminal, where nothing is overwritten."""
    try:
        status = os.stat(place)
    except OSError:
        return None if isinstance(place, int) else os.path.realpath(place)
    kept = stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode)
    return (status.st_dev, status.st_ino) if kept else None
