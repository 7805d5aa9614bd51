/* A 64 KB system ROM that starts the flat form of a kernel image (IMAGE, IMAGE_SIZE, ENTRY), for machines
 * that have no Multiboot loader: from the reset vector to flat protected mode, copy to 1 MB, jump. */
#define ROM_BASE  0xffff0000
#define LOAD_BASE 0x100000
#define CODE32    8
#define DATA32    16
#define CR0_PE    1

        .section .rom, "ax"
rom:
        .incbin IMAGE

        .align 8
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:   .word gdtr - gdt - 1
        .long ROM_BASE + gdt - rom

        .code16
start16:
        lgdtl %cs:gdtr - rom
        mov %cr0, %eax
        or $CR0_PE, %eax
        mov %eax, %cr0
        ljmpl $CODE32, $(ROM_BASE + start32 - rom)

        .code32
start32:
        mov $DATA32, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        cld
        mov $ROM_BASE, %esi
        mov $LOAD_BASE, %edi
        mov $IMAGE_SIZE, %ecx
        rep movsb
        mov $ENTRY, %eax
        jmp *%eax

        .org 0xfff0
        .code16
        jmp start16
        .org 0x10000
