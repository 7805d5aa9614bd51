"""The board against QEMU's ISA PC: the same port accesses read the same where the hardware leaves no choice.

Where the two differ on purpose, the mask of a read or a comment says so. QEMU's timer counts on while its
gate is low, does not count in BCD and has no null-count bit: those have their promises in test_pit.py alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hvm.probe import In, Interrupt, Out, Script, Wait, assemble, on_board, on_qemu

COM1 = 0x3F8


def pics(master_icw4: int = 0x01, slave_icw4: int = 0x01) -> Script:
    """Initialise both controllers, vectors 0x20 and 0x28, all inputs open."""
    return [
        Out(0x20, 0x11), Out(0x21, 0x20), Out(0x21, 0x04), Out(0x21, master_icw4),
        Out(0xA0, 0x11), Out(0xA1, 0x28), Out(0xA1, 0x02), Out(0xA1, slave_icw4),
    ]  # fmt: skip


def quiet() -> Script:
    """Counter 0 in mode 0 without a count, so that IRQ 0 is low, and the keyboard controller empty."""
    return [Out(0x43, 0x30), Out(0x64, 0x60), Out(0x60, 0x03)]


IRQ0_UP: Script = [Out(0x43, 0x30), Out(0x40, 0x02), Out(0x40, 0x00), Out(0x20, 0x0A), Wait(0x20, 0x01, 0x01)]
IRQ1_UP: Script = [Out(0x64, 0xD2), Out(0x60, 0x5A), Wait(0x64, 0x01, 0x01)]
IRQ1_DOWN: Script = [In(0x60)]
IRQ12_UP: Script = [Out(0x64, 0xD3), Out(0x60, 0xA5), Wait(0x64, 0x21, 0x21)]
IRQ12_DOWN: Script = [In(0x60)]
IRQ4_UP: Script = [Out(COM1 + 4, 0x08), Out(COM1 + 1, 0x02)]
IRQ4_DOWN: Script = [Out(COM1 + 1, 0x00)]


def requests() -> Script:
    return [Out(0x20, 0x0A), In(0x20), Out(0xA0, 0x0A), In(0xA0)]


def program_and_ask(control: int) -> Script:
    """Program counter 2 with the count 0x11 or 0x1111, then read its status."""
    count: Script = [Out(0x42, 0x11)] * (2 if control & 0x30 == 0x30 else 1)
    return [Out(0x43, control), *count, Out(0x43, 0xE8), In(0x42, 0x3F)]


def in_service() -> Script:
    return [Out(0x20, 0x0B), In(0x20), Out(0xA0, 0x0B), In(0xA0)]


SCRIPTS: dict[str, Script] = {
    "masks read back": [*pics(), Out(0x21, 0xA5), Out(0xA1, 0x5A), In(0x21), In(0xA1)],
    "ICW1 clears the mask": [*pics(), Out(0x21, 0xFF), Out(0x20, 0x11), In(0x21), Out(0x21, 0), Out(0x21, 0)],
    "edge/level registers keep the inputs that can be level": [
        Out(0x4D0, 0xFF), Out(0x4D1, 0xFF), In(0x4D0), In(0x4D1), Out(0x4D0, 0x28), In(0x4D0), In(0x4D1),
    ],
    "an interrupt is requested, taken, in service and ended": [
        *quiet(), *pics(), *IRQ1_UP, *requests(), Interrupt(), *requests(), *in_service(), Interrupt(),
        Out(0x20, 0x20), *in_service(), *IRQ1_DOWN, *requests(),
    ],
    "the slave's interrupt goes through the cascade": [
        *quiet(), *pics(), *IRQ12_UP, *requests(), Interrupt(), *in_service(), Out(0xA0, 0x20), *in_service(),
        Out(0x20, 0x20), *in_service(), *IRQ12_DOWN,
    ],
    "a masked input stays requested": [
        *quiet(), *pics(), Out(0x21, 0x02), *IRQ1_UP, Interrupt(), *requests(), Out(0x21, 0x00), Interrupt(),
        Out(0x20, 0x20), *IRQ1_DOWN,
    ],
    "an edge that has gone before its acknowledge stays requested": [
        *quiet(), *pics(), *IRQ1_UP, *IRQ1_DOWN, *requests(), Interrupt(), *requests(), *in_service(),
        Out(0x20, 0x20), *IRQ12_UP, *IRQ12_DOWN, *requests(), Interrupt(), *in_service(),
    ],
    "a slave's input that is masked after its edge leaves the cascade requested": [
        *quiet(), *pics(), *IRQ12_UP, Out(0xA1, 0x10), *requests(), Interrupt(), *in_service(), Out(0x20, 0x20),
        *in_service(), Out(0xA1, 0x00), *requests(), Interrupt(), *in_service(), *IRQ12_DOWN,
    ],
    "the lower input waits for the higher one's end": [
        *quiet(), *pics(), *IRQ1_UP, *IRQ4_UP, Interrupt(), Interrupt(), *requests(), Out(0x20, 0x20),
        Interrupt(),
        *in_service(), Out(0x20, 0x64), *in_service(), *IRQ1_DOWN, *IRQ4_DOWN,
    ],
    "a higher input interrupts a lower one": [
        *quiet(), *pics(), *IRQ4_UP, Interrupt(), *IRQ1_UP, Interrupt(), *in_service(), Out(0x20, 0x20),
        *in_service(), Out(0x20, 0x20), *in_service(), *IRQ1_DOWN, *IRQ4_DOWN,
    ],
    "set priority turns the order round": [
        *quiet(), *pics(), Out(0x20, 0xC1), *IRQ1_UP, *IRQ4_UP, Interrupt(), *in_service(), Out(0x20, 0x20),
        Interrupt(), *in_service(), Out(0x20, 0x20), *IRQ1_DOWN, *IRQ4_DOWN,
    ],
    "rotate on EOI sends an input to the end": [
        *quiet(), *pics(), *IRQ1_UP, Interrupt(), Out(0x20, 0xA0), *IRQ1_DOWN, *IRQ4_UP, *IRQ1_UP,
        Interrupt(),
        *in_service(), Out(0x20, 0xE4), Interrupt(), *in_service(), Out(0x20, 0x20), *IRQ1_DOWN, *IRQ4_DOWN,
    ],
    "automatic EOI leaves nothing in service": [
        *quiet(), *pics(0x03), *IRQ1_UP, *IRQ4_UP, Interrupt(), *in_service(), Interrupt(), *in_service(),
        Interrupt(), *IRQ1_DOWN, *IRQ4_DOWN,
    ],
    "automatic EOI with rotation": [
        *quiet(), *pics(0x03), Out(0x20, 0x80), *IRQ1_UP, Interrupt(), *IRQ1_DOWN, *IRQ4_UP, *IRQ1_UP,
        Interrupt(),
        Interrupt(), *in_service(), Out(0x20, 0x00), *IRQ1_DOWN, *IRQ4_DOWN,
    ],
    "special mask mode lets a lower input through": [
        *quiet(), *pics(), *IRQ1_UP, Interrupt(), *IRQ4_UP, Interrupt(), Out(0x20, 0x68), Out(0x21, 0x02),
        Interrupt(), *in_service(), Out(0x20, 0x64), Out(0x20, 0x61), Out(0x20, 0x48), *in_service(),
        *IRQ1_DOWN,
        *IRQ4_DOWN,
    ],
    "a poll acknowledges": [
        *quiet(), *pics(), *IRQ4_UP, Out(0x20, 0x0C), In(0x20), *in_service(), Out(0x20, 0x0C), In(0x20),
        Out(0x20, 0x20), *in_service(), *IRQ4_DOWN,
    ],
    "a poll without a request reads no input": [*quiet(), *pics(), Out(0x20, 0x0C), In(0x20, 0x80), In(0x20)],
    "the timer interrupts when its count is over": [
        *quiet(), *pics(), *IRQ0_UP, *requests(), Interrupt(), *in_service(), Out(0x20, 0x20), Interrupt(),
    ],
    "counter status shows access, mode, BCD and OUT": [
        # Not compared: bit 6, null count, which QEMU does not model.
        step
        for mode in (0, 2, 3, 4) for access in (1, 2, 3) for bcd in (0, 1)
        for step in program_and_ask(0x80 | access << 4 | mode << 1 | bcd)
    ],
    "modes 6 and 7 show as written": [
        Out(0x43, 0xBC), Out(0x42, 1), Out(0x42, 1), Out(0x43, 0xE8), In(0x42, 0x3F),
        Out(0x43, 0xBE), Out(0x42, 1), Out(0x42, 1), Out(0x43, 0xE8), In(0x42, 0x3F),
    ],
    "a latch holds until it is read, and a second latch is ignored": [
        Out(0x61, 0x00), Out(0x43, 0xB0), Out(0x42, 0x34), Out(0x42, 0x12), Out(0x43, 0x80), Out(0x43, 0xD8),
        Out(0x61, 0x01), Wait(0x61, 0x20, 0x20), Out(0x61, 0x00), In(0x42), In(0x42),
    ],
    "OUT 2 rises when mode 0 is over, and falls at a new count": [
        Out(0x61, 0x01), Out(0x43, 0xB0), Out(0x42, 0x20), Out(0x42, 0x00), Wait(0x61, 0x20, 0x20),
        In(0x61, 0x2F),
        Out(0x42, 0xFF), Out(0x42, 0xFF), In(0x61, 0x2F),
    ],
    "status comes before the count": [
        Out(0x61, 0x00), Out(0x43, 0xB0), Out(0x42, 0x34), Out(0x42, 0x12), Out(0x43, 0xC8), In(0x42, 0xBF),
        In(0x42),
        In(0x42),
    ],
    "the UART after reset": [*[In(COM1 + n) for n in (1, 2, 3, 5, 6)]],
    "the UART's registers keep what they have bits for": [
        Out(COM1 + 1, 0xFF), In(COM1 + 1), Out(COM1 + 1, 0x00), Out(COM1 + 3, 0x1B), In(COM1 + 3),
        Out(COM1 + 4, 0xEF), In(COM1 + 4), Out(COM1 + 4, 0), Out(COM1 + 7, 0x5A), In(COM1 + 7),
    ],
    "the divisor hides behind DLAB": [
        Out(COM1 + 3, 0x83), Out(COM1, 0x01), Out(COM1 + 1, 0x02), In(COM1), In(COM1 + 1),
        Out(COM1 + 3, 0x03),
        In(COM1 + 1),
    ],
    "FIFOs show in the identification": [
        In(COM1 + 2), Out(COM1 + 2, 0x01), In(COM1 + 2), Out(COM1 + 2, 0xC7), In(COM1 + 2),
        Out(COM1 + 2, 0x00),
        In(COM1 + 2),
    ],
    "loop-back turns the modem lines round": [
        # Not compared: the delta bits, which QEMU does not set in loop-back.
        step for mcr in range(16) for step in (Out(COM1 + 4, 0x10 | mcr), In(COM1 + 6, 0xF0))
    ],
    "loop-back returns bytes": [
        Out(COM1 + 4, 0x10), Out(COM1 + 2, 0x07), Out(COM1, 0x41), Out(COM1, 0x42), In(COM1 + 5), In(COM1),
        In(COM1 + 5), In(COM1), In(COM1 + 5),
    ],
    "an overrun shows once": [
        Out(COM1 + 4, 0x10), *[Out(COM1, byte) for byte in (1, 2)], In(COM1 + 5), In(COM1 + 5), In(COM1),
    ],
    "a full FIFO overruns": [
        Out(COM1 + 4, 0x10), Out(COM1 + 2, 0x07), *[Out(COM1, byte) for byte in range(17)], In(COM1 + 5),
        In(COM1 + 5), *[In(COM1)] * 16, In(COM1 + 5),
    ],
    "the receiver interrupt follows the trigger level": [
        Out(COM1 + 4, 0x10), Out(COM1 + 2, 0x87), Out(COM1 + 1, 0x01), *[Out(COM1, 0)] * 8, In(COM1 + 2),
        In(COM1),
    ],
    "the character timeout interrupts below the trigger level": [
        Out(COM1 + 3, 0x83), Out(COM1, 1), Out(COM1 + 1, 0), Out(COM1 + 3, 3), Out(COM1 + 4, 0x10),
        Out(COM1 + 2, 0xC7), Out(COM1 + 1, 0x01), Out(COM1, 0x55), Wait(COM1 + 2, 0x0F, 0x0C), In(COM1),
        In(COM1 + 2),
    ],
    "the transmitter interrupts when it is enabled empty, once": [
        Out(COM1 + 1, 0x02), In(COM1 + 2), In(COM1 + 2), Out(COM1 + 1, 0x00), Out(COM1 + 1, 0x02),
        In(COM1 + 2),
        In(COM1 + 2), Out(COM1 + 1, 0x00),
    ],
    "the transmitter interrupts after a byte": [
        Out(COM1 + 3, 0x83), Out(COM1, 1), Out(COM1 + 1, 0), Out(COM1 + 3, 3),
        Out(COM1 + 1, 0x02), In(COM1 + 2), Out(COM1, 0x41), Wait(COM1 + 2, 0x0F, 0x02), In(COM1 + 2),
        In(COM1 + 5),
    ],
    "CMOS memory keeps what is written": [
        step for index in (0x40, 0x5E, 0x7F) for value in (0x00, 0xA5)
        for step in (Out(0x70, index), Out(0x71, value), Out(0x70, 0x80 | index), In(0x71))
    ],
    "the clock's control registers after reset": [
        Out(0x70, 0x0A), In(0x71, 0x7F), Out(0x70, 0x0B), In(0x71), Out(0x70, 0x0C), In(0x71),
        Out(0x70, 0x0D),
        In(0x71),
    ],
    "a set clock reads back in every format": [
        # SET holds the time still. 0x82: BCD, 24 hours; 0x86: binary; 0x80: BCD, 12 hours.
        step for control, fields in (
            (0x82, (0x59, 0x58, 0x23, 0x28, 0x02, 0x24)), (0x86, (59, 58, 23, 28, 2, 24)),
            (0x80, (0x59, 0x58, 0x91, 0x28, 0x02, 0x24)), (0x80, (0x01, 0x02, 0x12, 0x01, 0x12, 0x99)),
        )
        for step in (
            Out(0x70, 0x0B), Out(0x71, control),
            *[op for index, value in zip((0, 2, 4, 7, 8, 9), fields, strict=True)
              for op in (Out(0x70, index), Out(0x71, value), Out(0x70, index), In(0x71))],
        )
    ],
    "the clock carries from the last second of February into March": [
        Out(0x70, 0x0B), Out(0x71, 0x82),
        *[op for index, value in zip((0, 2, 4, 7, 8, 9), (0x59, 0x59, 0x23, 0x28, 0x02, 0x23), strict=True)
          for op in (Out(0x70, index), Out(0x71, value))],
        Out(0x70, 0x0B), Out(0x71, 0x02), Out(0x70, 0x00), Wait(0x71, 0xFF, 0x00),
        *[op for index in (2, 4, 7, 8, 9) for op in (Out(0x70, index), In(0x71))],
    ],
    "the update flag comes with the second and goes when read": [
        Out(0x70, 0x0C), In(0x71, 0x00), Wait(0x71, 0x10, 0x10), In(0x71, 0x10),
    ],
    "the periodic interrupt reaches vector 0x28": [
        *quiet(), *pics(), Out(0x70, 0x0A), Out(0x71, 0x26), Out(0x70, 0x0C), In(0x71, 0x00), Out(0x70, 0x0B),
        Out(0x71, 0x42), Out(0xA0, 0x0A), Wait(0xA0, 0x01, 0x01), Interrupt(), Out(0x70, 0x0C),
        In(0x71, 0xC0),
        Out(0x70, 0x0B), Out(0x71, 0x02), Out(0xA0, 0x20), Out(0x20, 0x20), *in_service(),
    ],
    "the keyboard controller passes its tests": [
        Out(0x64, 0xAA), In(0x64, 0x05), In(0x60), In(0x64, 0x05), Out(0x64, 0xAB), In(0x60),
        Out(0x64, 0xA9), In(0x60),
    ],
    "the command byte reads back": [
        Out(0x64, 0x60), Out(0x60, 0x45), Out(0x64, 0x20), In(0x60), Out(0x64, 0xAD), Out(0x64, 0x20),
        In(0x60, 0x10),
        Out(0x64, 0xAE), Out(0x64, 0xA7), Out(0x64, 0x20), In(0x60, 0x30), Out(0x64, 0xA8), Out(0x64, 0x20),
        In(0x60, 0x30),
    ],
    "the output port tells of A20 and its buffer": [
        Out(0x64, 0xD0), In(0x60), Out(0x64, 0xDD), Out(0x64, 0xD0), In(0x60, 0x03), Out(0x64, 0xDF),
        Out(0x64, 0xD0),
        In(0x60, 0x03), Out(0x64, 0xD1), Out(0x60, 0xDD), Out(0x64, 0xD0), In(0x60, 0x03), Out(0x64, 0xD1),
        Out(0x60, 0xDF), Out(0x64, 0xC0), In(0x60),
    ],
    "echoes tell keyboard from auxiliary": [
        Out(0x64, 0xD2), Out(0x60, 0x12), In(0x64, 0x21), In(0x60), Out(0x64, 0xD3), Out(0x60, 0x34),
        In(0x64, 0x21),
        In(0x60), In(0x64, 0x21),
    ],
    "port 0x92 keeps A20": [Out(0x92, 0x02), In(0x92, 0x03), Out(0x92, 0x00), In(0x92, 0x03)],
    "what nobody answers reads all ones": [In(0x80 + 0x300), In(0x1234), In(0xE9)],
}  # fmt: skip


@pytest.fixture(scope="module")
def rom(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return assemble(tmp_path_factory.mktemp("rom"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_reads_as_on_qemu(name: str, rom: bytes, tmp_path: Path) -> None:
    script = SCRIPTS[name]
    assert on_board(script) == on_qemu(rom, script, tmp_path)
