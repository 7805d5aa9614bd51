"""A row of the instruction table leads by name to the functions that execute it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hvmx.core.vcpu  # noqa: F401  (registers the handlers)
from hvmx.core.state.ops import registered
from hvmx.isa import Row, rows
from hvmx.isa.handlers import CHOSEN, SHARED, handlers, handlers_of, listing

STATE = Path(__file__).parents[1] / "src" / "hvmx" / "core" / "state"
WIDTHS = (8, 16, 32, 64)


def numbers(kind: str) -> dict[str, int]:
    """The members of FORM_..., ADDRESS_... or FLAGS_..., by their names without that."""
    form_numbers = re.findall(r"^    FORM_(\w+),", (STATE / "insn.h").read_text(), re.MULTILINE)
    found = dict(re.findall(rf"^    {kind}_(\w+) = (\d+)", (STATE / "ops.pxd").read_text(), re.MULTILINE))
    return {name: number for number, name in enumerate(form_numbers) if kind == "FORM"} | {
        name: int(number) for name, number in found.items()
    }


def test_the_listing_is_what_the_core_has_registered() -> None:
    forms, addresses, flags = numbers("FORM"), numbers("ADDRESS"), numbers("FLAGS")
    listed = {
        (each.family, sum(forms[word] for word in each.form.split("+")), width, addresses[each.address], flags[each.flags])
        for each in handlers()
        if each.address != CHOSEN
        for width in ([each.width] if each.width else WIDTHS)
    }
    assert len(listed) > 2000
    assert listed == registered()


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.text} {row.family}".replace(" ", "_"))
def test_every_row_has_a_handler_that_bears_its_familys_name(row: Row) -> None:
    found = handlers_of(row)
    assert found, "no handler is registered for its family, operands and widths"
    assert not [handler for handler in found if not handler.bears_its_familys_name()]


def test_every_handler_belongs_to_a_row() -> None:
    used = {handler for row in rows() for handler in handlers_of(row)}
    assert not set(handlers()) - used


def test_every_shared_name_is_that_of_a_handler() -> None:
    named = {
        (family, name)
        for family, names in SHARED.items()
        for name in names
        for handler in handlers()
        if handler.family == family and re.match(rf"{name}(?:\d|_|$)", handler.name)
    }
    assert named == {(family, name) for family, names in SHARED.items() for name in names}


@pytest.mark.parametrize(
    "line",
    [
        'register_handler("add", FORM_RM_R, 32, ADDRESS_NONE,',
        'register_handler("a family that is not there", FORM_RM_R, 32, ADDRESS_NONE, add32)',
        "register_handler(name, FORM_RM_R, 32, ADDRESS_NONE, add32)",
    ],
)
def test_a_registration_that_is_not_understood_stops_the_build(tmp_path: Path, line: str) -> None:
    (tmp_path / "execute").mkdir()
    (tmp_path / "execute" / "new.pyx").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"execute/new\.pyx: a registration"):
        listing(tmp_path)
