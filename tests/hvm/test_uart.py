"""What the serial port promises: every byte through, and interrupts at the wire's pace."""

from __future__ import annotations

import pytest

from hvm.rig import HZ, Rig

COM1 = 0x3F8
CHARACTER = HZ * 10 // 115_200
"""Guest cycles of a character at 115200 baud with eight data bits, no parity and one stop bit."""


def rig(ier: int = 0, fifo: int = 0x07) -> Rig:
    """A port as Linux sets it up, interrupts let out through OUT2."""
    rig = Rig()
    rig.out(COM1 + 3, 0x83)
    rig.out(COM1, 1)
    rig.out(COM1 + 1, 0)
    rig.out(COM1 + 3, 0x03)
    rig.out(COM1 + 2, fifo)
    rig.out(COM1 + 4, 0x0B)
    rig.out(COM1 + 1, ier)
    return rig


def requested(rig: Rig) -> bool:
    return bool(rig.board.pic.master.lines >> 4 & 1)


def identification(rig: Rig) -> int:
    return rig.read(COM1 + 2) & 0x0F


def test_a_polled_console_never_waits_and_loses_nothing() -> None:
    machine = rig()
    text = bytes(range(256)) * 4
    for byte in text:
        assert machine.read(COM1 + 5) & 0x60 == 0x60
        machine.out(COM1, byte)
    assert bytes(machine.sent) == text


def test_what_was_written_is_out_before_any_time_passes() -> None:
    machine = rig()
    machine.out(COM1, *b"reboot: Power down\r\n")
    assert bytes(machine.sent) == b"reboot: Power down\r\n", "nothing is left to drain at power-off"


def test_polled_output_asks_for_no_time() -> None:
    machine = rig()
    machine.out(COM1, *b"printk")
    assert machine.board.next_event() is None


def test_enabling_the_empty_transmitter_interrupts_at_once() -> None:
    machine = rig()
    machine.out(COM1 + 1, 0x02)
    assert requested(machine)
    assert identification(machine) == 0x02
    assert not requested(machine), "reading the identification withdraws it"
    assert identification(machine) == 0x01


@pytest.mark.parametrize("count", [1, 2, 16, 1000])
def test_the_transmitter_is_ready_for_more_at_once_and_loses_nothing(count: int) -> None:
    machine = rig(ier=0x02)
    identification(machine)
    assert not requested(machine)
    machine.out(COM1, *bytes(count))
    assert len(machine.sent) == count
    assert requested(machine)
    assert identification(machine) == 0x02
    assert not requested(machine)


def test_interrupts_stay_inside_without_out2() -> None:
    machine = rig()
    machine.out(COM1 + 4, 0x03)
    machine.out(COM1 + 1, 0x02)
    assert identification(machine) == 0x02
    machine.out(COM1 + 1, 0x00, 0x02)
    assert not requested(machine)
    machine.out(COM1 + 4, 0x0B)
    assert requested(machine)


def test_input_arrives_a_character_at_a_time() -> None:
    machine = rig()
    machine.board.serial.receive(b"ab")
    assert machine.read(COM1 + 5) & 1 == 0
    machine.wait(CHARACTER)
    assert machine.read(COM1 + 5) & 1
    assert machine.read(COM1) == ord("a")
    assert machine.read(COM1 + 5) & 1 == 0
    machine.wait(CHARACTER)
    assert machine.read(COM1) == ord("b")


@pytest.mark.parametrize("fifo", [0x00, 0x07])
def test_a_guest_that_does_not_read_loses_no_input(fifo: int) -> None:
    machine = rig(fifo=fifo)
    text = bytes(range(100))
    machine.board.serial.receive(text)
    machine.wait(1000 * CHARACTER)
    received = bytearray()
    while machine.read(COM1 + 5) & 1:
        received.append(machine.read(COM1))
        machine.wait(CHARACTER)
    assert bytes(received) == text
    assert not machine.read(COM1 + 5) & 2


def test_input_beyond_the_room_is_refused() -> None:
    machine = rig()
    with pytest.raises(ValueError, match="serial input of 5000 bytes, room for 4096"):
        machine.board.serial.receive(bytes(5000))
    assert machine.board.serial.room == 4096


@pytest.mark.parametrize(("bits", "trigger"), [(0x00, 1), (0x40, 4), (0x80, 8), (0xC0, 14)])
def test_the_receiver_interrupts_at_the_trigger_level(bits: int, trigger: int) -> None:
    machine = rig(ier=0x01, fifo=0x07 | bits)
    machine.board.serial.receive(bytes(trigger))
    machine.wait((trigger - 1) * CHARACTER)
    assert not requested(machine)
    machine.wait(CHARACTER)
    assert requested(machine)
    assert identification(machine) == 0x04
    machine.read(COM1)
    assert not requested(machine)


def test_a_lone_character_interrupts_after_four_characters_time() -> None:
    machine = rig(ier=0x01, fifo=0xC7)
    machine.board.serial.receive(b"x")
    machine.wait(5 * CHARACTER - 1)
    assert not requested(machine)
    machine.wait(1)
    assert requested(machine)
    assert identification(machine) == 0x0C
    machine.read(COM1)
    assert not requested(machine)
    assert machine.board.next_event() is None


def test_the_causes_come_in_order_of_priority() -> None:
    machine = rig(fifo=0x00)
    machine.out(COM1 + 4, 0x10)  # loop-back: the modem lines change, and bytes come back
    machine.out(COM1 + 1, 0x0F)
    machine.out(COM1, 1, 2)
    assert identification(machine) == 0x06
    machine.read(COM1 + 5)
    assert identification(machine) == 0x04
    assert machine.read(COM1) == 2, "without FIFOs the later byte stays"
    assert identification(machine) == 0x02
    assert identification(machine) == 0x00
    machine.read(COM1 + 6)
    assert identification(machine) == 0x01


def test_modem_changes_show_once_and_ring_only_at_its_end() -> None:
    machine = rig()
    machine.out(COM1 + 4, 0x1F)
    machine.read(COM1 + 6)
    machine.out(COM1 + 4, 0x13)
    assert machine.read(COM1 + 6) == 0x30 | 0x08 | 0x04
    assert machine.read(COM1 + 6) == 0x30
    machine.out(COM1 + 4, 0x17)
    assert machine.read(COM1 + 6) == 0x70


@pytest.mark.parametrize(
    ("lcr", "half_bits"), [(0x00, 14), (0x03, 20), (0x07, 22), (0x04, 15), (0x1B, 22), (0x1F, 24)]
)
def test_a_character_takes_its_bits(lcr: int, half_bits: int) -> None:
    machine = rig()
    machine.out(COM1 + 3, lcr)
    assert machine.board.serial.character_cycles == half_bits * HZ // (2 * 115_200)


def test_a_divisor_of_zero_is_slow_and_no_error() -> None:
    machine = rig(ier=0x01)
    machine.out(COM1 + 3, 0x83)
    machine.out(COM1, 0)
    machine.out(COM1 + 3, 0x03)
    machine.board.serial.receive(b"x")
    due = machine.board.next_event()
    assert due is not None and due > machine.clock.cycles


def test_a_reset_keeps_what_is_still_on_the_wire() -> None:
    machine = rig(ier=0x01)
    machine.board.serial.receive(b"early")
    machine.board.reset()
    machine.wait_seconds(0.1)
    assert machine.read(COM1) == ord("e")


def test_linux_finds_a_16550a_with_working_transmitter_interrupts() -> None:
    """The probes of Linux's 8250 driver, as it makes them."""
    machine = rig()
    machine.out(COM1 + 1, 0x00)
    assert machine.read(COM1 + 1) & 0x0F == 0x00
    machine.out(COM1 + 1, 0x0F)
    assert machine.read(COM1 + 1) & 0x0F == 0x0F
    machine.out(COM1 + 1, 0x00)
    machine.out(COM1 + 4, 0x1A)
    assert machine.read(COM1 + 6) & 0xF0 == 0x90
    machine.out(COM1 + 4, 0x0B)
    machine.out(COM1 + 2, 0x01)
    assert machine.read(COM1 + 2) >> 6 == 3
    machine.out(COM1 + 2, 0x21)  # a 16750 would show bit 5
    assert machine.read(COM1 + 2) >> 5 == 6
    machine.out(COM1 + 1, 0x40)  # an XScale port would keep the bit
    assert machine.read(COM1 + 1) == 0
    identifications = []
    for _ in range(2):
        machine.out(COM1 + 1, 0x02)
        identifications.append(machine.read(COM1 + 2) & 1)
        machine.out(COM1 + 1, 0x00)
    assert identifications == [0, 0], "the transmitter interrupt is asserted again each time it is enabled"


def test_a_saved_port_goes_on_where_it_was() -> None:
    machine, other = rig(ier=0x03), Rig()
    machine.board.serial.receive(b"pending input")
    machine.out(COM1, *b"abc")
    machine.wait(3 * CHARACTER // 2)
    other.clock.cycles = machine.clock.cycles
    other.board.load(machine.board.save())
    for each in (machine, other):
        each.wait(20 * CHARACTER)
    assert machine.board.save() == other.board.save()
    assert bytes(machine.read(COM1) for _ in range(13)) == b"pending input"
