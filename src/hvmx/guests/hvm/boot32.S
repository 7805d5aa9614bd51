/* hvm32: entered by a Multiboot loader in 32-bit protected mode without paging. */
#include "multiboot_header.inc"
#include "selectors.h"

#define HEADER_FLAGS (MULTIBOOT_ALIGN_MODULES | MULTIBOOT_WANT_MEMORY)

    .section .multiboot, "a", @progbits
    .align 4
    .long MULTIBOOT_HEADER_MAGIC
    .long HEADER_FLAGS
    .long -(MULTIBOOT_HEADER_MAGIC + HEADER_FLAGS)

    .text
    .globl _start
_start:
    cli
    cld
    mov $boot_stack_top, %esp
    push $0 /* no flag is left over: NT would make IRET a task switch */
    popf
    lgdt gdt_pointer
    ljmp $KERNEL_CODE, $1f
1:
    mov $KERNEL_DATA, %ecx
    mov %ecx, %ss
    /* The user's data segment serves the kernel too (its DPL does not keep the kernel out), so that traps need
     * not change DS and ES. */
    mov $USER_DATA, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ebx, %edx
    call hvm_start /* (EAX: the loader's magic, EDX: address of its information) */

    .data
    .align 8
gdt_pointer:
    .word gdt_limit
    .long gdt

    .bss
    .align 16
    .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
