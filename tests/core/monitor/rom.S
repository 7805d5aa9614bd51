/* A 64 KB system ROM: from the reset vector to flat protected mode and monitor.c, and its entry for SMIs.
 *
 * The ROM runs where it lies, at 0xffff0000, and keeps what it knows in memory that a reset leaves alone. */
#define CODE32 8
#define DATA32 16
#define CR0_PE 1
#define PAGE 0xf000 /* this file is the last 4 KB of the ROM */

        .section .rom, "ax"
page:
        .code16
start16:
        lgdtl %cs:PAGE + gdtr - page
        mov $CR0_PE, %eax
        mov %eax, %cr0
        ljmpl $CODE32, $start32

        .code32
start32:
        mov $DATA32, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $stack_end, %esp
        cld
        call after_reset
        /* The SMI that after_reset() asked for takes over here, at the latest. */
1:      jmp 1b

        /* Copied to where the processor begins in system management mode: all registers are in the save area. */
        .globl smi_entry, smi_entry_end
        .code16
smi_entry:
        addr32 lgdtl gdtr
        mov $CR0_PE, %eax
        mov %eax, %cr0
        ljmpl $CODE32, $smi32
smi_entry_end:

        .code32
smi32:
        mov $DATA32, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $stack_end, %esp
        cld
        call on_smi
        rsm

        .align 8
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   .word gdtr - gdt - 1
        .long gdt

        .org 0xff0
        .code16
        jmp start16
        .org 0x1000

        .bss
        .skip 16384
stack_end:

        .section .note.GNU-stack, "", @progbits
