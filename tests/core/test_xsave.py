"""Extended states beside what user code sees of them: components that XCR0 leaves out, XSETBV, MXCSR, 32-bit code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hvmx.core.exit_info import Exit
from hvmx.core.vcpu import Vcpu
from hvmx.vocabulary import ExitReason

from .machine import CODE, DATA, MEMORY, assemble, world

XSETBV, WRMSR = 55, 32
OSXSAVE = 1 << 18
X87, SSE = 1, 2
AREA, XSTATE_BV, MXCSR_AT, XMM_AT = DATA, DATA + 512, DATA + 24, DATA + 160
FILL = b"\xa5"


def processor(source: str, bits: int = 64, xcr0: int = X87 | SSE, cpl: int = 0) -> Vcpu:
    """One before `source` and a HLT, with CR4.OSXSAVE set, ones in XMM0 to XMM15, and an area of FILL with no header."""
    state = world(bits, assemble(bits, [source + "; hlt"])[0], cpl=cpl)
    state = replace(state, cr4=state.cr4 | OSXSAVE | 0x200)
    cpu = Vcpu(MEMORY)
    cpu.set_handler(ExitReason.TRIPLE_FAULT, lambda vcpu, exit: None)
    for at, data in state.memory.items():
        cpu.write(at, data)
    cpu.cr0, cpu.cr3, cpu.cr4, cpu.efer = state.cr0, state.cr3, state.cr4, state.efer
    cpu.gdtr, cpu.idtr, cpu.xcr0 = state.gdtr, state.idtr, xcr0
    for name, segment in state.segments.items():
        cpu.set_segment(name, *segment)
    for name, value in state.registers.items():
        setattr(cpu, name, value)
    cpu.fcw, cpu.ftw = 0x37F, 0xFFFF
    cpu.write(AREA, FILL * 512 + bytes(64))
    return cpu


def xmm_words(cpu: Vcpu) -> list[int]:
    """The low quadwords of XMM0 to XMM15."""
    xmm = cpu.registers()["xmm"]
    return [int.from_bytes(xmm[16 * n : 16 * n + 8], "little") for n in range(16)]


ALL_XMM = "; ".join(f"mov eax, {n + 1}; movd xmm{n}, eax" for n in range(16))
EVERYTHING = "mov eax, -1; mov edx, -1; "


def test_only_components_in_xcr0_are_saved() -> None:
    cpu = processor(f"{ALL_XMM}; fld1; {EVERYTHING} xsave [rsi]", xcr0=X87)
    cpu.run(100_000)
    assert cpu.read(XSTATE_BV, 8) == bytes([X87]) + bytes(7)
    assert cpu.read(XMM_AT, 256) == FILL * 256
    assert cpu.read(MXCSR_AT, 8) == FILL * 8
    assert cpu.read(AREA, 2) == b"\x7f\x03"


@pytest.mark.parametrize(("name", "left_out"), [("xsave", False), ("xsaveopt", True)])
def test_xsaveopt_leaves_out_what_is_in_its_initial_configuration(name: str, left_out: bool) -> None:
    cpu = processor(f"fninit; {EVERYTHING} {name} [rsi]")
    cpu.run(100_000)
    assert cpu.read(XSTATE_BV, 8) == bytes(8), "nothing is in use"
    assert (cpu.read(XMM_AT, 256) == FILL * 256) == left_out
    assert (cpu.read(AREA, 24) == FILL * 24) == left_out
    assert cpu.read(MXCSR_AT, 4) == (0x1F80).to_bytes(4, "little"), "MXCSR is saved whatever is in use"


def test_xstate_bv_keeps_the_bits_that_were_not_requested() -> None:
    cpu = processor("mov byte ptr [rsi+512], 0xf1; fninit; xor edx, edx; mov eax, 1; xsave [rsi]")
    cpu.run(100_000)
    assert cpu.read(XSTATE_BV, 8) == b"\xf0" + bytes(7)


def test_xrstor_initialises_what_the_header_does_not_have() -> None:
    cpu = processor(f"{ALL_XMM}; fld1; mov dword ptr [rsi+24], 0x1fa0; {EVERYTHING} xrstor [rsi]")
    cpu.run(100_000)
    assert xmm_words(cpu) == [0] * 16
    assert (cpu.fcw, cpu.fsw, cpu.ftw) == (0x37F, 0, 0xFFFF)
    assert cpu.registers()["x87"] == bytes(128)
    assert cpu.mxcsr == 0x1FA0, "MXCSR is loaded from the area whenever SSE is requested"


def test_xrstor_leaves_alone_what_is_not_requested() -> None:
    cpu = processor(f"{ALL_XMM}; fld1; xor edx, edx; mov eax, 1; xrstor [rsi]")
    cpu.run(100_000)
    assert xmm_words(cpu) == list(range(1, 17))
    assert (cpu.ftw, cpu.mxcsr) == (0xFFFF, 0x1F80)


def test_32_bit_code_restores_the_eight_registers_that_it_has() -> None:
    cpu = processor(f"{EVERYTHING} mov dword ptr [esi+24], 0x1f80; xrstor [esi]", bits=32)
    source = processor(ALL_XMM)
    source.run(100_000)
    area = bytearray(FILL * 512 + bytes(64))
    area[160:416] = source.registers()["xmm"]
    area[512] = SSE
    cpu.write(AREA, bytes(area))
    cpu.run(100_000)
    assert xmm_words(cpu) == [*range(1, 9), *[0] * 8]


@pytest.mark.parametrize(("cpl", "exits"), [(0, 1), (3, 0)])
def test_xsetbv_exits_from_ring_0_and_faults_above(cpl: int, exits: int) -> None:
    cpu = processor("mov eax, 7; mov edx, 5; xor ecx, ecx; xsetbv", cpl=cpl)
    seen = []

    def handler(vcpu: Vcpu, exit: Exit) -> None:
        seen.append((exit.number, exit.value, exit.length, exit.is_write))

    cpu.set_handler(XSETBV, handler)
    cpu.run(100_000)
    assert seen == [(0, 5 << 32 | 7, 3, True)] * exits
    assert (cpu.rip < CODE) == (cpl == 3), "the handler of #GP is below"
    assert cpu.xcr0 == X87 | SSE, "only the handler writes XCR0"


@pytest.mark.parametrize("pair", [("fxsave64", "fxrstor64"), ("xsave64", "xrstor64")])
def test_pointers_of_the_x87_are_cut_to_linear_addresses(pair: tuple[str, str]) -> None:
    save, restore = pair
    cpu = processor(f"fld1; {EVERYTHING} {save} [rsi]; mov rcx, 0x123456789abcdef0; mov [rsi+8], rcx; "
                    f"mov rcx, 0x7fff800000000001; mov [rsi+16], rcx; {restore} [rsi]; {save} [rsi]")  # fmt: skip
    cpu.run(100_000)
    assert cpu.read(AREA + 8, 16) == (0x56789ABCDEF0).to_bytes(8, "little") + (0xFFFF800000000001).to_bytes(8, "little")
