"""``.ci/fetch-guests`` fetches what is missing, whole, and says what it could not fetch."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "fetch-guests"

#: Debian's tools as the script uses them; apt-get fails for packages in $REFUSED, for the index if $BROKEN.
APT_GET = """#!/bin/sh
echo "apt-get $*" >>"$CALLS"
for package; do :; done
case "$*" in
*update*) [ -z "$BROKEN" ] || { echo "E: Failed to fetch the i386 index"; exit 100; } ;;
*download*) case " $REFUSED " in *" $package "*) echo "E: Unable to locate $package" >&2; exit 100 ;; esac
            echo "$package" >"fetched.deb" ;;
esac
"""
APT_CACHE = """#!/bin/sh
for package; do :; done
printf 'Package: x\\nDepends: real-%s (= 1), other\\n' "${package%%:*}"
"""
DPKG = """#!/bin/sh
echo "dpkg $*" >>"$CALLS"
case "$1" in
--print-architecture) echo amd64 ;;
-x) cp "$2" "$3/contents" ;;
esac
"""


class Fetch:
    """The script with stand-ins for apt and dpkg in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.store, self.calls = directory / "guests", directory / "calls"
        self.tools = directory / "tools"
        self.tools.mkdir()
        for name, text in {
            "apt-get": APT_GET,
            "apt-cache": APT_CACHE,
            "dpkg": DPKG,
            "sudo": '#!/bin/sh\n"$@"\n',
        }.items():
            (self.tools / name).write_text(text)
            (self.tools / name).chmod(0o755)

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.tools}:{os.environ['PATH']}"
        stand_ins = {"PATH": path, "HVMX_GUESTS": str(self.store), "CALLS": str(self.calls)}
        self.calls.write_text("")
        return subprocess.run(
            [SCRIPT], check=False, env=os.environ | stand_ins | environment, capture_output=True, text=True
        )


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    if shutil.which("bash") is None:
        pytest.skip("no bash to run .ci/fetch-guests with")
    return Fetch(tmp_path)


def test_each_guest_is_unpacked_under_its_name_without_version(fetch: Fetch) -> None:
    result = fetch.run()
    assert result.returncode == 0, result.stderr
    contents = {path.name: (path / "contents").read_text().strip() for path in fetch.store.iterdir()}
    assert contents == {
        "linux-image-686": "real-linux-image-686:i386",
        "linux-image-cloud-amd64": "real-linux-image-cloud-amd64:amd64",
        "linux-image-amd64": "real-linux-image-amd64:amd64",
        "busybox-static": "busybox-static:amd64",
        "busybox-static-i386": "busybox-static:i386",
        "seabios": "seabios",
        "xen-hypervisor-4.17-amd64": "xen-hypervisor-4.17-amd64:amd64",
        "memtest86+": "memtest86+:amd64",
    }
    assert "dpkg --add-architecture i386" in fetch.calls.read_text()


def test_a_second_run_asks_apt_for_nothing(fetch: Fetch) -> None:
    fetch.run()
    assert fetch.run().returncode == 0
    assert fetch.calls.read_text() == ""


def test_an_index_that_fails_in_part_is_reported_and_gone_on_from(fetch: Fetch) -> None:
    result = fetch.run(BROKEN="yes")
    assert result.returncode == 0
    assert "E: Failed to fetch the i386 index" in result.stderr


def test_what_cannot_be_fetched_is_named_and_the_rest_is_kept(fetch: Fetch) -> None:
    result = fetch.run(REFUSED="seabios memtest86+:amd64")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "fetch-guests: could not fetch: seabios memtest86+"
    assert "E: Unable to locate seabios" in result.stderr
    assert (fetch.store / "linux-image-686" / "contents").exists()
    assert (
        sorted(path.name for path in fetch.store.iterdir() if "seabios" in path.name or path.name[0] == ".")
        == []
    )
