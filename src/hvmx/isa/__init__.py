"""The instruction table: one row per encoding.

The rows are in the text files beside this one, one file per opcode map, sorted by opcode; where rows share an
opcode, the first that matches is the encoding. Everything that must know an instruction's encoding comes from
here: the decoder's tables (:mod:`hvmx.isa.generate`), the tests' lists of encodings and the documentation
(:mod:`hvmx.isa.document`). A row's columns, separated by white space of two or more, ``.`` for nothing:

``opcode``
    As in the Intel SDM, volume 2, section 3.1.1: hexadecimal bytes; ``/r`` and ``/digit`` for a ModRM byte;
    ``+r`` for a register and ``+cc`` for a condition in the opcode's low bits; ``NP`` (no 66, F3 or F2), ``NFx``
    (no F3 or F2), ``66``, ``F3``, ``F2`` and ``REX.W`` for mandatory prefixes; a byte after the opcode is the whole ModRM byte.
    ``reg`` says that ModRM must name a register where no operand says so. Immediates follow from the operands.
``family``
    The name of the operation, shared by all encodings that differ only in operands.
``operands``
    As in the SDM, volume 2, section A.2: a letter for the addressing method (``A`` far pointer, ``C`` control
    register, ``D`` debug register, ``E`` register or memory, ``F`` flags register, ``G`` general register,
    ``I`` immediate, ``J`` relative offset, ``M`` memory only, ``N`` MMX register, ``O`` memory at an absolute
    offset, ``P`` MMX register of ModRM's reg field, ``Q`` MMX register or memory, ``R`` register only,
    ``S`` segment register, ``T`` test register, ``U`` XMM register, ``V`` XMM register of ModRM's reg field, ``W`` XMM register or
    memory, ``X`` DS:rSI, ``Y`` ES:rDI) and one for the type (``b w d q dq`` 1 to 16 bytes, ``ss sd ps pd`` scalar
    and packed floating point, ``v`` operand size, ``y`` the same but not under 32 bits, ``z`` the same but not over
    32 bits, ``a`` bounds pair, ``p`` far pointer, ``s`` pseudo-descriptor, ``t`` 80 bits, ``e`` x87 environment,
    ``f`` x87 state as of FSAVE, ``x`` FXSAVE image, ``xs`` XSAVE area). ``ST0`` is the top of the x87 stack,
    ``STi`` the register of it that ModRM names. ``Z`` is the register in the opcode, ``sIb`` a sign-extended byte,
    ``Rv/Mw`` a register of operand size or a word of memory, ``Ry/Mw`` the same with type ``y``; ``1``, ``CL``,
    ``DX``, ``AL``, ``AX``, ``eAX`` (z), ``rAX`` (v), ``ES`` ... name themselves.
``memory``
    What happens to an explicit memory operand: ``r``, ``w``, ``rw``; ``.`` if there is none or it is not accessed.
``access``
    What happens to each operand where it is a register, in the order of ``operands``: ``r``, ``w``, ``rw``; ``.`` for
    one that is none, or is a segment, control, debug or test register. ``rw/w`` is ``rw`` where the other operand is a
    register and ``w`` where it is memory (MOVSS), as in ``Rv/Mw``. ``w`` is a new value whatever the old one was, in
    the operand's width: that a write of 8 or 16 bits keeps the rest of a general register is not said here. What may
    stay as it was (CMOVcc, BSF) is ``rw``.
``implicit``
    The registers that the encoding uses and no operand names, with what happens to them: ``RAX,RCX:rw RDX,RBX:w``.
    A general register that is written is named by how much of it is: ``AL``, ``AH``, ``AX``; ``rAX`` for as much as the
    operand size; ``RAX`` for the whole, in 32-bit code EAX. RCX of REP is not said, for it is the prefix's.
    ``ST0`` to ``ST7`` are x87 registers by their distance from the top of the stack before the instruction, so that
    what a push writes is ``ST7``. ``push``, ``pop`` and ``pop2`` say how the top moves. Instructions that save, load or
    reset the whole x87, MMX or XMM state name none of its registers.
``attributes``
    ``lock``: LOCK is allowed with a memory destination. ``i64``, ``o64``, ``d64``, ``f64``: invalid in, only in,
    operand size 64 by default in, and forced in 64-bit mode (SDM, volume 2, table A-1). ``prot``: #UD in real-address
    and virtual-8086 mode. ``cpl0``: #GP outside ring 0. ``iopl``: subject to IOPL or the I/O permission map.
    ``b0`` and ``w0``: only without REX.B, without REX.W. ``align``: #GP where the memory operand is not at a
    multiple of 16.
``execution``
    What decoded code may make of it. First ``next``, where the next instruction can run without a look at the state, or
    ``end``, where a block ends: mode, mapping or what interrupts it may have changed. Then any of
    ``stack``: it works on the stack, whose kind chooses the handler.
    ``unaccessed``: of a memory operand there is only the offset; neither segment nor paging sees it.
    ``late``: the handler checks the memory operand's address, after other things.
    ``nowait``: an x87 instruction that does not wait for a pending exception.
    ``sse``: checked as instructions with XMM operands are, though it has none.
    ``locked``: with a memory operand it is locked, with or without LOCK (SDM volume 3, section 8.1.2.1).
    ``pure``: with register operands it can neither fault nor leave, so flags that later instructions overwrite pass it
    unseen. ``counted``: the immediate is a shift count; by 0 it writes no flags.
``reads``, ``writes``, ``undefined``
    Flags as letters: ``O S Z A P C D I T N R V K L`` for OF SF ZF AF PF CF DF IF TF NT RF VM AC IOPL. A flag that
    only some operand values leave undefined (SHL by more than one: OF) counts as undefined. The handler of a
    ``pure`` instruction gives the undefined ones a value, too: all that it does not read is dead before it.
``class``
    The cost class, to which a cost profile gives latency, slots and pipes. A class of ``SIZED_CLASSES`` stands for one per
    operand size.
``feature``
    The feature of :mod:`hvmx.isa.levels` that the encoding needs; ``base`` for what every level has. Where the
    processor lacks it the row does not exist, and the next one that matches is the encoding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .levels import LEVELS

MAP_FILES = ("map_one.txt", "map_0f.txt", "map_0f38.txt", "map_0f3a.txt")
"""One file per opcode map, by map number: one-byte, 0F, 0F 38, 0F 3A."""

FLAG_BITS = {
    "C": 1 << 0, "P": 1 << 2, "A": 1 << 4, "Z": 1 << 6, "S": 1 << 7, "T": 1 << 8, "I": 1 << 9, "D": 1 << 10,
    "O": 1 << 11, "L": 3 << 12, "N": 1 << 14, "R": 1 << 16, "V": 1 << 17, "K": 1 << 18,
}  # fmt: skip
"""Flag letters of the table and their bits in EFLAGS (SDM volume 1, section 3.4.3)."""

PREFIX_MASKS = {"": 0b1111, "NP": 0b0001, "NFx": 0b0011, "66": 0b0010, "F3": 0b0100, "F2": 0b1000}
"""Mandatory prefixes of the table, and under which of none, 66, F3, F2 (bits 0 to 3) their rows match."""

ATTRIBUTES = ("lock", "i64", "o64", "d64", "f64", "prot", "cpl0", "iopl", "b0", "w0", "align")

ENDINGS = ("next", "end")
EXECUTION = ("stack", "unaccessed", "late", "nowait", "sse", "locked", "pure", "counted")

SIZED_CLASSES = ("bswap", "div", "idiv", "mul")
"""Cost classes that become one per operand size: mul8, mul16, mul32, mul64."""

SIZES = (8, 16, 32, 64)
"""The operand sizes of those, in the order of their numbers."""

MEMORY_CLASSES = ("load", "load-vector", "store", "store-indexed", "store-vector", "locked")
"""Cost classes that an instruction adds for its memory operand (``-vector`` to or from another register than a general
one, ``-indexed`` where the address has an index and nothing is loaded) and for LOCK."""

OPERAND_CLASSES = (*MEMORY_CLASSES, "lea-complex")
"""Cost classes that no row names, but operands decide. LEA of base, index and displacement is ``lea-complex``."""

MOVE_CLASSES = (
    "extend", "mmx-from-general", "mmx-move", "mmx-to-general", "mov", "sse-from-general", "sse-move",
    "sse-move-scalar", "sse-to-general", "x87-load", "x87-store",
)  # fmt: skip
"""Cost classes of rows that only move data: with a memory operand there is the access, and nothing besides."""

SEGMENTS = ("ES", "CS", "SS", "DS", "FS", "GS")
GENERAL_REGISTERS = ("AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI", "8", "9", "10", "11", "12", "13", "14", "15")
"""General registers without the letter for their width, by number."""
X87_PUSHES = {"push": 1, "pop": -1, "pop2": -2}
"""Words of the column ``implicit`` for how the top of the x87 stack moves: registers pushed."""
ACCUMULATORS = ("AL", "AX", "eAX", "rAX")
X87_OPCODES = range(0xD8, 0xE0)
"""The escape opcodes of the x87, in the one-byte map."""

_ROLES = {
    "A": "far", "C": "reg", "D": "reg", "E": "rm", "F": "implied", "G": "reg", "I": "imm", "J": "rel", "M": "rm",
    "N": "rm", "O": "rm", "P": "reg", "Q": "rm", "R": "rm", "S": "reg", "T": "reg", "U": "rm", "V": "reg", "W": "rm",
    "X": "implied", "Y": "implied", "Z": "rm",
}  # fmt: skip

_FORMS = {
    (): "NONE",
    ("rm",): "RM",
    ("reg",): "R",
    ("rm", "reg"): "RM_R",
    ("reg", "rm"): "R_RM",
    ("rm", "imm"): "RM_I",
    ("imm", "rm"): "RM_I",
    ("rm", "cl"): "RM_CL",
    ("reg", "rm", "imm"): "R_RM_I",
    ("rm", "reg", "imm"): "RM_R_I",
    ("rm", "reg", "cl"): "RM_R_CL",
    ("imm",): "I",
    ("imm", "imm"): "I_I",
    ("far",): "I_I",
    ("rel",): "REL",
}


@dataclass(frozen=True)
class Row:
    """One encoding: the table's columns, and what the opcode column says in parts."""

    index: int
    """Position in :func:`rows`; the decoder's row number."""
    text: str
    """The opcode column as written."""
    map: int
    """Opcode map: 0 one-byte, 1 0F, 2 0F 38, 3 0F 3A."""
    opcodes: range
    """The opcode bytes in that map: one, eight (``+r``) or sixteen (``+cc``)."""
    prefix: str
    """Mandatory prefix, a key of ``PREFIX_MASKS``; empty for any."""
    rex_w: bool
    """Only with REX.W."""
    modrm: str
    """Empty for no ModRM byte, ``r``, a digit, or the whole byte in hexadecimal."""
    register_only: bool
    family: str
    operands: tuple[str, ...]
    memory: str
    access: tuple[tuple[str, str], ...]
    """Of each operand that is a register: with a register, and with memory, as the other operand."""
    implicit: tuple[tuple[str, str], ...]
    """Registers that no operand names, as the table writes them, with what happens to each."""
    x87_push: int
    """By how much the x87 stack grows."""
    attributes: frozenset[str]
    execution: frozenset[str]
    reads: str
    writes: str
    undefined: str
    cost_class: str
    feature: str

    @property
    def modes(self) -> tuple[int, ...]:
        """The code widths, of 16, 32 and 64, in which the encoding exists."""
        if "i64" in self.attributes:
            return (16, 32)
        return (64,) if "o64" in self.attributes or self.rex_w else (16, 32, 64)

    @property
    def memory_only(self) -> bool:
        """Whether ModRM must name memory."""
        return any(operand.startswith("M") for operand in self.operands)

    @property
    def is_x87(self) -> bool:
        """Whether the opcode is an escape to the x87, whose low bits and ModRM FOP shows (SDM volume 1, 8.1.9)."""
        return self.map == 0 and self.opcodes.start in X87_OPCODES

    @property
    def has_condition(self) -> bool:
        """Whether the opcode's low four bits are a condition."""
        return len(self.opcodes) == 16

    @property
    def is_string(self) -> bool:
        """Whether an operand is a string's element, so that REP repeats the instruction."""
        return any(operand[0] in "XY" for operand in self.operands)

    @property
    def numbers_register(self) -> bool:
        """Whether an operand is a segment, control, debug or test register, which its number names."""
        return any(operand in SEGMENTS or operand in ("Sw", "Cy", "Dy", "Td") for operand in self.operands)

    @property
    def is_vector(self) -> bool:
        """Whether an operand is an XMM register."""
        return any(operand[0] in "UVW" for operand in self.operands)

    @property
    def is_mmx(self) -> bool:
        """Whether an operand is an MMX register; EMMS is about all of them."""
        return any(operand[0] in "NPQ" for operand in self.operands) or self.family == "emms"

    @property
    def mod_ignored(self) -> bool:
        """Whether ModRM names a register whatever its mod field: MOV to and from CR, DR and TR (SDM, volume 2)."""
        return any(operand in ("Cy", "Dy", "Td") for operand in self.operands)

    @property
    def roles(self) -> tuple[str, ...]:
        """Where each operand is found: ``rm``, ``reg``, ``imm``, ``cl``, ``rel``, ``far``, or ``implied``."""
        has_rm = any(operand[0] in "EMNOQRUWZ" or operand == "STi" for operand in self.operands)
        has_string = any(operand[0] in "XY" for operand in self.operands)
        roles = []
        for operand in self.operands:
            if operand == "DX" or operand in ACCUMULATORS and has_string:
                roles.append("implied")
            elif operand in ACCUMULATORS:
                roles.append("reg" if has_rm else "rm")
            elif operand == "STi":
                roles.append("rm")
            elif operand == "ST0" or operand in SEGMENTS:
                roles.append("reg")
            elif operand == "CL":
                roles.append("cl")
            elif operand in ("1", "sIb"):
                roles.append("imm")
            else:
                roles.append(_ROLES[operand[0]])
        return tuple(roles)

    @property
    def form(self) -> str:
        """The shape of the operands, a name of ``enum insn_form`` without its prefix."""
        return _FORMS[tuple(role for role in self.roles if role != "implied")]

    @property
    def sized_operands(self) -> tuple[str, ...]:
        """The operands that give the instruction its width: not immediates, port numbers or shift counts."""
        return tuple(
            operand
            for operand, role in zip(self.operands, self.roles)
            if role in ("rm", "reg") or operand[0] in "FXY" or operand in ACCUMULATORS
        )


_FLAG_COLUMN = re.compile(f"[{''.join(FLAG_BITS)}]*")
_COLUMNS = 13
_ACCESS = re.compile(r"\.|rw?|w")
_IMPLICIT = re.compile(rf"[Rr]({'|'.join(GENERAL_REGISTERS)})|[ACDB][LHX]|ST[0-7]|XMM0")


def _parse_access(column: str, operands: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What the column ``access`` says of each operand: with a register, and with memory, as the other."""
    words = column.split(",") if column else ["."] * len(operands)
    if len(words) != len(operands):
        raise ValueError(f"access to {len(words)} operands of {len(operands)}")
    found = []
    for word in words:
        with_register, slash, with_memory = word.partition("/")
        both = (with_register, with_memory if slash else with_register)
        if not all(_ACCESS.fullmatch(access) for access in both):
            raise ValueError(f"not understood: {word}")
        found.append((both[0].strip("."), both[1].strip(".")))
    return tuple(found)


def _parse_implicit(column: str) -> tuple[tuple[tuple[str, str], ...], int]:
    """The registers of the column ``implicit``, with what happens to each; and by how much the x87 stack grows."""
    registers = []
    push = 0
    for word in column.split():
        if word in X87_PUSHES:
            push = X87_PUSHES[word]
            continue
        names, _, access = word.partition(":")
        for name in names.split(","):
            if not _IMPLICIT.fullmatch(name) or access not in ("r", "w", "rw"):
                raise ValueError(f"not understood: {word}")
            registers.append((name, access))
    return tuple(registers), push


def _parse(line: str, map_number: int, index: int) -> Row:
    columns = ["" if column == "." else column for column in re.split(r"\s{2,}", line.strip())]
    if len(columns) != _COLUMNS:
        raise ValueError(f"{len(columns)} columns instead of {_COLUMNS}")
    text, family, operand_list, memory, access, implicit, attributes, execution, *flags, cost_class, feature = columns
    reads, writes, undefined = flags
    operands = tuple(operand_list.split(",")) if operand_list else ()
    words = text.split()
    prefix = words.pop(0) if words[0] in PREFIX_MASKS and len(words) > 1 else ""
    rex_w = words[0] == "REX.W"
    if rex_w:
        words.pop(0)
    register_only = words[-1] == "reg"
    if register_only:
        words.pop()
    for escape in ((), ("0F",), ("0F", "38"), ("0F", "3A"))[map_number]:
        if words.pop(0) != escape:
            raise ValueError("opcode is not of this map")
    byte, _, low_bits = words.pop(0).partition("+")
    first = int(byte, 16)
    modrm = words.pop(0).removeprefix("/") if words else ""
    unknown = set(attributes.split()) - set(ATTRIBUTES)
    ending, *executed = execution.split()
    if ending not in ENDINGS:
        raise ValueError(f"{ending} is not {' or '.join(ENDINGS)}")
    unknown |= set(executed) - set(EXECUTION)
    if words or unknown or not all(_FLAG_COLUMN.fullmatch(letters) for letters in flags):
        raise ValueError(f"not understood: {words or unknown or 'flags'}")
    implicit_registers, x87_push = _parse_implicit(implicit)
    return Row(
        index=index,
        text=text,
        map=map_number,
        opcodes=range(first, first + {"": 1, "r": 8, "cc": 16}[low_bits]),
        prefix=prefix,
        rex_w=rex_w,
        modrm=modrm,
        register_only=register_only or re.search(r"\bR[a-z](?!/)|STi|\b[NU]", operand_list) is not None,
        family=family,
        operands=operands,
        memory=memory,
        access=_parse_access(access, operands),
        implicit=implicit_registers,
        x87_push=x87_push,
        attributes=frozenset(attributes.split()),
        execution=frozenset(execution.split()),
        reads=reads,
        writes=writes,
        undefined=undefined,
        cost_class=cost_class,
        feature=feature,
    )


@cache
def rows() -> tuple[Row, ...]:
    """All rows, in the order of their maps and opcodes; ValueError names the line of a row that is malformed."""
    parsed: list[Row] = []
    for map_number, name in enumerate(MAP_FILES):
        last = 0
        for number, line in enumerate((Path(__file__).parent / name).read_text().splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            try:
                row = _parse(line, map_number, len(parsed))
                if row.opcodes.start < last:
                    raise ValueError("not sorted by opcode")
            except (ValueError, KeyError) as error:
                raise ValueError(f"{name}:{number}: {error}") from error
            last = row.opcodes.start
            parsed.append(row)
    return tuple(parsed)


@cache
def families() -> tuple[str, ...]:
    """The names of all families, sorted; the position is the family's number."""
    return tuple(sorted({row.family for row in rows()}))


@cache
def cost_classes() -> tuple[str, ...]:
    """The names of all cost classes; the position is the class's number. A sized class is four in a row."""
    names: list[str] = list(OPERAND_CLASSES)
    for name in sorted({row.cost_class for row in rows()}):
        names += [f"{name}{width}" for width in SIZES] if name in SIZED_CLASSES else [name]
    return tuple(names)


@cache
def features() -> tuple[str, ...]:
    """The names of all features that rows need or a level has, ``base`` first; the position is its number."""
    names = {row.feature for row in rows()}.union(*(level.features for level in LEVELS.values()))
    return ("base", *sorted(names - {"base"}))


def feature_mask(names: Iterable[str]) -> int:
    """The features as a bit each, by their numbers."""
    return sum(1 << features().index(name) for name in names)
