"""The bits of event channels in memory that a dom0 shares with its hypervisor, call by call, beside what Xen 4.17 makes of
them."""

from __future__ import annotations

from pathlib import Path

from .against_xen import CALLS, Call, differences, kernel, rows_of, run_by_hvmx, run_by_xen

#: Maps shared_info at `shared`.
MAP = """
    mov start_info(%rip), %rbx
    lea shared(%rip), %rdi
    mov 40(%rbx), %rsi
    or $0x67, %rsi
    mov $2, %edx
    hypercall 14
    mov shared+0xa00(%rip), %rax    # the mask, which is then set
    push %rax
    call show
    pop %rax
    call show
    call end_line
    movq $-1, shared+0xa00(%rip)
    lea traps(%rip), %rdi
    hypercall 0
    xor %edi, %edi
    lea callback(%rip), %rsi
    hypercall 30
    jmp calls_begin
event:
    mov %rsp, %r13
    mov $0xe, %eax
    call show
    mov 16(%r13), %rax              # RIP: where the call returns to
    lea returned(%rip), %rcx
    sub %rcx, %rax
    call show
    mov 24(%r13), %rax              # CS and the mask
    call show
    mov 32(%r13), %rax              # RFLAGS
    and $0x200, %eax
    call show
    mov shared(%rip), %rax
    call show
    call end_line
    movb $0, shared(%rip)           # upcall_pending
    mov (%r13), %rcx
    mov 8(%r13), %r11
    add $16, %r13
    mov %r13, %rsp
    push $0
    push %rcx
    push %r11
    push $0x77
    hypercall 23
    ud2
calls_begin:
"""
DATA = """
callback: .quad 0, event
traps: .quad 0, 0
    .macro word name, values:vararg
\\name: .quad \\values
    .endm
ipi: .long 0, 0
ipi2: .long 0, 0
ipi_at_1: .long 1, 0
virq: .long 3, 0, 0
again: .long 3, 0, 0
port: .long 1
port2: .long 2
port3: .long 3
port9: .long 9
polled: .long 1
    .balign 8
    word poll, polled, 1, 1
    word poll_nothing, 0, 0, 1
    word info, 0, 0
    .bss
    .balign 4096
shared: .skip 4096
moved: .skip 4096
    .data
"""
CONTROL, SELECTOR, PENDING, MASK = "shared", "shared+8", "shared+0x800", "shared+0xa00"


def event(name: str, command: int, argument: str, *places: str) -> list[Call]:
    """An operation on event channels; then the words are looked at."""
    return [Call(name, 32, (command, argument), places[0]), *looks(name, *places[1:])]


def looks(name: str, *places: str) -> list[Call]:
    return [Call(f"{name}: {place}", 17, (7,), place) for place in places]


STATE = (CONTROL, SELECTOR, PENDING, MASK)
MADE = [
    *looks("at first", *STATE),
    *event("an IPI's port", 7, "ipi", "ipi", *STATE),
    *event("sent, masked", 4, "port", *STATE),
    *event("unmasked", 9, "port", *STATE),
    *event("sent again", 4, "port", *STATE),
    *event("a second port", 7, "ipi2", "ipi2+4", *STATE),
    *event("at processor 1", 7, "ipi_at_1", "ipi_at_1"),
    *event("unmasked before", 9, "port2", *STATE),
    *event("sent then", 4, "port2", *STATE),
    *event("a VIRQ", 1, "virq", "virq+8", *STATE),
    *event("bound already", 1, "again", "again+8"),
    *event("sent by the guest", 4, "port3", *STATE),
    *event("closed", 3, "port", *STATE),
    *event("closed again", 3, "port", *STATE),
    *event("unmasked while closed", 9, "port", *STATE),
    *event("bound anew", 7, "ipi", "ipi", *STATE),
    Call("polled, not pending, timeout past", 29, (3, "poll"), CONTROL),
    *event("sent", 4, "port", *STATE),
    Call("polled, pending", 29, (3, "poll"), CONTROL),
    Call("polled for nothing, timeout past", 29, (3, "poll_nothing"), CONTROL),
    Call("blocked, with an event", 29, (1, 0), CONTROL),
    *looks("after the upcall", *STATE),
    *event("sent, unmasked", 4, "port2", *STATE),
    *looks("after that", *STATE),
    *event("sent, pending still", 4, "port2", *STATE),
    *event("closed", 3, "port2", *STATE),
    *event("bound anew", 7, "ipi2", "ipi2+4", *STATE),
    *event("sent, selected still", 4, "port2", *STATE),
    *event("closed all", 10, "traps", *STATE),
]


def test_the_bits_of_event_channels_are_xens(tmp_path: Path) -> None:
    code = CALLS.replace("    syscall\n", "    syscall\nreturned:\n")
    image = kernel(MAP + code, "\n".join([*rows_of(MADE), DATA]))
    by_xen, by_hvmx = run_by_xen(image, tmp_path), run_by_hvmx(image, tmp_path)
    names = iter(["the mask at first", *(call.name for call in MADE)])
    named = ["an upcall" if len(words) > 2 else next(names) for words in by_xen]
    different = differences(named, by_hvmx, by_xen)
    assert not different, "\n".join(different)
    upcalls = sum(name == "an upcall" for name in named)
    assert len(by_xen) == len(by_hvmx) == 1 + len(MADE) + upcalls
    assert upcalls
