"""What is asked of the machine that hvmx is built on, and what extensions find of it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

import hvmx

ROOT = Path(__file__).parents[1]


@pytest.fixture
def build() -> ModuleType:
    """setup.py, as a module."""
    spec = importlib.util.spec_from_file_location("hvmx_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_without_a_compiler_a_build_says_so_in_a_sentence() -> None:
    result = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext"],
        cwd=ROOT, env={**os.environ, "CC": "no-such-compiler -O1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode != 0
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "no C compiler 'no-such-compiler'" in line and "apt install" in line and "CC" in line


def test_without_the_headers_of_python_a_build_says_so_in_a_sentence(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build.require_compiler()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(SystemExit, match=f"{tmp_path}/Python.h.*apt install python3-dev"):
        build.require_compiler()


def test_an_empty_cc_stands_for_the_compiler_of_python(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", " ")
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: "no-such-compiler -pthread")
    with pytest.raises(SystemExit, match="'no-such-compiler'"):
        build.require_compiler()


def test_extensions_are_shown_public_headers_only() -> None:
    include = Path(hvmx.include_path())
    assert [path.name for path in include.rglob("*") if path.is_file()] == ["hvmx_hypercall.h"]


def test_every_python_that_is_named_is_one_that_pip_lets_install() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    minors = [int(minor) for minor in re.findall(r'"Programming Language :: Python :: 3\.(\d+)"', project)]
    assert f'requires-python = ">=3.{minors[0]}"' in project
    assert minors == list(range(minors[0], minors[-1] + 1))
