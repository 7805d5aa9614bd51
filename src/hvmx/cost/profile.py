"""A cost profile: what one processor takes for what, and how it is passed to the core."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hvmx.isa import MEMORY_CLASSES, MOVE_CLASSES
from hvmx.vocabulary import ExitReason

from .figures import (
    FRACTION,
    Buffer,
    Cache,
    Count,
    Counts,
    Families,
    Figure,
    Kinds,
    Mark,
    Provenance,
    Timing,
    Validation,
)

if TYPE_CHECKING:
    from hvmx.core.vcpu import Vcpu


@dataclass(frozen=True)
class Pipeline:
    """The processor's core, apart from what single instructions take."""

    dispatch: Count
    """Slots of dispatch a cycle: micro-operations in the fused domain."""
    retire: Count
    """Micro-operations that retire a cycle."""
    window: Count
    """Micro-operations in flight. With 0 nothing overlaps: an instruction takes its latency, one after the other."""
    window_vectors: Count
    """Vector registers that micro-operations in flight can write, besides those that keep what the program sees."""
    taken_branch: Figure
    """What fetching takes to go on behind a taken branch."""
    indirect: Figure
    """The same for an indirect jump."""
    call: Figure
    """The same for a call or return."""
    fetch_ahead: Figure
    """How far fetching gets ahead of dispatch."""
    misprediction: Figure
    """From a branch's resolution to dispatch of the right path."""
    load: Figure
    """From address to a general register, in the first-level cache."""
    load_vector: Figure
    """The same to an XMM, MMX or x87 register."""
    forward: Figure
    """From a store to a load of the same place, which is a plain load of 4 or 8 bytes or that of a read-modify-write."""
    forward_stack: Figure
    """The same where both addresses are off rSP or rBP."""
    forward_operand: Figure
    """From a store to a load that is an operand of another operation, or shorter: where memory is renamed, it is not for these."""
    forward_vector: Figure
    """The same from and to an XMM, MMX or x87 register."""
    fusion: Families
    """Families that become one micro-operation with a conditional jump after them."""
    eliminated_moves: Kinds
    """Kinds of register between which a move takes a slot and nothing else."""
    zero_idioms: Families
    """Families that wait for nothing and take no pipe when both operands are one register."""


@dataclass(frozen=True)
class Strings:
    """Repeated string instructions. Without REP, and of MOVS and STOS going downwards, an element costs its class."""

    movs_start: Figure
    """REP MOVS going upwards, before the first byte."""
    movs_bytes: Count
    """Bytes a cycle of it."""
    stos_start: Figure
    """REP STOS going upwards, before the first byte."""
    stos_bytes: Count
    """Bytes a cycle of it."""
    lods_element: Figure
    """An element of REP LODS."""
    cmps_element: Figure
    """An element of REPE or REPNE CMPS."""
    scas_element: Figure
    """An element of REPE or REPNE SCAS."""


@dataclass(frozen=True)
class Branches:
    """The branch predictor."""

    predictor: bool
    """Whether it is modelled; without, every branch is predicted."""
    history_tables: Count
    """Tables of direction that are looked up by history."""
    history_lengths: Counts
    """Branches of history by which each is, shortest first."""
    table_entries: Count
    """Entries in each."""
    target_entries: Count
    """Entries of the table of indirect targets."""
    target_history: Count
    """Indirect branches and returns after which an indirect branch's target still tells others apart; with 0 it is part of the
    history, as directions are."""
    return_stack: Count
    """Return addresses that are remembered."""


@dataclass(frozen=True)
class Tlb:
    """The translation look-aside buffers, by level, page size and, at the first level, data and code."""

    data_4k: Buffer
    data_2m: Buffer
    data_1g: Buffer
    code_4k: Buffer
    code_2m: Buffer
    second_4k: Buffer
    second_2m: Buffer
    second_1g: Buffer
    second_hit: Figure
    """Extra cycles of a first-level miss that hits the second level."""
    pml4_entries: Count
    """Entries of the paging-structure caches, by the level of the entry that they hold."""
    pdpt_entries: Count
    pd_entries: Count
    nested_entries: Count
    """Translations of guest-physical page-table addresses that are remembered."""

    def sizes(self) -> dict[str, Any]:
        """What ``Vcpu.set_tlb`` takes besides the price."""
        sizes: dict[str, Any] = {}
        for name, figure in vars(self).items():
            if isinstance(figure, Buffer):
                sizes[name] = "shared" if figure.shared else (figure.entries, figure.ways)
            elif isinstance(figure, Count):
                sizes[name] = figure.value
        return sizes


@dataclass(frozen=True)
class Caches:
    """The data caches."""

    modelled: bool
    """Whether they are; without, everything hits the first level."""
    line: Count
    """Bytes of a line."""
    l1: Cache
    l2: Cache
    l3: Cache
    memory: Figure
    """From a load to its data when all miss."""
    prefetched: Figure
    """What the first use of a line takes longer that was fetched ahead from memory."""
    overlapping_stores: Count
    """Misses of independent stores that overlap: each takes as small a part of its time."""

    def levels(self) -> tuple[tuple[int, int, int], ...]:
        """What ``Vcpu.set_caches`` takes: bytes, ways, and units of time beyond the first level."""
        return tuple(
            (level.size << 10, level.ways, (level.cycles - self.l1.cycles) * FRACTION)
            for level in (self.l1, self.l2, self.l3)
        )


@dataclass(frozen=True)
class Paravirtual:
    """Costs of Xen's code paths."""

    hypercall: Figure
    """A hypercall, without the SYSCALL instruction: entry, dispatch and return."""
    bounce: Figure
    """Extra cycles when the hypervisor passes a system call or an exception on to the guest kernel."""
    update: Figure
    """One element of a list that a hypercall processes."""
    entry: Figure
    """The validation of one page-table entry."""
    emulation: Figure
    """The emulation of an instruction that faulted, without the delivery of the fault to the hypervisor."""


@dataclass(frozen=True)
class ClassTiming:
    """A cost class in plain numbers, as the core has it."""

    latency: int
    """Guest cycles."""
    slots: int
    uses: tuple[tuple[int, int], ...]
    """Up to six: a mask of pipes of which it takes one (bit 0 is the first of the names), and for how many guest cycles."""
    serial: bool
    moves: bool
    """Whether it only moves data, so that with a memory operand there is the access and nothing of the class."""


@dataclass(frozen=True)
class PipelineTables:
    """The pipeline in plain numbers, as the core has it. Guest cycles throughout."""

    width: int
    """Slots of dispatch a cycle."""
    window: int
    """Micro-operations in flight."""
    window_vectors: int
    """Vector registers that they write."""
    retire: int
    taken_branch: int
    indirect: int
    call: int
    fetch_ahead: int
    misprediction: int
    load: int
    load_vector: int
    forward: int
    forward_stack: int
    forward_operand: int
    forward_vector: int
    fusion: tuple[str, ...]
    """Families, as in the instruction table."""
    eliminates_general: bool
    eliminates_vector: bool
    zero_idioms: tuple[str, ...]
    """Families, as in the instruction table."""
    pipes: tuple[str, ...]
    repeats: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]
    """Repeated MOVS, STOS, LODS, CMPS, SCAS: the start, and elements of 1, 2, 4 and 8 bytes going up and down, in units of
    1/``FRACTION`` guest cycle."""
    classes: tuple[ClassTiming, ...]
    """In the order of ``hvmx.isa.cost_classes``."""


@dataclass(frozen=True)
class Profile:
    """What one processor takes for what. Guest cycles throughout."""

    name: str
    """The name of a bundled profile, or a path, as it was given."""
    processor: str
    cpu: str
    """The default level (``hvmx.isa.levels``) of machines with this profile."""
    second: Figure
    """Guest cycles in a guest second: the frequency of the time-stamp counter."""
    pipeline: Pipeline
    pipes: tuple[str, ...]
    """The names of the execution pipes."""
    groups: Mapping[str, tuple[str, ...]]
    """Pipes of which an instruction takes one."""
    instructions: Mapping[str, Timing]
    """By cost class (``hvmx.isa.cost_classes``); all of them are there. Those of ``MEMORY_CLASSES`` are the table [memory]."""
    strings: Strings
    branches: Branches
    tlb: Tlb
    caches: Caches
    page_reference: Figure
    """One memory reference of a page walk, after a TLB miss."""
    exception: Figure
    """The entry into the handler of an exception or interrupt."""
    exits: Mapping[ExitReason, Figure]
    """An exit and the entry after it, by reason; all reasons are there."""
    user_device: Figure
    """Extra cycles when the hypervisor's user space (QEMU) handles the exit."""
    paravirtual: Paravirtual
    validation: Validation | None
    """How near the processor it was found to be; None where nobody has looked."""
    sources: Mapping[str, str]
    """The titles of the file's sources, by key."""
    written: Mapping[str, Provenance]
    """The figures of the file, by key and table by table as there: what one line says of several classes or exit reasons,
    only once."""

    def __getstate__(self) -> dict[str, Any]:
        """For another process: views of mappings cannot go there, and mappings can."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: dict(value) if isinstance(value, MappingProxyType) else value for name, value in state.items()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(
            (name, MappingProxyType(value) if isinstance(value, dict) else value) for name, value in state.items()
        )

    def marks(self, place: str = "") -> dict[Mark, int]:
        """How many of the file's figures whose keys begin with ``place`` have each mark."""
        found = [figure.mark for key, figure in self.written.items() if key.startswith(place)]
        return {mark: found.count(mark) for mark in Mark}

    def with_caches(self, modelled: bool = True) -> Profile:
        """The same profile with the data caches modelled, or not: every access hits the first level then."""
        return replace(self, caches=replace(self.caches, modelled=modelled))

    @property
    def accuracy(self) -> str:
        """How near its guest cycles are to a processor's, in words."""
        found = self.validation
        if found is None:
            return f"guest cycles of {self.name}: not validated beside its processor"
        return f"guest cycles of plain code: +-{found.percent} % on {found.programs} programs beside {found.source}"

    @property
    def hz(self) -> int:
        """Guest cycles in a guest second."""
        return int(self.second.cycles)

    def figures(self) -> Iterator[tuple[str, Figure | Timing]]:
        """All that is a time, by its key in the file; a class or an exit reason that shares a line has a key of its own."""
        yield "clock.second", self.second
        yield from _times("pipeline", self.pipeline)
        for name, timing in self.instructions.items():
            yield f"{'memory' if name in MEMORY_CLASSES else 'instructions'}.{name}", timing
        yield from _times("strings", self.strings)
        yield from _times("tlb", self.tlb)
        yield from _times("caches", self.caches)
        yield "paging.reference", self.page_reference
        yield "events.exception", self.exception
        yield from ((f"exits.{reason.name}", figure) for reason, figure in self.exits.items())
        yield "exits.user_device", self.user_device
        yield from _times("paravirtual", self.paravirtual)

    @cached_property
    def _by_key(self) -> Mapping[str, Figure | Timing]:
        return dict(self.figures())

    def figure(self, key: str | None) -> Figure | Timing | None:
        """The one of `figures` that has this key; None where none has."""
        return self._by_key.get(key or "")

    @cached_property
    def _lines(self) -> Mapping[str, str]:
        written = {id(figure): name for name, figure in self.written.items()}
        return {key: written[id(figure)] for key, figure in self._by_key.items() if id(figure) in written}

    def line_of(self, key: str) -> str:
        """The line of the file that has the figure of this key: one may stand for several, such as ``exits.default``."""
        return self._lines.get(key, key)

    def pipeline_tables(self) -> PipelineTables:
        """The pipeline and its cost classes in plain numbers, for the core."""
        pipeline = self.pipeline
        return PipelineTables(
            width=pipeline.dispatch.value,
            window=pipeline.window.value,
            window_vectors=pipeline.window_vectors.value,
            retire=pipeline.retire.value,
            taken_branch=int(pipeline.taken_branch.cycles),
            indirect=int(pipeline.indirect.cycles),
            call=int(pipeline.call.cycles),
            fetch_ahead=int(pipeline.fetch_ahead.cycles),
            misprediction=int(pipeline.misprediction.cycles),
            load=int(pipeline.load.cycles),
            load_vector=int(pipeline.load_vector.cycles),
            forward=int(pipeline.forward.cycles),
            forward_stack=int(pipeline.forward_stack.cycles),
            forward_operand=int(pipeline.forward_operand.cycles),
            forward_vector=int(pipeline.forward_vector.cycles),
            fusion=pipeline.fusion.families,
            eliminates_general="general" in pipeline.eliminated_moves.kinds,
            eliminates_vector="vector" in pipeline.eliminated_moves.kinds,
            zero_idioms=pipeline.zero_idioms.families,
            pipes=self.pipes,
            repeats=self._repeats(),
            classes=tuple(self._timing(name) for name in self.instructions),
        )

    def _repeats(self) -> tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]:
        strings = self.strings

        def streamed(bytes_per_cycle: Count) -> tuple[int, ...]:
            return tuple(round(width * FRACTION / bytes_per_cycle.value) for width in (1, 2, 4, 8))

        def each(element: Figure | Timing) -> tuple[int, ...]:
            return (element.units,) * 4

        return (
            (strings.movs_start.units, streamed(strings.movs_bytes), each(self.instructions["movs"])),
            (strings.stos_start.units, streamed(strings.stos_bytes), each(self.instructions["stos"])),
            *((0, each(it), each(it)) for it in (strings.lods_element, strings.cmps_element, strings.scas_element)),
        )

    def _timing(self, name: str) -> ClassTiming:
        timing = self.instructions[name]
        return ClassTiming(
            latency=timing.latency,
            slots=timing.slots,
            uses=tuple((self._mask(pipes), cycles) for pipes, cycles in timing.uses),
            serial=timing.serial,
            moves=name in MOVE_CLASSES,
        )

    def _mask(self, name: str) -> int:
        return sum(1 << self.pipes.index(pipe) for pipe in self.groups.get(name, (name,)))

    def apply(self, vcpu: Vcpu, *, pv: bool = False, native: bool = False) -> None:
        """Set the costs of a processor.

        An operation that exits in an HVM guest faults in a PV guest, and is emulated. The ports of a PV guest are a
        dom0's, those of the hardware: the hypervisor accesses them itself, without a device in user space, and that takes
        as long as it does natively. With ``native`` there is no hypervisor: what would exit costs its instruction or its
        event, and no more.
        """
        exits = {reason: (self.paravirtual.emulation if pv else figure).units for reason, figure in self.exits.items()}
        if pv:
            exits[ExitReason.IO_INSTRUCTION] += self.instructions["io"].units
        if native:
            exits = {}
        vcpu.set_tlb(**self.tlb.sizes(), second_hit=self.tlb.second_hit.units)
        vcpu.set_costs(
            {name: timing.units for name, timing in self.instructions.items()},
            {int(reason): units for reason, units in exits.items()},
            walk_reference=self.page_reference.units,
            exception=self.exception.units,
            hypercall=self.paravirtual.hypercall.units,
            pv_bounce=self.paravirtual.bounce.units,
            user_device=0 if pv or native else self.user_device.units,
        )
        if self.pipeline.window.value:
            vcpu.set_pipeline(self.pipeline_tables())
        caches = self.caches
        vcpu.set_caches(
            caches.levels() if caches.modelled else (),
            line=caches.line.value,
            memory=round((caches.memory.cycles - caches.l1.cycles) * FRACTION),
            prefetched=caches.prefetched.units,
            overlapping_stores=caches.overlapping_stores.value,
        )
        branches = self.branches
        vcpu.set_predictor(
            history_lengths=branches.history_lengths.values if branches.predictor else (),
            table_entries=branches.table_entries.value,
            target_entries=branches.target_entries.value,
            target_history=branches.target_history.value,
            return_stack=branches.return_stack.value,
        )


def _times(table: str, entries: object) -> Iterator[tuple[str, Figure]]:
    for name, figure in vars(entries).items():
        if isinstance(figure, Figure):
            yield f"{table}.{name}", figure
