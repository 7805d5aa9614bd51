"""The emulators that hvmx is timed beside, the processor itself, and hvmx: one way to run a kernel on each.

Host seconds are those of the kernel's work alone. Where a peer is a process, the shortest time that the same
process takes for a kernel that does nothing is subtracted: it holds the peer's start, its firmware, the
loading of the image and its end.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import expected
import images
from images import Kernel

if TYPE_CHECKING:
    from unicorn import Uc

MEMORY_MB: Final = 64
TIMEOUT_SECONDS: Final = 600
EMULATOR_EXIT_STATUS: Final = 0x10 << 1 | 1
"""What kernels/head.S writes to the debug-exit port, as QEMU and hvmx turn it into an exit status."""
HVMX_RUN: Final = (sys.executable, "-c", "import sys; from hvmx.cli import main; sys.exit(main())", "run")
EMPTY: Final = Kernel("empty", 1)


@dataclass(frozen=True)
class PeerRun:
    """Host seconds from start to end; just before, with a kernel that does nothing (0 where the clock runs for the
    kernel's own work alone); and the checksum that the kernel left."""

    host_seconds: float
    start_seconds: float
    checksum: int


@dataclass(frozen=True)
class HvmxRun(PeerRun):
    """What hvmx counts besides, image start and end included."""

    counted: dict[str, Any]
    """As ``expected.counts`` has it."""


class Peer(Protocol):
    """Something that runs a kernel."""

    name: str

    def missing(self) -> str | None:
        """Why this peer cannot run here; None when it can."""

    def run(self, kernel: Kernel) -> PeerRun:
        """Run the kernel to its end. RuntimeError when it does not get there."""


def _timed(
    command: list[str],
    status: int,
    stdin: int = subprocess.DEVNULL,
    stderr: int | None = None,
    environment: dict[str, str] | None = None,
) -> tuple[float, str]:
    """Host seconds and standard output of a process that must end with the given exit status."""
    start = time.perf_counter()
    process = subprocess.run(
        command,
        check=False,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment,
        text=True,
        timeout=TIMEOUT_SECONDS,
    )
    elapsed = time.perf_counter() - start
    if process.returncode != status:
        raise RuntimeError(
            f"{command[0]} ended with status {process.returncode}, not {status}: {process.stdout}"
        )
    return elapsed, process.stdout


def _checksum(output: str) -> int:
    """The line of eight hexadecimal digits that a kernel prints."""
    (digits,) = re.findall(r"^([0-9a-f]{8})$", output, re.MULTILINE)
    return int(digits, 16)


class _Process:
    """A peer that is a process."""

    def _process(self, kernel: Kernel) -> tuple[float, str]:
        raise NotImplementedError

    def run(self, kernel: Kernel) -> PeerRun:
        start_seconds, _ = self._process(EMPTY)
        elapsed, output = self._process(kernel)
        return PeerRun(elapsed, start_seconds, _checksum(output))


class Native(_Process):
    """The processor itself, running the same instructions as a 32-bit Linux program."""

    name = "native"

    def missing(self) -> str | None:
        try:
            self._process(EMPTY)
        except (OSError, subprocess.CalledProcessError) as error:
            return f"32-bit programs do not build or run here: {error}"
        return None

    def _process(self, kernel: Kernel) -> tuple[float, str]:
        return _timed([str(images.native(kernel))], 0)


class Qemu(_Process):
    """QEMU's translator (TCG)."""

    name = "QEMU TCG"
    command = "qemu-system-i386"

    def missing(self) -> str | None:
        return None if shutil.which(self.command) else f"{self.command} is not installed"

    def _process(self, kernel: Kernel) -> tuple[float, str]:
        options = f"-accel tcg -M pc -m {MEMORY_MB} -display none -nodefaults -chardev stdio,id=console"
        devices = "-device isa-debugcon,iobase=0xe9,chardev=console -device isa-debug-exit,iobase=0xf4"
        command = [self.command, *options.split(), *devices.split(), "-kernel", str(images.multiboot(kernel))]
        return _timed(command, EMULATOR_EXIT_STATUS)


class Bochs(_Process):
    """Bochs, an interpreter. It has no Multiboot loader, so the kernel is its system ROM."""

    name = "Bochs"
    command = "bochs"
    SHUTDOWN_STATUS: Final = 1

    def missing(self) -> str | None:
        if not shutil.which(self.command):
            return f"{self.command} is not installed"
        try:
            self._process(EMPTY)
        except RuntimeError as error:
            return f"{self.command} does not run without a display: {error}"
        return None

    def instructions(self, kernel: Kernel) -> int:
        """Instructions from reset to the end, ROM included, as its debugger reports the time."""
        (ticks,) = re.findall(r"^\(0\)\.\[(\d+)\]", self._process(kernel)[1], re.MULTILINE)
        return int(ticks)

    def _process(self, kernel: Kernel) -> tuple[float, str]:
        with tempfile.TemporaryDirectory(prefix="hvmx-bochs-") as directory:
            configuration = Path(directory, "bochsrc")
            configuration.write_text(
                f"romimage: file={images.rom(kernel)}, address=0xffff0000\n"
                f"memory: guest={MEMORY_MB}, host={MEMORY_MB}\n"
                "display_library: term\n"
                "port_e9_hack: enabled=1\n"
                "plugin_ctrl: speaker=0\n"  # without a sound card Bochs 2.7 dies of its ALSA driver
                "clock: sync=none\n"
                "panic: action=fatal\n"
                f"log: {directory}/log\n"
            )
            debugger_commands = Path(directory, "rc")
            debugger_commands.write_text("continue\n")
            # The text display wants a terminal; standard output has only the kernel's digits and messages.
            controller, terminal = pty.openpty()
            try:
                return _timed(
                    [self.command, "-q", "-f", str(configuration), "-rc", str(debugger_commands)],
                    self.SHUTDOWN_STATUS,
                    stdin=terminal,
                    stderr=terminal,
                    environment={**os.environ, "TERM": "xterm"},
                )
            finally:
                os.close(terminal)
                os.close(controller)


class Unicorn:
    """Unicorn, in process and without hooks: QEMU's translator as a library. Its start is not in the time."""

    name = "Unicorn"

    def missing(self) -> str | None:
        return None if importlib.util.find_spec("unicorn") else "the Python package unicorn is not installed"

    def run(self, kernel: Kernel) -> PeerRun:
        from unicorn.x86_const import UC_X86_REG_EAX

        image = images.flat(kernel)
        machine = unicorn_machine(kernel)
        start = time.perf_counter()
        machine.emu_start(image.entry, image.report)
        elapsed = time.perf_counter() - start
        return PeerRun(elapsed, 0, machine.reg_read(UC_X86_REG_EAX))


def unicorn_machine(kernel: Kernel) -> Uc:
    """A Unicorn machine with the kernel in its memory."""
    import unicorn

    image = images.flat(kernel)
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_32)
    machine.mem_map(0, MEMORY_MB << 20)
    machine.mem_write(image.load_address, image.content)
    return machine


class Hvmx(_Process):
    """hvmx by its command line, as HVM with its defaults."""

    name = "hvmx"

    def options(self, directory: str) -> tuple[str, ...]:
        """More options of the command; files that they need go into the directory."""
        return ()

    def missing(self) -> str | None:
        try:
            importlib.import_module("hvmx.cli")
        except ImportError as error:
            return f"it cannot be imported: {error}"
        return None

    def run(self, kernel: Kernel) -> HvmxRun:
        run = super().run(kernel)
        return HvmxRun(**vars(run), counted=expected.counts(self.stats))

    def _process(self, kernel: Kernel) -> tuple[float, str]:
        with tempfile.TemporaryDirectory(prefix="hvmx-run-") as directory:
            stats, console = Path(directory, "stats.json"), Path(directory, "console")
            elapsed, _ = _timed(
                [
                    *HVMX_RUN,
                    *("--memory", f"{MEMORY_MB}M", "--debug-exit", "0xf4", "--debugcon", f"0xe9={console}"),
                    *("--quiet", "--stats", str(stats), *self.options(directory), str(images.multiboot(kernel))),
                ],
                EMULATOR_EXIT_STATUS,
            )
            self.stats = json.loads(stats.read_text())
            return elapsed, console.read_text()


def all_branches_predicted(directory: str | Path) -> Path:
    """The default profile, but with every branch predicted, as a file of this directory."""
    content = files("hvmx.cost").joinpath("skylake.toml").read_text()
    profile = Path(directory, "all-predicted.toml")
    profile.write_text(content.replace("predictor = true", "predictor = false"))
    return profile


class HvmxAllPredicted(Hvmx):
    """The same with a profile in which every branch is predicted."""

    name = "hvmx without predictor"

    def options(self, directory: str) -> tuple[str, ...]:
        return ("--profile", str(all_branches_predicted(directory)))


EMULATORS: Final[tuple[Peer, ...]] = (Qemu(), Unicorn(), Bochs())
