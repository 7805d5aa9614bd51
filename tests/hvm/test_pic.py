"""What the interrupt controllers promise beyond test_against_qemu: wires, spurious vectors, the cascade."""

from __future__ import annotations

import pytest

from hvmx.hvm.pic import PicPair


class Pair:
    """An initialised pair, vectors 0x20 and 0x28, with its output written down."""

    def __init__(self, master_icw4: int = 0x01, slave_icw4: int = 0x01) -> None:
        self.outputs: list[bool] = []
        self.pic = PicPair(self.outputs.append)
        for offset, values in ((0, (0x11, 0x20, 0x04, master_icw4)), (2, (0x11, 0x28, 0x02, slave_icw4))):
            self.pic.write(offset, 1, values[0])
            for value in values[1:]:
                self.pic.write(offset + 1, 1, value)

    def pulse(self, number: int) -> None:
        self.pic.line(number)(False)
        self.pic.line(number)(True)


def test_the_output_follows_requests_and_acknowledges() -> None:
    pair = Pair()
    pair.pulse(3)
    assert pair.outputs == [True]
    assert pair.pic.acknowledge() == 0x23
    assert pair.outputs == [True, False]


def test_an_edge_input_that_stays_high_interrupts_once() -> None:
    pair = Pair()
    pair.pulse(3)
    pair.pic.acknowledge()
    pair.pic.write(0, 1, 0x20)
    assert not pair.pic.output
    pair.pulse(3)
    assert pair.pic.output


def test_a_level_input_interrupts_until_it_falls() -> None:
    pair = Pair()
    pair.pic.write(4, 1, 1 << 5)
    pair.pic.line(5)(True)
    for _ in range(3):
        assert pair.pic.acknowledge() == 0x25
        assert not pair.pic.output
        pair.pic.write(0, 1, 0x20)
        assert pair.pic.output
    pair.pic.line(5)(False)
    assert not pair.pic.output


def test_an_edge_that_has_gone_before_its_acknowledge_still_interrupts_once() -> None:
    pair = Pair()
    pair.pulse(3)
    pair.pic.line(3)(False)
    assert pair.pic.output
    assert pair.pic.acknowledge() == 0x23
    pair.pic.write(0, 1, 0x20)
    assert not pair.pic.output


def test_a_level_request_that_ends_before_its_acknowledge_is_the_spurious_vector() -> None:
    pair = Pair()
    pair.pic.write(4, 1, 1 << 3)
    pair.pic.line(3)(True)
    pair.pic.line(3)(False)
    assert not pair.pic.output
    assert pair.pic.acknowledge() == 0x27
    assert pair.pic.master.isr == 0


def test_a_slave_input_that_is_masked_after_its_edge_is_the_slaves_spurious_vector() -> None:
    pair = Pair()
    pair.pulse(10)
    pair.pic.write(3, 1, 1 << 2)
    assert pair.pic.output, "the cascade is an edge of the master like any other"
    assert pair.pic.acknowledge() == 0x2F
    pair.pic.write(0, 1, 0x20)
    pair.pic.write(3, 1, 0)
    assert pair.pic.acknowledge() == 0x2A


def test_a_slave_request_that_ends_between_the_two_is_the_slaves_spurious_vector() -> None:
    pair = Pair()
    pair.pulse(10)
    pair.pic.slave.irr = 0  # the master has seen it, and the slave's input is gone
    assert pair.pic.acknowledge() == 0x2F
    assert pair.pic.slave.isr == 0
    assert pair.pic.master.isr == 1 << 2, "the master's cascade is in service and wants its EOI"


@pytest.mark.parametrize("number", [n for n in range(16) if n != 2])
def test_every_input_has_its_vector(number: int) -> None:
    pair = Pair()
    pair.pulse(number)
    assert pair.pic.acknowledge() == 0x20 + number


@pytest.mark.parametrize("number", [-1, 2, 16])
def test_there_is_no_such_input(number: int) -> None:
    with pytest.raises(ValueError, match=f"IRQ {number} is not an input"):
        Pair().pic.line(number)


def test_two_slave_inputs_are_both_taken_with_automatic_eoi() -> None:
    pair = Pair(0x03, 0x03)
    pair.pulse(9)
    pair.pulse(12)
    assert [pair.pic.acknowledge(), pair.pic.acknowledge()] == [0x29, 0x2C]
    assert not pair.pic.output


def test_special_fully_nested_mode_lets_the_slave_interrupt_itself() -> None:
    for icw4, vectors in ((0x01, False), (0x11, True)):
        pair = Pair(icw4)
        pair.pulse(12)
        assert pair.pic.acknowledge() == 0x2C
        pair.pulse(9)
        assert pair.pic.output is vectors


def test_a_non_specific_eoi_in_special_mask_mode_passes_over_masked_inputs() -> None:
    pair = Pair()
    pair.pulse(1)
    pair.pic.acknowledge()
    pair.pic.write(0, 1, 0x68)
    pair.pic.write(1, 1, 1 << 1)
    pair.pulse(4)
    assert pair.pic.acknowledge() == 0x24
    pair.pic.write(0, 1, 0x20)
    assert pair.pic.master.isr == 1 << 1


def test_an_initialisation_without_icw4_or_cascade_ends_early() -> None:
    pair = Pair()
    pair.pic.write(0, 1, 0x12)
    pair.pic.write(1, 1, 0x40)
    pair.pic.write(1, 1, 0xFE)
    assert pair.pic.read(1, 1) == 0xFE
    pair.pulse(0)
    assert pair.pic.acknowledge() == 0x40


def test_an_initialisation_forgets_edges_but_not_level_inputs() -> None:
    pair = Pair()
    pair.pic.write(4, 1, 1 << 5)
    pair.pulse(3)
    pair.pic.line(5)(True)
    pair.pic.write(0, 1, 0x13)
    pair.pic.write(1, 1, 0x20)
    pair.pic.write(1, 1, 0x01)
    assert pair.pic.master.irr == 1 << 5


def test_a_saved_pair_goes_on_where_it_was() -> None:
    pair, other = Pair(), Pair()
    pair.pulse(9)
    pair.pulse(4)
    pair.pic.acknowledge()
    other.pic.load(pair.pic.save())
    assert other.pic.save() == pair.pic.save()
    for each in (pair, other):
        each.pic.write(2, 1, 0x20)
        each.pic.write(0, 1, 0x20)
    assert pair.pic.acknowledge() == other.pic.acknowledge() == 0x24
