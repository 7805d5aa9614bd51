"""What a board answers an exit for port I/O or memory-mapped I/O."""

from __future__ import annotations

from hvm.rig import Rig


def test_a_port_reads_what_its_device_says_and_ones_without_a_device() -> None:
    board = Rig().board
    board.write_port(0x3FF, 1, 0x5A)
    assert board.read_port(0x3FF, 1) == 0x5A
    assert board.read_port(0x1000, 4) == 0xFFFF_FFFF
    assert board.ports.unmapped_reads == {0x1000: 1}


def test_mmio_without_a_device_reads_all_ones_and_is_counted() -> None:
    board = Rig().board
    assert board.read_mmio(0xFED4_0000, 8) == (1 << 64) - 1
    board.write_mmio(0xFED4_0000, 8, 1)
    assert board.mmio.unmapped_reads == board.mmio.unmapped_writes == {0xFED4_0000: 1}
