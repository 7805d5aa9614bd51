/* Entry stubs of the IDT, 16 bytes each, for vectors 0 to 0x2f; and INT 0x80. */
#include "../common/x86.h"

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

    .globl system_call_entry
system_call_entry:
    push $0
    push $VECTOR_SYSCALL
trap_common:
    pusha
    cld
    mov %esp, %eax
    call trap_dispatch
    .globl trap_return
trap_return:
    popa
    add $8, %esp
    iret

    .section .note.GNU-stack, "", @progbits
