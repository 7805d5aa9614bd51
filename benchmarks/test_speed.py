"""hvmx and its peers on 32-bit kernels, lap by lap in the same run."""

from __future__ import annotations

import hashlib
import os
import statistics
import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import images
import pytest
from expected import assert_expected
from images import FULL_ROUNDS, Kernel
from peers import EMPTY, EMULATORS, Bochs, Hvmx, HvmxAllPredicted, HvmxRun, Native, Peer, PeerRun, Qemu
from pytest_benchmark.fixture import BenchmarkFixture

LIMITS: Final = {"QEMU TCG": 1.6, "Unicorn": 0.4, "Bochs": 0.15}
"""hvmx's host time over the peer's, at most: geometric mean of the kernels in MEAN_OF."""
MEAN_OF: Final = ("alu", "sieve", "fib")
LIMITS_BESIDE_QEMU: Final = {"matrix": 2.0, "sha256": 2.0}
"""hvmx's host time over that of QEMU's translator, at most, for each kernel that is in no mean."""

MODELS_BESIDE_QEMU: Final = {"hvmx": 1.25, "hvmx without predictor": 1.0}
"""The same, of all kernels in the geometric mean, with the model of branches and without it."""

FULL: Final = os.environ.get("HVMX_BENCH_FULL") == "1"
LAPS: Final = 3 if FULL else 5
SLOW_PART: Final = 1 if FULL else 15
"""The peers in SLOW run this part of each kernel's full length: times are compared per instruction."""
SLOW: Final = ("Unicorn", "Bochs")

HVMX: Final = Hvmx()
ALL_PREDICTED: Final = HvmxAllPredicted()
NATIVE: Final = Native()
QEMU: Final = Qemu()


def kernel_for(peer: Peer, name: str) -> Kernel:
    """The kernel, as long as this peer runs it."""
    return Kernel(name, FULL_ROUNDS[name] // (SLOW_PART if peer.name in SLOW else 1))


def require(peer: Peer) -> None:
    if reason := peer.missing():
        pytest.skip(f"{peer.name} is left out: {reason}")


class Contest:
    """One kernel, run by everybody in turn."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peers = [peer for peer in (NATIVE, *EMULATORS, ALL_PREDICTED) if peer.missing() is None]
        self.runs: dict[str, list[PeerRun]] = defaultdict(list)

    def run(self, peer: Peer) -> None:
        self.runs[peer.name].append(peer.run(kernel_for(peer, self.name)))

    def run_peers(self) -> None:
        for peer in self.peers:
            self.run(peer)

    def run_hvmx(self) -> None:
        self.run(HVMX)

    def finish(self) -> None:
        """Run the laps that are missing."""
        while len(self.runs[HVMX.name]) < LAPS:
            self.run_peers()
            self.run_hvmx()

    def picoseconds(self, peer: Peer) -> list[float]:
        """Host picoseconds per guest instruction, a figure a lap."""
        instructions = kernel_for(peer, self.name).instructions
        runs = self.runs[peer.name]
        start = min(run.start_seconds for run in runs)
        return [(run.host_seconds - start) / instructions * 1e12 for run in runs]

    def ratio(self, peer: Peer, of: Peer = HVMX) -> float:
        """hvmx's host time over the peer's: the least of each, which other work disturbs least."""
        return min(self.picoseconds(of)) / min(self.picoseconds(peer))

    def lines(self) -> Iterator[str]:
        for peer in (HVMX, *self.peers):
            figures = self.picoseconds(peer)
            instructions = kernel_for(peer, self.name).instructions / 1e9
            yield (
                f"{self.name:6} {peer.name:9} {min(figures):8.1f} ps/instruction"
                f" (median {statistics.median(figures):8.1f}) over {instructions:5.2f} G instructions:"
                f" hvmx takes {self.ratio(peer):.3f}x its time"
            )


@pytest.fixture(scope="module")
def contests(report: list[str]) -> dict[str, Contest]:
    for peer in (NATIVE, *EMULATORS):
        if reason := peer.missing():
            report.append(f"{peer.name} is left out: {reason}")
    return {name: Contest(name) for name in FULL_ROUNDS}


@pytest.mark.parametrize("name", FULL_ROUNDS)
def test_every_peer_computes_what_the_processor_computes(name: str) -> None:
    require(NATIVE)
    kernel = Kernel(name, 1)
    expected = NATIVE.run(kernel).checksum
    for peer in (HVMX, *EMULATORS):
        if peer.missing() is None:
            checksum = peer.run(kernel).checksum
            assert checksum == expected, (
                f"{peer.name} computed {checksum:#010x}, the processor {expected:#010x}"
            )


def test_the_sha256_kernel_computes_sha256() -> None:
    """The checksum that all must give is right, too."""
    require(HVMX)
    rounds = 3
    message = struct.pack("<16384I", *(n * 0x9E3779B9 % 2**32 for n in range(16384)))
    digest = hashlib.sha256(message * rounds).digest()
    assert HVMX.run(Kernel("sha256", rounds)).checksum == int.from_bytes(digest[:4], "big")


@pytest.mark.parametrize("name", FULL_ROUNDS)
def test_a_kernel_retires_the_instructions_that_its_source_says(name: str) -> None:
    bochs = Bochs()
    require(bochs)
    once, twice = Kernel(name, 1), Kernel(name, 2)
    assert bochs.instructions(twice) - bochs.instructions(once) == twice.instructions - once.instructions


@pytest.mark.parametrize("name", FULL_ROUNDS)
def test_hvmx_counts_every_instruction_and_the_same_guest_cycles_each_time(name: str) -> None:
    require(HVMX)
    kernel = Kernel(name, 1)
    first, second, empty = HVMX.run(kernel), HVMX.run(kernel), HVMX.run(EMPTY)
    assert first.counted["instructions"] - empty.counted["instructions"] == kernel.instructions - EMPTY.instructions
    assert first.counted == second.counted


@pytest.mark.parametrize("name", FULL_ROUNDS)
def test_kernel(
    name: str, contests: dict[str, Contest], benchmark: BenchmarkFixture, report: list[str]
) -> None:
    require(HVMX)
    contest = contests[name]
    benchmark.pedantic(contest.run_hvmx, setup=contest.run_peers, rounds=LAPS)
    report.extend(contest.lines())
    for peer in contest.peers:
        benchmark.extra_info[f"host time over {peer.name}'s"] = contest.ratio(peer)
    for peer in (HVMX, *contest.peers):
        assert len({run.checksum for run in contest.runs[peer.name]}) == 1, f"{peer.name} is not repeatable"
    for model in (HVMX, ALL_PREDICTED):
        laps = [run.counted for run in contest.runs[model.name] if isinstance(run, HvmxRun)]
        kernel = kernel_for(model, name)
        assert_expected(benchmark, f"{model.name}, {kernel}", laps, images.multiboot(kernel))


@pytest.mark.parametrize("peer", EMULATORS, ids=lambda peer: peer.name)
def test_mean_host_time_of_three_kernels_is_within_the_limit(
    peer: Peer, contests: dict[str, Contest], report: list[str]
) -> None:
    require(HVMX)
    require(peer)
    for name in MEAN_OF:
        contests[name].finish()
    mean = statistics.geometric_mean(contests[name].ratio(peer) for name in MEAN_OF)
    limit = LIMITS[peer.name]
    report.append(
        f"geometric mean of {', '.join(MEAN_OF)}: hvmx takes {mean:.3f}x the host time of {peer.name}"
        f" (at most {limit}x)"
    )
    assert mean <= limit


@pytest.mark.parametrize("name", LIMITS_BESIDE_QEMU)
def test_host_time_of_a_kernel_is_within_its_limit_beside_qemu(
    name: str, contests: dict[str, Contest], report: list[str]
) -> None:
    require(HVMX)
    require(QEMU)
    contests[name].finish()
    ratio, limit = contests[name].ratio(QEMU), LIMITS_BESIDE_QEMU[name]
    report.append(f"{name}: hvmx takes {ratio:.3f}x the host time of {QEMU.name} (at most {limit}x)")
    assert ratio <= limit


@pytest.mark.parametrize("model", (HVMX, ALL_PREDICTED), ids=lambda model: model.name)
def test_the_model_of_time_leaves_the_kernels_within_their_limit_beside_qemu(
    model: Peer, contests: dict[str, Contest], report: list[str]
) -> None:
    require(HVMX)
    require(QEMU)
    for contest in contests.values():
        contest.finish()
    mean = statistics.geometric_mean(contest.ratio(QEMU, model) for contest in contests.values())
    limit = MODELS_BESIDE_QEMU[model.name]
    report.append(
        f"geometric mean of all kernels: {model.name} takes {mean:.3f}x the host time of {QEMU.name} (at most {limit}x)"
    )
    assert mean <= limit
