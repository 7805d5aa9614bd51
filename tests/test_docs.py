"""What the documentation shows works: its Python runs, its rows and handlers go through the build's own steps, its C is
the source's, and the files and functions that it names are there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from Cython import Tempita

import hvmx
from hvmx import isa
from hvmx.isa import generate

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
HOW_TO = ROOT / "docs" / "how-to.md"


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language, each with the line of its page before its first."""
    text = page.read_text()
    return [
        (text[: found.start(1)].count("\n"), found[1])
        for found in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_of_a_page_runs_from_its_first_line_to_its_last(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for line, source in blocks(page, "python"):
        exec(compile("\n" * line + source, page.name, "exec"), names)


def test_rows_of_the_how_to_are_rows_of_the_instruction_table() -> None:
    ((_, text),) = blocks(HOW_TO, "text")
    rows = [isa._parse(line, 2, 0) for line in text.splitlines() if not line.startswith("#")]
    assert [(row.family, row.form, row.reads, row.writes) for row in rows] == [
        ("adcx", "R_RM", "C", "C"), ("adox", "R_RM", "O", "O"),
    ]  # fmt: skip
    for row in rows:
        assert row.cost_class in isa.cost_classes()
        assert "FORM_R_RM" in generate._row(row)
    families = {row.family for row in rows}
    assert not families & set(isa.families()), "the example is there already: the how-to needs another"


def test_handlers_of_the_how_to_are_such_as_cython_compiles(tmp_path: Path) -> None:
    ((_, source),) = blocks(HOW_TO, "cython")
    template = ROOT / "src" / "hvmx" / "core" / "execute" / "integer" / "bits.pyx.in"
    module = tmp_path / "with_the_example.pyx"
    module.write_text(Tempita.Template(template.read_text() + source).substitute(w=None))
    package = Path(hvmx.__file__).parents[1]
    compiled = subprocess.run(
        [sys.executable, "-m", "cython", "-3", "-I", str(package), str(module)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert compiled.returncode == 0, compiled.stderr


def test_c_of_the_how_to_is_that_of_the_sources() -> None:
    sources = [path.read_text() for path in (ROOT / "cext").rglob("*.c")]
    shown = blocks(HOW_TO, "c")
    assert shown
    for _, text in shown:
        assert any(text in source for source in sources), text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`((?:src|cext|tests|docs|benchmarks|\.ci)/[\w./*-]+)`", text)
    named += [
        str((page.parent / link).resolve().relative_to(ROOT)) for link in re.findall(r"\]\(([\w./-]+)\)", text)
    ]
    assert named
    missing = [name for name in named if "NAME" not in name and not list(ROOT.glob(name))]
    assert not missing, f"{page.name} names what is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_functions_that_a_page_names_are_there(page: Path) -> None:
    sources = [
        path.read_text()
        for folder in ("src", "cext", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".pyx", ".pxd", ".in", ".c", ".h"} and "generated" not in path.parts
    ]
    defined = set(re.findall(r"(\w+)\(", "\n".join(sources)))
    named = set(re.findall(r"`(\w+)\(\)`", page.read_text()))
    assert not named - defined, f"{page.name} names what is not there"


def test_functions_are_in_the_files_where_a_page_says_that_they_are() -> None:
    text = " ".join(path.read_text() for path in PAGES)
    placed = re.findall(r"`(\w+)\(\)`,?\s+(?:in\s+|\()`([\w./-]+)`", text)
    assert len(placed) > 10
    assert not [(name, file) for name, file in placed if not re.search(rf"\b{name}\(", (ROOT / file).read_text())]
