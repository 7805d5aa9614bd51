/* hvm64: entered in 32-bit protected mode without paging, by a Multiboot loader or at the PVH entry point; goes
 * to long mode by itself, with the first GB of physical memory mapped one to one. */
#include "multiboot_header.inc"
#include "selectors.h"

/* Multiboot loaders need not know ELF64, so the header says where everything goes. */
#define HEADER_FLAGS (MULTIBOOT_ALIGN_MODULES | MULTIBOOT_WANT_MEMORY | MULTIBOOT_HAVE_ADDRESSES)

    .section .multiboot, "a", @progbits
    .align 4
multiboot_header:
    .long MULTIBOOT_HEADER_MAGIC
    .long HEADER_FLAGS
    .long -(MULTIBOOT_HEADER_MAGIC + HEADER_FLAGS)
    .long multiboot_header
    .long image_start
    .long image_data_end
    .long image_end
    .long _start

/* The PVH entry point, as an ELF note of Xen's: XEN_ELFNOTE_PHYS32_ENTRY. */
    .section .note.Xen, "a", @note
    .align 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_start

#define PRESENT_WRITABLE 0x003
#define LARGE            0x080
#define CR0_PG_WP        0x80010000
#define CR4_PAE          0x20
#define MSR_EFER         0xc0000080
#define EFER_SCE_LME     0x101

    .text
    .code32
pvh_start:
    xor %eax, %eax /* EAX is not defined here: no loader's magic */
    .globl _start
_start:
    cli
    cld
    mov $boot_stack_top, %esp
    mov %eax, %edi
    mov %ebx, %esi
    push $0 /* no flag is left over */
    popf

    movl $boot_level3 + PRESENT_WRITABLE, boot_level4
    movl $boot_level2 + PRESENT_WRITABLE, boot_level3
    xor %ecx, %ecx
1:
    mov %ecx, %eax
    shl $21, %eax
    or $PRESENT_WRITABLE | LARGE, %eax
    mov %eax, boot_level2(, %ecx, 8)
    inc %ecx
    cmp $512, %ecx
    jne 1b

    mov %cr4, %eax
    or $CR4_PAE, %eax
    mov %eax, %cr4
    mov $boot_level4, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_SCE_LME, %eax
    wrmsr
    mov %cr0, %eax
    or $CR0_PG_WP, %eax
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $KERNEL_CODE, $long_mode

    .code64
long_mode:
    mov $KERNEL_DATA, %eax
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %edi, %edi /* the upper halves are undefined after the change of mode */
    mov %esi, %esi
    mov $boot_stack_top, %rsp
    call hvm_start /* (RDI: the loader's magic or 0, RSI: address of its information) */

    .data
    .align 8
gdt_pointer:
    .word gdt_limit
    .quad gdt

    .bss
    .align 4096
    .globl boot_level4, boot_level3, boot_level2
boot_level4:
    .skip 4096
boot_level3:
    .skip 4096
boot_level2:
    .skip 4096
    .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
