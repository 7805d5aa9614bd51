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
GCC: Final = ("gcc", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none")

FULL_ROUNDS: Final = {"alu": 235, "sieve": 30, "fib": 55, "matrix": 200, "sha256": 350}
"""Rounds of each timed kernel that make 1.5 to 2 G instructions."""


@dataclass(frozen=True)
class Kernel:
    """One kernel at one length: ``rounds`` repetitions of its work."""

    name: str
    rounds: int

    @property
    def instructions(self) -> int:
        """Instructions of ``kernel()``, its return included (of the whole image for ``hypercall``): exact,
        counted from the source."""
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


def _matrix(rounds: int, n: int = 128) -> int:
    """Two matrices are filled, the product of each row's elements runs in pairs, and the words are added up."""
    row = 3 + 7 * n // 2 + 4
    fill = 6 + 9 * n * n
    return 4 + fill + 1 + rounds * (2 + n * (1 + n * row + 3) + 2) + 2 + 5 * 2 * n * n + 5


def _sha256(rounds: int, words: int = 16384) -> int:
    """Each block: its words, the 48 that follow from them, the working variables, 64 rounds, the new state."""
    block = 2 + 6 * 16 + 23 * 48 + 15 + 47 * 64 + 14 + 2
    return 5 + 5 * words + 1 + rounds * (1 + words // 16 * (6 + block) + 2) + 2 + block + 6


INSTRUCTIONS: Final = {
    "alu": _alu,
    "sieve": _sieve,
    "fib": _fib,
    "matrix": _matrix,
    "sha256": _sha256,
    "empty": lambda rounds: 2,
    "cpuid": lambda rounds: 3 + 4 * rounds + 4,
    "uart": lambda rounds: 3 + 3 * rounds + 3,
    "vmcall": lambda rounds: 2 + 4 * rounds + 2,
    "hypercall": lambda rounds: 2 + 5 * rounds + 5,
}


@functools.cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="hvmx-kernels-")


def _gcc(output: Path, *arguments: str | Path) -> Path:
    subprocess.run([*GCC, *arguments, "-o", output], cwd=SOURCES, check=True)
    return output


def _path(kernel: Kernel, suffix: str) -> Path:
    return Path(_directory().name) / f"{kernel.name}-{kernel.rounds}{suffix}"


def _linked(output: Path, script: str, *arguments: str) -> Path:
    """A guest image: one segment that is read, written and executed, as flat as the memory it goes to."""
    return _gcc(
        output, f"-Wl,-T,{script}", "-Wl,-z,max-page-size=4096", "-Wl,--no-warn-rwx-segments", *arguments
    )


@functools.cache
def multiboot(kernel: Kernel) -> Path:
    """The kernel as a Multiboot 1 ELF32 image."""
    sources = ("head.S", f"{kernel.name}.S")
    return _linked(_path(kernel, ".elf"), "kernel.ld", "-m32", f"-DROUNDS={kernel.rounds}", *sources)


@functools.cache
def xen_pv(kernel: Kernel) -> Path:
    """A 64-bit kernel as an ELF image with Xen's notes."""
    return _linked(
        _path(kernel, ".elf"), "xen_pv.ld", "-m64", f"-DROUNDS={kernel.rounds}", f"{kernel.name}.S"
    )


@functools.cache
def native(kernel: Kernel) -> Path:
    """The kernel as a static 32-bit Linux program."""
    return _gcc(_path(kernel, ""), "-m32", f"-DROUNDS={kernel.rounds}", "native.S", f"{kernel.name}.S")


@dataclass(frozen=True)
class FlatImage:
    """The loaded bytes of a kernel image, and the addresses of its symbols."""

    load_address: int
    memory_size: int
    content: bytes
    entry: int
    report: int
    halt: int


@functools.cache
def flat(kernel: Kernel) -> FlatImage:
    """The one segment of the Multiboot image, and the symbols of kernels/head.S."""
    with multiboot(kernel).open("rb") as file:
        elf = ELFFile(file)
        (segment,) = (s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD")
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        symbols = {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}
        return FlatImage(
            load_address=segment["p_paddr"],
            memory_size=segment["p_memsz"],
            content=segment.data(),
            entry=elf["e_entry"],
            report=symbols["report"],
            halt=symbols["halt"],
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
    return _gcc(_path(kernel, ".rom"), "-m32", *definitions, *binary, "rom.S")
