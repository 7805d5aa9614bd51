"""Input from a file comes at the same guest cycles however the machine is run."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from core.machine import assemble
from figures import without_host_time

import hvmx
from hvmx.hvm.console import KeySource
from hvmx.machine import Stop, StopKind

TEXT = b"".join(b"%d," % number for number in range(40)) + b"."

ECHO = "mov edx, 0x3f8; in al, dx; out dx, al; mov [rbp], al; inc rbp; cmp al, '.'; jne 1b; mov al, 7; out 0xf4, al; hlt"
GUESTS = {
    "polls": f"1: rdtsc; mov [0x9000], eax; mov edx, 0x3fd; in al, dx; mov ecx, 20000; 2: dec ecx; jnz 2b; test al, 1; jz 1b; {ECHO}",
    "never reads": "1: inc eax; jmp 1b",
    "halts at the end of input": "mov al, 1; sti; 1: hlt; jmp 1b",
}


def machine(name: str, keys: KeySource) -> tuple[hvmx.Machine, list[bytes]]:
    sent: list[bytes] = []
    guest = hvmx.Machine("1M", serial=sent.append, keys=keys, debug_exit=0xF4)
    guest.cpu.translate_after = 0
    source = GUESTS[name].replace("rbp", "ebp").replace("; ", "\n").replace(": ", ":\n")
    guest.load(assemble(32, ["mov ebp, 0xa000\n" + source])[0], load_address=0x1000, bits=32)
    return guest, sent


def end(name: str, path: Path, run: Callable[[hvmx.Machine, int], Stop]) -> dict[str, Any]:
    with path.open("rb") as file, KeySource(file.fileno()) as keys:
        guest, sent = machine(name, keys)
        cycles = 60_000_000
        while True:
            stop = run(guest, cycles - guest.cycles)
            if stop.kind not in (StopKind.CYCLES, StopKind.STEP) or guest.cycles >= cycles:
                break
        return {
            "stop": stop.kind,
            "sent": b"".join(sent),
            "state": guest.state_hash(),
            **guest.cpu.registers(),
            **without_host_time(guest.statistics()),
        }


@pytest.mark.parametrize("name", GUESTS)
def test_input_comes_at_the_same_cycle_in_slices(name: str, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(TEXT)
    whole = end(name, path, lambda guest, left: guest.run(cycles=left))
    for seed in range(3):
        rng = random.Random(seed)
        cut = end(
            name,
            path,
            lambda guest, left, rng=rng: guest.run(cycles=min(left, rng.choice((1, 100, 30_000, 3_000_000)))),
        )
        different = {what: (whole[what], cut[what]) for what in whole if whole[what] != cut[what]}
        assert not different, f"whole and in slices: {different}"
