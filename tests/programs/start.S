/* The same file is a static Linux program and a Multiboot image: Multiboot's magic number in EAX tells where it runs.
 * Either way it runs on a stack of its own, aligned to 16 bytes. */
        .text
        .balign 4
        .long 0x1BADB002, 0, -0x1BADB002        /* Multiboot 0.6.96, 3.1.1: magic, flags, checksum */
        .globl _start
_start:
        xor %ecx, %ecx
        cmp $0x2BADB002, %eax
        sete %cl
        mov $stack_end, %esp
        sub $12, %esp
        push %ecx
        call program
        ud2

        .bss
        .balign 16
        .skip 65536
stack_end:

        .section .note.GNU-stack, "", @progbits
