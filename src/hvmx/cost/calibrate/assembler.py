"""Machine code from text, for what is measured: one instruction a line, as MASM writes it, in 64-bit mode.

There is no grammar of x86 here. iced-x86 knows all encodings: those with the line's mnemonic and kinds of operands are
tried, and the shortest one that decodes to the very line again is the instruction. So a line says what is run.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import product
from typing import Any, cast

from iced_x86 import (
    Code,
    Decoder,
    Encoder,
    EncodingKind,
    Formatter,
    FormatterSyntax,
    Instruction,
    MemoryOperand,
    Mnemonic,
    OpCodeInfo,
    OpKind,
    Register,
)

_REGISTERS: dict[str, Any] = {
    name.lower(): number for name, number in vars(Register).items() if name.isupper()
}
_REGISTERS |= {f"st({number})": _REGISTERS[f"st{number}"] for number in range(8)} | {"st": Register.ST0}
_REGISTERS |= {f"r{number}b": _REGISTERS[f"r{number}l"] for number in range(8, 16)}
_SIZE = re.compile(r"\w+ ptr ")
_IMMEDIATES = ("i32", "u32", "i64")
_PREFIXES = ("lock", "rep", "repe", "repne")
_MEMORY = re.compile(r"\[(?P<base>r\w+)(?:\+(?P<index>r\w+))?(?P<offset>[+-]\d+)?\]")
_BRANCH = re.compile(r"(?P<mnemonic>j\w+|call) (?P<skip>[+-]\d+)")


class AssemblyError(ValueError):
    """No encoding is what the line says."""


def assemble(text: str) -> bytes:
    """The instructions of all lines, one after the other. ``;`` separates lines, too.

    A branch is written ``je +N``: it skips the N bytes behind it; ``jne -N`` goes back.
    """
    return b"".join(_instruction(line.strip()) for line in re.split(r"[;\n]", text) if line.strip())


def disassemble(code: bytes) -> list[str]:
    """The lines of what ``assemble`` made."""
    return [_line(instruction) for instruction in Decoder(64, code)]


@cache
def _instruction(line: str) -> bytes:
    if branch := _BRANCH.fullmatch(line):
        return _branch(branch["mnemonic"], int(branch["skip"]))
    words = line.split(" ", 1)
    prefix = words.pop(0) if words[0] in _PREFIXES else ""
    mnemonic, _, rest = " ".join(words).partition(" ")
    found = [
        code
        for instruction in _candidates(mnemonic, prefix, [part.strip() for part in rest.split(",") if part])
        if (code := _encodable(instruction)) and disassemble(code) == [line]
    ]
    if not found:
        raise AssemblyError(f"no encoding for {line!r}")
    return min(found, key=len)


def _branch(mnemonic: str, skip: int) -> bytes:
    for size in ("REL8", "REL32"):
        code = getattr(Code, f"{mnemonic.upper()}_{size}_64", None)
        if code is not None:
            length = len(_encoded(Instruction.create_branch(code, 0)))
            encoded = _encodable(Instruction.create_branch(code, length + skip & 0xFFFF_FFFF_FFFF_FFFF))
            if encoded is not None:
                return encoded
    raise AssemblyError(f"no encoding for {mnemonic} {skip:+}")


def _candidates(mnemonic: str, prefix: str, operands: list[str]) -> list[Instruction]:
    if not operands and hasattr(
        Instruction, f"create_{mnemonic}"
    ):  # the string instructions, of implied operands
        name = f"create_{prefix}_{mnemonic}" if prefix else f"create_{mnemonic}"
        return [getattr(Instruction, name)(64)]
    instructions = []
    for parts in (operands, operands[::-1]):  # XCHG and TEST are written in either order
        kinds, values = zip(*map(_operand, parts)) if parts else ((), ())
        for spelled in product(*[_IMMEDIATES if kind == "imm" else (kind,) for kind in kinds]):
            create: Any = getattr(Instruction, "_".join(["create", *spelled]), None)
            for code in _codes().get(mnemonic, []) if create else []:
                try:
                    instruction = create(code, *values)
                except (ValueError, OverflowError):  # operands of another kind
                    continue
                instruction.has_lock_prefix = prefix == "lock"
                instructions.append(instruction)
    return instructions


def _operand(text: str) -> tuple[str, Any]:
    text = _SIZE.sub("", text)
    if memory := _MEMORY.fullmatch(text):
        offset = int(memory["offset"] or 0)
        index = _REGISTERS[memory["index"]] if memory["index"] else Register.NONE
        return "mem", MemoryOperand(
            _REGISTERS[memory["base"]], index, displ=offset, displ_size=int(offset != 0)
        )
    if text in _REGISTERS:
        return "reg", _REGISTERS[text]
    return "imm", int(text, 0)


@cache
def _codes() -> dict[str, list[Any]]:
    """iced-x86's encodings without VEX and EVEX, by mnemonic."""
    names = {number: name.lower() for name, number in vars(Mnemonic).items() if isinstance(number, int)}
    found: dict[str, list[Any]] = {}
    code: Any
    for code in vars(Code).values():
        if isinstance(code, int):
            encoding = OpCodeInfo(cast(Any, code))
            if encoding.encoding == EncodingKind.LEGACY and encoding.mode64:
                found.setdefault(names[encoding.mnemonic], []).append(code)
    return found


def _encoded(instruction: Instruction) -> bytes:
    encoder = Encoder(64)
    encoder.encode(instruction, 0)
    return bytes(encoder.take_buffer())


def _encodable(instruction: Instruction) -> bytes | None:
    try:
        return _encoded(instruction)
    except ValueError:
        return None


def _line(instruction: Instruction) -> str:
    if instruction.op0_kind == OpKind.NEAR_BRANCH64:
        mnemonic = _formatter().format_mnemonic(instruction)
        skip = (instruction.near_branch64 - instruction.next_ip + (1 << 63)) % (1 << 64) - (1 << 63)
        return f"{mnemonic} {skip:+}"
    return _formatter().format(instruction)


@cache
def _formatter() -> Formatter:
    formatter = Formatter(FormatterSyntax.MASM)
    formatter.space_after_operand_separator = True
    formatter.number_base = 10
    formatter.show_branch_size = False
    formatter.signed_immediate_operands = True
    formatter.use_pseudo_ops = False
    return formatter
