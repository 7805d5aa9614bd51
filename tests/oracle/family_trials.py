"""What single families of instructions need of a trial, beyond what every row does, to do their work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import sse_trials, string_trials, xsave_trials
from .integers import signed
from .native import (
    CODE,
    CODE32_SELECTOR,
    CODE64_SELECTOR,
    CODE_BYTES,
    CONSTANT,
    DATA,
    DATA_BYTES,
    ldt_selector,
    segment_base,
)
from .registers import CS, DS, ES, FS, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP, SS

if TYPE_CHECKING:
    from .trials import Trial

CODE_END = CODE + CODE_BYTES


def _relative_branch(trial: Trial) -> None:
    size = len(trial.code) - trial.immediate_at
    if trial.rm_operand:
        through_stack_pointer = trial.memory_form is None and trial.rm == RSP
        if not through_stack_pointer:
            trial.set_operand(trial.branch_target())
        return
    if size > 1:
        end = trial.at - segment_base(trial.selectors[CS]) + len(trial.code)
        trial.set_code(trial.immediate_at, trial.branch_target() - end, size)
    if trial.row.family.startswith(("loop", "jcxz")) and trial.rng.random() < 0.6:
        trial.set_offset(RCX, trial.rng.choice((0, 1, 2)), trial.address_bits)


def _near_return(trial: Trial) -> None:
    trial.push_frame((trial.branch_target(), trial.code_operand_bits() // 8))


def _far_branch(trial: Trial) -> None:
    selector, size = trial.code_selector(), trial.operand_bits // 8
    offset = trial.branch_target(selector)
    if trial.row.family == "call_far" and segment_base(selector):
        # AMD's processors push before they check the offset, which the SDM (volume 2, CALL) has first: JMP tests that.
        offset %= CODE_BYTES
    if trial.row.modrm:
        trial.patches.clear()
        content = (offset & (1 << 8 * size) - 1).to_bytes(size, "little") + selector.to_bytes(2, "little")
        trial.patch(trial.address, content)
    else:
        trial.set_code(trial.immediate_at, offset, size)
        trial.set_code(trial.immediate_at + size, selector, 2)


def _far_return(trial: Trial) -> None:
    selector, size = trial.code_selector(), trial.operand_bits // 8
    released = 2 * ("Iw" in trial.row.operands)
    inner = trial.rng.random() < 0.1 and trial.stack < CONSTANT - 64
    if not inner:
        selector |= 3
    if inner or not DATA <= trial.stack < CONSTANT - 64:
        # AMD's processors read the outer stack pointer before they see that the selector is an inner one's; Intel's do
        # not (SDM, volume 2, RET): let it be there.
        trial.set_code(trial.immediate_at, 0, released)
    trial.push_frame((trial.branch_target(selector), size), (selector, size))


def _interrupt_return(trial: Trial) -> None:
    selector, size = trial.code_selector() | 3, trial.operand_bits // 8
    if size == 2 and selector in (CODE32_SELECTOR, CODE64_SELECTOR):  # from which 16 bits do not reach the breakpoint
        selector = ldt_selector("code16")
    if trial.stack < 1 << 47 < trial.stack + 5 * size:
        # At the end of the canonical addresses AMD's processors have the page fault of what is below before the #SS.
        trial.set_offset(RSP, 1 << 47, 64)
    flags = trial.value() & ~0x4_0100
    target = trial.rng.randrange(CODE + 16, CODE_END - 16)
    if trial.at <= target < trial.at + len(trial.code):  # what its bytes are from there on would run
        target = trial.at + len(trial.code)
    offset = target - segment_base(selector)
    rest = ((trial.target(8), size), (trial.selector() | 3, size)) if trial.bits == 64 else ()
    trial.push_frame((offset, size), (selector, size), (flags, size), *rest)


def _pop_flags(trial: Trial) -> None:
    trial.push_frame((trial.value() & ~0x4_0100, trial.operand_bits // 8))


def _pop_segment(trial: Trial) -> None:
    trial.push_frame((trial.selector() | trial.rng.getrandbits(32) << 16, trial.operand_bits // 8))


def _control_word(trial: Trial) -> None:
    """MXCSR: mostly without its reserved bits; an FXSAVE image's reserved bits are free."""
    size = trial.size(trial.rm_operand)
    mxcsr = trial.value() & (0xFFFF if trial.rng.random() < 0.8 else 0xFFFF_FFFF)
    trial.patches.clear()
    trial.patch(trial.address + (24 if size == 512 else 0), mxcsr.to_bytes(4, "little"))


def _xsave_area(trial: Trial) -> None:
    trial.gpr[RAX], trial.gpr[RDX] = xsave_trials.request(trial.rng)
    if trial.bits > trial.address_bits == 32:
        # Asked for nothing, an Intel processor cuts the linear address to 32 bits, the base of FS or GS with it.
        trial.gpr[RAX] |= 1
    trial.patches.clear()
    trial.patch(trial.address + xsave_trials.HEADER_AT, xsave_trials.header(trial.rng))
    if trial.row.family == "xrstor":
        trial.patch(trial.address + xsave_trials.MXCSR_AT, xsave_trials.mxcsr(trial.rng))
    else:
        _store_image(trial)


def _store_image(trial: Trial) -> None:
    """MXCSR_MASK is the processor's own."""
    trial.unspecified.append((trial.address + 28, 4))


def _push_segment(trial: Trial) -> None:
    """Of a 32-bit slot AMD's processors clear the upper half, which Intel's leave (SDM, volume 2, PUSH)."""
    if trial.operand_bits == 32:
        pointer = (trial.gpr[RSP] - 4) % (1 << trial.stack_bits)
        trial.unspecified.append((trial.base(SS) + pointer + 2, 2))


def _load_pointer(trial: Trial) -> None:
    size = trial.operand_bits // 8
    trial.patches.clear()
    content = trial.rng.randbytes(size) + trial.selector().to_bytes(2, "little")
    trial.patch(trial.address, content)


def _selector_operand(trial: Trial) -> None:
    trial.set_operand(trial.selector())
    if trial.row.family == "arpl":
        trial.set_offset(trial.reg, trial.selector(), 16)


def _string(trial: Trial) -> None:
    rng, bits = trial.rng, trial.address_bits
    source = DS if trial.override is None or trial.bits == 64 and trial.override < FS else trial.override
    trial.set_offset(RSI, trial.target(8) - trial.base(source), bits)
    trial.set_offset(RDI, trial.target(8) - trial.base(ES), bits)
    if trial.repeat:
        count = rng.choice((0, 1, 2, 3, rng.randrange(40), rng.randrange(40), rng.randrange(4000)))
        trial.set_offset(RCX, count, bits)
    if trial.row.family == "cmps" and trial.repeat and rng.random() < 0.5:
        trial.set_offset(RDI, trial.gpr[RSI] + trial.base(source) - trial.base(ES), bits)
    if trial.row.family == "scas" and trial.repeat and rng.random() < 0.5:
        trial.gpr[RAX] = 0x0101_0101_0101_0101 * rng.randrange(256)
        address = trial.gpr[RDI] % (1 << bits) + trial.base(ES)
        trial.patch(address, trial.gpr[RAX].to_bytes(8, "little") * 5)


def _table_lookup(trial: Trial) -> None:
    segment = DS if trial.override is None or trial.bits == 64 and trial.override < FS else trial.override
    trial.set_offset(RBX, trial.target(1) - trial.base(segment) - (trial.gpr[RAX] & 0xFF), trial.address_bits)


def _masked_store(trial: Trial) -> None:
    segment = DS if trial.override is None or trial.bits == 64 and trial.override < FS else trial.override
    trial.set_offset(RDI, trial.target(16) - trial.base(segment), trial.address_bits)


def _absolute_move(trial: Trial) -> None:
    if not any(operand[0] == "O" for operand in trial.row.operands):
        return
    segment = DS if trial.override is None or trial.bits == 64 and trial.override < FS else trial.override
    trial.set_code(trial.immediate_at, trial.target(8) - trial.base(segment), trial.address_bits // 8)


def _bit_string(trial: Trial) -> None:
    if trial.row.modrm.isdigit() or trial.memory_form is None:
        return
    distance = trial.rng.randrange(-2000, 2000) if not trial.locked else trial.rng.randrange(8 * 8)
    trial.set_offset(trial.reg, distance, trial.operand_bits)


def _compare_exchange(trial: Trial) -> None:
    if trial.rng.random() < 0.5:
        return
    pair = trial.row.family != "cmpxchg"
    width = {"cmpxchg8b": 32, "cmpxchg16b": 64}.get(trial.row.family, 64)
    mask = (1 << width) - 1
    trial.set_operand(trial.gpr[RAX] & mask | (trial.gpr[RDX] & mask) << width if pair else trial.gpr[RAX])


def _divide(trial: Trial) -> None:
    rng, size = trial.rng, trial.size(trial.rm_operand)
    uses_result_as_address = trial.memory_form is not None and {RAX, RDX} & set(trial.memory_form[:2])
    if rng.random() < 0.3 or uses_result_as_address:
        return
    if size == 1:
        trial.set_offset(RAX, rng.randrange(1 << rng.randrange(1, 15)), 16)
    else:
        sign = -(trial.gpr[RAX] >> (8 * size - 1) & 1) if trial.row.family == "idiv" else 0
        trial.set_offset(RDX, rng.choice((0, sign, sign, rng.randrange(16))), 8 * size)
    trial.set_operand(trial.value() | 1)


def _count(trial: Trial) -> None:
    """Shift counts: about the operand's width often. SHLD and SHRD by more than it are undefined (SDM, volume 2)."""
    double = trial.row.family in ("shld", "shrd")
    limit = 16 if double and trial.operand_bits == 16 else 255
    count = trial.rng.choice((0, 1, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, trial.rng.randrange(256)))
    count = min(count, limit)
    if "CL" in trial.row.operands:
        clobbers_address = trial.memory_form is not None and RCX in trial.memory_form[:2]
        if not clobbers_address or double:
            trial.set_offset(RCX, count, 8)
    elif "Ib" in trial.row.operands:
        trial.set_code(trial.immediate_at, count, 1)


def _bounds(trial: Trial) -> None:
    bits = trial.operand_bits
    value = signed(trial.gpr[trial.reg], bits)
    low, high = value - trial.rng.randrange(-1, 3), value + trial.rng.randrange(-1, 3)
    trial.patches.clear()
    mask = (1 << bits) - 1
    trial.patch(trial.address, (low & mask | (high & mask) << bits).to_bytes(bits // 4, "little"))


def _frame(trial: Trial) -> None:
    rng = trial.rng
    if rng.random() < 0.85:
        trial.set_offset(RBP, DATA + rng.randrange(600, DATA_BYTES - 64) - trial.base(SS), trial.stack_bits)
    elif trial.bits != 64:  # an access that wraps at 4 GiB faults or does not, as the processor likes
        trial.gpr[RBP] = trial.gpr[RBP] & 0xCFFF_FFFF | 0x1000_0000
    if trial.row.family == "enter":
        size = rng.choice((0, 8, 16, rng.randrange(256), rng.randrange(1 << 16)))
        level = rng.choice((0, 0, 1, 1, 2, 3, 8, 31, 32, rng.randrange(256)))
        trial.set_code(trial.immediate_at, size, 2)
        trial.set_code(trial.immediate_at + 2, level, 1)


def _interrupt(trial: Trial) -> None:
    """Any gate but the system call's, which enters the kernel."""
    number = trial.rng.choice((3, 4, 0, 1, 13, 14, 32, 255, trial.rng.randrange(256)))
    trial.set_code(trial.immediate_at, 3 if number == 0x80 else number, 1)


def _string_comparison(trial: Trial) -> None:
    trial.set_vectors(*string_trials.pair(trial.rng, trial.control))
    for register in (RAX, RDX):
        if trial.memory_form is None or register not in trial.memory_form[:2]:
            trial.gpr[register] = string_trials.length(trial.rng)


def _alike(trial: Trial) -> None:
    """Vectors that agree in some lanes, or have no bit in common, or all of the other's."""
    first, second = (int.from_bytes(sse_trials.vector(trial.rng), "little") for _ in range(2))
    size = trial.rng.choice((8, 16, 32, 64, 128))
    lanes = sum(((1 << size) - 1) << place for place in range(0, 128, size) if trial.rng.random() < 0.6)
    alike = (first & lanes | second & ~lanes, first & second, ~first & second, ~first & second | 1 << size - 1)
    second = trial.rng.choice(alike) & (1 << 128) - 1
    trial.set_vectors(first.to_bytes(16, "little"), second.to_bytes(16, "little"))


def _each(families: str, finish: Callable[[Trial], None]) -> dict[str, Callable[[Trial], None]]:
    return dict.fromkeys(families.split(), finish)


FINISH: dict[str, Callable[[Trial], None]] = (
    _each("jcc loop loopz loopnz jcxz jmp call", _relative_branch)
    | _each("ret", _near_return)
    | _each("jmp_far call_far", _far_branch)
    | _each("ret_far", _far_return)
    | _each("iret", _interrupt_return)
    | _each("popf", _pop_flags)
    | _each("push_sreg", _push_segment)
    | _each("pop_sreg", _pop_segment)
    | _each("ldmxcsr fxrstor", _control_word)
    | _each("fxsave", _store_image)
    | _each("xsave xsaveopt xrstor", _xsave_area)
    | _each("lds les lfs lgs lss", _load_pointer)
    | _each("mov_to_sreg lar lsl verr verw arpl lldt ltr", _selector_operand)
    | _each("movs cmps stos lods scas ins outs", _string)
    | _each("xlat", _table_lookup)
    | _each("maskmovq maskmovdqu", _masked_store)
    | _each("mov", _absolute_move)
    | _each("bt bts btr btc", _bit_string)
    | _each("cmpxchg cmpxchg8b cmpxchg16b", _compare_exchange)
    | _each("div idiv", _divide)
    | _each("rol ror rcl rcr shl shr sar shld shrd", _count)
    | _each("bound", _bounds)
    | _each("enter leave", _frame)
    | _each("int", _interrupt)
    | _each("pcmpestri pcmpestrm pcmpestri64 pcmpestrm64 pcmpistri pcmpistrm", _string_comparison)
    | _each("ptest pcmpeqq pcmpgtq phminposuw", _alike)
)
