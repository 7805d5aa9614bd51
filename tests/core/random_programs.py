"""Random guest programs of what compilers emit and what a translator of code gets wrong, for the guests of program_guest."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

from iced_x86 import Code, Encoder, Instruction, MemoryOperand, MemorySizeExt, Register, Register_

from .machine import CODE, DATA, GENERAL
from .program_guest import ABSENT, CODE_TAIL, COUNTERS, PAGE, STACK, Item, Label, Program

CONDITIONS = ("O", "NO", "B", "AE", "E", "NE", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G")
BINARY = ("ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP")
SHIFTS = ("SHL", "SHR", "SAR", "ROL", "ROR", "RCL", "RCR")
_NAMES = {
    8: ["AL", "CL", "DL", "BL", "SPL", "BPL", "SIL", "DIL"] + [f"R{n}L" for n in range(8, 16)],
    16: ["AX", "CX", "DX", "BX", "SP", "BP", "SI", "DI"] + [f"R{n}W" for n in range(8, 16)],
    32: ["EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI"] + [f"R{n}D" for n in range(8, 16)],
    64: [name.upper() for name in GENERAL],
}
REGISTERS: dict[int, list[Register_]] = {width: [getattr(Register, name) for name in names] for width, names in _NAMES.items()}
HIGH: list[Register_] = [Register.AH, Register.CH, Register.DH, Register.BH]
COUNTER = 15  # the register that counts rounds in 64-bit mode
TF, DF, AC, ID, ARITHMETIC = 0x100, 0x400, 0x40000, 0x200000, 0x8D5


class Immediate(int):
    """An operand that is no register."""


Operand: TypeAlias = "Register_ | MemoryOperand | Immediate"


class _Writer:
    """Writes one program. A method that cannot encode what it chose raises ValueError, and `step` chooses anew."""

    def __init__(self, bits: int, rng: random.Random) -> None:
        self.bits, self.rng = bits, rng
        self.items: list[Item] = []
        self.encoder = Encoder(bits)
        self.free = [0, 1, 2, 3] + [8, 9, 10, 11] * (bits == 64)
        self.pointers = [6, 7, 5] + [12, 13, 14] * (bits == 64)
        self.reserved: set[int] = set()
        self.counters = 0
        self.depth = 0
        self.patches: list[Item] = []
        self.patchable: list[Item] = []

    def put(self, name: str, *operands: Operand, label: Label | None = None, use: str = "branch", lock: bool = False) -> int:
        """Appends an instruction; returns its number."""
        code = getattr(Code, name, None)
        if code is None:
            raise ValueError(f"there is no {name}")
        shape = "_".join(
            "mem" if isinstance(operand, MemoryOperand) else "i32" if isinstance(operand, Immediate) else "reg" for operand in operands
        )
        if label is not None and use == "branch":
            instruction = Instruction.create_branch(code, CODE)
        elif not shape:
            instruction = Instruction.create(code)
        else:
            instruction = getattr(Instruction, f"create_{shape}")(code, *operands)
        instruction.has_lock_prefix = lock
        if use != "branch" or label is None:
            self.encoder.encode(instruction, CODE)
        self.items.append(Item(instruction, label, use))
        return len(self.items) - 1

    def here(self, label: Label) -> None:
        label.at = len(self.items)

    # --- operands -----------------------------------------------------------------------------------------------------
    def width(self) -> int:
        return self.rng.choice((8, 16, 32, 32, 32, self.bits, self.bits, self.bits))

    def wide(self) -> int:
        return self.rng.choice((16, 32, self.bits, self.bits))

    def target(self, width: int) -> Register_:
        """A register that may be written; for 8 bits now and then AH, CH, DH, BH."""
        number = self.rng.choice([number for number in self.free if number not in self.reserved])
        return HIGH[number] if width == 8 and number < 4 and self.rng.random() < 0.3 else REGISTERS[width][number]

    def source(self, width: int) -> Register_:
        if self.rng.random() < 0.15 and (width > 8 or self.bits == 64):
            return REGISTERS[width][self.rng.choice((*self.pointers, 4, 5))]
        return self.target(width)

    def immediate(self, width: int = 8) -> Immediate:
        top = 1 << (min(width, 32) - 1)
        return Immediate(self.rng.choice((0, 1, -1, top - 1, -top, 0x7F, -0x80, self.rng.randrange(-top, top))))

    def spot(self) -> int:
        """A linear address: of data, across pages, and where a program finds something else, or nothing."""
        rng = self.rng
        usual = DATA + rng.randrange(2 * PAGE - 16), DATA + PAGE - rng.randrange(8), DATA + rng.randrange(3) * PAGE + 0x80
        unusual = [DATA + 2 * PAGE - rng.randrange(8), DATA + 3 * PAGE - rng.randrange(8), DATA + 3 * PAGE, CODE_TAIL, CODE_TAIL]
        if self.bits != 16:
            unusual += [ABSENT + 8, 0x208000, 0x20A000 + rng.randrange(PAGE), 0x20A000, 0x20B000 + rng.randrange(PAGE), 0x20BFFC, 0x20D010,
                        0x40A000 + rng.randrange(2 * PAGE), 0x40A010, 0x40B010, 0x40C000, 0x40BFFE, 0xFFFFFFFE]  # fmt: skip
        return rng.choice((*usual, *usual, rng.choice(unusual)))

    def memory(self) -> MemoryOperand:
        rng, bits = self.rng, self.bits
        choice = rng.randrange(100)
        displacement = rng.choice((0, 0, 4, 8, rng.randrange(-0x40, 0x80), rng.randrange(0x400)))
        absolute = 2 if bits == 16 else 4 if bits == 32 else 8
        pointer = REGISTERS[32 if choice < 10 else bits][rng.choice(self.pointers)]
        index = rng.choice([number for number in self.free if number not in self.reserved])
        if choice < 55:
            return MemoryOperand(pointer, displ=displacement, displ_size=1)
        if choice < 75:
            if bits == 16:
                self.put("MOV_R16_IMM16", Register.BX, Immediate(rng.randrange(0x100)))
                return MemoryOperand(Register.BX, rng.choice((Register.SI, Register.DI)), displ=displacement, displ_size=1)
            if choice < 73:
                self.put("AND_RM32_IMM8", REGISTERS[32][index], Immediate(rng.choice((7, 0x3F))))
            return MemoryOperand(pointer, REGISTERS[bits][index], rng.choice((1, 2, 4, 8)), displacement, 1)
        if choice < 85 and bits == 64:
            return MemoryOperand(Register.RIP, displ=self.spot() & 0x7FFFFFFF, displ_size=8)
        if choice < 94:
            spot = self.spot()
            return MemoryOperand(displ=spot - (1 << 32) * (spot >> 31) * (bits == 64), displ_size=absolute)
        if choice < 98:
            segment = rng.choice((Register.FS, Register.GS))
            if bits == 16 or choice < 96:
                return MemoryOperand(displ=rng.choice((0, 8, 0xF0, 0xFD)), displ_size=absolute, seg=segment)
            self.put("AND_RM32_IMM8", REGISTERS[32][index], Immediate(0x3F))
            return MemoryOperand(REGISTERS[bits][index], displ=rng.choice((0, 0xC0)), displ_size=1, seg=segment)
        base = Register.BX if bits == 16 else REGISTERS[bits][index]
        return MemoryOperand(base, displ=displacement, displ_size=1)

    def place(self, width: int, share: float = 0.35) -> Operand:
        """What may be written: a register or memory."""
        return self.memory() if self.rng.random() < share else self.target(width)

    def lockable(self, operand: Operand) -> bool:
        return isinstance(operand, MemoryOperand) and self.rng.random() < 0.3

    # --- instructions -------------------------------------------------------------------------------------------------
    def move(self) -> None:
        width, rng = self.width(), self.rng
        choice = rng.randrange(10)
        if choice < 3:
            self.put(f"MOV_R{width}_RM{width}", self.target(width), rng.choice((self.source(width), self.memory())))
        elif choice < 6:
            self.put(f"MOV_RM{width}_R{width}", self.place(width, 0.7), self.source(width))
        elif choice < 8:
            self.put(f"MOV_RM{width}_IMM{min(width, 32)}", self.place(width), self.immediate(width))
        elif choice < 9 or self.bits == 64:
            self.put(f"MOV_R{width}_IMM{width}", self.target(width), self.immediate(width))
        else:
            name, register = {8: ("AL", Register.AL), 16: ("AX", Register.AX), 32: ("EAX", Register.EAX)}[width]
            spot = MemoryOperand(displ=self.spot(), displ_size=self.bits // 8)
            if rng.random() < 0.5:
                self.put(f"MOV_{name}_MOFFS{width}", register, spot)
            else:
                self.put(f"MOV_MOFFS{width}_{name}", spot, register)

    def extend(self) -> None:
        to, of = self.rng.choice(((16, 8), (32, 8), (32, 16), (self.bits, 8), (self.bits, 16), (64, 32)))
        name = "MOVSXD" if of == 32 else self.rng.choice(("MOVZX", "MOVSX"))
        self.put(f"{name}_R{to}_RM{of}", self.target(to), self.memory() if self.rng.random() < 0.4 else self.source(of))

    def address(self) -> None:
        width, bits = self.wide(), self.bits
        if bits == 16:
            first, second = self.rng.choice((Register.BX, Register.BP)), self.rng.choice((Register.SI, Register.DI))
            operand = MemoryOperand(first, second, displ=self.rng.randrange(-99, 999), displ_size=1)
        else:
            size = self.rng.choice((bits, bits, 32))
            base, index = self.source(size), self.target(size)
            operand = MemoryOperand(base, index, self.rng.choice((1, 2, 4, 8)), self.rng.choice((0, -1, 5, 0x12345)), 1)
        self.put(f"LEA_R{width}_M", self.target(width), operand)

    def binary(self) -> None:
        width, rng, name = self.width(), self.rng, self.rng.choice(BINARY)
        choice = rng.randrange(20)
        if choice < 3:
            register = self.target(width)
            self.put(f"{name}_RM{width}_R{width}", register, register)
        elif choice < 7:
            operand = self.place(width, 0.6)
            self.put(f"{name}_RM{width}_R{width}", operand, self.source(width), lock=name != "CMP" and self.lockable(operand))
        elif choice < 11:
            self.put(f"{name}_R{width}_RM{width}", self.target(width), rng.choice((self.source(width), self.memory())))
        elif choice < 14 or width == 8:
            self.put(f"{name}_RM{width}_IMM8", self.place(width), self.immediate())
        elif choice < 16:
            accumulator = {16: "AX", 32: "EAX", 64: "RAX"}[width]
            self.put(f"{name}_{accumulator}_IMM{min(width, 32)}", getattr(Register, accumulator), self.immediate(width))
        elif choice < 18:
            self.put(f"{name}_RM{width}_IMM{min(width, 32)}", self.place(width), self.immediate(width))
        elif rng.random() < 0.5:
            self.put(f"TEST_RM{width}_IMM{min(width, 32)}", self.place(width), self.immediate(width))
        else:
            register = self.source(width)
            self.put(f"TEST_RM{width}_R{width}", rng.choice((register, self.target(width), self.memory())), register)

    def unary(self) -> None:
        width, name = self.width(), self.rng.choice(("INC", "DEC", "INC", "DEC", "NEG", "NOT"))
        operand = self.place(width)
        if name in ("INC", "DEC") and width in (16, 32) and self.bits != 64 and not isinstance(operand, MemoryOperand):
            self.put(f"{name}_R{width}", operand)
        else:
            self.put(f"{name}_RM{width}", operand, lock=self.lockable(operand))

    def shift(self) -> None:
        width, rng = self.width(), self.rng
        count = Immediate(rng.choice((0, 1, 1, 2, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 0x81 - 0x100)))
        if width > 8 and rng.random() < 0.2:
            name = f"{rng.choice(('SHLD', 'SHRD'))}_RM{width}_R{width}"
            if rng.random() < 0.5:
                self.put(f"{name}_CL", self.place(width), self.source(width), Register.CL)
            else:
                self.put(f"{name}_IMM8", self.place(width), self.source(width), count)
            return
        name, operand = f"{rng.choice(SHIFTS)}_RM{width}", self.place(width, 0.25)
        choice = rng.randrange(4)
        if choice == 0:
            self.put(f"{name}_CL", operand, Register.CL)
        elif choice == 1:
            self.put(f"{name}_1", operand, Immediate(1))
        else:
            self.put(f"{name}_IMM8", operand, count)

    def multiply(self) -> None:
        width, rng = self.wide(), self.rng
        operand = self.memory() if rng.random() < 0.3 else self.source(width)
        choice = rng.randrange(8)
        if choice < 3:
            self.put(f"IMUL_R{width}_RM{width}", self.target(width), operand)
        elif choice < 5:
            size = rng.choice((8, min(width, 32)))
            self.put(f"IMUL_R{width}_RM{width}_IMM{size}", self.target(width), operand, self.immediate(size))
        elif not self.reserved & {0, 2} and choice < 7:
            self.put(f"{rng.choice(('MUL', 'IMUL'))}_RM{width}", operand)
        elif not self.reserved & {0, 2}:
            if rng.random() < 0.8:  # so that the quotient fits, unless the divisor is 0
                self.put("XOR_RM32_R32", Register.EDX, Register.EDX)
            if rng.random() < 0.7:
                self.put(f"OR_RM{width}_IMM8", REGISTERS[width][3], Immediate(1))
            self.put(f"{rng.choice(('DIV', 'IDIV'))}_RM{width}", REGISTERS[width][3])

    def exchange(self) -> None:
        width, name = self.width(), self.rng.choice(("XCHG", "XADD", "CMPXCHG"))
        operand = self.place(width)
        self.put(f"{name}_RM{width}_R{width}", operand, self.target(width), lock=self.lockable(operand))

    def bits_of(self) -> None:
        width, rng = self.wide(), self.rng
        choice = rng.randrange(6)
        name = rng.choice(("BT", "BT", "BTS", "BTR", "BTC"))
        if choice == 0:
            self.put(f"BSWAP_R{max(width, 32)}", self.target(max(width, 32)))
        elif choice == 1:
            self.put(f"{rng.choice(('BSF', 'BSR', 'POPCNT'))}_R{width}_RM{width}", self.target(width), self.source(width))
        elif choice < 4:
            self.put(f"{name}_RM{width}_IMM8", self.place(width), Immediate(rng.randrange(64)))
        else:
            self.put(f"{name}_RM{width}_R{width}", self.place(width, 0.1), self.source(width))

    def simple(self) -> None:
        names = ["CWD", "CDQ", "CBW", "CWDE", "LAHF", "LAHF", "SAHF", "STC", "CLC", "CMC", "CMC", "RDTSC", "NOPD"]
        name = self.rng.choice(names + ["CQO", "CDQE"] * (self.bits == 64))
        if self.reserved & {0, 2}:
            name = "CMC"
        self.put(name)

    def conditional(self) -> None:
        condition = self.rng.choice(CONDITIONS)
        if self.rng.random() < 0.5:
            self.put(f"SET{condition}_RM8", self.place(8, 0.2))
        else:
            width = self.wide()
            self.put(f"CMOV{condition}_R{width}_RM{width}", self.target(width), self.rng.choice((self.source(width), self.memory())))

    def flags(self) -> None:
        """Flags by way of the stack: read out, or set to anything."""
        suffix, width = {16: ("W", 16), 32: ("D", 32), 64: ("Q", 64)}[self.bits]
        if self.rng.random() < 0.6:
            self.put(f"PUSHF{suffix}")
            self.put(f"POP_R{width}", self.target(width))
            return
        rng = self.rng
        value = rng.getrandbits(12) & ARITHMETIC
        value |= DF * (rng.random() < 0.1) | TF * (rng.random() < 0.1)
        if self.bits != 16:
            value |= AC * (rng.random() < 0.15) | ID * (rng.random() < 0.1)
        self.put({16: "PUSH_IMM16", 32: "PUSHD_IMM32", 64: "PUSHQ_IMM32"}[self.bits], Immediate(value))
        self.put(f"POPF{suffix}")

    def vector(self) -> None:
        """What is seldom translated, in the midst of what is."""
        rng = self.rng
        choice = rng.randrange(6)
        register, other = (getattr(Register, f"XMM{rng.randrange(4)}") for _ in range(2))
        if choice == 0:
            self.put("MOVUPS_XMM_XMMM128", register, self.memory())
        elif choice == 1:
            self.put("MOVUPS_XMMM128_XMM", self.memory(), register)
        elif choice == 2:
            self.put("PADDD_XMM_XMMM128", register, other)
        elif choice == 3:
            self.put("MOVD_XMM_RM32", register, self.source(32))
        elif choice == 4:
            self.put(rng.choice(("FLD1", "FLDPI", "FLDZ", "FCHS")))
        else:
            self.put("FISTP_M32INT", self.memory())

    def system(self) -> None:
        """What flushes the TLB, where it may."""
        rng, width = self.rng, 64 if self.bits == 64 else 32
        register = REGISTERS[width][3]
        if rng.random() < 0.6:
            self.put("INVLPG_M", MemoryOperand(REGISTERS[width][rng.choice(self.pointers)]))
        else:
            self.put(f"MOV_R{width}_CR", register, Register.CR3)
            self.put(f"MOV_CR_R{width}", Register.CR3, register)

    # --- structures ---------------------------------------------------------------------------------------------------
    def push_and_pop(self) -> None:
        rng = self.rng
        width = rng.choice((self.bits, self.bits, self.bits, 16))
        number = rng.choice(self.pointers + self.free + [4])
        form = rng.randrange(8)
        if form == 0:  # POP RSP, and back
            self.put(f"LEA_R{width}_M", REGISTERS[width][self.free[0]], MemoryOperand(REGISTERS[max(32, self.bits)][4], displ=-16, displ_size=1))
            self.put(f"PUSH_R{width}", REGISTERS[width][self.free[0]])
            self.put(f"POP_R{width}", REGISTERS[width][4])
            self.put(f"ADD_RM{width}_IMM8", REGISTERS[width][4], Immediate(16))
            return
        if form == 1:
            self.put({16: "PUSH_IMM16", 32: "PUSHD_IMM32", 64: "PUSHQ_IMM32"}[self.bits], self.immediate(self.bits))
            width = self.bits
        elif form == 2:
            pointer = MemoryOperand(REGISTERS[max(32, self.bits)][rng.choice(self.pointers)], displ=8, displ_size=1)
            self.put(f"PUSH_RM{width}", pointer)
        else:
            self.put(f"PUSH_R{width}", REGISTERS[width][number])
        if rng.random() < 0.3:
            self.put(f"PUSH_R{width}", self.source(width))
            self.put(f"POP_R{width}", self.target(width))
        if rng.random() < 0.5:
            self.step()
        if form > 2 and number in (*self.pointers, 4):
            self.put(f"POP_R{width}", REGISTERS[width][number])  # what points stays
        elif rng.random() < 0.3:
            base = MemoryOperand(REGISTERS[max(32, self.bits)][4], displ=-32, displ_size=1)
            self.put(f"POP_RM{width}", base)
        else:
            self.put(f"POP_R{width}", self.target(width))

    def jump(self, name: str, label: Label) -> None:
        self.put(f"{name}_REL16" if self.bits == 16 else f"{name}_REL32_{self.bits}", label=label)

    def skip(self) -> None:
        """A comparison, or none, and one Jcc or two."""
        rng, label = self.rng, Label()
        if rng.random() < 0.7:
            width = self.width()
            if rng.random() < 0.4:
                register = self.target(width)
                self.put(f"CMP_R{width}_RM{width}", register, MemoryOperand(REGISTERS[max(32, self.bits)][rng.choice(self.pointers)]))
                if rng.random() < 0.5:
                    self.put(f"MOV_R{width}_IMM{width}", register, self.immediate(width))
            else:
                self.put(f"{rng.choice(('CMP', 'TEST', 'SUB', 'ADD'))}_RM{width}_R{width}", self.target(width), self.target(width))
        short = rng.random() < 0.5
        if short:
            self.put(f"J{rng.choice(CONDITIONS)}_REL8_{self.bits}", label=label)
        else:
            self.jump(f"J{rng.choice(CONDITIONS)}", label)
        if rng.random() < 0.4:
            other = Label()
            self.jump(f"J{rng.choice(CONDITIONS)}", other)
            self.step(2, leaves=short)
            self.here(other)
        self.step(3, leaves=short)
        self.here(label)

    def jump_forward(self) -> None:
        label = Label()
        choice = self.rng.randrange(4)
        if choice == 0 and self.bits != 16:
            self.put({32: "JECXZ_REL8_32", 64: "JRCXZ_REL8_64"}[self.bits], label=label)
        elif choice == 1 and self.bits == 64:
            self.put("LEA_R64_M", Register.RAX, MemoryOperand(Register.RIP, displ=CODE, displ_size=8), label=label, use="memory")
            self.put("JMP_RM64", Register.RAX)
        else:
            self.jump("JMP", label)
        self.step(3, leaves=choice == 0)
        self.here(label)

    def call(self) -> None:
        routine, over = Label(), Label()
        suffix = {16: "W", 32: "D", 64: "Q"}[self.bits]
        choice = self.rng.randrange(4)
        if choice == 0 and self.bits == 32:
            self.put("MOV_R32_IMM32", Register.EAX, Immediate(CODE), label=routine, use="immediate")
            self.put("CALL_RM32", Register.EAX)
        else:
            self.jump("CALL", routine)
        self.step(2)
        self.jump("JMP", over)
        self.here(routine)
        self.step(3)
        self.put(f"RETN{suffix}")
        self.here(over)

    def patch(self) -> None:
        """A store to an immediate of the program: which one is said when all are written."""
        width, rng = self.rng.choice((8, 8, 8, 16, 32)), self.rng
        size = 2 if self.bits == 16 else 4 if self.bits == 32 else 8
        place = MemoryOperand(Register.RIP if self.bits == 64 else Register.NONE, displ=CODE, displ_size=size)
        name = rng.choice((f"MOV_RM{width}_R{width}", f"MOV_RM{width}_R{width}", f"ADD_RM{width}_R{width}", f"XCHG_RM{width}_R{width}"))
        register = self.target(width)
        self.patches.append(self.items[self.put(name, place, register, label=Label(), use="patch")])

    def string(self) -> None:
        if self.reserved & {1}:
            return
        width = max(32, self.bits)
        self.put("MOV_RM32_IMM32", Register.ECX, Immediate(self.rng.randrange(0, 20)))
        name = self.rng.choice(("create_rep_movsb", "create_rep_stosb", "create_movsd", "create_stosb"))
        self.items.append(Item(getattr(Instruction, name)(width if self.rng.random() < 0.8 or self.bits == 64 else 16)))

    def loop(self) -> None:
        rng, bits, label = self.rng, self.bits, Label()
        rounds = rng.randrange(3, 40) if not self.depth else rng.randrange(3, 8)
        form = rng.randrange(4)
        counter = MemoryOperand(displ=COUNTERS + 4 * self.counters, displ_size=2 if bits == 16 else 4 if bits == 32 else 8)
        self.counters += 1
        self.depth += 1
        if form == 0 and not self.reserved & {1}:
            self.put("MOV_R32_IMM32", Register.ECX, Immediate(rounds))
            self.here(label)
            self.reserved.add(1)
            self.step(3, leaves=True)
            self.reserved.discard(1)
            self.put({16: "LOOP_REL8_16_CX", 32: "LOOP_REL8_32_ECX", 64: "LOOP_REL8_64_RCX"}[bits], label=label)
        elif form == 1 and bits == 64 and COUNTER not in self.reserved:
            up = rng.random() < 0.5
            self.reserved.add(COUNTER)
            self.put("MOV_R32_IMM32", Register.R15D, Immediate(0 if up else rounds))
            self.here(label)
            self.step(rng.randrange(1, 8))
            self.reserved.discard(COUNTER)
            if up:
                width = rng.choice((32, 64))
                self.put(f"INC_RM{width}", REGISTERS[width][COUNTER])
                self.put("CMP_RM32_IMM8", Register.R15D, Immediate(rounds))
            else:
                self.put("SUB_RM32_IMM8", Register.R15D, Immediate(1))
            self.jump("JB" if up else "JNE", label)
        else:
            self.put("MOV_RM32_IMM32", counter, Immediate(rounds))
            self.here(label)
            self.step(rng.randrange(1, 8))
            self.put("DEC_RM32", counter)
            self.jump("JNE", label)
        self.depth -= 1

    def step(self, count: int = 1, *, leaves: bool = False) -> None:
        """Up to `count` instructions or, unless only `leaves` will do, structures of them."""
        methods, weights = (_LEAVES, _LEAF_WEIGHTS) if leaves or self.depth > 1 else (_METHODS, _WEIGHTS)
        for _ in range(self.rng.randrange(1, count + 1)):
            self.one_of(methods, weights)

    def one_of(self, methods: list[Callable[[_Writer], None]], weights: list[int] | None = None) -> None:
        while True:
            before = len(self.items)
            method = self.rng.choices(methods, weights)[0]
            try:
                method(self)
            except ValueError:  # there is no such encoding
                del self.items[before:]
                continue
            if method in (_Writer.move, _Writer.binary, _Writer.multiply):
                self.patchable += self.items[before:]
            return

    def program(self) -> list[Item]:
        while len(self.items) < 40:
            self.one_of(_STRUCTURES)
            self.step(5)
        self.choose_patched()
        return self.items

    def choose_patched(self) -> None:
        """Mostly an immediate that is as wide as the store and near."""
        numbers = {id(item): number for number, item in enumerate(self.items)}
        sizes: dict[int, int] = {}
        for item in self.patchable:
            if id(item) in numbers:
                self.encoder.encode(item.instruction, CODE)
                offsets = self.encoder.get_constant_offsets()
                sizes[numbers[id(item)]] = offsets.immediate_size if offsets.has_immediate else 0
        for item in self.patches:
            width = 1 if self.rng.random() < 0.05 else MemorySizeExt.size(item.instruction.memory_size)
            fitting = [number for number, size in sizes.items() if size >= width]
            if id(item) in numbers and fitting and item.label is not None:
                fitting.sort(key=lambda number: abs(number - numbers[id(item)]))
                item.label.at = self.rng.choice(fitting[:4])


_LEAF_WEIGHTS = [16, 5, 5, 22, 8, 9, 5, 4, 4, 4, 6, 1]
_LEAVES: list[Callable[[_Writer], None]] = [
    _Writer.move, _Writer.extend, _Writer.address, _Writer.binary, _Writer.unary, _Writer.shift, _Writer.multiply, _Writer.exchange,
    _Writer.bits_of, _Writer.simple, _Writer.conditional, _Writer.vector,
]  # fmt: skip
_WEIGHTS = [*_LEAF_WEIGHTS, 2, 1, 4, 6, 2, 2, 2, 2, 2]
_METHODS: list[Callable[[_Writer], None]] = [
    *_LEAVES, _Writer.flags, _Writer.system, _Writer.push_and_pop, _Writer.skip, _Writer.jump_forward, _Writer.call, _Writer.patch,
    _Writer.string, _Writer.loop,
]  # fmt: skip
_STRUCTURES: list[Callable[[_Writer], None]] = [
    *[_Writer.loop] * 3, *[_Writer.skip] * 2, _Writer.jump_forward, _Writer.call, _Writer.push_and_pop, _Writer.patch,
]  # fmt: skip


def random_program(bits: int, seed: int) -> Program:
    """The program of this number for this width, with what its registers and memory are at first."""
    rng = random.Random(f"{bits} {seed}")
    items = _Writer(bits, rng).program()
    width = max(32, bits)
    top = (1 << width) - 1
    registers = {
        name: rng.choice((0, 1, 1 << (width - 1), top, rng.getrandbits(width), rng.getrandbits(8)))
        for name in (GENERAL if bits == 64 else GENERAL[:8])
    }
    registers |= {"rsi": DATA + rng.randrange(0x800), "rdi": DATA + PAGE + rng.randrange(0x800), "rsp": STACK}
    registers |= {"rbp": DATA + rng.choice((1, 2, 2, 3)) * PAGE - rng.randrange(0x60)}
    if bits == 64:
        registers |= {"r12": 0x20A000 + rng.randrange(PAGE), "r13": 0x40A000 + rng.randrange(PAGE)}
        registers |= {"r14": rng.choice((0x20A000, 0x20B000, 0x20BFF0, 0x40AFF8, 0x40B800, 0x208800, CODE_TAIL))}
    origin = CODE if rng.random() < 0.6 else CODE + PAGE - rng.randrange(0x120)
    registers |= {"rip": origin, "rflags": 2 | rng.getrandbits(12) & ARITHMETIC}
    cpl = 0 if bits == 16 else rng.choice((0, 0, 3))
    return Program(bits, cpl, origin, items, registers, rng.randbytes(4 * PAGE))
