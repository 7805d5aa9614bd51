"""With caches modelled a pointer chase takes what it takes on the processor that the profile is of."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hvmx
from hvmx import ExitReason, Machine
from hvmx.boot.cpu import CODE64, CR4_PAE, EFER_LMA, EFER_LME
from hvmx.cost import Profile, ProfileError, load_profile

LINE = 64
TABLES, CODE, MEMORY = 0x1000, 0x8000, 2 << 20
LARGE = 0xE3
COPIES = 16

# Random chases in pages of 2 MiB, measured with hvmx.cost.native on the computer that zen4.toml is of: KB, core cycles a
# load. Over 4 to 16 MB they depend on what other virtual machines leave of L3 (from 55 to 480).
MEASURED = {
    4: 4.0, 8: 4.0, 16: 4.0, 32: 4.5, 64: 14.0, 128: 14.0, 256: 14.0, 512: 17.5, 1024: 30.0, 2048: 48.0, 4096: 56.0,
    32768: 500.0, 65536: 530.0,
}  # fmt: skip


def chase(kilobytes: int, profile: Profile) -> float:
    """Guest cycles a load, going round so many KB in a random order again and again."""
    lines = (kilobytes << 10) // LINE
    order = np.random.default_rng(1).permutation(lines).astype(np.uint64) * LINE + MEMORY
    memory = np.zeros(lines * LINE // 8, np.uint64)
    memory[(order - MEMORY) // 8] = np.roll(order, -1)
    machine = Machine(MEMORY + max(kilobytes << 10, 2 << 20), profile, board=False)
    machine.exits.on(ExitReason.HLT, lambda cpu, exit: cpu.stop())
    cpu = machine.cpu
    cpu.write(TABLES, struct.pack("<Q", TABLES + 0x1003))
    cpu.write(TABLES + 0x1000, struct.pack("<Q", TABLES + 0x2003))
    cpu.write(TABLES + 0x2000, struct.pack("<64Q", *(page << 21 | LARGE for page in range(64))))
    cpu.cr4, cpu.efer, cpu.cr3, cpu.cr0 = CR4_PAE, EFER_LME | EFER_LMA, TABLES, 1 << 31 | 1
    cpu.set_segment("cs", 0x10, 0, 0xFFFFFFFF, CODE64)
    rounds = max(lines, 4096) // COPIES
    # mov ecx, rounds; COPIES times mov rax, [rax]; dec ecx; jnz; hlt
    body = bytes.fromhex("488b00") * COPIES + bytes.fromhex("ffc9 0f85")
    cpu.write(CODE, b"\xb9" + rounds.to_bytes(4, "little") + body + struct.pack("<i", -len(body) - 4) + b"\xf4")
    cpu.write(MEMORY, memory.tobytes())
    cpu.rax = int(order[0])
    cycles = 0
    for _ in range(3):
        cpu.rip = CODE
        before = cpu.cycles
        machine.run()
        cycles = cpu.cycles - before - int(profile.exits[ExitReason.HLT].cycles)
    return cycles / (rounds * COPIES)


@pytest.mark.parametrize("kilobytes", MEASURED)
def test_a_chase_follows_the_processors_steps_within_a_quarter(kilobytes: int) -> None:
    assert chase(kilobytes, load_profile("zen4").with_caches()) == pytest.approx(MEASURED[kilobytes], rel=0.25)


@pytest.mark.parametrize("kilobytes", [4, 4096])
def test_without_caches_every_access_hits_the_first_level(kilobytes: int) -> None:
    """The second-level TLB still counts."""
    assert 4 <= chase(kilobytes, load_profile("zen4")) < 4 + 8


@pytest.mark.parametrize("name", ["skylake", "cascade-lake", "golden-cove", "nehalem", "p4-672"])
def test_each_profile_has_steps_where_its_levels_end(name: str) -> None:
    caches = load_profile(name).caches
    near = chase(caches.l1.size // 2, load_profile(name).with_caches())
    beyond = chase(2 * caches.l1.size, load_profile(name).with_caches())
    assert beyond - near == pytest.approx(caches.l2.cycles - caches.l1.cycles, abs=1.5)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("l2     = { size = 1024, ways = 8, cycles = 3,", "caches.l2.cycles"),
        ("l2     = { size = 1024, ways = 7, cycles = 14,", "caches.l2.ways"),
        ("line   = { value = 48,", "caches.line.value"),
        ("memory = { cycles = 40,", "caches.memory.cycles"),
        ("overlapping_stores = { value = 0,", "caches.overlapping_stores.value"),
    ],
)
def test_caches_that_cannot_be_are_refused_with_their_key(line: str, problem: str, tmp_path: Path) -> None:
    content = Path(hvmx.__file__).with_name("cost").joinpath("zen4.toml").read_text().splitlines()
    key = line.split("=", maxsplit=1)[0]
    start = content.index("[caches]")
    (place,) = [n for n, text in enumerate(content) if n > start and text.startswith(key)]
    content[place] = line + content[place][content[place].index(" mark") :]
    file = tmp_path / "mine.toml"
    file.write_text("\n".join(content))
    with pytest.raises(ProfileError, match=problem):
        load_profile(file)


def test_a_profile_can_be_had_with_caches_and_without() -> None:
    profile = load_profile("skylake")
    assert not profile.caches.modelled and profile.with_caches().caches.modelled
    assert profile.with_caches().with_caches(False) == profile
    assert replace(profile, name="other").with_caches().name == "other"
