"""Prints the instruction set as Markdown tables: ``python -m hvmx.isa.document``."""

from __future__ import annotations

from . import ENDINGS, EXECUTION, Row, rows

_MAPS = ("One-byte opcodes", "0F opcodes", "0F 38 opcodes", "0F 3A opcodes")
_HEADINGS = ("Opcode", "Operation", "Operands", "Modes", "Attributes", "Execution", "Reads", "Writes", "Undefined", "Cost class", "Feature")


def _cells(row: Row) -> tuple[str, ...]:
    modes = " ".join(str(mode) for mode in row.modes)
    attributes = " ".join(sorted(row.attributes - {"i64", "o64"}))
    execution = " ".join(word for word in (*ENDINGS, *EXECUTION) if word in row.execution)
    flags = (row.reads, row.writes, row.undefined)
    return (row.text, row.family, ", ".join(row.operands), modes, attributes, execution, *flags, row.cost_class, row.feature)


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
