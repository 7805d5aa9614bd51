/* A 64-bit Xen PV guest that asks for Xen's version (hypercall 17, no arguments in memory) by SYSCALL, over and
 * over: five instructions and one hypercall an iteration. Then it shuts the domain down. */
#define HYPERCALL_XEN_VERSION 17
#define HYPERCALL_SCHED_OP    29
#define XENVER_VERSION        0
#define SCHEDOP_SHUTDOWN      2
#define SHUTDOWN_POWEROFF     0

#define ELFNOTE_ENTRY         1
#define ELFNOTE_VIRT_BASE     3
#define ELFNOTE_XEN_VERSION   5
#define ELFNOTE_GUEST_OS      6
#define ELFNOTE_LOADER        8
#define ELFNOTE_PAE_MODE      9

        .macro note_string type, string
        .align 4
        .long 4, 2f - 1f, \type
        .asciz "Xen"
1:      .asciz "\string"
2:
        .endm

        .macro note_address type, address
        .align 4
        .long 4, 8, \type
        .asciz "Xen"
        .quad \address
        .endm

        .section .note.Xen, "a", @note
        note_string ELFNOTE_GUEST_OS, "hvmx-benchmark"
        note_string ELFNOTE_XEN_VERSION, "xen-3.0"
        note_string ELFNOTE_LOADER, "generic"
        note_string ELFNOTE_PAE_MODE, "yes"
        note_address ELFNOTE_VIRT_BASE, VIRTUAL_BASE
        note_address ELFNOTE_ENTRY, _start

        .text
        .globl _start
_start:
        lea stack_end(%rip), %rsp
        mov $ROUNDS, %ebx
1:      mov $HYPERCALL_XEN_VERSION, %eax
        mov $XENVER_VERSION, %edi
        syscall                         /* RCX and R11 are lost, as the processor has it */
        dec %ebx
        jnz 1b
        mov %eax, %ebp                  /* the last answer, for whoever looks at the registers */

        mov $HYPERCALL_SCHED_OP, %eax
        mov $SCHEDOP_SHUTDOWN, %edi
        lea reason(%rip), %rsi
        syscall
        ud2

        .section .rodata
        .align 4
reason: .long SHUTDOWN_POWEROFF

        .bss
        .align 16
        .skip 4096
stack_end:
