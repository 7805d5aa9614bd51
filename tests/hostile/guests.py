"""Hostile guests: a machine whose code, tables, registers and host are chosen by a seed, to be as awkward as may be.

Nothing here is a meaningful program. Code, descriptor tables, page tables and stacks lie close together in little
memory, so that the guest often writes its own tables and code, and each has some entries that work, so that it gets
further than the first fault.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import hvmx
from hvmx import ExitReason
from hvmx.isa import rows
from hvmx.isa.levels import CR4_BITS, EFER_BITS
from hvmx.vocabulary import Control

MEMORY = 1 << 20
PAGE = 4096
PAGES = 48
"""The guest's addresses mostly lie in this many pages from 0."""
GDT, IDT, TSS, STACK, CODE = 0x8000, 0x9000, 0xA000, 0x18000, 0x10000
CODE_PAGES = 2

CR0_PE, CR0_WP, CR0_AM, CR0_PG = 1, 1 << 16, 1 << 18, 1 << 31
CR4_PSE, CR4_PAE, CR4_PGE, CR4_SMEP, CR4_SMAP = 1 << 4, 1 << 5, 1 << 7, 1 << 20, 1 << 21
EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = 1, 1 << 8, 1 << 10, 1 << 11
FLAG_TF, FLAG_IF, FLAG_VM, FLAG_AC = 1 << 8, 1 << 9, 1 << 17, 1 << 18

REGISTERS = [
    "rax",
    "rcx",
    "rdx",
    "rbx",
    "rbp",
    "rsi",
    "rdi",
    "r8",
    "r9",
    "r10",
    "r11",
    "r12",
    "r13",
    "r14",
    "r15",
]
MSRS = [
    0x10, 0x1B, 0x174, 0x175, 0x176, 0x1A0, 0x1D9, 0x200, 0x250, 0x277, 0x2FF, 0xC0000080, 0xC0000081, 0xC0000082,
    0xC0000083, 0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103,
]  # fmt: skip
PORTS = [0x20, 0x21, 0x40, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x92, 0xA0, 0xA1, *range(0x3F8, 0x400), 0xCF8]


class HostError(Exception):
    """What a handler of this campaign raises now and then."""


@dataclass(frozen=True)
class Mode:
    """How a guest starts."""

    width: int
    paging: str = ""
    protected: bool = True
    virtual_8086: bool = False
    switching: bool = False
    """It has page tables of every kind, and goes from one paging mode to another all the time."""


MODES = {
    "real": Mode(16, protected=False),
    "protected16": Mode(16),
    "virtual8086": Mode(16, virtual_8086=True),
    "protected32": Mode(32),
    "paged32": Mode(32, "two-level"),
    "pae32": Mode(32, "pae"),
    "compatibility32": Mode(32, "four-level"),
    "long64": Mode(64, "four-level"),
    "switching16": Mode(16, protected=False, switching=True),
    "switching32": Mode(32, "two-level", switching=True),
    "switching-pae32": Mode(32, "pae", switching=True),
    "switching64": Mode(64, "four-level", switching=True),
}
LEVELS = {"two-level": 1, "pae": 2, "four-level": 3}
"""Tables of each kind of paging above the page table."""


@cache
def encodings() -> list[tuple[bytes, bytes, bool, int]]:
    """(mandatory prefix, opcode bytes, has ModRM, digit or -1) of every row of the instruction table."""
    maps = (b"", b"\x0f", b"\x0f\x38", b"\x0f\x3a")
    prefixes = {"": b"", "NP": b"", "NFx": b"", "66": b"\x66", "F3": b"\xf3", "F2": b"\xf2"}
    found = []
    for row in rows():
        for opcode in row.opcodes:
            modrm = row.modrm
            fixed = bytes.fromhex(modrm) if len(modrm) == 2 else b""
            digit = int(modrm) if modrm.isdigit() and len(modrm) == 1 else -1
            has_modrm = bool(modrm) and not fixed
            found.append((prefixes[row.prefix], maps[row.map] + bytes([opcode]) + fixed, has_modrm, digit))
    return found


def address(rng: random.Random) -> int:
    """An address: mostly in the guest's pages, sometimes at the end of one, at a device, or anywhere."""
    choice = rng.randrange(16)
    if choice < 10:
        return rng.randrange(PAGES * PAGE)
    if choice < 13:
        return rng.randrange(1, PAGES) * PAGE - rng.randrange(1, 17)
    if choice == 13:
        return rng.choice(
            (0xA0000, 0xB8000, 0xFED40000, MEMORY, MEMORY - 4, 0xFFFFFFFC, 0x7FFFFFFFFFF8, (1 << 64) - 6)
        )
    return rng.getrandbits(rng.choice((16, 32, 48, 64)))


def instruction(rng: random.Random, width: int) -> bytes:
    """An encoding of the instruction table with random prefixes, operands and immediates."""
    if rng.randrange(12) == 0:
        return rng.randbytes(rng.randrange(1, 16))
    mandatory, opcode, has_modrm, digit = rng.choice(encodings())
    prefix = bytes(
        rng.choices(
            (0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3), k=rng.choice((0, 0, 0, 1, 2))
        )
    )
    rex = bytes([0x40 | rng.randrange(16)]) if width == 64 and rng.randrange(2) else b""
    code = prefix + mandatory + rex + opcode
    if has_modrm:
        modrm = rng.randrange(256)
        if digit >= 0:
            modrm = modrm & 0xC7 | digit << 3
        code += bytes([modrm])
    tail = rng.choice((address(rng), rng.randrange(256), rng.getrandbits(64))) & (1 << 64) - 1
    return code + struct.pack("<Q", tail)[: rng.choice((0, 1, 1, 2, 4, 4, 5, 8))]


def load_eax(width: int, value: int) -> bytes:
    return (b"\x66" if width == 16 else b"") + b"\xb8" + struct.pack("<I", value)


def load_efer(width: int, value: int) -> bytes:
    load_ecx = (b"\x66" if width == 16 else b"") + b"\xb9" + struct.pack("<I", 0xC0000080)
    return load_ecx + load_eax(width, value) + b"\x31\xd2\x0f\x30"


def mode_switch(rng: random.Random, width: int, roots: dict[str, int]) -> bytes:
    """Code that goes to another paging mode, or changes a bit of what makes one, or a page table."""
    cr0, cr3, cr4 = b"\x0f\x22\xc0", b"\x0f\x22\xd8", b"\x0f\x22\xe0"  # from EAX
    what = rng.randrange(10)
    protection = 0x11 | rng.choice((0, CR0_WP))
    if what < 4:
        paging = rng.choice(list(roots))
        code = load_eax(width, protection) + cr0
        size = CR4_PAE if paging != "two-level" else 0
        code += load_eax(width, rng.choice((0, CR4_PSE, CR4_PGE)) | size) + cr4
        code += load_eax(width, roots[paging]) + cr3
        code += load_efer(width, (EFER_LME if paging == "four-level" else 0) | rng.choice((0, EFER_NXE)))
        return code + load_eax(width, protection | CR0_PG) + cr0
    if what == 4:
        return load_eax(width, protection ^ rng.choice((0, CR0_PE, CR0_PG, CR0_PG))) + cr0
    if what == 5:
        bits = rng.choice((0, CR4_PAE)) | rng.choice((0, CR4_PSE)) | rng.choice((0, CR4_PGE, CR4_SMEP))
        return load_eax(width, bits) + cr4
    if what == 6:
        return load_eax(width, rng.choice(list(roots.values())) | rng.choice((0, 0, 0x20, MEMORY))) + cr3
    if what == 7:
        return bytes([0xB0, rng.choice((0, 2)), 0xE6, 0x92])  # the A20 gate
    top = rng.choice(list(roots.values()))
    place = top + rng.choice((0, 0, -PAGE, -2 * PAGE)) + rng.choice((0, 4, 8, 0xFF8, 0xFFC))
    if rng.randrange(4) == 0:
        place = -rng.randrange(1, 1024) * PAGE  # through the last entry of the tables
    prefix = b"\x67" if width == 16 else b""
    operation = rng.choice((b"\x89", b"\x8b", b"\x87", b"\x01"))
    return (prefix + operation + b"\x0c\x25" + struct.pack("<i", place)) * rng.choice((1, 1, 4))


def code_page(rng: random.Random, width: int, roots: dict[str, int] | None = None) -> bytes:
    code = bytearray()
    while len(code) < PAGE + 16:
        if roots is not None and rng.randrange(8):
            code += mode_switch(rng, width, roots)
        elif rng.randrange(10) == 0:
            code += bytes([0xEB, rng.randrange(256)])  # a short jump, often back
        else:
            code += instruction(rng, width)
    return bytes(code[:PAGE])


def descriptor(rng: random.Random, type_: int, dpl: int, *, long: bool = False, wide: bool = True) -> int:
    limit = rng.choice((0xFFFFF, 0xFFFFF, 0xFFFFF, 0xFFFF, rng.getrandbits(20)))
    base = rng.choice((0, 0, 0, 0, rng.randrange(PAGES * PAGE), rng.getrandbits(32)))
    flags = rng.choice((8, 8, 0)) | (2 if long else 4 if wide else 0)
    return (
        limit & 0xFFFF | (base & 0xFFFFFF) << 16 | (type_ | dpl << 5 | 0x80) << 40
        | limit >> 16 << 48 | flags << 52 | base >> 24 << 56
    )  # fmt: skip


def gdt(rng: random.Random, width: int, long: bool) -> bytes:
    """Flat segments of rings 0 and 3, task states, gates, and some that are random."""
    entries = [0]
    for dpl in (0, 3):
        entries.append(
            descriptor(rng, rng.choice((0x1A, 0x1B, 0x1E)), dpl, long=long, wide=width == 32 and not long)
        )
        entries.append(descriptor(rng, rng.choice((0x12, 0x13, 0x16)), dpl, wide=width != 16))
    for type_ in (0x9, 0xB, 0x1, 0x2, 0xC, 0x5):
        base = rng.choice((TSS, TSS, rng.randrange(PAGES * PAGE)))
        entries.append(0x2067 | base << 16 | (type_ | rng.choice((0, 0x60)) | 0x80) << 40)
    while len(entries) < 64:
        entries.append(
            rng.choice((rng.getrandbits(64), descriptor(rng, rng.randrange(32), rng.randrange(4))))
        )
    return struct.pack("<64Q", *entries)


def idt(rng: random.Random, mode: Mode) -> bytes:
    if not mode.protected:
        return b"".join(
            struct.pack("<HH", CODE + rng.randrange(PAGE) & 0xFFFF, 0x1000 * rng.randrange(2))
            for _ in range(256)
        )
    table = b""
    for _ in range(256):
        type_ = rng.choice((0xE, 0xE, 0xE, 0xF, 0x6, 0x7, 0x5, rng.randrange(32)))
        target = rng.choice((CODE + rng.randrange(CODE_PAGES * PAGE), address(rng)))
        selector = rng.choice((8, 8, 8, 24, 8 * rng.randrange(64), rng.getrandbits(16)))
        gate = (
            target & 0xFFFF
            | selector << 16
            | (rng.choice((0, 0, 0, 1)) << 32)
            | (type_ | rng.choice((0x80, 0xE0))) << 40
        )
        gate |= (target >> 16 & 0xFFFF) << 48
        table += struct.pack("<Q", gate)
        if mode.width == 64 or mode.paging == "four-level":
            table += struct.pack("<Q", target >> 32)
    return table


def page_entry(rng: random.Random, target: int, wide: bool, strange: float) -> int:
    """An entry for a page that anybody may use, or, as often as ``strange`` says, one that is not quite right."""
    if rng.random() >= strange:
        return target | 7
    if rng.randrange(8) == 0:
        return rng.getrandbits(64 if wide else 32)
    bits = rng.choice((0x27, 0x67, 0x107, 3, 5, 0x63, 0x163, 1, 0x87, 0))
    if wide and rng.randrange(3) == 0:
        bits |= 1 << 63
    return target | bits


def page_tables(rng: random.Random, paging: str, at: int = 0x1000) -> tuple[dict[int, bytes], int]:
    """Tables from an address on that map the first megabytes mostly one to one; their pages, and CR3."""
    wide = paging != "two-level"
    size, form = (512, "<512Q") if wide else (1024, "<1024I")
    pages = {}
    leaf = []
    strange = rng.choice((0.01, 0.1, 0.5))
    for page in range(size):
        target = rng.randrange(PAGES) * PAGE if rng.random() < strange / 4 else page * PAGE
        leaf.append(page_entry(rng, target, wide, strange))
    pages[at] = struct.pack(form, *leaf)
    top = at
    for level in range(LEVELS[paging]):
        table = top + 0x1000
        entries = [0] * size
        entries[0] = top | (1 if paging == "pae" and level == 1 else rng.choice((7, 7, 7, 0x27)))
        for _ in range(4):
            index = rng.choice((rng.randrange(size), size - 1, 1))
            entries[index] = page_entry(rng, rng.choice((top, table, rng.randrange(PAGES) * PAGE)), wide, 0.5)
        if paging == "pae" and level == 1:
            entries[1:4] = rng.choices((0, top | 1, top | 1, rng.getrandbits(64)), weights=(8, 8, 8, 1), k=3)
        pages[table] = struct.pack(form, *entries)
        top = table
    return pages, top


def segment_rights(rng: random.Random, *, code: bool, width: int, dpl: int) -> int:
    type_ = rng.choice((0xB, 0xB, 0xF)) if code else rng.choice((3, 3, 3, 7))
    return (
        type_ | 0x90 | dpl << 5 | (0x2000 if code and width == 64 else 0x4000 if width == 32 else 0) | 0x8000
    )


class HostileGuest:
    """The machine of one seed; ``run`` takes it through some slices. ``tame``: with the controls and handlers of hvmx."""

    def __init__(self, mode_name: str, seed: int, *, tame: bool = False) -> None:
        self.rng = rng = random.Random(f"{mode_name} {seed}")
        self.mode = mode = MODES[mode_name]
        self.machine = hvmx.Machine(
            MEMORY,
            rng.choice(("skylake", "p4-672")),
            paging=rng.choice(("ept", "ept", "shadow")),
            board=rng.randrange(4) > 0,
        )
        cpu = self.machine.cpu
        cpu.translate_after = (0, 1, 4, None)[seed % 4]  # they are too short for code to become hot
        roots = self._write_tables_of_every_kind() if mode.switching else None
        for page in range(CODE_PAGES):
            cpu.write(CODE + page * PAGE, code_page(rng, mode.width, roots))
        cpu.write(GDT, gdt(rng, mode.width, mode.paging == "four-level"))
        cpu.write(IDT, idt(rng, mode))
        cpu.write(
            TSS,
            struct.pack("<26I", *(rng.choice((STACK, 0x10, address(rng) & 0xFFFFFFFF)) for _ in range(26))),
        )
        cpu.write(STACK - 256, rng.randbytes(512))
        ring = 3 if mode.virtual_8086 or not mode.switching and rng.randrange(2) else 0
        self._set_control_registers()
        self._set_segments(ring if mode.protected else 0)
        self._set_registers()
        if not tame and rng.randrange(2):
            self._be_a_strange_host()

    def _write_tables_of_every_kind(self) -> dict[str, int]:
        """Their CR3, by kind of paging. Those of one kind may end where RAM does."""
        rng, roots = self.rng, {}
        last = rng.choice(("", *LEVELS))
        for number, (paging, levels) in enumerate(LEVELS.items()):
            at = MEMORY - (levels + 1) * PAGE if paging == last else 0x20000 + number * 0x4000
            pages, roots[paging] = page_tables(rng, paging, at)
            for where, data in pages.items():
                self.machine.cpu.write(where, data)
        self.machine.cpu.write(
            roots["two-level"] + PAGE - 4, struct.pack("<I", roots["two-level"] - PAGE | 7)
        )
        return roots

    def _set_control_registers(self) -> None:
        rng, mode, cpu = self.rng, self.mode, self.machine.cpu
        cr0, cr4, efer = 0x10, rng.choice((0, CR4_PGE | CR4_PSE)), rng.choice((0, EFER_SCE))
        if mode.protected:
            cr0 |= CR0_PE | rng.choice((0, CR0_WP)) | rng.choice((0, CR0_AM))
            cr4 |= rng.choice((0, 0, CR4_SMEP, CR4_SMAP)) | rng.choice((0, 0, 1, 4, 8, 0x200))
        if mode.paging:
            pages, cpu.cr3 = page_tables(rng, mode.paging)
            for where, data in pages.items():
                cpu.write(where, data)
            cr0 |= CR0_PG
            efer |= rng.choice((0, EFER_NXE))
            if mode.paging != "two-level":
                cr4 |= CR4_PAE
        if mode.paging == "four-level":
            efer |= EFER_LME | EFER_LMA
        level = cpu.level  # what it has no bit for, no guest can set either
        cpu.cr4, cpu.efer = cr4 & level.bits(CR4_BITS), efer & (level.bits(EFER_BITS) | EFER_LMA)
        cpu.cr0 = cr0
        cpu.gdtr = (GDT, rng.choice((0x1FF, 0x1FF, rng.getrandbits(16))))
        cpu.idtr = (IDT, rng.choice((0xFFF, 0xFFF, 0x3FF, rng.getrandbits(16))))

    def _set_segments(self, ring: int) -> None:
        rng, mode, cpu = self.rng, self.mode, self.machine.cpu
        for name in ("ss", "cs", "ds", "es", "fs", "gs"):
            if not mode.protected or mode.virtual_8086:
                selector = (
                    CODE >> 4 if name == "cs" else rng.choice((0, 0x1000, 0xFFFF, rng.randrange(0x3000)))
                )
                limit = 0xFFFF if rng.randrange(6) else 0xFFFFFFFF  # unreal mode
                cpu.set_segment(name, selector, selector << 4, limit, 0xF3 if ring else 0x93)
                continue
            code = name == "cs"
            selector = (8 if code else 16) + (16 | 3 if ring else 0)
            limit = 0xFFFFFFFF if rng.randrange(4) else rng.choice((0xFFFF, rng.getrandbits(20)))
            base = 0 if rng.randrange(4) else rng.choice((0x10, rng.randrange(PAGES * PAGE)))
            cpu.set_segment(
                name, selector, base, limit, segment_rights(rng, code=code, width=mode.width, dpl=ring)
            )
        cpu.set_segment("tr", 0x28, TSS, rng.choice((0x67, 0x2067)), 0x8B)
        cpu.set_segment("ldtr", 0x40, GDT, 0x1FF, rng.choice((0x82, 0x10000)))

    def _set_registers(self) -> None:
        rng, cpu = self.rng, self.machine.cpu
        for name in REGISTERS:
            setattr(
                cpu,
                name,
                rng.choice(
                    (address(rng), address(rng), rng.choice(MSRS), rng.choice(PORTS), rng.randrange(64))
                ),
            )
        cpu.rsp = rng.choice((STACK, STACK, STACK & 0xFFFF, address(rng)))
        cpu.rip = (0 if self.mode.width == 16 else CODE) + rng.randrange(CODE_PAGES * PAGE)
        flags = (
            rng.choice((0, FLAG_IF))
            | rng.choice((0, 0, 0, FLAG_TF))
            | rng.choice((0, 0, FLAG_AC))
            | rng.getrandbits(12) & 0xCD5
        )
        if self.mode.virtual_8086:
            flags |= FLAG_VM | rng.choice((0, 0x3000))
        cpu.rflags = flags | rng.choice((0, 0x3000, 0x4000))
        for name in ("lstar", "cstar", "sysenter_eip", "sysenter_esp"):
            setattr(cpu, name, CODE + rng.randrange(PAGE))
        cpu.star, cpu.sysenter_cs = 0x0013_0008 << 32, 8
        if rng.randrange(3) == 0:
            cpu.dr0, cpu.dr1 = CODE + rng.randrange(PAGE), address(rng)
            cpu.dr2, cpu.dr3 = STACK - rng.randrange(64), address(rng)
            cpu.dr7 = rng.getrandbits(32) & ~0x2000 | 0x400

    def _be_a_strange_host(self) -> None:
        """Controls and handlers that no default has."""
        rng, machine = self.rng, self.machine
        cpu = machine.cpu
        cpu.controls = cpu.controls & (Control.SHADOW_PAGING | Control.EPT) | rng.getrandbits(15)
        cpu.exception_bitmap |= rng.getrandbits(32) & rng.getrandbits(32)
        cpu.io_bitmap[:] = rng.getrandbits(8)
        cpu.msr_bitmap[:] = rng.getrandbits(8)
        cpu.cr0_mask, cpu.cr4_mask = rng.getrandbits(32), rng.getrandbits(32)
        for reason in ExitReason:
            if rng.randrange(2):
                machine.exits.on(reason, self._careless(cpu.handler(reason)))

    def _careless(self, handler: Callable[[object, object], None]) -> Callable[[object, object], None]:
        """The handler, which now and then raises, injects, stops or answers nonsense."""

        def handle(vcpu: hvmx.core.vcpu.Vcpu, exit: hvmx.core.vcpu.Exit) -> None:
            action = self.rng.randrange(24)
            if action == 0:
                raise HostError
            if action == 1:
                vcpu.inject(self.rng.choice((0, 3, 6, 8, 13, 14, 17)), 0)
                return
            if action == 2:
                vcpu.stop()
            handler(vcpu, exit)
            if action == 3:
                exit.value = self.rng.getrandbits(64)
            if action == 4:
                vcpu.write(CODE + self.rng.randrange(PAGE), self.rng.randbytes(8))

        return handle

    def _interfere(self) -> None:
        """What an embedder may do between slices."""
        rng, machine = self.rng, self.machine
        cpu = machine.cpu
        action = rng.randrange(8)
        if action == 0:
            machine.memory[rng.randrange(PAGES * PAGE)] ^= rng.randrange(256)
        elif action == 1:
            cpu.write(address(rng) % (MEMORY - 64), rng.randbytes(64))
        elif action == 2:
            cpu.raise_nmi()
        elif action == 3:
            cpu.a20 = not cpu.a20
        elif action == 4:
            cpu.rip = CODE + rng.randrange(CODE_PAGES * PAGE)
        elif action == 5:
            setattr(cpu, rng.choice(REGISTERS), address(rng))
        elif action == 6 and machine.board is not None:
            machine.board.input.enter(rng.randbytes(8))

    def run(self, slices: int = 4, cycles: int = 20_000) -> None:
        """Some slices, some of them by single steps. Every way to stop is allowed; what else is raised is a bug."""
        for _ in range(slices):
            try:
                if self.rng.randrange(8):
                    before = self.machine.cpu.cycles
                    self.machine.run(cycles=cycles, timeout=10)
                    assert self.machine.cpu.cycles >= before, "guest time went backwards"
                else:
                    for _ in range(50):
                        self.machine.step()
            except HostError:
                pass
            self._interfere()
