"""Real guests from Debian's packages, as ``.ci/fetch-guests`` unpacks them."""

from __future__ import annotations

import os
from pathlib import Path

from missing import missing

STORE = Path(os.environ.get("HVMX_GUESTS") or Path(__file__).resolve().parents[1] / ".guests")

#: Guest -> pattern of its one file below the store.
FILES = {
    "linux-686": "linux-image-686/boot/vmlinuz-*-686",
    "linux-cloud-amd64": "linux-image-cloud-amd64/boot/vmlinuz-*-cloud-amd64",
    "linux-amd64": "linux-image-amd64/boot/vmlinuz-*-amd64",
    "busybox": "busybox-static/bin/busybox",
    "busybox-i386": "busybox-static-i386/bin/busybox",
    "seabios": "seabios/usr/share/seabios/bios.bin",
    "seabios-256k": "seabios/usr/share/seabios/bios-256k.bin",
    "xen": "xen-hypervisor-4.17-amd64/boot/xen-4.17-amd64.gz",
    "memtest-ia32": "memtest86+/boot/memtest86+ia32.bin",
    "memtest-x64": "memtest86+/boot/memtest86+x64.bin",
}


def guest(name: str) -> Path:
    """The file of guest ``name`` (a key of ``FILES``).

    Skips the calling test with the reason where the file is absent; in CI (``CI=true``) that is a failure.
    """
    found = sorted(STORE.glob(FILES[name]))
    if len(found) != 1:
        missing(f"guest {name}: {len(found)} files match {STORE / FILES[name]}; run .ci/fetch-guests")
    return found[0]
