"""Initial RAM disks: cpio archives in the format "newc", which Linux unpacks into its first root directory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_DIRECTORY, _CHARACTER_DEVICE, _FILE = 0o040755, 0o020600, 0o100755


@dataclass(frozen=True)
class Member:
    """A directory, device or file, all of them root's."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)

    def packed(self, number: int) -> bytes:
        """As it stands in an archive (Linux, Documentation/driver-api/early-userspace/buffer-format)."""
        path = self.name.encode() + b"\0"
        fields = (number, self.mode, 0, 0, 1, 0, len(self.data), 0, 0, *self.device, len(path), 0)
        return _padded(b"070701" + b"".join(b"%08X" % field for field in fields) + path) + _padded(self.data)


def directory(name: str) -> Member:
    return Member(name, _DIRECTORY)


def character_device(name: str, major: int, minor: int) -> Member:
    return Member(name, _CHARACTER_DEVICE, device=(major, minor))


def executable(name: str, data: bytes) -> Member:
    return Member(name, _FILE, data)


def archive(members: Iterable[Member]) -> bytes:
    """The members in their order: a directory comes before what is in it."""
    everything = [*members, Member("TRAILER!!!", 0)]
    return b"".join(member.packed(number) for number, member in enumerate(everything, 1))


def _padded(octets: bytes) -> bytes:
    return octets.ljust(-(-len(octets) // 4) * 4, b"\0")
