"""The generator of trials: its bytes are what it says they are, and its states make instructions work."""

from __future__ import annotations

from collections import Counter

import iced_x86
import pytest

from hvmx.isa import Row, rows

from .native import CODE, CODE_BYTES
from .trials import Trial, pack, trials

COUNT = 60


def whole(row: Row, bits: int) -> list[Trial]:
    """Trials whose instruction does not run into the end of the code pages."""
    return [trial for trial in trials(row, bits, COUNT, 1) if trial.at + 15 <= CODE + CODE_BYTES]


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_every_row_is_decoded_to_the_length_that_was_generated(bits: int) -> None:
    wrong = []
    for row in rows():
        if bits not in row.modes:
            continue
        for trial in whole(row, bits):
            options = iced_x86.DecoderOptions.NO_INVALID_CHECK
            decoder = iced_x86.Decoder(bits, trial.code, options)
            instruction = decoder.decode()
            known = instruction.code != iced_x86.Code.INVALID
            if known and instruction.len != len(trial.code):
                wrong.append(f"{row.text} ({row.family}): {trial.code.hex(' ')} is {instruction}")
            elif (
                not known
                and "reg" not in row.text
                and not row.family.startswith(("mov_", "ud", "vm", "mon", "mwait"))
            ):
                wrong.append(f"{row.text} ({row.family}): {trial.code.hex(' ')} is nothing")
    assert not wrong, "\n".join(wrong[:20])


def test_the_same_seed_gives_the_same_trials_and_another_seed_others() -> None:
    row = next(row for row in rows() if row.family == "add")
    first, again, other = (pack(trials(row, 32, COUNT, seed)).tobytes() for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_every_operand_size_address_size_and_operand_form_occurs() -> None:
    row = next(row for row in rows() if row.text == "01 /r")
    for bits, sizes in ((16, {16, 32}), (32, {16, 32}), (64, {16, 32, 64})):
        made = Counter(
            (trial.operand_bits, trial.address_bits, trial.memory_form is not None)
            for trial in trials(row, bits, 400, 1)
        )
        address_sizes = {16: (16, 32), 32: (16, 32), 64: (32, 64)}[bits]
        expected = {
            (size, address, memory) for size in sizes for address in address_sizes for memory in (True, False)
        }
        assert set(made) == expected
