"""``.ci/run`` gives the README's own two commands, one after the other, in a fresh clone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    "python3 -m venv venv && . venv/bin/activate && pip install . && hvmx compare",
    "pip install '.[test]' && pytest",
]

#: What the commands call: it notes its name, arguments and folder, and fails where $FAILS says so.
STAND_IN = """#!/bin/sh
name=$(basename "$0")
[ "$name $*" != "python3 -c import ensurepip, venv" ] || exit 0
echo "$PWD: $name $*" >>"$CALLS"
[ "$name $*" != "$FAILS" ] || exit 3
if [ "$name" = python3 ]; then
    mkdir -p "$3/bin"
    for tool in pip hvmx pytest; do cp "$0" "$3/bin/$tool"; done
    echo "PATH=$PWD/$3/bin:\\$PATH" >"$3/bin/activate"
fi
if [ "$name" = pytest ]; then echo "$CI $HVMX_GUESTS $(ls -A | tr '\\n' ' ')" >>"$CALLS"; cat >>"$CALLS"; fi
"""


class Checkout:
    """A checkout with the README and ``.ci/run``, and stand-ins for what they call."""

    def __init__(self, directory: Path) -> None:
        self.root, self.calls, self._tools = directory / "checkout", directory / "calls", directory / "tools"
        (self.root / ".ci").mkdir(parents=True)
        self._tools.mkdir()
        shutil.copy(ROOT / ".ci" / "run", self.root / ".ci")
        shutil.copy(ROOT / "README.md", self.root)
        (self.root / ".gitignore").write_text("/kept-out\n")
        scripts = {
            self.root / ".ci" / "fetch-guests": "#!/bin/sh\n",
            self._tools / "dpkg-query": "#!/bin/sh\necho ok installed\n",
            self._tools / "python3": STAND_IN,
        }
        for path, text in scripts.items():
            path.write_text(text)
            path.chmod(0o755)

    def commit(self) -> None:
        identity = ["-c", "user.name=A", "-c", "user.email=a@b"]
        for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "all"]):
            subprocess.run(["git", *command], cwd=self.root, check=True, capture_output=True)

    def run(self, fails: str = "") -> tuple[int, list[str]]:
        """The status, and what was called."""
        environment = {name: value for name, value in os.environ.items() if name not in ("HVMX_GUESTS", "CI")}
        environment |= {
            "PATH": f"{self._tools}:{os.environ['PATH']}",
            "CALLS": str(self.calls),
            "FAILS": fails,
        }
        self.calls.write_text("")
        result = subprocess.run(
            [self.root / ".ci" / "run"],
            check=False,
            env=environment,
            input="x",
            capture_output=True,
            text=True,
        )
        return result.returncode, self.calls.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    for tool in ("bash", "git"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} to run .ci/run with")
    return Checkout(tmp_path)


def test_the_readmes_commands_are_given_in_one_fresh_clone(checkout: Checkout) -> None:
    readme = (ROOT / "README.md").read_text()
    assert [line.strip() for line in readme.splitlines() if line.strip() in COMMANDS] == COMMANDS
    checkout.commit()
    (checkout.root / "kept-out").write_text("what a build left")
    status, calls = checkout.run()
    assert status == 0
    clone = calls[0].partition(":")[0]
    assert not Path(clone).exists() and Path(clone) != checkout.root
    said = ["python3 -m venv venv", "pip install .", "hvmx compare", "pip install .[test]", "pytest "]
    assert calls[:-1] == [f"{clone}: {call}" for call in said]
    ci, guests, *files = calls[-1].split()
    assert (ci, guests) == ("true", str(checkout.root / ".guests"))
    assert sorted(files) == [".ci", ".git", ".gitignore", "README.md", "venv"]


def test_what_is_not_committed_yet_is_tested_too(checkout: Checkout) -> None:
    checkout.commit()
    (checkout.root / "new file").write_text("untracked\n")
    readme = checkout.root / "README.md"
    readme.write_text(readme.read_text().replace("&& hvmx compare", "&& hvmx isa"))
    (checkout.root / ".gitignore").unlink()
    status, calls = checkout.run()
    assert status == 0
    assert calls[2].endswith(": hvmx isa")
    assert calls[-1].split()[2:] == [".ci", ".git", "README.md", "new", "file", "venv"]


def test_sources_without_a_repository_are_tested_as_they_are(checkout: Checkout) -> None:
    status, calls = checkout.run()
    assert (status, len(calls)) == (0, 6)


@pytest.mark.parametrize(
    ("fails", "last"),
    [("pip install .", 2), ("hvmx compare", 3), ("pip install .[test]", 4), ("pytest ", 5)],
)
def test_a_command_that_fails_is_the_last(checkout: Checkout, fails: str, last: int) -> None:
    checkout.commit()
    status, calls = checkout.run(fails)
    assert (status, len(calls)) == (3, last)


def test_the_environment_of_the_readme_is_no_source() -> None:
    assert "/venv/" in (ROOT / ".gitignore").read_text().splitlines()
