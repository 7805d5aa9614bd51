"""Where `iret` goes, what it faults with, and how NMIs nest: the frames that a dom0's kernel finds, beside those that it
finds under Xen 4.17 itself."""

from __future__ import annotations

from pathlib import Path

from .against_xen import differences, kernel, run_by_hvmx, run_by_xen

KERNEL, USER, USER32, STACK = 0xE030, 0xE033, 0xE023, 0xE02B
RESERVED, IF, IN_SYSCALL = 2, 0x202, 0x100
NOT_CANONICAL = 1 << 47

#: What is returned to: flags of the context, RIP, CS, RFLAGS, SS.
RETURNS: list[tuple[str, tuple[int | str, int | str, int, int, int]]] = [
    ("to the kernel", (0, "landed", KERNEL, IF, STACK)),
    ("events masked", (0, "landed", KERNEL, RESERVED, STACK)),
    ("events unmasked again", (0, "landed", KERNEL, IF, STACK)),
    ("IOPL and VM", (0, "landed", KERNEL, IF | 0x3000 | 0x20000, STACK)),
    ("NT", (0, "landed", KERNEL, IF | 0x4000, STACK)),
    ("arithmetic flags", (0, "landed", KERNEL, IF | 0xCD5, STACK)),
    ("not canonical", (0, NOT_CANONICAL, KERNEL, IF, STACK)),
    ("CS null", (0, "landed", 0, IF, STACK)),
    ("CS of nothing", (0, "landed", 0x1230, IF, STACK)),
    ("CS of no LDT", (0, "landed", 4, IF, STACK)),
    ("CS of data", (0, "landed", 0xE028, IF, STACK)),
    ("CS and SS of nothing", (0, NOT_CANONICAL, 0x1230, IF, 0x1238)),
    ("SS null", (0, "landed", KERNEL, IF, 0)),
    ("SS of nothing", (0, "landed", KERNEL, IF, 0x1238)),
    ("SS of code", (0, "landed", KERNEL, IF, USER)),
    ("SS bad before RIP", (0, NOT_CANONICAL, KERNEL, IF, 0x1238)),
    ("as SYSRET", (IN_SYSCALL, "landed", KERNEL, IF, STACK)),
    ("as SYSRET, not canonical", (IN_SYSCALL, NOT_CANONICAL, KERNEL, IF, STACK)),
    ("as SYSRET, whatever CS and SS", (IN_SYSCALL, "landed", 0x1230, IF, 0x1238)),
    ("as SYSRET, not canonical, CS of nothing", (IN_SYSCALL, NOT_CANONICAL, 0x1230, IF, STACK)),
    ("as SYSRET to 32 bits", (IN_SYSCALL, "landed", USER32, IF, STACK)),
    ("to the user", (0, "landed", USER, IF, STACK)),
    ("to the user, not canonical", (0, NOT_CANONICAL, USER, IF, STACK)),
    ("to the user, SS null", (0, "landed", USER, IF, 3)),
    ("to the user, as SYSRET", (IN_SYSCALL, "landed", USER, IF | 0x400, STACK)),
]

FRAMES = """
    lea traps(%rip), %rdi
    hypercall 0
    mov $0, %edi                    # CALLBACKOP_register
    lea nmi_callback(%rip), %rsi
    hypercall 30
    mov $0xe02b, %edi
    lea kernel_stack_end(%rip), %rsi
    hypercall 3
    mov start_info(%rip), %rbx      # the user's page tables are the kernel's own
    mov 88(%rbx), %rax              # pt_base
    mov $0xffffffff80000000, %rcx
    sub %rcx, %rax
    shr $12, %rax
    mov 104(%rbx), %rcx             # mfn_list
    mov (%rcx, %rax, 8), %rax
    mov %rax, base+8(%rip)
    lea base(%rip), %rdi
    mov $1, %esi
    xor %edx, %edx
    mov $0x7ff0, %r10d
    hypercall 26
    lea returns(%rip), %r12
next:
    lea returns_end(%rip), %rax
    cmp %rax, %r12
    jae nmis
    lea stack_end(%rip), %rsp
    pushq 32(%r12)                  # SS
    lea spare_stack(%rip), %rax
    push %rax
    pushq 24(%r12)                  # RFLAGS
    pushq 16(%r12)                  # CS
    pushq 8(%r12)                   # RIP
    pushq (%r12)
    push $0xc                       # RCX
    push $0xb                       # R11
    push $0xa                       # RAX
    hypercall 23
landed:
    ud2

    .macro trap name, vector, words
\\name:
    mov $\\vector, %eax
    mov $\\words, %ebp
    jmp frame
    .endm
    trap undefined, 6, 7
    trap not_present, 11, 8
    trap stack_fault, 12, 8
    trap protection, 13, 8
    trap page_fault, 14, 8
frame:                              # the vector, and the words on the stack
    mov %rsp, %r13
    lea stack_end(%rip), %rsp
    call show
3:  mov (%r13), %rax
    call show
    add $8, %r13
    dec %ebp
    jnz 3b
    call end_line
    add $40, %r12
    jmp next

nmi:
    push %rax
    lea mark(%rip), %rbx
    incq (%rbx)
    mov (%rbx), %rax
    call show
    mov 40(%rsp), %rax              # RFLAGS
    call show
    mov 32(%rsp), %rax              # CS
    call show
    cmpq $1, (%rbx)
    jne 4f
    call send_nmi                   # waits
4:  mov $0x1111, %eax
    call show
    call end_line
    pop %rax
    pop %rcx
    pop %r11
    push $0
    push %rcx
    push %r11
    push %rax
    hypercall 23
    ud2
send_nmi:
    mov $11, %edi
    xor %esi, %esi
    xor %edx, %edx
    hypercall 24
    ret
nmis:
    lea stack_end(%rip), %rsp
    call send_nmi
    mov $0x2222, %eax
    call show
    call end_line
"""
DATA = """
mark: .quad 0
base: .quad 15, 0, 0                # MMUEXT_NEW_USER_BASEPTR
nmi_callback: .quad 4, nmi
    .macro row vector, handler
    .byte \\vector, 0
    .short 0xe033
    .long 0
    .quad \\handler
    .endm
traps:
    row 6, undefined
    row 11, not_present
    row 12, stack_fault
    row 13, protection
    row 14, page_fault
    .quad 0, 0
    .bss
    .balign 16
    .skip 4096
kernel_stack_end:
    .skip 4096
spare_stack:
    .data
"""


def test_returns_and_their_faults_and_nmis_are_xens(tmp_path: Path) -> None:
    rows = ["    .quad " + ", ".join(map(str, where)) for _, where in RETURNS]
    image = kernel(FRAMES, "\n".join([DATA, "returns:", *rows, "returns_end:"]))
    by_xen, by_hvmx = run_by_xen(image, tmp_path), run_by_hvmx(image, tmp_path)
    names = [*(name for name, _ in RETURNS), "the first NMI", "the second NMI", "after both"]
    assert len(by_xen) == len(names), by_xen
    different = differences(names, by_hvmx, by_xen)
    assert not different, "\n".join(different)
    assert len(by_hvmx) == len(names)
    assert {words[0] for words in by_xen[: len(RETURNS)]} == {6, 13, 14}
