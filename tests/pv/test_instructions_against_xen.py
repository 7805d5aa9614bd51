"""What privileged and odd instructions do in a dom0's kernel, at ring 3, beside what they do under Xen 4.17.

Of each are compared: the exception's vector, error code and place, and RAX, RCX and RDX afterwards. Left out is what the
processor says of itself, which is not the same one.
"""

from __future__ import annotations

from pathlib import Path

from .against_xen import differences, kernel, run_by_hvmx, run_by_xen

#: Name and code; RAX, RCX and RDX are 0x11, 0x22 and 0x33 before, unless the code sets them.
INSTRUCTIONS = [
    ("nothing", "nop"),
    ("CR0", "mov %cr0, %rax; and $0xffffffff80000009, %rax"),
    ("CR0 by a ModRM of memory", "xor %eax, %eax; .byte 0x0f, 0x20, 0x00; and $0xffffffff80000009, %rax"),
    ("CR0 by a ModRM with a displacement", "xor %eax, %eax; .byte 0x0f, 0x20, 0x40; and $0xffffffff80000009, %rax"),
    ("DR7 by a ModRM of memory", "xor %eax, %eax; .byte 0x0f, 0x21, 0x38"),
    ("TS set", "mov %cr0, %rax; or $8, %rax; mov %rax, %cr0; mov %cr0, %rax; and $8, %rax"),
    ("CLTS", "clts; mov %cr0, %rax; and $8, %rax"),
    ("CR0.WP", "mov %cr0, %rax; and $~0x10000, %rax; mov %rax, %cr0"),
    ("CR0 of nothing", "xor %eax, %eax; mov %rax, %cr0"),
    ("CR2", "mov $0x1234, %eax; mov %rax, %cr2; mov %cr2, %rax"),
    ("CR3 of nothing", "mov %rax, %cr3"),
    ("CR4.TSD", "mov %cr4, %rax; or $4, %rax; mov %rax, %cr4; mov %cr4, %rax; and $4, %rax"),
    ("RDTSC with TSD", "rdtsc; xor %eax, %eax; xor %edx, %edx"),
    ("CR4.TSD clear", "mov %cr4, %rax; and $~4, %rax; mov %rax, %cr4; mov %cr4, %rax; and $4, %rax"),
    ("CR4.DE", "mov %cr4, %rax; or $8, %rax; mov %rax, %cr4; mov %cr4, %rax; and $8, %rax"),
    ("DR4 with DE", "mov %dr4, %rax"),
    ("DR4 with DE, written", "mov %rax, %dr4"),
    ("CR4.DE clear", "mov %cr4, %rax; and $~8, %rax; mov %rax, %cr4; mov %cr4, %rax; and $8, %rax"),
    ("CR4.PAE", "mov %cr4, %rax; and $~0x20, %rax; mov %rax, %cr4; mov %cr4, %rax; and $0x20, %rax"),
    ("CR8", ".byte 0x44, 0x0f, 0x20, 0xc0"),
    ("DR7", "mov %dr7, %rax"),
    ("DR7 written", "mov $0x401, %eax; mov %rax, %dr7; mov %dr7, %rax"),
    ("DR7 with GD", "mov $0x2401, %eax; mov %rax, %dr7"),
    ("DR7 clear", "mov $0x400, %eax; mov %rax, %dr7; mov %dr7, %rax"),
    ("DR0 in Xen", "mov $0xffff800000000000, %rax; mov %rax, %dr0"),
    ("DR6", "xor %eax, %eax; mov %rax, %dr6; mov %dr6, %rax"),
    ("DR6 beyond 32 bits", "mov $0x100000000, %rax; mov %rax, %dr6"),
    ("DR4", "mov %dr4, %rax"),
    ("DR8", ".byte 0x44, 0x0f, 0x21, 0xc0"),
    *[
        (f"MSR {number:#x}", f"mov ${number:#x}, %ecx; rdmsr")
        for number in (0xC0000100, 0xC0000101, 0xC0000102, 0x12345)
    ],
    *[
        (f"MSR {number:#x} written", f"mov ${number:#x}, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr")
        for number in (0x17, 0x1B, 0x3A, 0x8B, 0xCE, 0x140, 0x1A0, 0x277, 0x345, 0xC0000103)
    ],
    *[(f"MSR {number:#x}", f"mov ${number:#x}, %ecx; rdmsr") for number in (0x17, 0x3A, 0xCE, 0x140, 0x277, 0x345, 0xC0000103)],
    ("microcode", "mov $0x8b, %ecx; rdmsr; xor %edx, %edx"),
    ("MISC_ENABLE", "mov $0x1a0, %ecx; rdmsr; and $~1, %eax"),
    ("MISC_FEATURES not 0", "mov $0x140, %ecx; mov $2, %eax; xor %edx, %edx; wrmsr"),
    ("MSR EFER", "mov $0xc0000080, %ecx; rdmsr; and $0x501, %eax"),
    ("FS base", "mov $0xc0000100, %ecx; mov $0x5000, %eax; xor %edx, %edx; wrmsr; rdmsr"),
    ("FS base not canonical", "mov $0xc0000100, %ecx; xor %eax, %eax; mov $0x8000, %edx; wrmsr"),
    ("GS base", "mov $0xc0000101, %ecx; mov $0x6000, %eax; xor %edx, %edx; wrmsr; rdmsr"),
    ("the user's GS base", "mov $0xc0000102, %ecx; mov $0x7000, %eax; xor %edx, %edx; wrmsr; rdmsr"),
    ("RDX beyond 32 bits", "mov $0xc0000100, %ecx; xor %eax, %eax; mov $0x100000000, %rdx; wrmsr"),
    ("TSC written", "mov $0x10, %ecx; wrmsr"),
    ("unknown MSR written", "mov $0x12345, %ecx; wrmsr"),
    ("EFER written", "mov $0xc0000080, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr"),
    ("LSTAR written", "mov $0xc0000082, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr"),
    ("IN", "mov $0x80, %edx; in %dx, %al"),
    ("IN immediate", "in $0x80, %al"),
    ("OUT", "mov $0x80, %edx; out %al, %dx"),
    ("CLI", "cli"),
    ("STI", "sti"),
    ("IOPL 1", "mov $6, %edi; lea iopl1(%rip), %rsi; mov $33, %eax; syscall; mov $0x22, %ecx"),
    ("OUT with IOPL", "mov $0x80, %edx; out %al, %dx"),
    ("OUT immediate", "out %al, $0x80"),
    ("OUT of 16 bits", "mov $0xed, %edx; out %ax, %dx"),
    ("IN of 32 bits from where nothing is", "mov $0x5660, %edx; mov $-1, %rax; in %dx, %eax"),
    ("IN whose REX is no longer one", "mov $0x5660, %edx; xor %eax, %eax; .byte 0x48, 0x66, 0xed"),
    ("IN with an operand-size prefix and REX.W", "mov $0x5660, %edx; xor %eax, %eax; .byte 0x66, 0x48, 0xed"),
    ("CLI whose REX is no longer one", ".byte 0x48, 0x66, 0xfa"),
    ("REP IN", "mov $0x5660, %edx; xor %eax, %eax; .byte 0xf3, 0xed"),
    ("CLI with IOPL", "cli; pushf; pop %rax; and $0x200, %eax"),
    ("STI with IOPL", "sti; pushf; pop %rax; and $0x200, %eax"),
    ("POPF", "push $0x3002; popf; pushf; pop %rax; and $0x3200, %eax"),
    ("OUTS", "mov $0x80, %edx; lea iopl1(%rip), %rsi; outsb; lea iopl1(%rip), %rax; sub %rax, %rsi; mov %rsi, %rax"),
    ("REP OUTS", "mov $0x80, %edx; lea iopl1(%rip), %rsi; mov $3, %ecx; rep outsb; lea iopl1(%rip), %rax; sub %rax, %rsi; mov %rsi, %rax"),
    ("INS", "mov $0x5660, %edx; lea words(%rip), %rdi; insl; mov words(%rip), %rax"),
    ("REP INS", "mov $0x5660, %edx; lea words(%rip), %rdi; mov $3, %ecx; rep insw; mov words(%rip), %rax"),
    ("INS backwards", "mov $0x5660, %edx; lea words+8(%rip), %rdi; std; insw; cld; lea words(%rip), %rax; sub %rax, %rdi; mov %rdi, %rax"),
    ("REP INS of none", "mov $0x5660, %edx; mov $0x1000, %edi; xor %ecx, %ecx; rep insb; mov %rdi, %rax"),
    ("OUTS from nowhere", "mov $0x80, %edx; mov $0x1000, %esi; outsb"),
    ("INS to a page table", "mov $0x5660, %edx; mov start_info(%rip), %rax; mov 88(%rax), %rdi; xor %eax, %eax; insl"),
    ("INS not canonical", "mov $0x5660, %edx; mov $0x800000000000, %rdi; insl"),
    ("INS nowhere", "mov $0x5660, %edx; mov $0x1000, %edi; insl"),
    ("HLT", "hlt"),
    ("INT3", "int3"),
    ("VMCALL", "vmcall"),
    ("VMMCALL", "vmmcall"),
    ("INT 3", "int $3"),
    ("INT 0x80", "int $0x80"),
    ("UD2", "ud2"),
    ("UD2 and letters", ".byte 0x0f, 0x0b; .ascii \"xem\"; cpuid"),
    *[
        (f"Xen's leaf {leaf}", f"mov ${0x40000000 + leaf:#x}, %eax; xor %ecx, %ecx; .byte 0x0f, 0x0b; .ascii \"xen\"; cpuid{mask}")
        for leaf, mask in ((0, "; and $~7, %eax"), (1, ""))
    ],
    ("LGDT", "lgdt words(%rip)"),
    ("LIDT", "lidt words(%rip)"),
    ("LLDT", "xor %eax, %eax; lldt %ax"),
    ("LTR", "xor %eax, %eax; ltr %ax"),
    ("LMSW", "mov $0xf, %eax; lmsw %ax"),
    ("INVLPG", "invlpg words(%rip)"),
    ("WBINVD", "wbinvd"),
    ("INVD", "invd"),
    ("RDPMC", "rdpmc"),
    ("XSETBV", "xor %ecx, %ecx; xsetbv"),
    ("SWAPGS", "swapgs"),
    ("SYSRET", "sysretq"),
    ("RSM", "rsm"),
    ("far CALL", "lcall *words(%rip)"),
    ("a segment of nothing", "mov $0x1238, %eax; mov %ax, %ds"),
    ("FS null", "xor %eax, %eax; mov %ax, %fs; mov %fs, %eax"),
    ("a stack of nothing", "mov $0x1238, %eax; mov %ax, %ss"),
    ("no stack", "xor %eax, %eax; mov %ax, %ss"),
    ("LAR of Xen's code", "mov $0xe033, %ecx; xor %eax, %eax; lar %ecx, %eax; and $0xf0ff00, %eax"),
    ("LAR of nothing", "mov $0x1238, %ecx; lar %ecx, %eax"),
    ("LSL of Xen's data", "mov $0xe02b, %ecx; lsl %ecx, %eax"),
    ("CS", "mov %cs, %eax"),
    ("SS", "mov %ss, %eax"),
    ("read at 0x1000", "mov 0x1000, %eax"),
    ("write in the M2P", "mov $0xffff800000000000, %rax; mov %rax, (%rax)"),
    ("not canonical", "mov $0x800000000000, %rax; mov (%rax), %rax"),
    ("jump to 0x1000", "mov $0x1000, %eax; jmp *%rax"),
    ("write to a page table", "mov start_info(%rip), %rax; mov 88(%rax), %rax; movq $0, (%rax)"),
    ("LDT", "call set_ldt"),
    ("a segment in an LDT that is mapped writable", "mov $4, %eax; mov %ax, %fs"),
    ("where that was", "mov %cr2, %rax; lea ldt(%rip), %rcx; sub %rcx, %rax; xor %ecx, %ecx"),
    ("and of 2 pages behind", "mov $0x2004, %eax; mov %ax, %fs"),
    ("LDT read-only", "call map_ldt_read_only"),
    ("a segment in it", "mov $4, %eax; mov %ax, %fs; mov %fs, %eax"),
    ("its base", "mov $0xc0000100, %ecx; rdmsr"),
    ("LDT writable", "call map_ldt_writable"),
    ("the same LDT", "call set_ldt"),
    ("still writable", "call map_ldt_writable"),
    ("no LDT", "movq $0, ldt_operation+16(%rip); call set_ldt"),
    ("now writable", "call map_ldt_writable"),
    ("a segment in no LDT", "mov $4, %eax; mov %ax, %fs"),
    ("before that is asked for", "call entry; movq $0, (%rdi); xor %eax, %eax"),
    ("and back", "call entry; mov %rax, (%rdi); xor %eax, %eax"),
    ("page tables to be written", "xor %edi, %edi; mov $2, %esi; mov $21, %eax; syscall; xor %ecx, %ecx"),
    ("nothing stored in one", "call entry; movq $0, (%rdi); mov (%rdi), %rax; xor %edi, %edi"),
    ("nothing is there", "mov spare(%rip), %rax"),
    ("the entry again", "call entry; mov %rax, (%rdi); xor (%rdi), %rax"),
    ("it is there", "mov spare(%rip), %rax"),
    ("XCHG", "call entry; mov %rax, %rcx; xor %edx, %edx; xchg %rdx, (%rdi); mov (%rdi), %rax; xor %rdx, %rcx; mov %rcx, %rdx; xor %ecx, %ecx"),
    ("MOV back", "call entry; mov %rax, (%rdi); xor %eax, %eax"),
    ("BTR", "call entry; lock btrq $1, (%rdi); setc %al; and $1, %eax; mov (%rdi), %rdx; and $7, %edx"),
    ("read-only", "call flush; mov $0x99, %ecx; mov %rcx, spare(%rip)"),
    ("BTS by register", "call entry; mov $1, %edx; lock bts %rdx, (%rdi); setc %al; and $1, %eax; mov (%rdi), %rdx; and $7, %edx"),
    ("writable", "call flush; mov $0x99, %ecx; mov %rcx, spare(%rip); mov spare(%rip), %rax"),
    ("AND of a byte", "call entry; lock andb $0xfd, (%rdi); setz %al; mov (%rdi), %dl; and $7, %edx; and $1, %eax"),
    ("OR of 32 bits", "call entry; orl $2, (%rdi); mov (%rdi), %edx; and $7, %edx; xor %eax, %eax"),
    ("CMPXCHG of another value", "call entry; xor %eax, %eax; mov $0x55, %edx; lock cmpxchg %rdx, (%rdi); setz %dl; and $1, %edx; mov (%rdi), %rcx; xor %rcx, %rax; and $7, %ecx"),
    ("CMPXCHG", "call entry; mov (%rdi), %rax; mov %rax, %rdx; and $~2, %rdx; lock cmpxchg %rdx, (%rdi); setz %dl; and $1, %edx; mov (%rdi), %rcx; and $7, %ecx; xor %eax, %eax"),
    ("XADD", "call entry; mov $2, %edx; lock xadd %rdx, (%rdi); and $7, %edx; mov (%rdi), %rax; and $7, %eax"),
    ("MOV of 32 bits", "call entry; mov %eax, (%rdi); xor (%rdi), %eax"),
    ("STOS", "call entry; mov %rdi, %rdx; stosq; sub %rdi, %rdx; xor %eax, %eax"),
    ("REP STOS", "call entry; xor %eax, %eax; mov $2, %ecx; rep stosq; mov -8(%rdi), %rdx"),
    ("MOVS", "call entry; lea saved_entry(%rip), %rsi; movsq; xor %eax, %eax"),
    ("all is back", "mov spare(%rip), %rax"),
    ("an entry that is not allowed", "call entry; xor %eax, %eax; movq $-1, (%rdi)"),
    ("a table, writable", "call entry; mov l1_entry(%rip), %rax; or $2, %rax; lea l1_entry(%rip), %rsi; mov %rax, (%rsi); xor %eax, %eax; movsq"),
    ("which has not changed", "mov spare(%rip), %rax"),
    ("across entries", "call entry; xor %eax, %eax; movq $-1, 4(%rdi)"),
    ("what is the same", "call entry; mov (%rdi), %rax; mov %rax, (%rdi); xor %eax, %eax"),
    ("not present", "call entry; movq $0x12340000, (%rdi); mov (%rdi), %rax"),
    ("MOV back", "call entry; mov %rax, (%rdi); xor %eax, %eax"),
    ("with the trap flag", "call entry; xor %eax, %eax; pushf; orq $0x100, (%rsp); popf; movq $0, (%rdi); nop"),
    ("DR6 of that", "mov %dr6, %rax; and $0xe00f, %eax; mov %rax, %rcx; xor %edx, %edx; mov %rdx, %dr6"),
    ("a breakpoint on the entry", "call entry; mov %rdi, %dr0; mov $0xd0002, %eax; mov %rax, %dr7; xor %eax, %eax; movq $0x1000, (%rdi); nop"),
    ("DR6 of that", "mov %dr6, %rax; and $0xe00f, %eax; xor %edx, %edx; mov %rdx, %dr6; mov %rdx, %dr7"),
    ("DR6 of no more", "call entry; movq $0x2000, (%rdi); mov %dr6, %rax; and $0xe00f, %eax"),
    ("a table above", "mov l2_table(%rip), %rdi; movq $0, 4088(%rdi)"),
    ("no more", "mov $1, %edi; mov $2, %esi; mov $21, %eax; syscall; xor %ecx, %ecx"),
    ("which a dom0 may still write", "call entry; xor %eax, %eax; movq $0, (%rdi)"),
    ("divide", "xor %ecx, %ecx; div %ecx"),
    ("TS for x87", "mov $5, %eax; mov $1, %edi; syscall; xor %ecx, %ecx; fnop"),
    ("and for SSE", "mov $5, %eax; mov $1, %edi; syscall; xor %ecx, %ecx; movaps %xmm0, %xmm1"),
    ("TS is clear then", "mov %cr0, %rax; and $8, %rax"),
    ("trap flag", "xor %eax, %eax; pushf; orq $0x100, (%rsp); popf; nop; nop"),
    ("DR6 of it", "mov %dr6, %rax; and $0xe00f, %eax"),
    ("misaligned SSE", "movaps iopl1+1(%rip), %xmm0"),
]  # fmt: skip

TRAPPED = (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 16, 17, 19)
WITH_ERROR = (10, 11, 12, 13, 14, 17)

PRELUDE = """
    lea traps(%rip), %rdi
    hypercall 0
    jmp start
set_ldt:
    lea ldt_operation(%rip), %rdi
    mov $1, %esi
    xor %edx, %edx
    mov $0x7ff0, %r10d
    hypercall 26
    jmp clear
map_ldt_read_only:
    mov $0x65, %esi
    jmp 1f
map_ldt_writable:
    mov $0x67, %esi
1:  mov start_info(%rip), %rax
    mov 104(%rax), %rax             # mfn_list
    lea ldt(%rip), %rdi
    mov %rdi, %rcx
    mov $0xffffffff80000000, %rdx
    sub %rdx, %rcx
    shr $12, %rcx
    mov (%rax, %rcx, 8), %rax
    shl $12, %rax
    or %rax, %rsi
    mov $2, %edx
    hypercall 14
clear:
    xor %ecx, %ecx
    xor %edx, %edx
    ret
flush:
    lea flush_operation(%rip), %rdi
    mov $1, %esi
    xor %edx, %edx
    mov $0x7ff0, %r10d
    hypercall 26
    jmp clear
entry:                              # RDI: where the entry of `spare` is; RAX: what it was at first
    mov place_of_entry(%rip), %rdi
    mov saved_entry(%rip), %rax
    jmp clear
table_at:                           # RDX: where the table is that the entry RAX names
    shl $12, %rax
    shr $24, %rax
    mov start_info(%rip), %rbx
    mov 88(%rbx), %rdx              # pt_base
    mov $0xffffffff80000000, %rcx
    sub %rcx, %rdx
    shr $12, %rdx
    mov 104(%rbx), %rcx             # mfn_list
3:  cmp (%rcx, %rdx, 8), %rax
    je 4f
    inc %rdx
    jmp 3b
4:  shl $12, %rdx
    mov $0xffffffff80000000, %rcx
    add %rcx, %rdx
    ret
start:
    mov start_info(%rip), %rbx
    mov 88(%rbx), %rdx
    mov 511*8(%rdx), %rax
    call table_at
    mov 510*8(%rdx), %rax
    call table_at
    mov %rdx, l2_table(%rip)
    mov (%rdx), %rax
    mov %rax, l1_entry(%rip)
    call table_at
    lea spare(%rip), %rax
    shr $12, %rax
    and $511, %rax
    lea (%rdx, %rax, 8), %rdx
    mov %rdx, place_of_entry(%rip)
    mov (%rdx), %rax
    mov %rax, saved_entry(%rip)
    movq $0x77, spare(%rip)
"""


def snippet(number: int, code: str) -> str:
    return f"""
    lea after{number}(%rip), %rax
    mov %rax, resume(%rip)
    movq $-1, vector(%rip)
    movq $0, error(%rip)
    lea code{number}(%rip), %rax
    mov %rax, place(%rip)
    mov $0x11, %eax
    mov $0x22, %ecx
    mov $0x33, %edx
code{number}:
    {code}
after{number}:
    call report
"""


def handler(vector: int) -> str:
    at, error = (24, "mov 16(%rsp), %rbp") if vector in WITH_ERROR else (16, "xor %ebp, %ebp")
    return f"""
trap{vector}:
    {error}
    mov %rbp, error(%rip)
    mov {at}(%rsp), %rbp
    mov (%rsp), %rcx
    movq ${vector}, vector(%rip)
    jmp trapped
"""


REPORT = """
trapped:
    sub place(%rip), %rbp
    mov %rbp, place(%rip)
    lea stack_end(%rip), %rsp
    jmp *resume(%rip)
report:
    push %rdx
    push %rcx
    push %rax
    mov vector(%rip), %rax
    call show
    cmpq $-1, vector(%rip)
    je 4f
    mov error(%rip), %rax
    call show
    mov place(%rip), %rax
    call show
4:  mov $3, %ebp
5:  pop %rax
    call show
    dec %ebp
    jnz 5b
    jmp end_line
"""
DATA = """
flush_operation: .quad 6, 0, 0
ldt_operation: .quad 13, ldt, 512
    .balign 4096
ldt: .quad 0x00cff3123456ffff
    .skip 4088
spare: .skip 8192
place_of_entry: .quad 0
saved_entry: .quad 0
l2_table: .quad 0
l1_entry: .quad 0
resume: .quad 0
vector: .quad 0
error: .quad 0
place: .quad 0
iopl1: .quad 1
words: .skip 64
    .balign 8
traps:
"""


def image() -> bytes:
    snippets = [snippet(number, code) for number, (_, code) in enumerate(INSTRUCTIONS)]
    skip = "    jmp done\n"
    code = [PRELUDE, *snippets, skip, *map(handler, TRAPPED), REPORT, "done:\n"]
    rows = [f"    .byte {vector}, 0; .short 0xe033; .long 0; .quad trap{vector}" for vector in TRAPPED]
    return kernel("".join(code), "\n".join([DATA, *rows, "    .quad 0, 0"]))


def test_instructions_do_in_a_kernel_what_they_do_under_xen(tmp_path: Path) -> None:
    by_xen, by_hvmx = run_by_xen(image(), tmp_path), run_by_hvmx(image(), tmp_path)
    different = differences((name for name, _ in INSTRUCTIONS), by_hvmx, by_xen)
    assert not different, "\n".join(different)
    assert len(by_xen) == len(by_hvmx) == len(INSTRUCTIONS)
