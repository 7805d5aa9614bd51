"""A guest in which everything happens that an event can come in the midst of, and the ways to run it in parts.

Its pieces are short, of one kind each, and can stand alone or in any order. Every exception and interrupt is noted by the
guest itself: vector, RIP and the time-stamp counter; every exit by the host.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from figures import without_host_time

import hvmx
from hvmx.core.exit_info import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.cost import Profile
from hvmx.exits import ExitReason
from hvmx.machine import StopKind

from .machine import STUBS, TABLES, assemble, world

MMIO, MMIO_AT = 0xFED40000, 0x100000
PORT = 0x5000
PAGE_TABLE = TABLES + 0x3000
LOG, LOG_END = 0x1F000, 0x1C000
NOT_PRESENT = range(0x60, 0x70)

PUSHING = (8, *range(10, 15), 17)  # an error code
STUBS_SOURCE = "\n".join(
    f"{'' if vector in PUSHING else 'push 0'}; push {vector}; jmp common; .balign 16" for vector in range(64)
)

# Every handler notes (TSC, vector, RIP, DR6); what faults on an instruction of two bytes goes on after it, a page fault
# maps its page, and a breakpoint is passed over.
HANDLERS = f"""
{STUBS_SOURCE}
common:
  push rax; push rcx; push rdx
  rdtsc
  mov rcx, [{LOG}]
  mov [rcx], eax
  mov rdx, [rsp + 24]; mov [rcx + 4], edx
  mov rdx, [rsp + 40]; mov [rcx + 8], edx
  mov rdx, dr6; mov [rcx + 12], edx
  add ecx, 16; and ecx, 0x1cfff
  mov [{LOG}], rcx
  mov al, [rsp + 24]
  cmp al, 1; je debug
  cmp al, 14; je page
  cmp al, 0x20; je timer
  cmp al, 2; je end
  cmp al, 0x20; ja end
  add qword ptr [rsp + 40], 2
  jmp end
debug:
  or dword ptr [rsp + 56], 0x10000
  mov eax, 0xffff0ff0
  mov dr6, rax
  jmp end
page:
  mov rax, cr2
  shr rax, 12
  or byte ptr [{PAGE_TABLE} + rax * 8], 1
  mov rax, cr2
  invlpg [rax]
  jmp end
timer:
  mov al, 0x20
  out 0x20, al
end:
  pop rdx; pop rcx; pop rax
  add rsp, 16
  iretq
"""

# The PIC at vectors 20h and on with IRQ 0 alone, the PIT at a few microseconds.
TIMER = """
mov al, 0x11; out 0x20, al; mov al, 0x20; out 0x21, al; mov al, 4; out 0x21, al; mov al, 1; out 0x21, al
mov al, 0xfe; out 0x21, al; mov al, 0x34; out 0x43, al; mov al, {}; out 0x40, al; mov al, 0; out 0x40, al
sti
"""

SINGLE_STEP = "pushfq; or dword ptr [rsp], 0x100; popfq;{}pushfq; and dword ptr [rsp], 0xfffffeff; popfq\n"

PIECES = {
    "straight code": ".rept 30; inc eax; .endr",
    "stores": ".rept 12; add [0xb000], eax; mov [0xb008], rax; push rax; pop rbx; .endr",
    "a loop": "mov ecx, 20; 1: add [0xb000], eax; dec ecx; jnz 1b",
    "jumps": ".rept 6; jmp 1f; ud2; 1: inc eax; jmp 2f; ud2; 2:; .endr",
    "calls": ".rept 5; call 1f; jmp 2f; 1: inc eax; ret; 2:; .endr",
    "REP STOS to a page nobody touched": "mov edi, 0x20fc0; mov ecx, 200; mov al, 5; rep stosb; inc eax",
    "REP MOVS over page borders": "mov esi, 0x21fe1; mov edi, 0x24fe3; mov ecx, 90; rep movsw; inc eax; inc eax",
    # Pages 2 MiB apart, which have one place in the TLB.
    "REP between pages that compete": """mov esi, 0x24010; mov edi, 0x224800; mov ecx, 100; rep movsw; inc eax
        mov esi, 0x25f80; mov edi, 0x225fe0; mov ecx, 30; rep movsd; mov esi, 0x26010; mov edi, 0x226010; mov ecx, 90; repe cmpsb; inc eax""",
    "REP MOVS downwards": "std; mov esi, 0x23010; mov edi, 0x25008; mov ecx, 60; rep movsd; cld; inc eax",
    "REPE CMPS, REPNE SCAS": """mov esi, 0x26fe0; mov edi, 0x27fe8; mov ecx, 70; repe cmpsb; setz bl
        mov edi, 0x28fd0; mov ecx, 100; mov al, 0xee; repne scasw; lodsb; rep lodsb; inc eax""",
    "REP INS and OUTS": f"""mov edx, {PORT}; mov edi, 0x29ff8; mov ecx, 20; rep insb; inc eax
        mov esi, 0x2aff0; mov ecx, 9; rep outsd; insb; outsb; inc eax""",
    "device memory": f"""mov edi, {MMIO_AT}; mov eax, [rdi]; mov [rdi + 8], eax; add [rdi + 4], eax; xor eax, eax
        mov [rdi], eax; mov [rdi], rax; inc eax""",
    "more ways to device memory": f"""mov edi, {MMIO_AT}; mov esi, 0xb000; push rax; pop [rdi]; inc eax; xchg [rdi], ebx; xadd [rdi], ebx
        inc eax; shl dword ptr [rdi], 1; bts dword ptr [rdi], 3; call 1f; 1:; push [rdi]; pop [0x34000]; inc eax; movups [rdi], xmm0; inc eax
        cmpxchg8b [rdi]; fninit; fnsave [rdi]; inc eax; fxsave [0x34fc0]; inc eax; fxrstor [0x34fc0]; enter 8, 1; leave; inc eax""",
    "an NMI out of device memory": f"mov edi, {MMIO_AT}; mov eax, 1; .rept 3; mov [rdi], eax; inc ebx; inc ebx; .endr",
    "time out of device memory": f"mov edi, {MMIO_AT}; mov eax, 2; .rept 3; mov [rdi], eax; .rept 9; inc ebx; .endr; .endr",
    "a fault out of device memory": f"mov edi, {MMIO_AT}; mov eax, 4; .rept 3; mov [rdi], eax; inc ebx; .endr",
    "REP to device memory": f"""mov edi, {MMIO_AT}; mov esi, 0x2bffc; mov ecx, 9; rep movsd; mov ecx, 5; xor eax, eax; rep stosb
        mov esi, {MMIO_AT}; mov edi, 0x2cffe; mov ecx, 6; rep movsw; inc eax""",
    "page faults": "mov eax, [0x60000]; mov [0x61ffc], rbx; inc eax; push qword ptr [0x63000]; pop rax; inc eax",
    "REP over a page that is not there": "mov edi, 0x64ff0; mov ecx, 40; rep stosb; inc eax",
    "faults": "ud2; inc eax; xor ecx, ecx; div ecx; inc eax; mov ax, 0xffff; mov ds, ax; inc eax; int 0x30; int3; inc eax",
    "single-stepping": SINGLE_STEP.format("inc eax; push 1; pop rbx; mov [0xb010], eax;"),
    "single-stepping REP and exits": SINGLE_STEP.format(
        f" mov edi, 0x2dffd; mov ecx, 6; rep stosb; mov edi, {MMIO_AT}; mov eax, 1; mov [rdi], eax; cpuid; inc eax;"
    ),
    "single-stepping MOV SS": SINGLE_STEP.format(
        "mov ax, ss; mov ss, ax; inc eax; inc eax; sti; inc eax; inc eax;"
    ),
    "data breakpoints": """mov eax, 0xb020; mov dr0, rax; mov eax, 0xd0401; mov dr7, rax; inc eax; mov [0xb020], eax
        inc eax; add [0xb020], eax; mov edi, 0xb01c; mov ecx, 9; rep stosb; inc eax; xor eax, eax; mov dr7, rax""",
    "code breakpoints": """lea rax, [rip + 1f]; mov dr1, rax; mov eax, 0x404; mov dr7, rax; .rept 7; inc eax; .endr
        1: inc ebx; inc ebx; .rept 3; inc eax; .endr; xor eax, eax; mov dr7, rax""",
    "STI and MOV SS": "sti; mov ax, ss; mov ss, ax; inc eax; cli; sti; sti; inc eax; cli; sti; mov ss, ax; sti; inc eax",
    "an interrupt window": "cli; .rept 60; inc eax; .endr; mov edx, 0x80; in al, dx; .rept 60; inc eax; .endr; sti; inc eax; inc eax",
    "an NMI in a shadow": f"mov edx, {PORT + 1}; mov al, 1; cli; sti; out dx, al; inc eax; mov bx, ss; mov ss, bx; out dx, al; inc eax",
    "HLT": "sti; hlt; inc eax; hlt; inc eax",
    "page tables": f"""mov rax, cr3; mov cr3, rax; mov al, [0x2e000]; or byte ptr [{PAGE_TABLE} + 0x2e * 8], 2; inc eax
        invlpg [0x2e000]; mov [0x2e000], al; inc eax; mov rax, cr4; xor rax, 0x80; mov cr4, rax; xor rax, 0x80; mov cr4, rax""",
    "the time": ".rept 4; rdtsc; mov [0xb030], eax; inc eax; add [0xb038], eax; .endr",
    "registers of the system": "mov ecx, 0xc0000080; rdmsr; inc ebx; wrmsr; xor eax, eax; cpuid; inc eax; mov rax, cr0; mov cr0, rax; inc eax",
    "code that changes": """mov ecx, 3; 2: lea rbx, [rip + 1f]; inc byte ptr [rbx + 1]; inc eax; 1: mov al, 5; inc byte ptr [rbx + 1]
        dec ecx; jnz 2b; inc eax""",
    "REP to the page of code": "lea rdi, [rip + 1f]; mov ecx, 9; mov al, 0x90; rep stosb; inc eax; jmp 2f; 1: .fill 12, 1, 0xcc; 2: inc eax",
    "code in a page nobody touched": "mov esi, 0x30ff8; call rsi; inc eax; call rsi; inc eax",
    "floating point": "fninit; fld1; fldpi; fmulp; fistp dword ptr [0xb040]; fnstsw ax; movd xmm0, eax; inc eax",
}
"""By what they are about."""


@cache
def _handlers() -> bytes:
    return assemble(64, [HANDLERS.replace(";", "\n")])[0]


_code: dict[str, bytes] = {}


def _assembled(sources: Sequence[str]) -> list[bytes]:
    missing = [source for source in dict.fromkeys(sources) if source not in _code]
    if missing:
        _code.update(zip(missing, assemble(64, missing), strict=True))
    return [_code[source] for source in sources]


def assembled(source: str) -> bytes:
    return _assembled([source])[0]


def program(names: Sequence[str], timer: int | None) -> str:
    """The source of these pieces one after the other, with a PIT of a period if asked for; it ends by a HLT for good."""
    pieces = [] if timer is None else [TIMER.format(timer)]
    return "\n".join([*pieces, *(PIECES[name].replace(";", "\n") for name in names), "cli\nhlt"]).replace(
        ";", "\n"
    )


def random_programs(seeds: Sequence[int], pieces: int) -> list[tuple[list[str], int | None]]:
    chosen = []
    for seed in seeds:
        rng = random.Random(seed)
        names = rng.choices(list(PIECES), k=pieces)
        timer = rng.choice((None, 3, 4, 7, 20))
        # Without a timer nothing ends a HLT.
        chosen.append(([name for name in names if name != "HLT" or timer is not None], timer))
    return chosen


class CutGuest:
    """The machine of one program, at its start."""

    def __init__(
        self,
        source: str,
        paging: str,
        translate_after: int | None,
        *,
        board: bool = True,
        noting: bool = True,
        profile: str | Profile = "skylake",
    ) -> None:
        self.machine = machine = hvmx.Machine("2M", profile, paging=paging, board=board)
        self.events: list[tuple[Any, ...]] = []
        cpu = machine.cpu
        cpu.translate_after = translate_after
        (code,) = _assembled([source])
        state = world(64, code)
        state.memory[STUBS] = _handlers()
        table = [page << 12 | (6 if page in NOT_PRESENT else 7) for page in range(512)]
        table[MMIO_AT >> 12] = MMIO | 7
        state.memory[TABLES + 0x2000] = struct.pack("<2Q", PAGE_TABLE | 7, PAGE_TABLE | 7)
        state.memory[PAGE_TABLE] = struct.pack("<512Q", *table)
        state.memory[LOG] = struct.pack("<Q", LOG_END)
        # A call reaches over a page's end: MOV EAX, imm32 across it, then RET.
        state.memory[0x30FF8] = bytes.fromhex("ffc0 ffc3 ffc0 b8 01000000 ffc0 c3")
        for where, data in state.memory.items():
            cpu.write(where, data)
        cpu.cr4, cpu.efer, cpu.cr3, cpu.cr0 = state.cr4, state.efer, state.cr3, state.cr0
        cpu.gdtr, cpu.idtr = state.gdtr, state.idtr
        for name, segment in state.segments.items():
            cpu.set_segment(name, *segment)
        for name, value in state.registers.items():
            setattr(cpu, name, value)
        self._bytes = 0
        machine.exits.on_mmio(MMIO, 0x1000, self._device)
        machine.exits.on_ports(PORT, 2, self._port)
        for reason in ExitReason:
            handler = cpu.handler(reason)
            if handler is not None and noting:
                cpu.set_handler(reason, self._noting(handler))

    def _noting(self, handler: Any) -> Any:
        def note(cpu: Vcpu, exit: Exit) -> None:
            self.events.append((exit.reason, cpu.rip, cpu.cycles, cpu.instructions, cpu.rcx))
            handler(cpu, exit)

        return note

    def _device(self, cpu: Vcpu, exit: Exit) -> None:
        if not exit.is_write:
            exit.value = 0x10
        elif exit.value == 1:
            cpu.raise_nmi()
        elif exit.value == 2:
            cpu.charge(777)
        elif exit.value == 4:
            cpu.inject(6)

    def _port(self, cpu: Vcpu, exit: Exit) -> None:
        self._bytes += 1
        exit.value = self._bytes & 0xFF
        if exit.port == PORT + 1 or self._bytes % 5 == 0:
            cpu.raise_nmi()
        if self._bytes % 4 == 0:
            cpu.charge(100)

    def end(self) -> dict[str, Any]:
        """All that it has come to."""
        machine = self.machine
        figures = without_host_time(machine.statistics())
        return {
            "memory and registers": machine.state_hash(),
            **machine.cpu.registers(),
            **figures,
            "events": self.events,
            "of the guest": [
                event for event in struct.iter_unpack("<4I", machine.cpu.read(LOG_END, 0x1000)) if any(event)
            ],
        }


LONGEST = 20_000_000


def run_whole(guest: CutGuest) -> dict[str, Any]:
    stop = guest.machine.run(cycles=LONGEST)
    assert stop.kind is StopKind.HALTED, (
        f"the guest did not come to its end: {stop}, rip {guest.machine.cpu.rip:#x}"
    )
    return guest.end()


def run_in_parts(guest: CutGuest, parts: Iterator[int]) -> dict[str, Any]:
    """Run for as many cycles as each part says, 0 being a step; whole after the last."""
    for part in parts:
        stop = guest.machine.run(cycles=part) if part else guest.machine.step()
        if stop.kind not in (StopKind.CYCLES, StopKind.STEP):
            assert stop.kind is StopKind.HALTED, f"the guest did not come to its end: {stop}"
            return guest.end()
    return run_whole(guest)


def steps() -> Iterator[int]:
    while True:
        yield 0


def ones() -> Iterator[int]:
    while True:
        yield 1


def mixture(seed: int) -> Iterator[int]:
    rng = random.Random(seed)
    while True:
        yield rng.choice((0, 0, 1, 2, 7, 30, 200, 1000, 5000))


def cut_cycles(source: str, paging: str) -> list[int]:
    """The cycles at which instructions begin, those before, and those after: a cut elsewhere is one of these."""
    guest = CutGuest(source, paging, None)
    borders = {0}
    while guest.machine.step().kind is StopKind.STEP:
        borders.add(guest.machine.cycles)
    return sorted({max(0, border + near) for border in borders for near in (-1, 0, 1)})


def differences(whole: dict[str, Any], cut: dict[str, Any]) -> dict[str, Any]:
    """What differs; of lists, from their first different element on."""
    found = {}
    for name, a in whole.items():
        b = cut[name]
        if a == b:
            continue
        if isinstance(a, list):
            first = next(
                (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
            )
            a, b = (first, a[first : first + 3]), (first, b[first : first + 3])
        found[name] = (a, b)
    return found
