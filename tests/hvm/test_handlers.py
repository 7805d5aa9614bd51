"""What a board answers an exit for port I/O or memory-mapped I/O."""

from __future__ import annotations

from types import SimpleNamespace

from hvm.rig import Rig


def test_in_sets_the_exits_value_and_out_takes_it() -> None:
    board = Rig().board
    board.port_access(SimpleNamespace(port=0x3FF, width=1, is_in=False, value=0x5A))
    exit = SimpleNamespace(port=0x3FF, width=1, is_in=True, value=0)
    board.port_access(exit)
    assert exit.value == 0x5A
    exit = SimpleNamespace(port=0x1000, width=4, is_in=True, value=0)
    board.port_access(exit)
    assert exit.value == 0xFFFF_FFFF
    assert board.ports.unmapped_reads == {0x1000: 1}


def test_mmio_without_a_device_reads_all_ones_and_is_counted() -> None:
    board = Rig().board
    exit = SimpleNamespace(guest_physical=0xFED4_0000, width=8, is_write=False, value=0)
    board.mmio_access(exit)
    assert exit.value == (1 << 64) - 1
    board.mmio_access(SimpleNamespace(guest_physical=0xFED4_0000, width=8, is_write=True, value=1))
    assert board.mmio.unmapped_reads == board.mmio.unmapped_writes == {0xFED4_0000: 1}
