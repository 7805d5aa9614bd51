/* The start and the end of every kernel image: Multiboot 1, flat 32-bit protected mode, then 4 KB pages
 * and the SSE unit.
 *
 * kernel() runs with paging on, as real kernels do, so that every memory access pays for a translation. At
 * `report` EAX holds the checksum; it goes to the debug console (port 0xe9) as eight hexadecimal digits,
 * and then the machine is ended. Nothing here depends on the checksum, so this part of an image retires the
 * same instructions whatever kernel() does. */
#define MULTIBOOT_MAGIC 0x1badb002
#define PAGE_SIZE       4096
#define MAPPED_PAGES    4096            /* identity map of the first 16 MB */
#define PRESENT_RW      3
#define CR0_MP          2
#define CR0_EM          4
#define CR0_PG          0x80000000
#define CR4_OSFXSR      0x200
#define CR4_OSXMMEXCPT  0x400
#define DEBUGCON        0xe9
#define DEBUG_EXIT      0xf4
#define EXIT_VALUE      0x10            /* the emulator's exit status becomes (value << 1) | 1 */
#define BOCHS_SHUTDOWN  0x8900          /* Bochs has no debug-exit port: this one ends it */

        .section .multiboot, "a"
        .align 4
        .long MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC

        .text
        .globl _start, report, halt
_start:
        mov $stack_end, %esp

        mov $page_directory, %edi
        mov $1024, %ecx
1:      movl $0, -4(%edi, %ecx, 4)
        dec %ecx
        jnz 1b
        mov $page_tables + PRESENT_RW, %eax
        mov $MAPPED_PAGES / 1024, %ecx
1:      mov %eax, (%edi)
        add $4, %edi
        add $PAGE_SIZE, %eax
        dec %ecx
        jnz 1b

        mov $page_tables, %edi
        mov $PRESENT_RW, %eax
        mov $MAPPED_PAGES, %ecx
1:      mov %eax, (%edi)
        add $4, %edi
        add $PAGE_SIZE, %eax
        dec %ecx
        jnz 1b

        mov $page_directory, %eax
        mov %eax, %cr3
        mov %cr4, %eax
        or $CR4_OSFXSR | CR4_OSXMMEXCPT, %eax
        mov %eax, %cr4
        mov %cr0, %eax
        and $~CR0_EM, %eax
        or $CR0_PG | CR0_MP, %eax
        mov %eax, %cr0

        call kernel
report:
        mov %eax, %ebx
        mov $DEBUGCON, %edx
        mov $8, %ecx
1:      rol $4, %ebx
        mov %ebx, %esi
        and $15, %esi
        movb digits(%esi), %al
        outb %al, %dx
        dec %ecx
        jnz 1b
        mov $'\n', %al
        outb %al, %dx

        mov $DEBUG_EXIT, %edx
        mov $EXIT_VALUE, %eax
        outb %al, %dx

        mov $BOCHS_SHUTDOWN, %edx
        mov $shutdown, %esi
1:      lodsb
        outb %al, %dx
        test %al, %al
        jnz 1b
halt:   hlt
        jmp halt

        .section .rodata
digits: .ascii "0123456789abcdef"
shutdown:
        .asciz "Shutdown"

        .bss
        .align PAGE_SIZE
page_directory:
        .skip PAGE_SIZE
page_tables:
        .skip MAPPED_PAGES * 4
        .skip 16384
stack_end:
