/* Start and end of each guest of storms.S: Multiboot, 32-bit protected mode, two-level paging that maps 64 MB one to one for
 * everybody, segments and a task state for rings 0 and 3, and an IDT whose entries all lead to `handler`. */
        .intel_syntax noprefix
#define PAGE_SIZE 0x1000
#define ANYBODY   7
#define DIRECTORY 0x200000
#define TABLES    0x201000      /* room for all of 4 GiB; 16 are filled */
#define IDT       0x7f0000
#define FREE      0x800000      /* what a storm may use, to 64 MB */

        .section .multiboot, "a"
        .align 4
        .long 0x1badb002, 0, -0x1badb002

        .text
        .globl _start
_start: cli
        mov esp, offset stack_end
        lgdt [gdt_place]
        ljmp 8, offset 1f
1:      mov eax, 16
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov fs, eax
        mov gs, eax
        mov eax, offset task
        mov [gdt + 0x28 + 2], ax
        shr eax, 16
        mov [gdt + 0x28 + 4], al
        mov [gdt + 0x28 + 7], ah
        mov eax, 0x28
        ltr ax

        mov eax, offset handler
        and eax, 0xffff
        or eax, 8 << 16
        mov edx, offset handler
        and edx, 0xffff0000
        or edx, 0xee00
        xor ecx, ecx
1:      mov [IDT + ecx * 8], eax
        mov [IDT + ecx * 8 + 4], edx
        inc ecx
        cmp ecx, 256
        jb 1b
        lidt [idt_place]

        xor ecx, ecx
1:      mov dword ptr [DIRECTORY + ecx * 4], 0
        inc ecx
        cmp ecx, 1024
        jb 1b
        mov eax, TABLES + ANYBODY
        xor ecx, ecx
1:      mov [DIRECTORY + ecx * 4], eax
        add eax, PAGE_SIZE
        inc ecx
        cmp ecx, 16
        jb 1b
        mov eax, ANYBODY
        xor ecx, ecx
1:      mov [TABLES + ecx * 4], eax
        add eax, PAGE_SIZE
        inc ecx
        cmp ecx, 16 * 1024
        jb 1b
        mov eax, DIRECTORY
        mov cr3, eax
        mov eax, 0x690          /* PSE, PGE, OSFXSR, OSXMMEXCPT */
        mov cr4, eax
        mov eax, 0x80000013
        mov cr0, eax
        fninit
        mov ebp, ROUNDS
        call storm
        cli
        mov al, 0x10
        out 0xf4, al            /* QEMU's device that ends it */
1:      hlt
        jmp 1b

/* Fill page tables from the linear address in EDI on: ECX pages, the first to the entry in EAX, each next one EDX further. */
map_pages:
        push ebx
1:      mov ebx, edi
        shr ebx, 22
        push eax
        mov eax, ebx
        shl eax, 12
        add eax, TABLES + ANYBODY
        mov [DIRECTORY + ebx * 4], eax
        pop eax
        mov ebx, edi
        shr ebx, 12
        mov [TABLES + ebx * 4], eax
        add eax, edx
        add edi, PAGE_SIZE
        dec ecx
        jnz 1b
        mov eax, cr3
        mov cr3, eax
        pop ebx
        ret

        .data
        .align 16
gdt:    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff, 0x0000890000000067
gdt_place:
        .word 0x2f
        .long gdt
idt_place:
        .word 0x7ff
        .long IDT
task:   .long 0, stack_end - 4096, 16, 0, 0, 0, 0, DIRECTORY
        .skip 72
        .bss
        .align 16
        .skip 16384
stack_end:
