"""What an unmodified guest used that a PV kernel is not offered: each instruction that exited is tried in a domain."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any

from hvmx.boot import Segment, XenImage
from hvmx.boot.layout import PAGE
from hvmx.exits import OTHERS, exit_name
from hvmx.hvm.board import EPOCH
from hvmx.machine import Machine
from hvmx.pv import start_of_day
from hvmx.vocabulary import ExitReason

if TYPE_CHECKING:
    from .ways import Way


class Offer(Enum):
    """Whom Xen answers."""

    YES = "yes"
    DOM0 = "a dom0 only"
    NO = "no"
    UNTRIED = "not tried"
    """A guest that asks for very many MSRs or pages is told of the most frequent only."""


@dataclass(frozen=True)
class Use:
    """An instruction, or a device, that a guest used by exits."""

    name: str
    count: int
    """Of exits."""
    pv: Offer
    """Whether a PV kernel could have used it."""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "count": self.count, "pv": self.pv.value}


MOST_TRIED = 128
"""Numbers of one reason: a trial takes some milliseconds of host time, and a guest may come up with as many as it likes."""

_EVENTS = (
    ExitReason.EXCEPTION_NMI, ExitReason.TRIPLE_FAULT, ExitReason.INTERRUPT_WINDOW, ExitReason.EPT_VIOLATION,
)  # fmt: skip
"""Exits by which the guest asks for nothing: the hypervisor's own affair."""


def uses_of(machine: Machine, way: Way) -> tuple[Use, ...]:
    """What an HVM guest used, the most frequent first; nothing of a guest that has no virtual hardware."""
    if way.pv or way.native:
        return ()
    found: dict[str, Use] = {}
    for reason, row in machine.exits.statistics().items():
        if reason in _EVENTS:
            continue
        counts = {number: one.count for number, one in row.detail.items()} or {0: row.count}
        for place, (number, count) in enumerate(sorted(counts.items(), key=lambda one: (-one[1], one[0]))):
            name = _name(machine, reason, number)
            before = found[name].count if name in found else 0
            # Xen treats all ports alike (cext/xen/emulate.c): one is tried for all of them.
            port = reason is ExitReason.IO_INSTRUCTION
            untried = number == OTHERS or (place >= MOST_TRIED and not port)
            found[name] = Use(name, before + count, Offer.UNTRIED if untried else offer(reason, 0 if port else number))
    return tuple(sorted(found.values(), key=lambda use: (-use.count, use.name)))


def _name(machine: Machine, reason: ExitReason, number: int) -> str:
    """What the guest used, in words: of ports and addresses the device that answers."""
    if number == OTHERS:
        return exit_name(reason, number)
    buses = {ExitReason.IO_INSTRUCTION: "ports", ExitReason.EPT_MISCONFIG: "mmio"}
    if reason in buses and machine.board is not None:
        bus = getattr(machine.board, buses[reason])
        # Of addresses the number is a page.
        reach = 1 if reason is ExitReason.IO_INSTRUCTION else PAGE
        devices = (
            region.name
            for region in bus.regions
            if region.base < number + reach and number < region.base + region.length
        )
        return next(devices, f"{buses[reason]} without a device")
    return _WORDS[reason].format(number=number) if reason in _WORDS else exit_name(reason, number)


_WORDS = {
    ExitReason.EXTERNAL_INTERRUPT: "interrupts of devices",
    ExitReason.CR_ACCESS: "CR{number}",
    ExitReason.DR_ACCESS: "DR{number}",
    ExitReason.MSR_READ: "RDMSR {number:#x}",
    ExitReason.MSR_WRITE: "WRMSR {number:#x}",
    ExitReason.TASK_SWITCH: "task switches",
}


# --- the trial --------------------------------------------------------------------------------------------------------------
_BASE = 0xFFFF_FFFF_8000_0000
_IOPL, _REASON, _OPERAND = (_BASE + offset for offset in (0x800, 0x808, 0x810))
_MEMORY = 8 << 20
_PHYSDEV_OP, _SET_IOPL, _SCHED_OP, _SHUTDOWN = 33, 6, 29, 2


def _number_in_ecx(number: int) -> bytes:
    return b"\xb9" + number.to_bytes(4, "little")  # mov ecx, number


def _register(number: int, reads: bytes, writes: bytes) -> bytes:
    """MOV of a control or debug register to RAX and back: the guest keeps the value that it has."""
    rex, modrm = (b"\x44", 0xC0 | (number & 7) << 3) if number > 7 else (b"", 0xC0 | number << 3)
    return b"".join(rex + opcode + bytes([modrm]) for opcode in (reads, writes))


def _instruction(reason: ExitReason, number: int) -> bytes | None:
    """Such as exits for this reason (SDM vol. 2), with memory operands at RDI; None where it is no instruction."""
    if reason in (ExitReason.MSR_READ, ExitReason.MSR_WRITE):  # wrmsr: of what rdmsr gave
        return _number_in_ecx(number) + b"\x0f\x32" + b"\x0f\x30" * (reason is ExitReason.MSR_WRITE)
    if reason is ExitReason.CR_ACCESS:
        return _register(number, b"\x0f\x20", b"\x0f\x22")
    if reason is ExitReason.DR_ACCESS:
        return _register(number, b"\x0f\x21", b"\x0f\x23")
    if reason is ExitReason.IO_INSTRUCTION:
        return b"\xba" + number.to_bytes(4, "little") + b"\xec"  # mov edx, number; in al, dx
    return {
        ExitReason.CPUID: b"\x0f\xa2",
        ExitReason.HLT: b"\xf4",
        ExitReason.INVD: b"\x0f\x08",
        ExitReason.INVLPG: b"\x0f\x01\x3f",
        ExitReason.RDPMC: _number_in_ecx(0) + b"\x0f\x33",
        ExitReason.RDTSC: b"\x0f\x31",
        ExitReason.VMCALL: b"\x0f\x01\xc1",
        ExitReason.PAUSE_INSTRUCTION: b"\xf3\x90",
        ExitReason.GDTR_IDTR: b"\x0f\x01\x17",  # lgdt
        ExitReason.LDTR_TR: b"\x0f\x00\x17",  # lldt
        ExitReason.RDTSCP: b"\x0f\x01\xf9",
        ExitReason.WBINVD: b"\x0f\x09",
        ExitReason.XSETBV: _number_in_ecx(0) + b"\xb8\x01\x00\x00\x00\x31\xd2\x0f\x01\xd1",  # mov eax, 1; xor edx, edx
        ExitReason.RDRAND: b"\x0f\xc7\xf0",
        ExitReason.INVPCID: b"\x31\xc0\x66\x0f\x38\x82\x07",  # xor eax, eax
        ExitReason.RDSEED: b"\x0f\xc7\xf8",
    }.get(reason)


def _kernel(code: bytes) -> XenImage:
    """A PV kernel that asks for I/O privilege level 1, executes ``code`` and shuts itself down; without trap handlers, so that
    an exception ends the domain before that."""

    def call(hypercall: int, operation: int, argument: int) -> bytes:
        # mov edi, operation; mov rsi, argument; mov eax, hypercall; syscall
        edi, rsi, eax = operation.to_bytes(4, "little"), argument.to_bytes(8, "little"), hypercall.to_bytes(4, "little")
        return b"\xbf" + edi + b"\x48\xbe" + rsi + b"\xb8" + eax + b"\x0f\x05"

    operand = b"\x48\xbf" + _OPERAND.to_bytes(8, "little")  # mov rdi, operand
    text = call(_PHYSDEV_OP, _SET_IOPL, _IOPL) + operand + code + call(_SCHED_OP, _SHUTDOWN, _REASON)
    memory = bytearray(PAGE)
    memory[: len(text)] = text
    memory[_IOPL - _BASE] = 1
    return XenImage(
        description="a kernel of one instruction", bits=64, segments=[Segment(0, bytes(memory))], virt_base=_BASE,
        paddr_offset=0, virt_start=_BASE, virt_end=_BASE + PAGE, entry=_BASE, hypercall_page=None, init_p2m=None,
        hv_start_low=None, features=frozenset(), required_features=frozenset(), supported_features=0, pae_mode="yes",
        bsd_symtab=False, l1_mfn_valid=[], mod_start_pfn=False, suspend_cancel=False, guest_os=None, guest_version=None,
        xen_version="xen-3.0", loader=None, command_line="", modules=(), elf=memoryview(b""),
    )  # fmt: skip


def _answers(reason: ExitReason, number: int, privileged: bool) -> bool:
    """Whether a kernel that executes such an instruction gets what it asks for. A port has to answer, too: to the kernel of a
    domain that is no dom0 all read as if nothing were there."""
    code = _instruction(reason, number)
    if code is None:
        return False
    machine = Machine(_MEMORY)
    machine.exits.become_pv()
    domain = start_of_day(
        machine.cpu, _kernel(code), frequency=machine.profile.hz, epoch=EPOCH, console=lambda _text: None,
        privileged=privileged,
    )  # fmt: skip
    while domain.running:
        machine.cpu.run()
    return domain.shutdown_reason == "poweroff" and (reason is not ExitReason.IO_INSTRUCTION or machine.exits.total > 0)


@cache
def offer(reason: ExitReason, number: int) -> Offer:
    """Whether a PV kernel may do what exits for this reason, and with this port, register, ..."""
    if not _answers(reason, number, privileged=True):
        return Offer.NO
    return Offer.YES if _answers(reason, number, privileged=False) else Offer.DOM0
