/* Entry stubs of the IDT, 16 bytes each, for vectors 0 to 0x2f; and SYSCALL. */
#include "../common/frame64.inc"
#include "../common/x86.h"
#include "selectors.h"

    .text
    .globl trap_stubs
    .align 16
trap_stubs:
    .set vector, 0
    .rept 0x30
    .align 16
    /* These push an error code, SDM table 6-1; for the others a zero stands in. */
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    push $0
    .endif
    push $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    SAVE_REGISTERS
    cld
    mov %rsp, %rdi
    call trap_dispatch
    .globl trap_return
trap_return:
    RESTORE_REGISTERS
    iretq

/* SYSCALL leaves the user's stack in place, with interrupts off by SFMASK. */
    .globl system_call_entry
system_call_entry:
    mov %rsp, user_stack(%rip)
    mov kernel_stack(%rip), %rsp
    push $USER_DATA
    push user_stack(%rip)
    push %r11
    push $USER_CODE
    push %rcx
    push $0
    push $VECTOR_SYSCALL
    SAVE_REGISTERS
    cld
    mov %rsp, %rdi
    call trap_dispatch
    RESTORE_REGISTERS
    mov (%rsp), %rcx   /* RIP */
    mov 16(%rsp), %r11 /* RFLAGS */
    mov 24(%rsp), %rsp
    sysretq

    .bss
    .align 8
    .globl kernel_stack
kernel_stack:
    .skip 8
user_stack:
    .skip 8

    .section .note.GNU-stack, "", @progbits
