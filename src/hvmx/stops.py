"""Why a run of a machine ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class StopKind(Enum):
    """Why ``run`` returned."""

    CYCLES = "the requested guest cycles have passed"
    STEP = "one instruction was executed, or one interrupt or exception taken"
    TIMEOUT = "the host-time limit is reached"
    REQUESTED = "stop() was called"
    HALTED = "the guest halted with nothing to wake it"
    POWEROFF = "the guest powered off"
    RESET = "the guest reset the machine"
    DEBUG_EXIT = "the guest wrote to the debug-exit port"
    TRIPLE_FAULT = "triple fault"
    CRASHED = "the guest crashed"


@dataclass(frozen=True)
class Stop:
    """Why ``run`` returned; ``value`` is what was written to the debug-exit port, ``reason`` says more for people."""

    kind: StopKind
    value: int = 0
    reason: str = ""
