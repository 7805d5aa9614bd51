"""What MSRs refuse to hold: reserved bits and memory types are #GP (SDM vol. 3, 10.4.4 and 11.11; vol. 4, table 2-2)."""

from __future__ import annotations

import pytest

from hvmx import ExitReason, Machine, StopKind

APIC_BASE, PHYSBASE, PHYSMASK, FIXED_64K, FIXED_4K_LAST, DEF_TYPE = 0x1B, 0x200, 0x20F, 0x250, 0x26F, 0x2FF
PAT, TSC_AUX, MTRR_CAP, EFER = 0x277, 0xC0000103, 0xFE, 0xC0000080
WRITE_BACK = 0x0606060606060606

# mov ecx, ebp; mov eax, esi; mov edx, edi; wrmsr; rdmsr; hlt
CODE = bytes.fromhex("89e9 89f0 89fa 0f30 0f32 f4")


def written(msr: int, value: int, cpu: str) -> int | None:
    """What the MSR then reads as, or None for #GP, for which this guest has no handler."""
    machine = Machine("2M", cpu=cpu, board=False)
    machine.load(CODE, load_address=0x10000, bits=32)
    machine.cpu.rbp, machine.cpu.rsi, machine.cpu.rdi = msr, value & 0xFFFFFFFF, value >> 32
    stop = machine.run()
    assert machine.exits.statistics()[ExitReason.MSR_WRITE].count == 1
    if stop.kind is StopKind.TRIPLE_FAULT:
        return None
    assert stop.kind is StopKind.HALTED
    return machine.cpu.rdx << 32 | machine.cpu.rax


@pytest.mark.parametrize(
    ("msr", "value"),
    [
        (APIC_BASE, 0xFEE00100), (PHYSBASE, 0x40000006), (PHYSBASE, 0xF_FFFF_F005), (PHYSMASK, 0xF_FFFF_F800), (PHYSMASK, 0),
        (FIXED_64K, WRITE_BACK), (FIXED_4K_LAST, 0x0001040506000104), (DEF_TYPE, 0xC06), (DEF_TYPE, 0), (PAT, 0x0007040600070406),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cpu", ["pentium2", "x86-64-v2"])
def test_an_msr_holds_what_it_can(msr: int, value: int, cpu: str) -> None:
    assert written(msr, value, cpu) == value


@pytest.mark.parametrize(
    ("msr", "value"),
    [
        (APIC_BASE, 0xFEE00101), (APIC_BASE, 0xFEE00900), (APIC_BASE, 0xFEE00500), (APIC_BASE, 1 << 40), (PHYSBASE, 2),
        (PHYSBASE, 7), (PHYSBASE, 0x100), (PHYSBASE, 1 << 40), (PHYSMASK, 0x400), (PHYSMASK, 1), (PHYSMASK, 1 << 63),
        (FIXED_64K, WRITE_BACK | 7), (FIXED_4K_LAST, 3 << 56), (DEF_TYPE, 3), (DEF_TYPE, 0x100), (DEF_TYPE, 0x1000),
        (DEF_TYPE, 1 << 32), (PAT, 2), (MTRR_CAP, 0), (TSC_AUX, 1 << 32), (EFER, 1 << 1),
    ],
)  # fmt: skip
def test_an_msr_refuses_what_it_cannot_hold(msr: int, value: int) -> None:
    assert written(msr, value, "x86-64-v2") is None


@pytest.mark.parametrize("cpu", ["pentium2", "x86-64-v1", "x86-64-v2"])
@pytest.mark.parametrize("native", [False, True], ids=["exits", "in a bitmap"])
def test_microcode_is_not_loaded_and_its_trigger_not_read(cpu: str, native: bool) -> None:
    # mov ecx, 0x79; xor edx, edx; mov eax, 0x20000; wrmsr; mov ecx, 0x8b; rdmsr; mov esi, eax; mov ecx, 0x79; rdmsr
    code = "b979000000 31d2 b800000200 0f30 b98b000000 0f32 89d6 b979000000 0f32 f4"
    machine = Machine("2M", cpu=cpu, board=False)
    machine.load(bytes.fromhex(code), load_address=0x10000, bits=32)
    if native:
        machine.cpu.msr_bitmap[:] = 0
    assert machine.run().kind is StopKind.TRIPLE_FAULT
    assert machine.cpu.rip == 0x10000 + len(bytes.fromhex(code)) - 3, "at the last RDMSR"
    assert machine.cpu.rsi == 0, "the revision is as before"
    machine.cpu.set_msr(0x79, 0x20000)
    with pytest.raises(ValueError, match="0x79"):
        machine.cpu.msr(0x79)


def test_the_apic_is_off_where_cpuid_has_none() -> None:
    assert Machine("2M", board=False).cpu.apic_base & 1 << 11 == 0
