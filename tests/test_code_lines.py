"""The lines of code that the build counts are those of the sources, counted another way."""

from __future__ import annotations

import ast
import io
import subprocess
import tokenize
from pathlib import Path

import pytest

from hvmx import code_lines
from hvmx.code_lines import COUNTED, count
from hvmx.pv.numbers import KVM_HYPERCALLS, XEN_HYPERCALLS

ROOT = Path(__file__).parents[1]
LINES = code_lines.code_lines().lines


def by_the_tokenizer(source: str) -> int:
    """Lines on which Python's tokenizer finds a token, without those of strings that are statements."""
    nothing = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in nothing:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            assert node.end_lineno is not None
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def by_the_preprocessor(source: Path) -> int:
    """Lines that gcc leaves when it takes nothing out but comments."""
    command = ["gcc", "-fpreprocessed", "-dD", "-E", "-P", source]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum(not line.isspace() for line in text.splitlines() if line)


PYTHON = sorted(name for name in LINES if name.endswith(".py"))
C = sorted(name for name in LINES if name.endswith(".c"))


@pytest.mark.parametrize("name", PYTHON)
def test_lines_of_python_are_those_with_a_token(name: str) -> None:
    assert LINES[name] == by_the_tokenizer((ROOT / name).read_text())


@pytest.mark.parametrize("name", C)
def test_lines_of_c_are_those_that_the_preprocessor_leaves(name: str) -> None:
    assert LINES[name] == by_the_preprocessor(ROOT / name)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.pyx", '"""About it."""\n\ncdef int f(int *x) except? -1:\n    """Does it.\n\n    So."""\n    return x[0]  # it\n', 2),
        ("a.py", 'TEXT = """a\nb # no comment\n"""\n# a comment\n', 3),
        ("a.py", "x = '#' + \"'\"  # a quote '\ny = 1\n", 2),
        ("a.c", '/* one\n * two */\nint x; // three\nchar *s = "/* no comment */";\n\n', 2),
    ],
)  # fmt: skip
def test_neither_comments_nor_blanks_nor_docstrings_count(name: str, text: str, expected: int) -> None:
    assert count(text, name) == expected


def test_what_the_build_has_counted_is_what_the_sources_are_now() -> None:
    assert code_lines.FILE.read_text() == code_lines.listing(ROOT)


def test_every_source_that_is_written_by_hand_is_counted() -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *COUNTED], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()  # fmt: skip
    if not tracked:
        pytest.skip("no git checkout")
    written = {name for name in tracked if code_lines._SOURCE.search(name)}
    assert set(LINES) == written


def test_the_file_of_a_hypercall_has_its_function() -> None:
    files = code_lines.code_lines().hypercalls
    assert set(files) <= set(XEN_HYPERCALLS.values()) | set(KVM_HYPERCALLS.values())
    assert {"mmu_update", "iret", "xen_version", "clock_pairing"} <= set(files)
    for name, file in files.items():
        if file.startswith("cext/xen/"):
            function = name if name.startswith("xen_") else f"xen_{name}"
            assert f"\nint64_t {function}(struct hvmx_hypercall *" in (ROOT / file).read_text(), name


def test_a_module_leads_to_the_file_that_is_written() -> None:
    counted = code_lines.code_lines()
    assert counted.of_module("hvmx.hvm.uart") == "src/hvmx/hvm/uart.py"
    assert counted.of_module("hvmx.core.vcpu") == "src/hvmx/core/vcpu.pyx.in"
    assert counted.of_module("users.own") is None
