"""The guest's memory and code as the guest sees them: by linear address, through its page tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from iced_x86 import Decoder, Formatter, FormatterSyntax, Instruction

if TYPE_CHECKING:
    from hvmx.core.vcpu import Vcpu

LONGEST_INSTRUCTION = 15
_PAGE = 0x1000
_EFER_LMA = 1 << 10
# Access rights of CS, in the format of the VMCS (SDM vol. 3, 24.4.1).
_LONG, _DEFAULT_32 = 1 << 13, 1 << 14


def code_bits(vcpu: Vcpu) -> int:
    """The width of the code that runs: 16, 32 or 64."""
    _, _, _, access = vcpu.segment("cs")
    if vcpu.efer & _EFER_LMA and access & _LONG:
        return 64
    return 32 if access & _DEFAULT_32 else 16


def linear_ip(vcpu: Vcpu) -> int:
    """The linear address of the next instruction."""
    if code_bits(vcpu) == 64:
        return vcpu.rip
    return (vcpu.segment("cs")[1] + vcpu.rip) & 0xFFFF_FFFF


def read_linear(vcpu: Vcpu, address: int, length: int) -> bytes:
    """The bytes from a linear address on, up to where no memory is mapped; changes nothing in the guest."""
    data = b""
    while len(data) < length:
        here = (address + len(data)) & 0xFFFF_FFFF_FFFF_FFFF
        physical = vcpu.translate(here)
        if physical is None:
            break
        size = min(length - len(data), _PAGE - here % _PAGE)
        try:
            data += vcpu.read(physical, size)
        except ValueError:  # mapped, but not to memory
            break
    return data


def decode(vcpu: Vcpu, address: int) -> tuple[Instruction, bytes]:
    """The instruction at a linear address, and its bytes; an invalid one where there is none."""
    data = read_linear(vcpu, address, LONGEST_INSTRUCTION)
    instruction = Decoder(code_bits(vcpu), data, ip=address).decode()
    return instruction, data[: instruction.len] or data[:1]


def disassemble(vcpu: Vcpu, address: int) -> str:
    """One line: linear address, bytes, and the instruction in Intel's syntax."""
    instruction, data = decode(vcpu, address)
    if not data:
        text = "(no memory is mapped here)"
    elif instruction.is_invalid:
        text = "(no instruction)"
    else:
        text = _FORMATTER.format(instruction)
    return f"{address:#018x}  {data.hex(' '):<30}  {text}"


def _formatter() -> Formatter:
    formatter = Formatter(FormatterSyntax.INTEL)
    formatter.hex_prefix, formatter.hex_suffix = "0x", ""
    formatter.uppercase_hex = False
    formatter.space_after_operand_separator = True
    return formatter


_FORMATTER = _formatter()
