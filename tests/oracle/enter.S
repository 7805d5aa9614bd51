/* Takes a bare processor from real-address mode to user code, in two stages. simulated.py links it at address 0x1000.
 *
 * boot    once: real-address mode to 64-bit mode at CPL 0, with the tables that simulated.py has put in memory. The
 *         kernel ends up in the upper half of linear memory, KERNEL above its physical address, and the lower half
 *         belongs to the user.
 * enter   each time: floating-point state, segment registers and bases from STATE and FXSAVE, then IRETQ with the frame that RSP points at.
 *         IRETQ takes no general register, so those are set from outside, when RIP has come to `leave`.
 */
    .intel_syntax noprefix
    .globl boot, enter, enter_bases, leave, store_fxsave, stored

    .set CR0_OF_LINUX, 0x80050033       /* PG AM WP NE ET MP PE */
    .set CR4_OF_LINUX, 0x40620           /* OSXSAVE OSXMMEXCPT OSFXSR PAE */
    .set EFER_NXE_LME_SCE, 0x901

    .code16
boot:
    lgdt [gdt_pointer]
    mov eax, CR4_OF_LINUX
    mov cr4, eax
    mov eax, PML4
    mov cr3, eax
    mov ecx, 0xc0000080
    mov eax, EFER_NXE_LME_SCE
    xor edx, edx
    wrmsr
    mov eax, CR0_OF_LINUX
    mov cr0, eax
    .byte 0x66, 0xea                    /* JMP ptr16:32 */
    .long long_mode
    .word 0x10

    .code64
long_mode:
    movabs rax, offset upper_half + KERNEL
    jmp rax
upper_half:
    mov qword ptr [PD], 0
    mov rax, cr3
    mov cr3, rax
    lgdt [rip + gdt_pointer_upper]
    lidt [rip + idt_pointer]
    mov eax, 0x18
    mov ss, eax
    mov eax, TSS_SELECTOR
    ltr ax
    mov eax, LDT_SELECTOR
    lldt ax

    jmp enter_bases

store_fxsave:
    fxsave64 [KERNEL + FXSAVE]
stored:
    hlt

enter_bases:
    fxrstor64 [KERNEL + FXSAVE]
    mov ds, [KERNEL + STATE]
    mov es, [KERNEL + STATE + 2]
    mov fs, [KERNEL + STATE + 4]
    mov gs, [KERNEL + STATE + 6]
    mov ecx, 0xc0000100
    mov eax, [KERNEL + STATE + 8]
    mov edx, [KERNEL + STATE + 12]
    wrmsr
    mov ecx, 0xc0000101
    mov eax, [KERNEL + STATE + 16]
    mov edx, [KERNEL + STATE + 20]
    wrmsr
    jmp leave

enter:
    fxrstor64 [KERNEL + FXSAVE]
    mov ds, [KERNEL + STATE]
    mov es, [KERNEL + STATE + 2]
    mov fs, [KERNEL + STATE + 4]
    mov gs, [KERNEL + STATE + 6]
leave:
    iretq

    .balign 8
gdt_pointer:
    .word 0x7f
    .long GDT
    .word 0
gdt_pointer_upper:
    .word 0x7f
    .quad KERNEL + GDT
idt_pointer:
    .word 0xfff
    .quad KERNEL + IDT
