"""The bundled guest is a real one: it boots and passes its own checks on other people's machines.

The HVM builds run under QEMU's translator, by Multiboot and by PVH; the PV build runs as dom0 on Debian's Xen,
itself under QEMU's translator.
"""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from guests import guest
from missing import missing

from hvmx.guests import NAMES, WORKLOADS, image_name, parse_benches
from hvmx.guests.build import BuildError, build

#: The self-checks of common/checks.c, in its order.
CHECKS = (
    "memory", "cpuid", "divide", "paging", "ticks", "system-call", "registers", "isolation", "user-faults",
    "user-ticks", "string", "fork", "pages",
)  # fmt: skip

DEBUG_EXIT = 0xF4
SUCCESS, FAILURE = 1, 3  # what QEMU's isa-debug-exit makes of 0 and 1
MULTIBOOT_MAGIC = bytes.fromhex("02b0ad1b")
PATIENCE = 120  # seconds of host time; a run takes about two


@dataclass(frozen=True)
class Run:
    """A guest's console and, where the peer has one, its exit status."""

    console: str
    status: int | None

    def checks(self) -> dict[str, str]:
        return dict(re.findall(r"^check (\S+): (.*)$", self.console, re.MULTILINE))


def peer(program: str) -> str:
    return shutil.which(program) or missing(f"peer {program} is not installed")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guests as the sources have them now, not as the package was built some time ago."""
    folder = tmp_path_factory.mktemp("guests")
    peer("gcc")
    build(folder)
    return folder


def qemu(*arguments: str) -> list[str]:
    return [
        peer("qemu-system-x86_64"), "-accel", "tcg", "-nodefaults", "-display", "none", "-no-reboot",
        "-serial", "stdio", *arguments,
    ]  # fmt: skip


def run_hvm(kernel: Path, command_line: str, *arguments: str) -> Run:
    device = f"isa-debug-exit,iobase={DEBUG_EXIT:#x},iosize=1"
    append = f"debug-exit={DEBUG_EXIT:#x} {command_line}"
    command = qemu("-m", "64", "-kernel", str(kernel), "-append", append, "-device", device, *arguments)
    result = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE
    )
    return Run(result.stdout.decode(errors="replace"), result.returncode)


def run_on_xen(kernel: Path, folder: Path, command_line: str) -> Run:
    """Runs ``kernel`` as dom0 until Xen says that it has gone; Xen itself then halts the machine for good."""
    hypervisor = folder / "xen.elf"
    hypervisor.write_bytes(gzip.decompress(guest("xen").read_bytes()))
    module = f"{kernel} {command_line}".replace(",", ",,")  # QEMU separates modules by single commas
    command = qemu(
        "-cpu", "qemu64", "-m", "512", "-kernel", str(hypervisor), "-append", "console=com1 com1=115200,8n1 noreboot",
        "-initrd", module,
    )  # fmt: skip
    stopped = re.compile(rb"Hardware Dom0 (halted|crashed)")
    lines = []
    with subprocess.Popen(
        ["timeout", str(PATIENCE), *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if stopped.search(line):
                break
        process.terminate()
    return Run(b"".join(lines).decode(errors="replace").replace("\r\n", "\n"), None)


@pytest.fixture(scope="module", params=["hvm32-multiboot", "hvm64-multiboot", "hvm64-pvh", "pv64-xen"])
def full_run(
    request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Everything that the guest does by default, once on each peer."""
    name, _, protocol = request.param.partition("-")
    kernel = images / image_name(name)
    if protocol == "xen":
        yield run_on_xen(kernel, tmp_path_factory.mktemp("xen"), "")
        return
    if protocol == "pvh":
        # QEMU tries Multiboot first: without the header's magic the same file boots by its PVH note.
        content = kernel.read_bytes()
        assert content.count(MULTIBOOT_MAGIC) == 1
        kernel = tmp_path_factory.mktemp("pvh") / kernel.name
        kernel.write_bytes(content.replace(MULTIBOOT_MAGIC, bytes(4)))
    run = run_hvm(kernel, "")
    assert f"guest {name} booted by {protocol}" in run.console, run.console
    assert run.status == SUCCESS, run.console
    yield run


def test_every_check_passes(full_run: Run) -> None:
    assert full_run.checks() == dict.fromkeys(CHECKS, "ok"), full_run.console
    assert "done, 0 checks failed" in full_run.console


def test_every_workload_has_its_line(full_run: Run) -> None:
    benches = parse_benches(full_run.console)
    assert tuple(benches) == tuple(WORKLOADS), full_run.console
    for name, bench in benches.items():
        assert bench.operations >= 10 and bench.cycles >= bench.operations, f"{name}: {bench}"
        line = f"bench {name} {bench.operations} {bench.cycles} "
        printed = int(re.search(rf"^{line}(\d+)$", full_run.console, re.MULTILINE).group(1))  # type: ignore[union-attr]
        assert abs(printed - bench.cycles_per_operation) <= 0.5, f"{name}: {printed} for {bench}"


@pytest.mark.parametrize("name", ["hvm32", "hvm64"])
def test_command_line_selects_workloads_in_its_order(images: Path, name: str) -> None:
    run = run_hvm(images / image_name(name), "checks=no workloads=cpuid,syscall")
    assert run.status == SUCCESS
    assert run.checks() == {}
    assert list(parse_benches(run.console)) == ["cpuid", "syscall"]


def test_unknown_workload_is_a_failure(images: Path) -> None:
    run = run_hvm(images / image_name("hvm32"), "checks=no workloads=cpuid,nonsense")
    assert run.status == FAILURE
    assert "1 unknown workloads" in run.console


def test_console_can_be_the_debug_console(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "debugcon"
    run = run_hvm(
        images / image_name("hvm64"),
        "checks=no workloads=cpuid console=debugcon",
        "-debugcon",
        f"file:{output}",
    )
    assert run.console == ""
    assert "guest hvm64 done" in output.read_text()


def test_command_line_reaches_the_guest_through_xen(images: Path, tmp_path: Path) -> None:
    run = run_on_xen(images / image_name("pv64"), tmp_path, "checks=no workloads=pt-write,cpuid")
    assert "guest pv64 booted by xen as dom0" in run.console, run.console
    assert list(parse_benches(run.console)) == ["pt-write", "cpuid"]
    assert "Hardware Dom0 halted" in run.console


def test_failed_guest_crashes_its_domain(images: Path, tmp_path: Path) -> None:
    run = run_on_xen(images / image_name("pv64"), tmp_path, "checks=no workloads=nonsense")
    assert "Hardware Dom0 crashed" in run.console, run.console


def test_build_is_silent_and_repeatable(
    images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    build(tmp_path)
    output = capfd.readouterr()
    assert output.out == output.err == "", "the compiler or the linker warns"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(image_name(name) for name in NAMES)
    for name in NAMES:
        again, first = ((folder / image_name(name)).read_bytes() for folder in (tmp_path, images))
        assert again == first, f"{name}: a second build differs"


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(BuildError, match="no-such-compiler"):
        build(tmp_path)


def test_guest_speaks_the_abi_of_xens_own_headers() -> None:
    source = Path(__file__).with_name("guest_xen_abi.c")
    if not Path("/usr/include/xen/xen.h").exists():
        missing("libxen-dev (Xen's public headers) is not installed")
    include = Path(__file__).resolve().parents[1] / "src/hvmx/guests/pv"
    command = [peer("gcc"), "-std=gnu11", "-fsyntax-only", "-I", str(include), str(source)]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
