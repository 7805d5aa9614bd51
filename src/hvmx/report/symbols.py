"""Names of code: what an ELF file or a Linux System.map says of addresses."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from hvmx.boot.elf import MAGIC

_CODE_LETTERS = frozenset("tTwW")
"""Of nm(1), whose format System.map has: in the text section, and weak."""


@dataclass(frozen=True)
class Symbols:
    """What lies where: each name counts up to the next address; None ends one without beginning another."""

    addresses: list[int]
    names: list[str | None]

    def find(self, address: int) -> tuple[str, int] | None:
        """The nearest symbol below, and how far below it is."""
        index = bisect_right(self.addresses, address) - 1
        if index < 0 or (name := self.names[index]) is None:
            return None
        return name, address - self.addresses[index]


NO_SYMBOLS = Symbols([], [])


def is_elf(path: Path) -> bool:
    """A file, that is: what comes through a pipe can be read but once."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_symbols(path: Path) -> Symbols:
    """Of an ELF file or a System.map. ValueError for what is neither or names no code, OSError for what cannot be read."""
    found = _of_file(path)
    if not any(found.names):
        raise ValueError("it names no code")
    return found


def _of_file(path: Path) -> Symbols:
    if is_elf(path):
        try:
            with path.open("rb") as file:
                return _of_elf(ELFFile(file))
        except (ELFError, UnicodeDecodeError) as problem:
            raise ValueError(f"its symbols cannot be read: {problem}") from problem
    try:
        return _of_map(path.read_text("ascii").splitlines())
    except UnicodeDecodeError as problem:
        raise ValueError("neither an ELF file nor a System.map") from problem


def _of_elf(elf: ELFFile) -> Symbols:
    """Functions and labels of the sections that are executed; where several are at one address, a function goes first."""
    found: dict[int, tuple[int, str | None]] = {}
    code = {}
    for index, section in enumerate(elf.iter_sections()):
        if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR:
            code[index] = section
            found[section["sh_addr"] + section["sh_size"]] = (3, None)
    for table in elf.iter_sections():
        if not isinstance(table, SymbolTableSection):
            continue
        for symbol in table.iter_symbols():
            kind = symbol["st_info"]["type"]
            rank = {"STT_FUNC": 0, "STT_NOTYPE": 1}.get(kind)
            if rank is not None and symbol["st_shndx"] in code and symbol.name:
                address = symbol["st_value"]
                found[address] = min(found.get(address, (4, None)), (rank, symbol.name))
    return _sorted((address, name) for address, (_, name) in found.items())


def _of_map(lines: Iterable[str]) -> Symbols:
    found: dict[int, str | None] = {}
    for line in lines:
        match line.split():
            case [address, kind, name, *_] if len(kind) == 1:
                try:
                    value = int(address, 16)
                except ValueError as problem:
                    raise ValueError(f"no line of a System.map: {line[:80]!r}") from problem
                # Data ends the code before it, but has no name here.
                if kind in _CODE_LETTERS:
                    found[value] = found.get(value) or name
                else:
                    found.setdefault(value, None)
            case []:
                pass
            case _:
                raise ValueError(f"no line of a System.map: {line[:80]!r}")
    return _sorted(found.items())


def _sorted(found: Iterable[tuple[int, str | None]]) -> Symbols:
    ordered = sorted(found, key=lambda item: item[0])
    return Symbols([address for address, _ in ordered], [name for _, name in ordered])
