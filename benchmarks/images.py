"""Build the benchmark kernels from their assembly source, and know how many instructions each retires."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

SOURCES: Final = Path(__file__).parent / "kernels"
GCC: Final = ("gcc", "-m32", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none")

FULL_ROUNDS: Final = {"alu": 235, "sieve": 30, "fib": 55}
"""Rounds of each timed kernel that make about 2 G instructions."""


@dataclass(frozen=True)
class Kernel:
    """One kernel at one length: ``rounds`` repetitions of its work."""

    name: str
    rounds: int

    @property
    def instructions(self) -> int:
        """Instructions that ``kernel()`` retires, its return included: exact, counted from the source."""
        return INSTRUCTIONS[self.name](self.rounds)

    def __str__(self) -> str:
        return f"{self.name} x {self.rounds}"


def _alu(rounds: int) -> int:
    return 9 + rounds * (1 + (9 + 8) * 500_000 + 2) + 7


def _sieve(rounds: int, size: int = 4194304, root: int = 2048) -> int:
    """Follow kernels/sieve.S: clear by words, strike out from each prime's square, count bytes."""
    composite = bytearray(root)
    strikes = primes = 0
    for number in range(2, root):
        if not composite[number]:
            primes += 1
            strikes += len(range(number * number, size, number))
            composite[number * number :: number] = b"\1" * len(range(number * number, root, number))
    clear = 1 + 4 * (size // 4)
    strike = 1 + 5 * (root - 2) + 2 * primes + 4 * strikes
    count = 2 + 5 * (size - 2)
    return 7 + rounds * (clear + strike + count + 2) + 6


def _fib(rounds: int, n: int = 30) -> int:
    """A call with n < 2 retires 9 instructions and there are F(n + 1) of them; the others, one fewer, 18."""
    leaves, previous = 1, 1
    for _ in range(n - 1):
        leaves, previous = leaves + previous, leaves
    return 4 + rounds * (2 + 9 * leaves + 18 * (leaves - 1) + 5) + 4


INSTRUCTIONS: Final = {
    "alu": _alu,
    "sieve": _sieve,
    "fib": _fib,
    "empty": lambda rounds: 2,
    "cpuid": lambda rounds: 3 + 4 * rounds + 4,
    "vmcall": lambda rounds: 2 + 4 * rounds + 2,
}


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hvmx-kernels-")


def _gcc(output: Path, *arguments: str | Path) -> Path:
    subprocess.run([*GCC, *arguments, "-o", output], cwd=SOURCES, check=True)
    return output


def _path(kernel: Kernel, suffix: str) -> Path:
    return Path(_directory().name) / f"{kernel.name}-{kernel.rounds}{suffix}"


@functools.cache
def multiboot(kernel: Kernel) -> Path:
    """The kernel as a Multiboot 1 ELF32 image."""
    script = ("-Wl,-T,kernel.ld", "-Wl,-z,max-page-size=4096", "-Wl,--no-warn-rwx-segments")
    sources = ("head.S", f"{kernel.name}.S")
    return _gcc(_path(kernel, ".elf"), f"-DROUNDS={kernel.rounds}", *script, *sources)


@functools.cache
def native(kernel: Kernel) -> Path:
    """The kernel as a static 32-bit Linux program."""
    return _gcc(_path(kernel, ""), f"-DROUNDS={kernel.rounds}", "native.S", f"{kernel.name}.S")


@dataclass(frozen=True)
class FlatImage:
    """The loaded bytes of a kernel image, and the addresses of its symbols."""

    load_address: int
    memory_size: int
    content: bytes
    entry: int
    report: int


@functools.cache
def flat(kernel: Kernel) -> FlatImage:
    """The one segment of the Multiboot image."""
    with multiboot(kernel).open("rb") as file:
        elf = ELFFile(file)
        (segment,) = (s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD")
        symbols = elf.get_section_by_name(".symtab")
        assert isinstance(symbols, SymbolTableSection)
        (report,) = symbols.get_symbol_by_name("report")
        return FlatImage(
            segment["p_paddr"], segment["p_memsz"], segment.data(), elf["e_entry"], report["st_value"]
        )


@functools.cache
def rom(kernel: Kernel) -> Path:
    """The kernel as a 64 KB system ROM, to be mapped at 0xffff0000."""
    image = flat(kernel)
    content = _path(kernel, ".bin")
    content.write_bytes(image.content)
    definitions = (
        f'-DIMAGE="{content}"',
        f"-DIMAGE_SIZE={len(image.content)}",
        f"-DENTRY={image.entry:#x}",
    )
    binary = ("-Wl,--oformat=binary", "-Wl,-Ttext=0", "-Wl,--section-start=.rom=0", "-Wl,-e,0")
    return _gcc(_path(kernel, ".rom"), *definitions, *binary, "rom.S")
