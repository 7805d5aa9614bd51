/* Where Xen enters the kernel: it has pushed RCX and R11 on top of an ordinary trap frame. */
#include "../common/frame64.inc"
#include "../common/x86.h"
#include "xen.h"

.macro ENTER vector, has_error=0
    pop %rcx
    pop %r11
    .if !\has_error
    push $0
    .endif
    push $\vector
.endm

    .text
/* One stub of 16 bytes for each exception. */
    .globl trap_stubs
    .align 16
trap_stubs:
    .set vector, 0
    .rept 20
    .align 16
    ENTER vector, (vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    jmp trap_common
    .set vector, vector + 1
    .endr

    .globl event_entry
event_entry:
    ENTER VECTOR_INTERRUPT
trap_common:
    SAVE_REGISTERS
    cld
    mov %rsp, %rdi
    call trap_dispatch
    .globl trap_return
trap_return:
    RESTORE_REGISTERS
    push $0
    jmp iret

    .globl system_call_entry
system_call_entry:
    ENTER VECTOR_SYSCALL
    SAVE_REGISTERS
    cld
    mov %rsp, %rdi
    call trap_dispatch
    RESTORE_REGISTERS
    push $XEN_IRET_IN_SYSCALL
iret:
    push %rcx
    push %r11
    push %rax
    mov $XEN_IRET, %eax
    syscall

/* A return to a bad selector: none of ours is. */
    .globl failsafe_entry
failsafe_entry:
    ud2

    .section .note.GNU-stack, "", @progbits
