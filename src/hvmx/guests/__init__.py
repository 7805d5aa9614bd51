"""The bundled guest: one system, built from source for three environments.

``common/`` is the system itself: address spaces, processes, self-checks and workloads, over the interface
``common/env.h``. ``hvm/`` implements that on the bare machine, in 32 and in 64 bits, ``pv/`` on Xen.

The guest's console holds, line by line, ``check NAME: ok`` or ``check NAME: FAILED (...)``, and for each workload
``bench NAME OPERATIONS CYCLES CYCLES_PER_OPERATION`` (guest cycles, as its time-stamp counter reads them) or
``bench NAME unavailable ERROR``. A workload costs the same whatever ran before it, to the cycle an operation. The
guest's command line: see ``common/main.c``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

#: The environments for which the guest is built.
NAMES = ("hvm32", "hvm64", "pv64")

#: The folder in which the package's build puts the images.
BUILT = Path(__file__).parent / "built"


@dataclass(frozen=True)
class Workload:
    """An operation that the guest times (``common/workloads.c``)."""

    does: str  #: in a line
    ports: bool = False  #: whether an HVM guest accesses ports for it


#: The workloads by name, in the order in which the guest runs them.
WORKLOADS: Mapping[str, Workload] = MappingProxyType({
    "syscall": Workload("a system call that does nothing, from user mode and back"),
    "cpuid": Workload("CPUID, leaf 0"),
    "port-in": Workload("IN from port 0x80 (POST code), which is left to user space; on PV the hardware's own", ports=True),
    "port-out": Workload("OUT to port 0x80 (POST code), which is left to user space; on PV the hardware's own", ports=True),
    "port-kernel": Workload("IN from port 0x61 (NMI status), whose device is in the kernel; on PV as port-in", ports=True),
    "pt-write": Workload("a page-table entry changed, invalidated and used"),
    "pt-write-batch": Workload("an entry of 64 that are changed in a batch, with one flush"),
    "tlb-miss": Workload("a page read after a flush of the TLB"),
    "pgfault": Workload("a page fault of user mode, for which the kernel maps a page"),
    "divide": Workload("a divide error of user mode, with the way back"),
    "as-switch": Workload("another address space loaded, in the kernel"),
    "console": Workload("a line of 32 characters to the console", ports=True),
    "timer-read": Workload("the time read: the PIT's counter, or Xen's clock", ports=True),
    "timer-tick": Workload("an interrupt of the timer, to its end", ports=True),
    "ctx-switch": Workload("one process hands over to another by a system call"),
    "fork-wait": Workload("a process forks, and waits for the child to exit"),
})  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """What one workload printed."""

    operations: int
    cycles: int  #: guest cycles of all operations together

    @property
    def cycles_per_operation(self) -> float:
        return self.cycles / self.operations


def image(name: str) -> Path:
    """The built image of environment ``name`` (one of ``NAMES``).

    Raises ``ValueError`` for another name, ``FileNotFoundError`` where the package was built without guests.
    """
    if name not in NAMES:
        raise ValueError(f"no bundled guest {name!r}: there are {', '.join(NAMES)}")
    path = BUILT / image_name(name)
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: the bundled guests are built on x86 hosts with gcc and binutils, and were not here"
        )
    return path


def image_name(name: str) -> str:
    """The file name of environment ``name``'s image."""
    return f"hvmx-{name}.elf"


def command_line(workloads: Collection[str], more: str = "") -> str:
    """The guest's command line for these workloads, all of them if none is named, and what else it says."""
    return f"workloads={','.join(workloads)} {more}".strip() if workloads else more


def parse_benches(console: str) -> dict[str, Bench]:
    """The workloads in a guest's console output, by name; those that were unavailable are left out."""
    benches = {}
    for line in console.splitlines():
        words = line.split()
        if len(words) == 5 and words[0] == "bench":
            benches[words[1]] = Bench(operations=int(words[2]), cycles=int(words[3]))
    return benches
