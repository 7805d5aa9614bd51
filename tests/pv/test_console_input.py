"""What is typed at a domain's console enters by the machine's one door: it is recorded, and a replay is the same run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from figures import without_host_time

from pv.kernel import assemble

ECHO = """
again:
    mov $1, %edi
    mov $16, %esi
    lea buffer(%rip), %rdx
    hypercall 18
    test %eax, %eax
    jz again
    mov %eax, %ebx
    xor %edi, %edi
    mov %ebx, %esi
    lea buffer(%rip), %rdx
    hypercall 18
    lea buffer(%rip), %rdx
    cmpb $'q', -1(%rdx, %rbx)
    jne again
"""
"""Writes what console_io reads, until the last of it is a q."""
BUFFER = "buffer: .skip 16\n"


def test_a_domains_recorded_run_comes_back_the_same(tmp_path: Path) -> None:
    kernel, log = tmp_path / "kernel", tmp_path / "log"
    kernel.write_bytes(assemble(ECHO, data=BUFFER))
    statistics = [tmp_path / f"{number}.json" for number in range(2)]
    command = [sys.executable, "-m", "hvmx", "run", "--pv", "--quiet", "--hash", "--timeout", "60", str(kernel)]
    with subprocess.Popen(
        [*command, "--stats", str(statistics[0]), "--record", str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"keys")
        process.stdin.flush()
        assert process.stdout.read(4) == b"keys"
        process.stdin.write(b", q")
        process.stdin.close()
        assert process.stdout.read() == b", q"
    assert process.returncode == 0
    again = subprocess.run(
        [*command, "--stats", str(statistics[1]), "--replay", str(log)],
        check=True, input=b"other keys", capture_output=True,
    )  # fmt: skip
    assert again.stdout == b"keys, q"
    first, second = (without_host_time(json.loads(path.read_text())) for path in statistics)
    assert first == second
