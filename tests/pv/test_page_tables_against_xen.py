"""What a dom0 is answered when it changes page tables, descriptors and its reservation, beside Xen 4.17's answers.

Left out is what hvmx refuses and Xen does not: an entry of a table that names a table of the same level (linear page
tables).
"""

from __future__ import annotations

from pathlib import Path

from .against_xen import CALLS, Call, differences, kernel, rows_of, run_by_hvmx, run_by_xen

SELF, LEAF, READ_ONLY = 0x7FF0, 0x67, 0x65

#: Adds frame numbers to words: (place, what, kind), by kind the number of a page, its machine address, the machine address
#: of the entry that maps a page; and number and machine address of the nth page table of the start of day.
PATCH = """
    mov start_info(%rip), %rbx
    mov 104(%rbx), %r15             # mfn_list
    lea tables(%rip), %r14
    mov 88(%rbx), %rdx              # pt_base
    mov %rdx, (%r14)
    mov 511*8(%rdx), %rax
    call table_at
    mov %rdx, 8(%r14)
    mov 510*8(%rdx), %rax
    call table_at
    mov %rdx, 16(%r14)
    mov (%rdx), %rax
    call table_at
    mov %rdx, 24(%r14)
    lea patches(%rip), %r12
1:  lea patches_end(%rip), %rax
    cmp %rax, %r12
    jae patched
    mov 8(%r12), %rdx
    mov 16(%r12), %rcx
    cmp $2, %rcx                    # the table that maps the page
    jne 2f
    mov 8(%r12), %rax
    shr $21, %rax
    and $511, %rax
    mov 16(%r14), %rdx
    mov (%rdx, %rax, 8), %rax
    call table_at
    mov 8(%r12), %rax
    shr $12, %rax
    and $511, %rax
    lea (, %rax, 8), %rsi
    jmp 4f
2:  xor %esi, %esi
    cmp $3, %rcx
    jb 4f
    mov (%r14, %rdx, 8), %rdx
4:  call frame_of
    cmp $0, %rcx
    je 5f
    cmp $3, %rcx
    je 5f
    shl $12, %rax
5:  add %rsi, %rax
    mov (%r12), %rdi
    add %rax, (%rdi)
    add $24, %r12
    jmp 1b
frame_of:                           # RAX: number of the frame that is mapped at RDX
    mov %rdx, %rax
    mov $0xffffffff80000000, %r8
    sub %r8, %rax
    shr $12, %rax
    mov (%r15, %rax, 8), %rax
    ret
table_at:                           # RDX: where the table is that the entry RAX names
    shl $12, %rax
    shr $24, %rax
    mov %rax, %r9
    mov 88(%rbx), %rdx
6:  call frame_of
    cmp %r9, %rax
    je 7f
    add $4096, %rdx
    jmp 6b
7:  ret
patched:
"""
NUMBER, ADDRESS, ENTRY, TABLE_NUMBER, TABLE_ADDRESS = range(5)
L4, L3, L2, L1 = range(4)


class Program:
    """Calls, and the words that they point at."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.data: list[str] = []
        self.patches: list[str] = []

    def word(self, value: int, what: str | int | None = None, kind: int = 0) -> str:
        """A word in the data; returns its name."""
        name = f"word{len(self.data)}"
        self.data.append(f"{name}: .quad {value}")
        if what is not None:
            self.patches.append(f"    .quad {name}, {what}, {kind}")
        return name

    def call(self, name: str, number: int, *arguments: int | str, out: int | str = 0) -> None:
        self.calls.append(Call(name, number, arguments, out))

    def update(self, name: str, place: tuple[str | int, int, int], value: int, what: str | int | None = None, kind: int = ADDRESS) -> None:
        """One element of mmu_update; `place` is what, kind, and what is to be added."""
        first = self.word(place[2], place[0], place[1])
        self.word(value, what, kind)
        self.call(name, 1, first, 1, 0, SELF)

    def entry(self, name: str, page: str, value: int, what: str | int | None = None, kind: int = ADDRESS) -> None:
        self.update(f"entry of {page}: {name}", (page, ENTRY, 0), value, what, kind)

    def slot(self, name: str, table: int, slot: int, value: int, what: str | int | None = None, kind: int = TABLE_ADDRESS) -> None:
        self.update(f"slot {slot} of table {table}: {name}", (table, TABLE_ADDRESS, slot * 8), value, what, kind)

    def extended(self, name: str, command: int, value: int, what: str | int | None = None, kind: int = NUMBER, second: str | None = None) -> None:
        first = self.word(command)
        self.word(value, what, kind)
        self.word(0, second, NUMBER)
        self.call(f"mmuext {command}: {name}", 26, first, 1, 0, SELF)

    def reservation(self, name: str, command: int, page: str, *, count: int = 1, order: int = 0, domid: int = SELF) -> None:
        extents = self.word(0, page, NUMBER)
        first = self.word(0)
        self.data[-1] = f"{first}: .quad {extents}"
        self.word(count)
        self.word(order)
        self.word(domid)
        self.call(f"memory {command}: {name}", 12, command, first)

    def image(self) -> bytes:
        pages = [f"page{number}: .skip 4096" for number in range(16)]
        return kernel(
            PATCH + CALLS,
            "\n".join([
                "tables: .skip 32", "patches:", *self.patches, "patches_end:", *rows_of(self.calls), *self.data,
                "    .bss", "    .balign 4096", *pages, "    .data",
            ]),
        )  # fmt: skip


def entries(p: Program) -> None:
    p.entry("nothing", "page0", 0)
    p.entry("itself", "page0", LEAF, "page0")
    for bit in (*range(3, 12), *range(52, 64)):
        p.entry(f"bit {bit}", "page0", LEAF | 1 << bit, "page0")
        p.entry("itself", "page0", LEAF, "page0")
        p.slot(f"bit {bit}", L2, 300, LEAF | 1 << bit, L1)
        p.slot(f"bit {bit}", L3, 5, LEAF | 1 << bit, L2)
        p.slot(f"bit {bit}", L4, 300, LEAF | 1 << bit, L3)
        for table, slot in ((L2, 300), (L3, 5), (L4, 300)):
            p.slot("nothing", table, slot, 0)
    for slot in (0, 255, 256, 260, 271, 272, 510):
        p.slot("a table", L4, slot, LEAF, L3)
        p.slot("nothing", L4, slot, 0)
    for table, wrong in ((L2, L3), (L2, L4), (L3, L1), (L3, L4), (L4, L1), (L4, L2)):
        p.slot(f"table {wrong}", table, 301, READ_ONLY, wrong)
    for table in (L2, L3, L4):
        p.slot("a page that is mapped writable", table, 301, LEAF, "page1", ADDRESS)
        p.slot("not present", table, 301, 0x66, "page1", ADDRESS)
        p.slot("a frame that is not", table, 301, LEAF | 1 << 45)
    for name, value in (("frame 0", LEAF), ("frame 256", LEAF | 0x100000), ("a frame that is not", LEAF | 1 << 50)):
        p.entry(f"{name}, not present", "page0", value & ~1)
    p.entry("a table, writable", "page0", LEAF, L1, TABLE_ADDRESS)
    p.entry("a table, readable", "page0", READ_ONLY, L1, TABLE_ADDRESS)
    p.entry("itself", "page0", LEAF, "page0")
    for kind in (1, 2):
        p.update(f"in an ordinary page, command {kind}", ("page1", ADDRESS, kind), 5)
    p.update("in an ordinary page", ("page1", ADDRESS, 0), 5)
    p.call("which then has it", 17, 7, out="page1")


def types(p: Program) -> None:
    p.extended("mapped writable", 0, 0, "page2")
    p.entry("read-only", "page2", READ_ONLY, "page2")
    for command in (0, 0, 1, 2, 3):
        p.extended("", command, 0, "page2")
    p.entry("writable", "page2", LEAF, "page2")
    p.update("in the pinned table, itself writable", ("page2", ADDRESS, 0), LEAF, "page2", ADDRESS)
    p.update("in the pinned table, another page", ("page2", ADDRESS, 8), LEAF, "page3", ADDRESS)
    for command in (4, 4):
        p.extended("", command, 0, "page2")
    p.extended("with an entry of its own", 1, 0, "page2")
    p.extended("of an empty level", 0, 0, "page2")
    p.extended("", 4, 0, "page2")
    for number in (0, 1 << 40):
        for command in (0, 3, 4, 5, 15, 16, 17):
            if (command, number) != (15, 0):
                p.extended(f"frame {number:#x}", command, number)
    for command in (5, 15):
        for table in (L1, L2, L3, L4):
            p.extended(f"table {table}", command, 0, table, TABLE_NUMBER)
    p.extended("no user's", 15, 0)
    for command in (16, 17):
        p.extended("a table", command, 0, L1, TABLE_NUMBER, "page3")
        p.extended("a page", command, 0, "page3", NUMBER, "page1")
        p.call("which then has", 17, 7, out="page3")
    p.update("M2P of its own", ("page3", ADDRESS, 1), 0x55)
    p.update("M2P of Xen's", ("page3", ADDRESS, 1), 0, "page3", NUMBER)


#: Of each kind, present: code and data of all types, and the system's.
DESCRIPTORS = [
    *[0x00CF00000000FFFF | kind << 40 for kind in range(0x90, 0xA0)],
    *[0x00AF00000000FFFF | kind << 40 for kind in (0x9A, 0x9B, 0xBA, 0xDB, 0xFB)],
    *[0x0000000000000000 | kind << 40 for kind in range(0x80, 0x90)],
    *[kind << 40 for kind in range(0, 0x80, 0x11)],
    *[0x00008C0000000000 | selector << 16 for selector in (0, 8, 0xE000, 0xE008, 0xE020, 0xE023, 0xE030, 0xE033, 0xE02B, 0xFFFF, 4)],
    *[0x00008C0000080000 | count << 32 for count in (1, 0x10, 0x20, 0x40, 0x80)],
    *[0x0000EC0000080000, 0x0000EC0100080000, 0xFFFFEC00FFFBFFFF],
]


def descriptors(p: Program) -> None:
    for number, value in enumerate(DESCRIPTORS):
        p.update(f"descriptor {value:#x}, as data", ("page5", ADDRESS, number * 8), value)
    p.entry("read-only", "page5", READ_ONLY, "page5")
    frames = p.word(0, "page5", NUMBER)
    p.call("a GDT of what is refused", 2, frames, 512)
    p.entry("writable", "page5", LEAF, "page5")
    for number, value in enumerate(DESCRIPTORS):
        p.update(f"descriptor {value:#x}", ("page6", ADDRESS, 0), value)
        p.entry("read-only", "page6", READ_ONLY, "page6")
        p.call(f"a GDT with {value:#x}", 2, p.word(0, "page6", NUMBER), 1 + number % 512)
        p.call("which then has", 17, 7, out="page6")
        p.call("no GDT", 2, p.word(0), 0)
        p.entry("writable", "page6", LEAF, "page6")
    p.call("a GDT of a page that is mapped writable", 2, p.word(0, "page6", NUMBER), 512)
    p.call("a GDT of a table", 2, p.word(0, L1, TABLE_NUMBER), 512)
    p.call("a GDT of frame 0", 2, p.word(0), 512)


def reservations(p: Program) -> None:
    p.reservation("mapped", 1, "page8")
    p.entry("nothing", "page8", 0)
    p.reservation("gone", 1, "page8")
    p.entry("what is gone", "page8", LEAF, "page8")
    p.entry("nothing", "page9", 0)
    p.reservation("unmapped", 1, "page9")
    p.reservation("none", 1, "page10", count=0)
    p.reservation("of domain 5", 1, "page10", domid=5)
    p.reservation("by number", 6, "page10", domid=0)
    p.reservation("far too many", 1, "page10", count=1 << 60)
    p.reservation("a large extent", 1, "page10", order=40)


def test_page_tables_and_their_pages_are_xens(tmp_path: Path) -> None:
    p = Program()
    for part in (entries, types, descriptors, reservations):
        part(p)
    image = p.image()
    by_xen, by_hvmx = run_by_xen(image, tmp_path), run_by_hvmx(image, tmp_path)
    different = differences((call.name for call in p.calls), by_hvmx, by_xen)
    assert not different, "\n".join(different)
    assert len(by_xen) == len(by_hvmx) == len(p.calls)
