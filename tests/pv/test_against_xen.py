"""What a dom0's hypercalls are answered, beside the answers of Xen 4.17 itself.

Left out are calls that hvmx refuses and Xen does not (grants between domains, FIFO event channels, physical interrupts,
watchdogs), and what is the machine's own: frame numbers, the number of grant frames, the build's identity.
"""

from __future__ import annotations

from pathlib import Path

from .against_xen import Call, calling_kernel, differences, run_by_hvmx, run_by_xen

SELF, NOWHERE, IN_XEN, NOT_CANONICAL = 0x7FF0, 0x1000, 0xFFFF800000000000, 0x1000000000000
HIGH = 1 << 32


def calls(number: int, *rows: tuple[int | str, ...], out: bool = False) -> list[Call]:
    """A row is a name and the call's arguments. With `out` its last element is no argument, but the address of the word
    that is compared afterwards."""
    made = []
    for name, *words in rows:
        assert all(isinstance(word, (int, str)) for word in words)
        place = words.pop() if out else 0
        made.append(Call(str(name), number, tuple(words), place))
    return made


VERSION = [
    *calls(17, ("the second submap", 6, "submap1"), ("submap 9", 6, "submap9"), ("command 77", 77, "page")),
    *calls(17, ("nowhere to write", 1, NOWHERE), ("commands are of 32 bits", HIGH), ("page size", 7)),
]
CALLBACKS = [
    *calls(30, ("NMI", 0, "callback4"), ("SYSENTER", 0, "callback5"), ("SYSCALL in 32 bits", 0, "callback7")),
    *calls(30, ("type 6", 0, "callback6"), ("type 9", 0, "callback9"), ("type 3", 0, "callback3")),
    *calls(30, ("not canonical", 0, "callback_bad"), ("unreadable", 0, NOWHERE), ("command 2", 2, 0)),
    *calls(30, *[(f"unregister {kind}", 1, f"unregister{kind}") for kind in (0, 1, 2, 3, 4, 5, 7, 9)]),
]
CALLBACKS += calls(4, ("not canonical", NOT_CANONICAL, NOT_CANONICAL, NOT_CANONICAL))
EVENTS = [
    *calls(32, ("for domain 7", 6, "for7", "for7"), ("for itself", 6, "for_self", "for_self"), out=True),
    *calls(32, ("in domain 5", 6, "in5"), ("status in domain 5", 5, "status_in5")),
    *calls(32, ("unbound for 7", 5, "status1", "status1+8"), ("unbound for 7: whom", 5, "status1", "status1+16"), out=True),
    *calls(32, ("unbound for itself: whom", 5, "status2", "status2+16"), ("by number", 5, "status2_0", "status2_0+8"), out=True),
    *calls(32, ("status of port 0", 5, "status0", "status0+8"), out=True),
    *calls(32, ("status of a port that is not", 5, "status5000"), ("status of port 63", 5, "status63")),
    *calls(32, ("status of port 64", 5, "status64"), ("beyond all ports", 5, "status_million")),
    *calls(32, ("bind to 7's", 0, "bind1"), ("bind to domain 5's", 0, "bind_in5")),
    *calls(32, ("bind to its own", 0, "bind2", "bind2+4"), ("bound", 5, "status2", "status2+8"), out=True),
    *calls(32, ("bound to whom", 5, "status2", "status2+16"), out=True),
    *calls(32, ("a global VIRQ at processor 1", 1, "virq2_1"), ("a local one", 1, "virq1_1"), ("VIRQ 24", 1, "virq24")),
    *calls(32, ("VIRQ -1", 1, "virq_minus1"), ("the timer's", 1, "virq0", "virq0+4"), out=False),
    *calls(32, ("move a local VIRQ", 8, "port4_0"), ("bind the console's", 1, "virq2"), ("move a global one", 8, "port5_0")),
    *calls(32, ("close nothing", 3, "port77"), ("send to nothing", 4, "port77"), ("unmask 77", 9, "port77")),
    *calls(32, ("unmask 63", 9, "port63"), ("unmask 64", 9, "port64"), ("send to whom nobody is bound", 4, "port1_0")),
    *calls(32, ("move it", 8, "port1_0"), ("to processor 1", 8, "port1_1"), ("reset domain 5", 10, "domain5")),
    *calls(32, ("unreadable", 4, NOWHERE), ("reset", 10, "domain0"), ("closed", 5, "status1", "status1+8"), out=False),
]
PAGES = [
    *calls(26, ("a set of processors that is not", "flush_nowhere", 1, 0, SELF), ("one that is", "flush", 1, 0, SELF)),
    *calls(26, ("and for a page", "invlpg_nowhere", 1, 0, SELF), ("count nowhere", "flush", 1, NOWHERE, SELF)),
    *calls(26, ("nothing, nowhere", NOWHERE, 0, 0, SELF), ("nothing, in Xen", IN_XEN, 0, 0, SELF)),
    *calls(26, ("its own number", "flush", 1, 0, 0), ("16 bits of it", "flush", 1, 0, 0x10000 | SELF)),
    *calls(26, ("domain 5", "flush", 1, 0, 5), ("a list in the M2P", IN_XEN + 0x100, 1, 0, SELF)),
    *calls(26, ("LDT in Xen", "ldt_in_xen", 1, 0, SELF), ("no LDT, at an odd place", "no_ldt", 1, 0, SELF)),
    *calls(26, ("LDT not there", "ldt_high", 1, 0, SELF), ("no LDT", "no_ldt", 1, 0, SELF)),
    *calls(26, *[(f"command {number}", f"extended{number}", 1, 0, SELF) for number in (12, 14, 18, 19, 21)]),
    *calls(1, ("its own number", "page", 0, 0, 0), ("its own tables", "page", 0, 0, 1 << 16 | SELF)),
    *calls(1, ("1's tables", "page", 0, 0, 2 << 16 | SELF), ("device memory", "page", 0, 0, 0x7FF1)),
    *calls(1, *[(f"command {number}", f"update{number}", 1, 0, SELF) for number in (0, 1, 3, 4, 5, 6, 7)]),
    *calls(14, ("not canonical", NOT_CANONICAL, 0, 0), ("in Xen", IN_XEN, 0, 0), ("unmapped", NOWHERE, 0, 0)),
    *calls(14, ("set nowhere", "spare", 0, 1 | NOWHERE), ("set", "spare", 0, "1 + flushed"), ("all", "spare", 0, 5)),
]
MEMORY = [
    *calls(12, ("command 63", 63, "page"), ("highest page from 1", 2 | 64, 0), ("domain 5", 3, "domain5")),
    *calls(12, ("itself from 1", 3 | 64, "itself"), ("far", HIGH << 8 | 3, "itself"), ("unreadable", 14, NOWHERE)),
    *calls(12, ("map from 1", 9 | 64, "page"), ("M2P from 1", 12 | 64, "page"), ("map", 9, "page")),
    *calls(12, ("populate, unreadable", 6, NOWHERE), ("from 5", 6 | 5 << 6, NOWHERE), ("M2P nowhere", 12, NOWHERE)),
    *calls(12, ("the machine's map nowhere", 10, NOWHERE), ("for no entry", 10, "map0"), ("for one", 10, "map1")),
    *calls(12, ("for no entry, nowhere", 10, "domain0")),
]
GRANTS = [
    *calls(20, ("command 63, none", 63, "page", 0), ("command 63", 63, "page", 1), ("-1 of them", 2, "page", HIGH - 1)),
    *calls(20, ("set up none", 2, "setup", 0), ("set up 2", 2, "setup", 2), ("none to query", 6, "query", 0)),
    *calls(20, ("frames nowhere", 2, "setup", 1, "setup+8"), ("itself by number", 2, "setup_0", 1, "setup_0+8"), out=True),
    *calls(20, ("domain 5", 2, "setup_5", 1, "setup_5+8"), ("too many", 2, "setup_many", 1, "setup_many+8"), out=True),
    *calls(20, ("version 3", 8, "version3", 1, "version3"), ("version 1", 8, "version1", 1, "version1"), out=True),
    *calls(20, ("which", 10, "which", 1, "which"), ("by number", 10, "which_0", 1, "which_0"), out=True),
    *calls(20, ("domain 5's", 10, "which_5", 1), ("of none", 10, "which_5", 0), ("32 bits", HIGH | 10, "which", 1)),
    *calls(20, ("going on with what does not", 5 << 12 | 10, "which", 1)),
]
REGISTERS = [
    *calls(9, *[(f"DR{number}", number) for number in (4, 5, 8, 15, 16, HIGH)]),
    *calls(8, ("DR0 in Xen", 0, IN_XEN), ("DR0 not canonical", 0, 1 << 47), ("DR0", 0, 0x1000)),
    *calls(9, ("DR0", 0)),
    *calls(8, ("DR6, bit 32", 6, HIGH), ("DR6", 6, HIGH - 1)),
    *calls(9, ("DR6", 6)),
    *calls(8, ("DR6 clear", 6, 0)),
    *calls(9, ("DR6", 6)),
    *calls(8, ("DR7, bit 32", 7, HIGH), ("GD", 7, 1 << 13), ("I/O", 7, 0x20001), ("I/O of another", 7, 0x20004)),
    *calls(8, ("I/O of none", 7, 0x20000), ("DR4", 4, 0), ("DR8", 8, 0), ("DR-1", HIGH - 1, 0), ("32 bits", HIGH, 0x2000)),
    *calls(9, ("DR7", 7), ("DR0", 0)),
    *calls(8, ("DR7 clear", 7, 0)),
    *calls(9, ("DR7", 7)),
    *calls(25, ("base 4", 4, 0), ("not canonical", 0, NOT_CANONICAL), ("a selector of nothing", 3, 0x1238)),
    *calls(2, ("8000 descriptors", "page", 8000), ("unreadable", NOWHERE, 512)),
    *calls(10, ("at an odd place", 4, 0), ("not its own", 0, 0), ("an LDT", 0, 0x0000E20000000000)),
    *calls(33, ("IOPL 4", 6, "iopl4"), ("bitmap not canonical", 7, "ports_bad"), ("of 65537", 7, "ports_many")),
    *calls(33, ("command 99", 99, "page"), ("unreadable", 6, NOWHERE), ("bitmap unreadable", 7, NOWHERE)),
    *calls(21, *[(f"assist {kind}", 0, kind) for kind in (0, 1, 3, 6, 9, 32, 64)]),
    *calls(21, ("not 32", 1, 32), ("command 2", 2, 4), ("command 2 of 9", 2, 9)),
]
PROCESSOR = [
    *calls(24, ("1 is up", 3, 1), ("99999 is up", 3, 99999), ("0 is up", 3, 0), ("command 99", 99, 0)),
    *calls(24, ("up", 1, 0), ("1 down", 2, 1), ("initialise 1", 0, 1, "page")),
    *calls(24, ("a timeout in the past", 8, 0, "shot"), ("too short a period", 6, 0, "period"), ("no period", 7, 0)),
    *calls(24, ("info across pages", 10, 0, "info"), ("NMI", 11, 0), ("NMI to 1", 11, 1), ("NMI with more", 11, 0, "page")),
    *calls(24, ("run state nowhere", 5, 0, NOWHERE), ("time nowhere", 13, 0, NOWHERE)),
    *calls(29, ("command 99", 99, 0), ("129 ports", 3, "poll_many"), ("poll unreadable", 3, NOWHERE)),
    *calls(29, ("ports unreadable", 3, "poll_nowhere"), ("shut down unreadable", 2, NOWHERE), ("yield", 0, 0)),
    *calls(18, ("command 2", 2, 0, "page"), ("-1 of command 2", 2, HIGH - 1, "page"), ("read nowhere", 1, 4, NOWHERE)),
    *calls(18, ("write from nowhere", 0, 4, NOWHERE)),
    *calls(13, ("unreadable", NOWHERE, 1), ("none, nowhere", NOWHERE, 0), ("none, in Xen", IN_XEN, 0)),
    *calls(15, ("no timer", 0)),
    *[Call("no such hypercall", number, ()) for number in (11, 27, 38, 43, 63, 64, 100)],
]
DATA = """
itself: .quad 0x7ff0
domain0: .quad 0, 0
map0: .quad 0, page
map1: .quad 1, page
domain5: .quad 5
flushed: .quad 1
    .balign 8
submap1: .long 1, 0
submap9: .long 9, 0
callback3: .quad 3, _start
callback4: .quad 4, nmi
callback5: .quad 5, _start
callback6: .quad 6, _start
callback7: .quad 7, _start
callback9: .quad 9, _start
callback_bad: .quad 0, 0x1000000000000
    .irp kind, 0, 1, 2, 3, 4, 5, 7, 9
unregister\\kind: .quad \\kind
    .endr
for7: .short 0x7ff0, 7; .long 0
for_self: .short 0, 0x7ff0; .long 0
in5: .short 5, 0x7ff0; .long 0
    .macro status label, domain, port
\\label: .long \\domain, \\port, 0, 0, 0, 0
    .endm
    status status0, 0x7ff0, 0
    status status1, 0x7ff0, 1
    status status2, 0x7ff0, 2
    status status2_0, 0, 2
    status status63, 0x7ff0, 63
    status status64, 0x7ff0, 64
    status status5000, 0x7ff0, 5000
    status status_million, 0x7ff0, 1000000
    status status_in5, 5, 1
bind1: .long 0x7ff0, 1, 0
bind2: .long 0x7ff0, 2, 0
bind_in5: .long 5, 2, 0
virq0: .long 0, 0, 0
virq2: .long 2, 0, 0
virq2_1: .long 2, 1, 0
virq1_1: .long 1, 1, 0
virq24: .long 24, 0, 0
virq_minus1: .long -1, 0, 0
port1_0: .long 1, 0
port1_1: .long 1, 1
port4_0: .long 4, 0
port5_0: .long 5, 0
port63: .long 63
port64: .long 64
port77: .long 77
    .balign 8
flush: .quad 8, 0, flushed
flush_nowhere: .quad 8, 0, 0x1000
invlpg_nowhere: .quad 9, 0, 0x1000
ldt_in_xen: .quad 13, 0xffff800000000000, 1
ldt_high: .quad 13, 0xffff900000000000, 1
no_ldt: .quad 13, 0x123, 0
    .irp kind, 12, 14, 18, 19, 21
extended\\kind: .quad \\kind, 0, 0
    .endr
    .irp kind, 0, 1, 3, 4, 5, 6, 7
update\\kind: .quad \\kind, 0
    .endr
setup: .quad 0x100007ff0, 9, 0x1000
setup_0: .quad 0x100000000, 9, page
setup_5: .quad 0x100000005, 9, page
setup_many: .quad 0x10000000007ff0, 9, page
query: .quad 0x7ff0, 9
version1: .quad 1
version3: .quad 3
which: .quad 0x7ff0
which_0: .quad 0
which_5: .quad 5
iopl4: .quad 4
ports_bad: .quad 0x1000000000000, 8
ports_many: .quad page, 65537
shot: .quad 1, 1
period: .quad 100
info: .quad 1, 4090
poll_many: .quad 0, 129, 1
poll_nowhere: .quad 0x1000, 1, 1
    .text
nmi: ud2
    .bss
    .balign 4096
page: .skip 4096
spare: .skip 4096
"""


def test_hypercalls_are_answered_as_by_xen(tmp_path: Path) -> None:
    made = [*VERSION, *CALLBACKS, *EVENTS, *PAGES, *MEMORY, *GRANTS, *REGISTERS, *PROCESSOR]
    image = calling_kernel(made, DATA)
    by_xen, by_hvmx = run_by_xen(image, tmp_path), run_by_hvmx(image, tmp_path)
    assert len(by_xen) == len(by_hvmx) == len(made)
    different = differences((f"{call.number} {call.name}" for call in made), by_hvmx, by_xen)
    assert not different, "\n".join(different)
    refused = {answer for answer, _ in by_xen if answer < 0}
    assert len(refused) > 8, "the calls are not of many kinds"
