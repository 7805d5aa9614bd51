"""The start of day of a Xen PV guest: its memory and registers as Xen's domain builders lay them out (``xen.h``,
"start-of-day memory layout").

From the image's virtual base on lie, each on pages of its own: the kernel, the ramdisk (unless the kernel takes it by
page number), the list of machine frames (unless the kernel wants it elsewhere), start_info, the shared pages of
xenstore and console (domU), the page tables that map all of this, and a stack; then padding of at least 512 KiB up to
a multiple of 4 MiB.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvmx.boot import ImageError, Segment, XenImage, read_segments
from hvmx.boot.prepared import Octets

from .domain import SIF_INITDOMAIN, Domain
from .xen import XenDomain

PAGE = 0x1000
PADDING = 512 << 10
ALIGNMENT = 4 << 20
COMMAND_LINE_BYTES = 1024
SIF_MOD_START_PFN = 8

PRESENT, WRITABLE, USER, ACCESSED, DIRTY = 1, 2, 4, 0x20, 0x40
LEAF = PRESENT | WRITABLE | USER | ACCESSED | DIRTY
TABLE = PRESENT | WRITABLE | USER | ACCESSED | DIRTY

# struct start_info
START_INFO = struct.Struct("<32sQQI4xQI4xQI4xQQQQQ1024sQQ")
MAGIC = b"xen-3.0-x86_64"

HYPERCALL_STUB_BYTES = 32
HYPERCALL_IRET = 23


def _pages(size: int) -> int:
    return -(-size // PAGE)


def hypercall_page() -> bytes:
    """The page into which a kernel calls at ``number * 32``; the stubs save RCX and R11, which SYSCALL overwrites."""
    stubs = []
    for number in range(PAGE // HYPERCALL_STUB_BYTES):
        save = b"\x51\x41\x53"  # push rcx; push r11
        call = b"\xb8" + number.to_bytes(4, "little") + b"\x0f\x05"  # mov eax, number; syscall
        if number == HYPERCALL_IRET:
            stub = save + b"\x50" + call  # push rax, with which the frame for iret begins
        else:
            stub = save + call + b"\x41\x5b\x59\xc3"  # pop r11; pop rcx; ret
        stubs.append(stub.ljust(HYPERCALL_STUB_BYTES, b"\xcc"))
    return b"".join(stubs)


class Pages:
    """A domain's memory by page number; the hypervisor has chosen a machine frame for each page."""

    def __init__(self, xen: XenDomain, memory: NDArray[np.uint8]) -> None:
        self.count = xen.page_count
        self.first_frame = xen.frame(0)
        self._memory = memory

    def frame(self, page: int) -> int:
        """The machine frame of a page: frame numbers fall as page numbers rise."""
        return self.first_frame - page

    def entry(self, page: int, flags: int) -> int:
        """The page-table entry that maps a page."""
        return self.frame(page) << 12 | flags

    def write(self, address: int, data: Octets) -> None:
        """Write at a pseudo-physical address, by which the domain's memory is contiguous."""
        source = np.frombuffer(data, np.uint8)
        done = 0
        while done < len(source):
            page, offset = divmod(address + done, PAGE)
            part = source[done : done + PAGE - offset]
            at = self.frame(page) * PAGE + offset
            self._memory[at : at + len(part)] = part
            done += len(part)

    def list_frames(self, first_page: int) -> None:
        """Write the list of all pages' frames, in page order, to the pages from ``first_page`` on."""
        for page in range(0, self.count, PAGE // 8):
            words = self.words(first_page + page * 8 // PAGE)[: self.count - page]
            words[:] = np.arange(self.frame(page), self.frame(page) - len(words), -1, dtype=np.int64)

    def words(self, page: int) -> NDArray[np.uint64]:
        """A page as an array of 512 words, which can be written."""
        at = self.frame(page) * PAGE
        return self._memory[at : at + PAGE].view(np.uint64)


class Tables:
    """Page tables of the start of day; each new one takes the next page from ``first_page`` on."""

    def __init__(self, pages: Pages, first_page: int) -> None:
        self._pages = pages
        self._next = first_page
        self._children: dict[tuple[int, int], int] = {}
        self.root = self._take()

    @property
    def next_page(self) -> int:
        """The page that the next table will take."""
        return self._next

    def _take(self) -> int:
        page = self._next
        self._next += 1
        if page < self._pages.count:
            self._pages.words(page)[:] = 0
        return page

    def _child(self, table: int, index: int) -> int:
        if (table, index) not in self._children:
            child = self._take()
            self._children[table, index] = child
            self._pages.words(table)[index] = self._pages.entry(child, TABLE)
        return self._children[table, index]

    def map(self, address: int, page: int, flags: int = LEAF) -> None:
        """Map one page at a virtual address."""
        table = self.root
        for shift in (39, 30, 21):
            table = self._child(table, address >> shift & 511)
        self._pages.words(table)[address >> 12 & 511] = self._pages.entry(page, flags)


def tables_for(first: int, end: int) -> int:
    """How many page tables below the root it takes to map the virtual range [first, end)."""
    return sum(((end - 1) >> shift) - (first >> shift) + 1 for shift in (39, 30, 21))


@dataclass(frozen=True)
class Layout:
    """Where things are in the domain's memory, in page numbers."""

    ramdisk: int
    frame_list: int
    start_info: int
    store: int
    console: int
    tables: int
    stack: int
    mapped_end: int
    """One past the last page that is mapped from the virtual base on."""
    used_end: int
    """One past the last page that has content."""
    frame_list_tables: int
    """The first of the page tables that map the list elsewhere."""


def _layout(image: XenImage, xen: XenDomain, ramdisk_bytes: int, list_bytes: int) -> Layout:
    own_console = not xen.flags & SIF_INITDOMAIN
    page = _pages(image.segments[-1].end)
    ramdisk = frame_list = 0
    if not image.mod_start_pfn:
        ramdisk, page = page, page + _pages(ramdisk_bytes)
    if image.init_p2m is None:
        frame_list, page = page, page + _pages(list_bytes)
    start_info, page = page, page + 1
    store, page = page, page + own_console
    console, page = page, page + own_console
    tables = page
    count = 1
    while True:
        stack = tables + count
        end = image.virt_base + (stack + 1) * PAGE + PADDING
        end = -(-end // ALIGNMENT) * ALIGNMENT
        needed = 1 + tables_for(image.virt_base, end)
        if needed == count:
            break
        count = needed
    mapped_end = (end - image.virt_base) // PAGE
    page = mapped_end
    if image.mod_start_pfn:
        ramdisk, page = page, page + _pages(ramdisk_bytes)
    frame_list_tables = 0
    if image.init_p2m is not None:
        frame_list, page = page, page + _pages(list_bytes)
        frame_list_tables = page
        page += tables_for(image.init_p2m, image.init_p2m + list_bytes)
    return Layout(
        ramdisk, frame_list, start_info, store, console, tables, stack, mapped_end, page, frame_list_tables
    )


def _map_all(image: XenImage, pages: Pages, layout: Layout, list_bytes: int) -> tuple[Tables, int]:
    """Build the page tables, which map themselves read-only; returns them and their number."""
    tables = Tables(pages, layout.tables)
    for page in range(layout.mapped_end):
        tables.map(image.virt_base + page * PAGE, page)
    count = tables.next_page - layout.tables
    last = tables.next_page
    if image.init_p2m is not None:
        tables._next = layout.frame_list_tables
        for index in range(_pages(list_bytes)):
            tables.map(image.init_p2m + index * PAGE, layout.frame_list + index)
    for page in range(layout.tables, last):
        tables.map(image.virt_base + page * PAGE, page, LEAF & ~WRITABLE)
    return tables, count


def build(domain: Domain, memory: NDArray[np.uint8], image: XenImage, ramdisk: Octets) -> None:
    """Lay out the start of day in ``memory`` (all of the machine's), and set the processor's registers for it."""
    xen = domain.xen
    text = image.command_line.encode()
    if image.bits != 64:
        raise ImageError(f"{image.description}: only 64-bit PV kernels are supported")
    if len(text) >= COMMAND_LINE_BYTES:
        raise ImageError(f"the command line has {len(text)} bytes; Xen takes {COMMAND_LINE_BYTES - 1}")
    pages = Pages(xen, memory)
    list_bytes = pages.count * 8
    layout = _layout(image, xen, len(ramdisk), list_bytes)
    if layout.used_end > pages.count:
        raise ImageError(
            f"{image.description}: the start of day takes {layout.used_end * PAGE:#x} bytes, "
            f"the domain has {pages.count * PAGE:#x}"
        )
    contents = [*image.segments, Segment(layout.ramdisk * PAGE, ramdisk)]
    for address, piece in read_segments(contents):
        pages.write(address, piece)
    if image.hypercall_page is not None:
        pages.write(image.hypercall_page - image.virt_base, hypercall_page())
    pages.list_frames(layout.frame_list)
    tables, table_count = _map_all(image, pages, layout, list_bytes)

    def virtual(page: int) -> int:
        return image.virt_base + page * PAGE

    flags, mod_start = xen.flags, 0
    if ramdisk:
        mod_start = virtual(layout.ramdisk)
        if image.mod_start_pfn:
            flags |= SIF_MOD_START_PFN
            mod_start = layout.ramdisk
    elsewhere = image.init_p2m is not None
    own_console = layout.console > layout.store
    info = START_INFO.pack(
        MAGIC,
        pages.count,
        xen.shared_info_frame * PAGE,
        flags,
        pages.frame(layout.store) if own_console else 0,
        xen.store_port,
        pages.frame(layout.console) if own_console else 0,
        xen.console_port,
        virtual(layout.tables),
        table_count,
        image.init_p2m if image.init_p2m is not None else virtual(layout.frame_list),
        mod_start,
        len(ramdisk),
        text,
        layout.frame_list if elsewhere else 0,
        layout.used_end - layout.frame_list if elsewhere else 0,
    )
    pages.write(layout.start_info * PAGE, info)
    xen.start(
        l4=pages.frame(tables.root),
        entry=image.entry,
        stack=virtual(layout.stack) + PAGE,
        start_info=virtual(layout.start_info),
        console_frame=pages.frame(layout.console) if own_console else 0,
    )


def start_of_day(
    vcpu: Any,
    image: XenImage,
    *,
    frequency: int,
    epoch: int,
    console: Callable[[bytes], object],
    privileged: bool = True,
    update_cost: int = 0,
    entry_cost: int = 0,
) -> Domain:
    """Make the processor ``vcpu`` that of a new Xen domain, ready to execute its first instruction.

    The arguments are those of ``Domain``. Raises ``ImageError`` where the image, its ramdisk or its command line do
    not fit.
    """
    domain = Domain(
        vcpu,
        frequency=frequency,
        epoch=epoch,
        privileged=privileged,
        console=console,
        update_cost=update_cost,
        entry_cost=entry_cost,
    )
    ramdisk = image.modules[0].data if image.modules else b""
    build(domain, vcpu.memory, image, ramdisk)
    return domain
