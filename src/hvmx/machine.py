"""Machine: a processor, its memory, a board and a cost profile, put together; what most users need to know."""

from __future__ import annotations

import hashlib
import operator
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvmx import boot
from hvmx.boot.layout import PAGE
from hvmx.boot.prepared import Octets
from hvmx.core.signals import undisturbed
from hvmx.core.vcpu import Vcpu
from hvmx.cost import Profile, load_profile
from hvmx.exits import Exits, detail_name
from hvmx.hvm import controls
from hvmx.hvm.board import EPOCH, Board
from hvmx.hvm.console import KeySource, null_sink
from hvmx.hvm.device import Sink
from hvmx.hvm.pacing import Pacing, PacingWithKeys
from hvmx.isa.levels import level
from hvmx.nocopies import NoCopies
from hvmx.pv import Domain, start_of_day
from hvmx.pv.numbers import KVM_HYPERCALLS, XEN_HYPERCALLS, hypercall_name, sub_operation_name
from hvmx.pv.xen import Hypercalls, VmcallTable
from hvmx.statistic import Statistic, total_of
from hvmx.stops import Stop, StopKind
from hvmx.unanswered import unanswered
from hvmx.vocabulary import CoreStop, ExitReason

__all__ = ["LONGEST_TIMEOUT", "Clock", "Machine", "Stop", "StopKind", "memory_size"]

VGA_HOLE = (0xA0000, 0x20000)
"""Where a PC has display memory: this board has no display, so nothing answers there."""

LONGEST_TIMEOUT = 1e9
"""Seconds of host time: some thirty years, which every way of waiting takes."""

_SUFFIXES = {"K": 10, "M": 20, "G": 30}


def memory_size(text: int | str) -> int:
    """Bytes from a number or a string such as ``64M``; ValueError for anything that no machine has."""
    if not isinstance(text, str):
        size = operator.index(text)
    else:
        digits, shift = text.strip().upper().removesuffix("B").removesuffix("I"), 0
        if digits[-1:] in _SUFFIXES:
            digits, shift = digits[:-1], _SUFFIXES[digits[-1]]
        if not digits.isdecimal():
            raise ValueError(f"memory size {text!r} is not a number with an optional K, M or G")
        size = int(digits) << shift
    if size < 1 << 20 or size % PAGE:
        raise ValueError(f"memory of {size} bytes: it must be at least 1M and whole pages of {PAGE} bytes")
    if size >> 63:
        raise ValueError(f"memory of {size} bytes is more than this host has addresses for")
    return size


class Clock(NoCopies):
    """The machine's one clock, as devices see it: guest cycles, and how many there are in a second."""

    def __init__(self, vcpu: Vcpu, hz: int) -> None:
        self._vcpu = vcpu
        self.hz = hz

    @property
    def cycles(self) -> int:
        return self._vcpu.cycles


class Machine(NoCopies):
    """One deterministic x86 machine.

    ``memory`` is a size in bytes or a string (``"64M"``); ``profile`` names a cost profile or a TOML file;
    ``cpu`` names a level (``hvmx.isa.levels.LEVELS``), which is the profile's unless given; ``paging`` is ``"ept"``
    or ``"shadow"``. With ``board=False`` it is a bare processor with memory, which is in one piece. With a board what is
    over 3 GiB follows from 4 GiB on, as in a PC.
    ``serial`` receives what the guest's serial port (or PV console) sends; ``keys`` is polled for what it receives.
    ``debug_exit`` is a port as QEMU's isa-debug-exit; ``debugcon`` a port and a sink. These three need the board.
    ``seed`` (64 bits) is all that RDRAND and RDSEED draw from: the same seed, the same numbers, on every host.
    """

    def __init__(
        self,
        memory: int | str = "128M",
        profile: str | PathLike[str] | Profile = "skylake",
        *,
        cpu: str | None = None,
        paging: str = "ept",
        board: bool = True,
        serial: Sink = null_sink,
        keys: KeySource | None = None,
        debug_exit: int | None = None,
        debugcon: tuple[int, Sink] | None = None,
        seed: int = 0,
    ) -> None:
        self.profile = profile if isinstance(profile, Profile) else load_profile(profile)
        self.paging = paging
        self.cpu = Vcpu(memory_size(memory), level(cpu or self.profile.cpu), hole=board)
        if not callable(serial):
            raise TypeError(f"serial is called with bytes, and {serial!r} cannot be")
        if not board and (keys is not None or debug_exit is not None or debugcon is not None):
            raise ValueError("without a board there are no ports: no keys, debug_exit or debugcon")
        if not 0 <= seed < 1 << 64:
            raise ValueError(f"seed {seed} has more than 64 bits or is negative")
        self.seed = seed
        self.cpu.random_state = seed
        self.profile.apply(self.cpu)
        self._vmcall = VmcallTable(self.cpu, self.profile.hz, EPOCH, KVM_HYPERCALLS)
        self.exits = Exits(self.cpu, self._vmcall)
        self.clock = Clock(self.cpu, self.profile.hz)
        self.board: Board | None = None
        self.domain: Domain | None = None
        self._serial = serial
        self._stop: Stop | None = None
        self._loaded: str | None = None
        self._busy = threading.Lock()
        controls.install_defaults(self.cpu, self._vmcall, paging)
        if board:
            self.board = Board(
                self.clock,
                self.cpu.memory_bytes,
                serial=serial,
                on_interrupt=self.cpu.set_interrupt,
                on_reset=self._reset,
                on_a20=self._set_a20,
                on_ignore_error=self.cpu.ignore_numeric_error,
                on_shutdown=self._debug_exit,
                debug_exit=debug_exit,
                debugcon=debugcon,
            )
            self.cpu.platform = self.board
            self.exits.watch_devices(self.board.ports, self.board.mmio)
            self.cpu.add_hole(*VGA_HOLE)
        self._pacing = self._paced(keys)
        self.cpu.host = self._pacing

    def _paced(self, keys: KeySource | None) -> Pacing:
        if keys is None or self.board is None:
            return Pacing(self.cpu, self.request_stop)
        return PacingWithKeys(
            self.cpu, self.request_stop, keys, self.board.input, self.reschedule, self.profile.hz
        )

    # --- loading --------------------------------------------------------------------------------------------------
    def load(
        self,
        image: str | PathLike[str] | Octets | None,
        *,
        pv: bool = False,
        append: str = "",
        initrd: str | PathLike[str] | Octets | None = None,
        modules: Sequence[str | PathLike[str] | Octets] = (),
        bios: str | PathLike[str] | Octets | None = None,
        load_address: int | None = None,
        entry: int | None = None,
        bits: int | None = None,
        decompress: bool = True,
    ) -> str:
        """Prepare the machine to run an image; returns what it was recognised as.

        Raises ``hvmx.boot.ImageError`` for an image that cannot be booted, the machine then being as before, ValueError
        where a handler was set for an exit that a PV guest has not, and RuntimeError for a second image: a machine is
        loaded once.
        """
        with self._alone():
            if self._loaded is not None:
                raise RuntimeError(f"this machine has been loaded already: {self._loaded}")
            prepared = self._prepare(
                image,
                pv=pv,
                bios=bios,
                command_line=append,
                initrd=initrd,
                modules=modules,
                load_address=load_address,
                entry=entry,
                bits=bits,
                decompress=decompress,
            )
            if isinstance(prepared, boot.XenImage):
                self.exits.become_pv()
            self._loaded = prepared.description
            if isinstance(prepared, boot.XenImage):
                self._load_xen(prepared)
            else:
                self._load_hvm(prepared)
            return self._loaded

    def _prepare(self, image: boot.Source | None, **options: Any) -> boot.Prepared | boot.XenImage:
        prepared = boot.prepare(image, memory_bytes=self.cpu.memory_bytes, hole=self.board is not None, **options)
        is_64_bit = isinstance(prepared, boot.XenImage) or prepared.cpu.registers.get("efer", 0) != 0
        if is_64_bit and "lm" not in self.cpu.level.features:
            assert image is not None, "firmware starts with 16 bits"
            raise boot.ImageError(
                f"{boot.source_name(image)}: {prepared.description}: starts in 64-bit mode, "
                f"which a {self.cpu.level.name} does not have"
            )
        return prepared

    def _load_hvm(self, prepared: boot.Prepared) -> None:
        for rom in prepared.roms:
            self.cpu.add_rom(rom.physical, rom.data)
        for physical, piece in boot.read_segments(prepared.memory):
            self.cpu.write(physical, piece)
        for segment in prepared.memory:
            if segment.zero_fill:
                self.cpu.write(segment.physical + len(segment.data), bytes(segment.zero_fill))
        self._enter(prepared.cpu)

    def _enter(self, state: boot.CpuState) -> None:
        cpu = self.cpu
        registers = dict(state.registers)
        for name in ("cr0", "cr4", "efer", "cr3"):
            setattr(cpu, name, registers.pop(name, getattr(cpu, name)))
        for name, segment in state.segments.items():
            cpu.set_segment(name, *segment)
        cpu.gdtr = state.gdtr
        cpu.idtr = state.idtr
        for name, value in registers.items():
            setattr(cpu, name, value)

    def _load_xen(self, image: boot.XenImage) -> None:
        costs = self.profile.paravirtual
        self.domain = start_of_day(
            self.cpu,
            image,
            frequency=self.profile.hz,
            epoch=EPOCH,
            console=self._serial,
            update_cost=costs.update.units,
            entry_cost=costs.entry.units,
        )
        self.profile.apply(self.cpu, pv=True)
        self._pacing.paravirtual = True
        if self.board is not None:
            self.board.input.connect(self.domain)

    # --- running --------------------------------------------------------------------------------------------------
    def run(self, cycles: int | None = None, timeout: float | None = None) -> Stop:
        """Run for ``cycles`` guest cycles and at most ``timeout`` seconds of host time; says why it stopped.

        It stops before the first instruction that begins when the cycles have passed: at most one instruction, or one
        iteration of a repeated one, later; and within 0.1 s of the host time, or of ``stop()``, after the handler that
        runs then. What a handler or a device raises comes out of here. So does what the handler of a signal raises, as
        KeyboardInterrupt, always between two instructions. The machine can go on.
        RuntimeError while it runs: in another thread, or below a handler that calls this.
        """
        stop = undisturbed(self._run, self._keep, cycles, timeout)
        # From here on Python makes no call, and so lets no signal's handler in.
        if self._stop is stop:
            self._stop = None
        return stop

    def _run(self, cycles: int | None, timeout: float | None) -> Stop:
        with self._limits(cycles, timeout):
            return self._pending() or self._result(self.cpu.run(cycles))

    def step(self, timeout: float | None = None) -> Stop:
        """Execute exactly one instruction, or take one interrupt or exception.

        ``timeout`` is in seconds of host time, for a guest that waits for input.
        """
        stop = undisturbed(self._step, self._keep, None, timeout)
        if self._stop is stop:
            self._stop = None
        return stop

    def _step(self, cycles: None, timeout: float | None) -> Stop:
        with self._limits(cycles, timeout):
            stop = self._pending() or self._result(self.cpu.step())
            return Stop(StopKind.STEP) if stop.kind is StopKind.CYCLES else stop

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else runs or loads the machine meanwhile."""
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("this machine is running already: in another thread, or below this handler")
        try:
            yield
        finally:
            self._busy.release()

    @contextmanager
    def _limits(self, cycles: int | None, timeout: float | None) -> Iterator[None]:
        """What a run keeps to."""
        if cycles is not None and not 0 <= operator.index(cycles) < 1 << 63:
            raise ValueError(f"cycles = {cycles}: not a number of guest cycles from 0 to {(1 << 63) - 1}")
        if timeout is not None and not 0 <= timeout <= LONGEST_TIMEOUT:
            raise ValueError(f"timeout = {timeout}: not a number of seconds from 0 to {LONGEST_TIMEOUT:g}")
        with self._alone():
            self._pacing.begin(cycles, timeout)
            self.reschedule()
            yield
            self._pacing.stop_asked = False  # a run that ended by an exception goes on, and then it counts

    def reschedule(self) -> None:
        """What the platform has to do next has changed otherwise than by an exit."""
        self.cpu.reschedule()

    def stop(self) -> None:
        """Let the run in progress return soon; any thread may ask.

        Asked during a run, it is that run's and never lost; where none is in progress, there is nothing to stop.
        """
        if self._busy.locked():
            self._pacing.stop_asked = True
            self.cpu.stop()

    def request_stop(self, stop: Stop) -> None:
        """Let ``run`` return ``stop`` soon: called by a port's handler, after the present instruction."""
        self._stop = stop
        self.cpu.stop()

    def _result(self, core_stop: int) -> Stop:
        kind = _CORE_STOPS[core_stop]
        if kind is StopKind.TRIPLE_FAULT:
            self._pacing.stop_asked = False  # there is more to say than that somebody asked
        return self._ended() or Stop(kind)

    def _keep(self, stop: Stop) -> None:
        """For the next run, should an exception come out of this one instead."""
        if stop.kind not in (StopKind.CYCLES, StopKind.STEP, StopKind.HALTED, StopKind.TIMEOUT):
            self._stop = stop

    def _pending(self) -> Stop | None:
        """Why the machine stopped in a run out of which an exception came instead."""
        stop = self._ended()
        return None if stop is not None and stop.kind is StopKind.TIMEOUT else stop  # which was that run's

    def _ended(self) -> Stop | None:
        """Why the machine has stopped, if it was asked to."""
        stop, self._stop = self._stop, None
        if stop is None and self.domain is not None and not self.domain.running:
            stop = self._domain_end(self.domain)
        if stop is None and self._pacing.stop_asked:
            stop = Stop(StopKind.REQUESTED)
        if stop is not None:
            self.cpu.forget_stop()  # what the core was asked for, if it has not come to that
        return stop

    @staticmethod
    def _domain_end(domain: Domain) -> Stop:
        if domain.crash_reason is not None:
            return Stop(StopKind.CRASHED, reason=domain.crash_reason)
        reason = domain.shutdown_reason
        kind = {"poweroff": StopKind.POWEROFF, "reboot": StopKind.RESET}.get(reason or "", StopKind.CRASHED)
        return Stop(kind, reason=f"the domain shut itself down: {reason}")

    def _debug_exit(self, value: int) -> None:
        reason = f"the guest wrote {value:#x} to the debug-exit port"
        self.request_stop(Stop(StopKind.DEBUG_EXIT, value, reason))

    def _reset(self) -> None:
        self.request_stop(Stop(StopKind.RESET))

    def _set_a20(self, enabled: bool) -> None:
        self.cpu.a20 = enabled

    @property
    def hypercalls(self) -> Hypercalls:
        """The hypercall table: Xen's of a PV domain, otherwise that of VMCALL, with KVM's numbers."""
        return self._vmcall.hypercalls if self.domain is None else self.domain.hypercalls

    def hypercall_statistics(self) -> dict[str, Statistic]:
        """By name, the most frequent first: those within a multicall too, which itself is without what they take.

        VMCALLs are exits besides, and stand with ``Exits.statistics`` too.
        """
        if self.domain is None:
            exits = self.exits.statistics().get(ExitReason.VMCALL)
            rows = {hypercall_name(KVM_HYPERCALLS, number): row for number, row in exits.detail.items()} if exits else {}
        else:
            found = self.domain.hypercalls.statistics()
            rows = {hypercall_name(XEN_HYPERCALLS, number): total_of(tallies) for number, tallies in found.items()}
        return dict(sorted(rows.items(), key=lambda item: (-item[1].count, item[0])))

    # --- looking --------------------------------------------------------------------------------------------------
    @property
    def cycles(self) -> int:
        """Guest cycles since the machine was made."""
        return self.cpu.cycles

    @property
    def memory(self) -> NDArray[np.uint8]:
        """Guest RAM as a numpy array of bytes, without a copy; see ``Vcpu.memory``."""
        return self.cpu.memory

    def statistics(self) -> dict[str, Any]:
        """What the machine is and what its run came to, under the names that README.md explains.

        Host time is under names that begin with ``host_``, and guest cycles are called so.
        """
        return {
            "profile": self.profile.name,
            "cpu": self.cpu.level.name,
            "paging": self.paging if self.domain is None else "pv",
            "memory_bytes": self.cpu.memory_bytes,
            "seed": self.seed,
            "guest_cycles": self.cpu.cycles,
            "halted_guest_cycles": self.cpu.halted_cycles,
            **self.cpu.counters(),
            "caches": self.cpu.cache_hits(),
            "uncounted_events": [f"{number:#x}" for number in self.cpu.uncounted_events],
            "hypercalls_by_name": {
                name: row.as_json(partial(sub_operation_name, name)) for name, row in self.hypercall_statistics().items()
            },
            "hypercalls_in_python": self.hypercalls.slow,
            "hypercalls_unanswered": self.hypercalls.unanswered,
            "unanswered": unanswered(self),
            "exits": {
                reason.name: row.as_json(partial(detail_name, reason)) for reason, row in self.exits.statistics().items()
            },
        }

    def state_hash(self) -> str:
        """SHA-256 of guest memory and the processor's registers."""
        digest = hashlib.sha256(self.cpu.ram_view())
        digest.update(repr(self.cpu.registers()).encode())
        return digest.hexdigest()


_CORE_STOPS: dict[int, StopKind] = {
    CoreStop.CYCLES: StopKind.CYCLES,
    CoreStop.HALTED: StopKind.HALTED,
    CoreStop.REQUESTED: StopKind.REQUESTED,
    CoreStop.SHUTDOWN: StopKind.TRIPLE_FAULT,
}
