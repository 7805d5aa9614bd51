"""Random trials of the instruction table's rows: instruction bytes, and a state in which they mean something.

A trial is one instruction with one state. Its bytes vary in everything that the row leaves open: prefixes,
operand and address size, REX, registers, addressing form, displacement, immediate. Its state is random, with
the boundary values frequent, except for what the instruction needs to do its work: registers that make the
memory operand, the stack and the branch target land where something is, most of the time; at a page's end, in
a read-only page, outside a segment or nowhere at all, the rest of it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import numpy as np

from hvmx.isa import FLAG_BITS, Row

from . import sse_trials, x87_trials, xsave_trials
from .amd import HOST_IS_AMD, STRINGS
from .family_trials import FINISH
from .integers import integer, signed
from .native import (
    BY_BREAKPOINT,
    BY_TRAP,
    CASE,
    CODE,
    CODE32_SELECTOR,
    CODE64_SELECTOR,
    CODE_BYTES,
    CONSTANT,
    DATA,
    DATA_BYTES,
    DATA_SELECTOR,
    LDT,
    PAGE,
    Cases,
    ldt_selector,
    segment_base,
)  # fmt: skip
from .registers import CS, DS, ES, FS, GS, RAX, RBP, RBX, RDI, RDX, RSI, RSP, SS

SEGMENT_PREFIXES = (0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
CODE_END, DATA_END = CODE + CODE_BYTES, DATA + DATA_BYTES

BY_TRAP_FAMILIES = frozenset(
    ["jcc", "loop", "loopz", "loopnz", "jcxz", "jmp", "call", "ret", "jmp_far", "call_far", "ret_far", "int3", "int", "into"]
)
SSE_CONTROL = frozenset(["ldmxcsr", "stmxcsr", "fxsave", "fxrstor"]) | xsave_trials.FAMILIES
AREA_BYTES = (512, xsave_trials.AREA_BYTES)
CONTROLLED_MAP = 3
"""0F 3A, where an immediate is a byte of which each bit means something: all its values come up."""
X87_IMAGES = frozenset(["fldenv", "fnstenv", "frstor", "fnsave"])
"""Their operand is accessed in pieces. Where several of these would fault, which one does is the processor's choice."""
IO_STRINGS = frozenset(("ins", "outs"))
SEGMENT_LOADS = frozenset(["lds", "les", "lfs", "lgs", "lss"])
WITHOUT_REX_W_ON_AMD = SEGMENT_LOADS | {"jmp_far", "call_far"}
"""Far pointers with a 64-bit offset: the SDM has them, AMD's manual (volume 3) does not."""

_USES_STACK = frozenset(["push", "pop", "call", "call_far", "push_sreg", "pop_sreg"])
_ALIGNED = frozenset(("cmpxchg16b", "fxsave", "fxrstor")) | xsave_trials.FAMILIES
_CHANGED_BY_REPEAT = frozenset(("nop", "xchg", "pause", "loopz", "loopnz"))
"""F3 90 is PAUSE; AMD's processors let REPE and REPNE choose the condition of LOOPE and LOOPNE."""
_CHANGED_BY_LOCK = frozenset(("mov_from_cr", "mov_to_cr"))
"""LOCK MOV CR0 is MOV CR8 on AMD's processors."""

_MASK64 = (1 << 64) - 1
_XMM = 160
"""Where FXSAVE's image has XMM0."""
_PACK = struct.Struct("<21Q 6H 3B 15s 2x" + "QI48s4x" * 2)
_ADDRESSING_16 = ((RBX, RSI), (RBX, RDI), (RBP, RSI), (RBP, RDI), (RSI,), (RDI,), (RBP,), (RBX,))
assert _PACK.size == CASE.itemsize


class Trial:
    """One instruction and one state; `code`, `bits`, `undefined` (flags) and `unspecified` (memory) are for the comparison."""

    def __init__(self, row: Row, bits: int, rng: random.Random, control: int) -> None:
        self.row, self.bits, self.rng, self.control = row, bits, rng, control
        self.undefined = sum(FLAG_BITS[letter] for letter in row.undefined)
        self.gpr = [self.value() for _ in range(16)]
        self.rflags = 0x202 | rng.getrandbits(12) & 0x8D5 | (0x400 if rng.random() < 0.3 else 0)
        self.fs_base = self.gs_base = 0
        self.patches: list[tuple[int, bytes]] = []
        self.code = b""
        self.fxsave: bytes | None = None
        if row.is_x87 or row.family == "fwait":
            self.fxsave = x87_trials.image(rng)
        elif row.is_mmx:
            self.fxsave = sse_trials.mmx_image(rng)
        elif row.family in SSE_CONTROL or row.is_vector:
            self.fxsave = sse_trials.image(rng, row.is_vector)
        if row.family in xsave_trials.FAMILIES and HOST_IS_AMD:  # others may call in use what is initial (SDM vol. 1, 13.6)
            self.fxsave = xsave_trials.partly_initial(sse_trials.image(rng, False), rng)
        self.unspecified: list[tuple[int, int]] = []
        self.return_by = BY_TRAP if row.family in BY_TRAP_FAMILIES else BY_BREAKPOINT
        self._choose_segments()
        self._choose_sizes()
        self._choose_stack()
        self._encode()
        self._place()
        if self.memory_form is not None:
            self._aim(self.memory_form)
            if row.is_x87 and "r" in row.memory:
                self.patches.clear()
                self.patch(self.address, x87_trials.operand(rng, row.family, self.size(self.rm_operand)))
        finish = FINISH.get(row.family)
        if finish:
            finish(self)
        self.code = self.code[: CODE_END - self.at]

    def pack(self) -> bytes:
        """The trial as an element of `native.CASE`."""
        patches: list[int | bytes] = []
        for address, content in (*self.patches, (0, b""), (0, b""))[:2]:
            patches += (address or DATA, len(content), content)
        return _PACK.pack(
            *self.gpr, self.at - segment_base(self.selectors[CS]), self.rflags, self.fs_base, self.gs_base, self.at,
            *self.selectors, self.return_by, self.fxsave is not None, len(self.code), self.code, *patches)  # fmt: skip

    def value(self) -> int:
        """A 64-bit number; boundary values are frequent."""
        return integer(self.rng)

    # The state that does not depend on the instruction

    def _choose_segments(self) -> None:
        rng = self.rng
        if self.bits == 64:
            self.selectors = [DATA_SELECTOR, CODE64_SELECTOR, DATA_SELECTOR, DATA_SELECTOR, 0, 0]
            # Bases with which the linear address is canonical where the offset is: AMD's processors check both.
            self.fs_base, self.gs_base = DATA + rng.randrange(0, PAGE, 8), rng.choice((0, DATA, (1 << 47) - 8))
            return
        data = ("data", "data", "data16", "half", "expand_down", "read_only", "flat")
        self.selectors = [
            ldt_selector(rng.choice(data)) if rng.random() < 0.5 else DATA_SELECTOR for _ in range(6)
        ]
        if self.bits == 16:
            self.selectors = [ldt_selector("data") if rng.random() < 0.7 else old for old in self.selectors]
            self.selectors[CS] = ldt_selector("code16")
        else:
            self.selectors[CS] = ldt_selector("code32") if rng.random() < 0.15 else CODE32_SELECTOR
        if self.row.family in X87_IMAGES:
            self.selectors = [self.selectors[CS] if number == CS else DATA_SELECTOR for number in range(6)]
            return
        stacks = ("data", "data16", "expand_down16") if self.bits == 16 else ("data", "data16", "expand_down")
        other_stack = rng.random() < 0.4 and self.row.family != "call"
        self.selectors[SS] = ldt_selector(rng.choice(stacks)) if other_stack else DATA_SELECTOR

    @property
    def stack_bits(self) -> int:
        """Width of the stack pointer: 64, or 32 or 16 by SS.B."""
        if self.bits == 64:
            return 64
        selector = self.selectors[SS]
        return 16 if selector & 4 and not list(LDT.values())[selector >> 3].bits32 else 32

    def base(self, segment: int) -> int:
        """The base of a segment register."""
        if self.bits == 64:
            return self.fs_base if segment == FS else self.gs_base if segment == GS else 0
        return segment_base(self.selectors[segment])

    @property
    def alignment(self) -> int:
        """What an operand is aligned to where it must be aligned."""
        return 64 if self.row.family in xsave_trials.FAMILIES else 16

    def target(self, size: int, locked: bool = False) -> int:
        """A linear address for an access of `size` bytes; mostly in DATA. A locked one stays in a cache line."""
        rng, kind = self.rng, self.rng.random()
        size = max(size, 1)
        if kind < 0.78:
            address = DATA + rng.randrange(512, DATA_BYTES - 1024)
            if rng.random() < (0.9 if self.row.family in _ALIGNED or self.row.is_vector else 0.5):
                address &= -self.alignment
        elif kind < 0.84:
            address = DATA + PAGE - rng.randrange(1, max(size, 2))
        elif kind < 0.88:
            address = CONSTANT - rng.randrange(1, max(size, 2))
        elif kind < 0.92:
            address = CONSTANT + rng.randrange(PAGE - 600)
        elif kind < 0.94:
            address = CODE + rng.randrange(CODE_BYTES - 600)
        elif kind < 0.96:
            address = DATA - rng.randrange(1, 16)
        elif kind < 0.98 or self.bits != 64:
            address = rng.randrange(0x3000_0000, 0xF000_0000)
        else:
            address = rng.choice(
                (1 << 47, (1 << 47) - 1, 1 << 63, (1 << 63) - 1, rng.getrandbits(46) | 1 << 62)
            )
        return address & -16 if locked else address

    def _choose_stack(self) -> None:
        rng, kind = self.rng, self.rng.random()
        # Some processors check a near call's target before they push, others after it. Where the push cannot fault, the
        # two end alike.
        if kind < 0.84 or self.row.family == "call":
            top = DATA + rng.randrange(1024, DATA_BYTES - 1024)
        elif kind < 0.90:
            top = DATA + PAGE + rng.randrange(-32, 32)
        elif kind < 0.94:
            top = DATA + rng.randrange(0, 64)
        elif kind < 0.97:
            top = CONSTANT + rng.randrange(-32, 32)
        else:
            top = self.target(8)
        unaligned = rng.random() < 0.25 and self.row.family != "push_sreg"
        self.stack = top if unaligned else top & -8
        self.set_offset(RSP, self.stack - self.base(SS), self.stack_bits)

    def set_offset(self, register: int, offset: int, bits: int) -> None:
        """Set the low `bits` of a register; what an address of that width leaves out stays as it is."""
        mask = (1 << bits) - 1
        self.gpr[register] = self.gpr[register] & ~mask | offset & mask

    # The instruction

    def _choose_sizes(self) -> None:
        row, rng = self.row, self.rng
        flags = row.attributes
        self.rex = 0
        self.prefixes: list[int] = []
        takes_66 = row.prefix not in ("NP", "66") and not (self.bits == 64 and "f64" in flags)
        toggled = takes_66 and rng.random() < 0.25 and row.family != "bswap"
        if toggled:
            self.prefixes.append(0x66)
        self.operand_bits = (32 if toggled else 16) if self.bits == 16 else 16 if toggled else 32
        if self.bits == 64:
            if row.rex_w or rng.random() < 0.6:
                self.rex = 0x40 | rng.getrandbits(3) | (row.rex_w or rng.random() < 0.5) << 3
            if row.family == "cmpxchg8b" or HOST_IS_AMD and row.family in WITHOUT_REX_W_ON_AMD:
                self.rex &= ~8
            # With REX.B, F3 90 is an XCHG on AMD's processors; Intel's manual (volume 2, PAUSE) makes no exception.
            if "b0" in flags or row.family == "pause":
                self.rex &= ~1
            if self.rex & 8 or "f64" in flags or "d64" in flags and not toggled:
                self.operand_bits = 64
        other_address = rng.random() < 0.2
        if other_address:
            self.prefixes.append(0x67)
        self.address_bits = ({16: 32, 32: 16, 64: 32} if other_address else {16: 16, 32: 32, 64: 64})[
            self.bits
        ]
        self.override: int | None = None
        if rng.random() < 0.15:
            self.override = rng.choice((FS, GS) if self.bits == 64 else range(6))
            self.prefixes.append(SEGMENT_PREFIXES[self.override])
        self.repeat = (row.family in STRINGS | IO_STRINGS and rng.random() < 0.6 or
                       row.map == 0 and not row.prefix and row.family not in _CHANGED_BY_REPEAT and rng.random() < 0.02)  # fmt: skip
        if self.repeat:
            self.prefixes.append(rng.choice((0xF2, 0xF3)))

    def size(self, operand: str) -> int:
        """Bytes in memory of an operand of the table."""
        wide = self.operand_bits // 8
        sizes = {"b": 1, "w": 2, "d": 4, "q": 8, "dq": 16, "ss": 4, "sd": 8, "ps": 16, "pd": 16, "t": 10, "e": 28 if wide > 2 else 14, "f": 108 if wide > 2 else 94, "x": 512, "xs": xsave_trials.AREA_BYTES, "v": wide, "z": min(wide, 4), "y": max(wide, 4),
                 "a": 2 * wide, "p": wide + 2, "s": 10 if self.bits == 64 else 6, "v/Mw": 2, "y/Mw": 2}  # fmt: skip
        return sizes.get(operand[1:], 0)

    def _encode(self) -> None:
        row, rng = self.row, self.rng
        opcode = rng.choice(row.opcodes)
        if row.family == "xchg" and opcode == 0x90:
            opcode = opcode + 1 if self.bits != 64 else opcode
            self.rex |= 0x41 if self.bits == 64 else 0
        self.opcode_register = opcode & 7 | (self.rex & 1) << 3
        self.memory_form: tuple[int, int, int, int, int] | None = None
        self.locked = False
        self.rm_operand = next(
            (operand for operand, role in zip(row.operands, row.roles, strict=True) if role == "rm"), ""
        )
        body = bytearray(((), (0x0F,), (0x0F, 0x38), (0x0F, 0x3A))[row.map])
        body.append(opcode)
        if len(row.modrm) == 2:
            body.append(int(row.modrm, 16))
        elif row.modrm:
            body += self._modrm()
            while row.family in xsave_trials.FAMILIES and self.memory_form and {RAX, RDX} & set(self.memory_form[:2]):
                body[2:] = self._modrm()
        mandatory = {"66": [0x66], "F3": [0xF3], "F2": [0xF2]}.get(row.prefix, [])
        lockable = "lock" in row.attributes and self.memory_form is not None
        chance = 0.3 if lockable else 0.02 if row.family not in _CHANGED_BY_LOCK else 0
        if rng.random() < chance:
            self.prefixes.append(0xF0)
            self.locked = True
        self.locked |= row.family == "xchg"
        rng.shuffle(self.prefixes)
        rex = [self.rex] if self.rex else []
        head = bytes([*self.prefixes, *mandatory, *rex]) + bytes(body)
        self.immediate_at = len(head)
        self.code = head + b"".join(self._immediates())

    def _immediates(self) -> Iterator[bytes]:
        for operand in self.row.operands:
            size = {"Ib": 1, "sIb": 1, "Jb": 1, "Iw": 2, "Iz": min(self.operand_bits, 32) // 8,
                    "Jz": min(self.operand_bits, 32) // 8, "Iv": self.operand_bits // 8,
                    "Ap": self.operand_bits // 8 + 2}.get(operand, 0)  # fmt: skip
            if operand[0] == "O":
                size = self.address_bits // 8
            value = self.control if self.row.map == CONTROLLED_MAP else self.value()
            yield (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def _modrm(self) -> bytes:
        """ModRM, SIB and displacement. For memory, `memory_form` says where in them what `_aim` needs is."""
        row, rng = self.row, self.rng
        reg = int(row.modrm) if row.modrm.isdigit() else rng.randrange(8)
        if row.family == "mov_to_sreg":
            reg = rng.choice((ES, SS, DS, FS, GS, ES, SS, DS, FS, GS, CS, 6))
        self.reg = reg | (self.rex & 4) << 1
        # The register form of PREFETCHW is #UD on AMD's processors, and a NOP on Intel's.
        memory_only = row.memory_only or row.text.startswith("0F 0D")
        as_register = not memory_only and (row.register_only or rng.random() < 0.4)
        if row.mod_ignored:
            return bytes([rng.randrange(4) << 6 | reg << 3 | rng.randrange(8)])
        rm = rng.randrange(8)
        self.rm = rm | (self.rex & 1) << 3
        if as_register:
            return bytes([0xC0 | reg << 3 | rm])
        mod = rng.randrange(3)
        no_register, no_index = -1, 4
        index, scale = no_register, 0
        made = bytearray([mod << 6 | reg << 3 | rm])
        displacement = (0, 8, 16 if self.address_bits == 16 else 32)[mod]
        if self.address_bits == 16:
            registers = _ADDRESSING_16[rm]
            base, index = registers[0], registers[1] if len(registers) > 1 else no_register
            if mod == 0 and rm == 6:
                base, displacement = no_register, 16
            segment = SS if base == RBP else DS
        else:
            base = self.rm
            if rm == 4:
                sib = rng.getrandbits(8)
                made.append(sib)
                scale, index, base = sib >> 6, sib >> 3 & 7 | (self.rex & 2) << 2, sib & 7 | (self.rex & 1) << 3
                index = no_register if index == no_index else index
                if mod == 0 and sib & 7 == 5:
                    base, displacement = no_register, 32
            elif mod == 0 and rm == 5:
                base, displacement = no_register, 32
                index = -2 if self.bits == 64 else no_register
            segment = SS if base in (RSP, RBP) else DS
        self.memory_form = (base, index, scale, displacement, segment)
        self.displacement_offset = len(made)
        made += bytes(displacement // 8)
        self.displacement_offset -= len(made)
        return bytes(made)

    def _place(self) -> None:
        """Choose the linear address of the instruction."""
        kind = self.rng.random()
        if kind < 0.93 or self.row.family in ("ud0", "ud1"):  # not all processors fetch their ModRM byte
            self.at = CODE + self.rng.randrange(256, CODE_BYTES - 256)
        elif kind < 0.97:
            self.at = CODE + PAGE - self.rng.randrange(1, 15)
        else:
            self.at = CODE_END - self.rng.randrange(1, 15)
            if self.at + len(self.code) == CODE_END:  # there would be no room for the breakpoint behind it
                self.at += 1 if len(self.code) > 1 else -1

    def set_code(self, offset: int, value: int, size: int) -> None:
        """Overwrite `size` bytes of the instruction."""
        content = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        self.code = self.code[:offset] + content + self.code[offset + size :]

    def patch(self, address: int, content: bytes) -> bool:
        """Put `content` into DATA at `address` before the instruction. False, and nothing done, where it does not lie
        in DATA or there are two such changes already."""
        fits = DATA <= address and address + len(content) <= DATA_END and len(self.patches) < 2
        if fits:
            self.patches.append((address, content))
        return fits

    def _aim(self, form: tuple[int, int, int, int, int]) -> None:
        """Make the memory operand land on a target: choose the displacement and the registers."""
        base, index, scale, displacement, segment = form
        rng, bits = self.rng, self.address_bits
        size = self.size(self.rm_operand)
        self.address = self.target(size, self.locked)
        if self.row.family in xsave_trials.FAMILIES:
            # Of a missing page at the beginning and a limit, or the canonical addresses', end further on, the piece that
            # the processor accesses first decides.
            self.address = next((end for end in (DATA, 1 << 47) if self.address < end < self.address + size), self.address)
        if self.row.family in ("lea", "nop") and rng.random() < 0.7:
            return
        segment = segment if self.override is None else self.override
        if self.bits == 64 and segment not in (FS, GS):
            segment = DS
        offset = self.address - self.base(segment)
        if size in AREA_BYTES and bits == 16:
            # What would wrap at 64 KiB faults as the processor likes.
            offset = min(offset % (1 << 16), (1 << 16) - size)
            self.address = self.base(segment) + offset
        disp = signed(self.value(), displacement) if displacement else 0
        if index == -2:
            disp = offset - (self.at + len(self.code))
        elif base < 0:
            if index >= 0:
                self.set_offset(index, rng.randrange(-4096, 4096), bits)
            disp = offset - (self.gpr[index] << scale if index >= 0 else 0)
        elif index == base:
            self.set_offset(base, (offset - disp) % (1 << bits) // (1 + (1 << scale)), bits)
        elif base != RSP or self.row.family not in _USES_STACK:
            self.set_offset(base, offset - disp - (self.gpr[index] << scale if index >= 0 else 0), bits)
        if displacement:
            offset_in_code = self.immediate_at + self.displacement_offset
            self.set_code(offset_in_code, disp, displacement // 8)
        if size and size <= 16 and rng.random() < 0.5:
            low, high = self.value(), self.value()
            content = sse_trials.vector(rng) if self.row.is_vector else (low | high << 64).to_bytes(16, "little")
            self.patch(self.address, content[:size])

    # What `family_trials` is made of

    def selector(self) -> int:
        """A selector: of each kind of segment, null, not present, or beyond the table."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.5:
            return ldt_selector(rng.choice(list(LDT)), rng.choice((3, 3, 3, 0)))
        if kind < 0.85:
            return rng.choice((DATA_SELECTOR, DATA_SELECTOR, CODE32_SELECTOR, CODE64_SELECTOR, 0x28))
        return rng.choice((0, 1, 3, 0x10, 0x18, 0x13, 0x1B, 0xFFFF, 0xFFF8, len(LDT) << 3 | 7))

    def code_selector(self) -> int:
        """A selector for CS: mostly one that may be loaded."""
        good = [CODE32_SELECTOR, ldt_selector("code32"), ldt_selector("code16"), ldt_selector("execute_only")]
        chosen = self.selector() if self.rng.random() < 0.3 else self.rng.choice((*good, CODE64_SELECTOR))
        # A far call from a 16-bit stack into 64-bit code leaves the AMD processors that this was tried on in a loop;
        # from any other they push as 64-bit code does, without SS's base; SDM, volume 2, CALL: before CS is loaded.
        strange = self.stack_bits == 16 or self.row.family == "call_far" and self.base(SS) != 0
        return CODE32_SELECTOR if chosen | 3 == CODE64_SELECTOR and strange else chosen

    def branch_target(self, selector: int | None = None) -> int:
        """An offset in CS (or another segment), mostly in CODE."""
        base = segment_base(self.selectors[CS] if selector is None else selector)
        kind = self.rng.random()
        if kind < 0.75:
            return self.rng.randrange(CODE + 16, CODE_END - 16) - base
        if kind < 0.9:
            return self.rng.randrange(0x2000_0000, 0x7000_0000)
        return self.value() & 0x7FFF_FFFF_FFFF if self.bits == 64 else self.value()

    def code_operand_bits(self) -> int:
        """Operand size of near branches: 64 in 64-bit mode, else as chosen."""
        return 64 if self.bits == 64 else self.operand_bits

    def set_operand(self, value: int) -> None:
        """Give the r/m operand a value, where that can be done."""
        size = self.size(self.rm_operand)
        if self.memory_form is None:
            register = self.rm if self.row.modrm else self.opcode_register
            self.set_offset(register, value, min(8 * (size or 8), 64))
        else:
            self.patches.clear()
            self.patch(self.address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    def set_vectors(self, first: bytes, second: bytes) -> None:
        """Give the XMM register of ModRM's reg field, and the r/m operand, a value."""
        assert self.fxsave is not None
        registers = bytearray(self.fxsave)
        if self.memory_form is None:
            registers[_XMM + 16 * self.rm : _XMM + 16 * (self.rm + 1)] = second
        else:
            self.patches.clear()
            self.patch(self.address, second)
        registers[_XMM + 16 * self.reg : _XMM + 16 * (self.reg + 1)] = first
        self.fxsave = bytes(registers)

    def push_frame(self, *items: tuple[int, int]) -> None:
        """Let the stack hold items of (value, bytes), from its top."""
        self.patch(
            self.stack,
            b"".join((value & (1 << 8 * size) - 1).to_bytes(size, "little") for value, size in items),
        )


def trials(row: Row, bits: int, count: int, seed: int) -> list[Trial]:
    """`count` trials of a row in 16-, 32- or 64-bit code; the same for the same seed."""
    rng = random.Random(f"{seed} {row.text} {bits}")
    controls = rng.sample(range(256), 256)
    return [Trial(row, bits, rng, controls[number % 256]) for number in range(count)]


def pack(chosen: list[Trial]) -> Cases:
    """The trials as the native oracle's input."""
    return np.frombuffer(b"".join(trial.pack() for trial in chosen), CASE)
