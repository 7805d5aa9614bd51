"""What the I/O and MMIO exit handlers promise."""

from __future__ import annotations

from types import SimpleNamespace

from hvm.rig import Rig
from hvmx.hvm.handlers import io_instruction, mmio


def test_in_sets_the_exits_value_and_out_takes_it() -> None:
    rig = Rig()
    vcpu = SimpleNamespace(board=rig.board)
    io_instruction(vcpu, SimpleNamespace(port=0x3FF, width=1, is_in=False, value=0x5A))
    exit = SimpleNamespace(port=0x3FF, width=1, is_in=True, value=0)
    io_instruction(vcpu, exit)
    assert exit.value == 0x5A
    exit = SimpleNamespace(port=0x1000, width=4, is_in=True, value=0)
    io_instruction(vcpu, exit)
    assert exit.value == 0xFFFF_FFFF
    assert rig.board.ports.unmapped_reads == {0x1000: 1}


def test_mmio_without_a_device_reads_all_ones_and_is_counted() -> None:
    rig = Rig()
    vcpu = SimpleNamespace(board=rig.board)
    exit = SimpleNamespace(guest_physical=0xFED4_0000, width=8, is_write=False, value=0)
    mmio(vcpu, exit)
    assert exit.value == (1 << 64) - 1
    mmio(vcpu, SimpleNamespace(guest_physical=0xFED4_0000, width=8, is_write=True, value=1))
    assert rig.board.mmio.unmapped_reads == rig.board.mmio.unmapped_writes == {0xFED4_0000: 1}
