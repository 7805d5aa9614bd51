"""Prints the instruction set as Markdown tables: ``python -m hvmx.isa.document``."""

from __future__ import annotations

from . import ENDINGS, EXECUTION, X87_PUSHES, Row, rows

_MAPS = ("One-byte opcodes", "0F opcodes", "0F 38 opcodes", "0F 3A opcodes")
_HEADINGS = (
    "Opcode", "Operation", "Operands", "Access", "Implicit", "Modes", "Attributes", "Execution", "Reads", "Writes",
    "Undefined", "Cost class", "Feature",
)  # fmt: skip


def _cells(row: Row) -> tuple[str, ...]:
    modes = " ".join(str(mode) for mode in row.modes)
    attributes = " ".join(sorted(row.attributes - {"i64", "o64"}))
    execution = " ".join(word for word in (*ENDINGS, *EXECUTION) if word in row.execution)
    access = ", ".join("/".join(word or "." for word in dict.fromkeys(both)) for both in row.access)
    implicit = [f"{name}:{access_to}" for name, access_to in row.implicit]
    implicit += [word for word, push in X87_PUSHES.items() if push == row.x87_push]
    flags = (row.reads, row.writes, row.undefined)
    registers = (", ".join(row.operands), access, " ".join(implicit))
    return (row.text, row.family, *registers, modes, attributes, execution, *flags, row.cost_class, row.feature)


def document() -> str:
    """The table, one section per opcode map; the columns are explained in :mod:`hvmx.isa`."""
    lines: list[str] = []
    for number, title in enumerate(_MAPS):
        found = [row for row in rows() if row.map == number]
        if found:
            lines += [f"## {title}", "", f"| {' | '.join(_HEADINGS)} |", "|" + " --- |" * len(_HEADINGS)]
            lines += [f"| {' | '.join(_cells(row))} |" for row in found]
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(document())
