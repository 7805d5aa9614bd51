"""Runs guests whose exit handlers do at random what handlers may do: `python -m tests.hostile.handlers FIRST COUNT`.

Each guest is announced by its seed; the last line is what they came to.
"""

from __future__ import annotations

import faulthandler
import random
import sys
from collections import Counter
from typing import TYPE_CHECKING

from hvmx import ExitReason, Machine, guests
from hvmx.hvm import controls

if TYPE_CHECKING:
    from hvmx.core.exit_info import Exit
    from hvmx.core.vcpu import Vcpu
    from hvmx.exits import Handler

CYCLES, SECONDS, MOST_ERRORS = 3_000_000, 20, 400
WORKLOADS = "checks=no workloads=syscall,cpuid,port-in,pgfault,divide,as-switch"
REAL_CONTROLS = ~(controls.SHADOW_PAGING | controls.EPT)

PIECES = [
    "0fa2", "e460", "6c", "f36f", "0f32", "0f30", "0f22c0", "0f20d8", "0f22d8", "0f23c0", "0f00d8", "0f0138",
    "cc", "cd80", "f4", "fb", "90", "0f31", "0f0b", "cf", "9d", "c8100001", "8b05000000f0", "ff35000000f0",
    "a100000b00", "010500000b00", "0f011500000b00", "f00fc10500000b00", "0fae0500000b00", "a4", "f3a5",
]  # fmt: skip
"""Instructions that exit: ports, MSRs, control and debug registers, device memory in all kinds of accesses, ..."""


class Unwilling(Exception):
    """What a handler raises."""


def machine_of(chance: random.Random) -> Machine:
    machine = Machine("8M", paging=chance.choice(["ept", "shadow"]))
    kind = chance.choice(["hvm64", "hvm32", "pieces"])
    if kind == "pieces":
        code = bytes.fromhex("".join(chance.choice(PIECES) for _ in range(300)) + "ebfe")
        machine.load(code, load_address=0x10000, bits=chance.choice([16, 32, 64]))
    else:
        machine.load(guests.image(kind), append=WORKLOADS)
    cpu = machine.cpu
    cpu.controls |= chance.getrandbits(20) & REAL_CONTROLS
    cpu.exception_bitmap |= chance.choice([0, chance.getrandbits(32)])
    if chance.random() < 0.3:
        cpu.cr0_mask, cpu.cr0_shadow = chance.getrandbits(32), chance.getrandbits(32)
    rate = chance.choice([0.01, 0.1, 0.5])
    for reason in ExitReason:
        machine.exits.on(reason, erratic(machine.exits.on(reason, controls.complete), chance, rate))
    return machine


def erratic(handler: Handler | None, chance: random.Random, rate: float) -> Handler:
    assert handler is not None

    def handle(vcpu: Vcpu, exit: Exit) -> None:
        what = chance.randrange(8) if chance.random() < rate else None
        if what == 0:
            vcpu.inject(chance.randrange(256), chance.getrandbits(16))
        elif what == 1:
            vcpu.rip = vcpu.rip + chance.choice([1, 2, exit.length, 0x1000]) & 0xFFFF_FFFF
        elif what == 2:
            raise Unwilling
        elif what == 3:
            vcpu.halt()
        elif what == 4:
            vcpu.controls ^= 1 << chance.randrange(15)
        elif what == 5:
            vcpu.raise_nmi()
        else:
            handler(vcpu, exit)
            if what == 6:
                vcpu.inject(chance.randrange(32))
            elif what == 7:
                exit.value = chance.getrandbits(64)

    return handle


def run(seed: int) -> str:
    """Why the guest of this seed stopped."""
    machine = machine_of(random.Random(seed))
    for _ in range(MOST_ERRORS):
        try:
            return machine.run(cycles=CYCLES, timeout=SECONDS).kind.name
        except Unwilling:
            continue
    return "ERRORS"


def main(first: int, count: int) -> None:
    faulthandler.enable()
    ends: Counter[str] = Counter()
    for seed in range(first, first + count):
        print(seed, flush=True)
        ends[run(seed)] += 1
    print(*(f"{kind}={number}" for kind, number in sorted(ends.items())))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
