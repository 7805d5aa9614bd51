"""Stock Linux as a paravirtual guest: Debian's kernels find Xen, and run to the end of their /init."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from guests import guest
from linux.initramfs import MARKER
from linux.kernels import initramfs

LIMIT_SECONDS = 300


#: The kernel for clouds has no console of Xen's but the early one, which is the kernel's alone.
@pytest.mark.parametrize(("kernel", "last"), [("linux-cloud-amd64", "Run /init as init process"), ("linux-amd64", MARKER)])
def test_a_stock_kernel_boots_as_a_paravirtual_guest(kernel: str, last: str, tmp_path: Path) -> None:
    """Its tests of itself are on: they free much memory, which it does by writing to its page tables."""
    initrd = initramfs(kernel, tmp_path)
    command_line = "console=hvc0 earlyprintk=xen panic=-1"
    run = [sys.executable, "-m", "hvmx", "run", "--pv", "--memory", "256M", "--quiet", "--append", command_line]
    result = subprocess.run(
        [*run, "--initrd", initrd, guest(kernel)], capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS
    )
    console = result.stdout
    assert result.returncode == 0, console[-3000:] + result.stderr
    assert "Hypervisor detected: Xen PV" in console
    assert last in console
    assert "BUG:" not in console and "Oops" not in console, console
    assert "unchecked MSR access" not in console, console
