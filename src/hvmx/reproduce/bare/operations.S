/* Single operations on the bare machine, each timed in a loop: a flat image for 64-bit mode under an identity map.
 *
 * It begins with a table: 16 bytes of name, and the address where the operation is entered; a row of zeros ends it. Entered
 * there, the image runs OPERATIONS of them twice, of which the first round is there to be warm, and halts with the guest
 * cycles of the second in RAX and OPERATIONS in RCX. `empty` is the loop around them.
 *
 * The operations keep off RBP, R14 and R15, and may change all else.
 */
#define OPERATIONS 100

/* Memory behind the image. The task state is where the boot state's TR points: at 0. */
#define STACK_TOP   0x1f0000
#define IDT         0x1f0000
#define PAGE_TABLE  0x1f1000
#define RSP0        4 /* SDM vol. 3, 7.7 */

#define WITH_PAGES  0x200000 /* mapped in pages of 4 KiB by PAGE_TABLE, none of which is present */

#define KERNEL_CODE 0x10 /* as the boot state has it */
#define SELECTORS   ((KERNEL_CODE | KERNEL_CODE << 16)) /* for SYSRET and SYSCALL; the processor adds to them, SDM vol. 2 */
#define EFER        0xc0000080
#define STAR        0xc0000081
#define LSTAR       0xc0000082
#define SFMASK      0xc0000084
#define APIC_BASE   0x1b

        .code64

.macro operation name, mode
        .text 0
.Lname\@:
        .ascii "\name"
        .org .Lname\@ + 16
        .quad .Lentry\@
        .text 1
.Lentry\@:
        call prepare
.ifnb \mode
        call \mode
.endif
        mov $2, %ebp
10:     mov $OPERATIONS, %r14d
        call clock
        mov %rax, %r15
        xor %eax, %eax
        xor %ecx, %ecx
        xor %edx, %edx
11:
.endm

.macro again
        dec %r14d
        jnz 11b
        call clock
        sub %r15, %rax
        dec %ebp
        jnz 10b
        mov $OPERATIONS, %ecx
        hlt
.endm

        operation empty
        again

        operation in
        in $0x80, %al
        again

        operation in-unassigned /* the port that kvm-unit-tests reads, where nothing is */
        mov $0x1234, %edx
        in %dx, %eax
        again

        operation divzero
        div %ecx
        again

        operation callret
        call return
        again

        operation pgfault
        mov $WITH_PAGES, %esi
        mov (%rsi), %al
        again

        operation ptemod /* the counter is what an entry gets */
        mov %r14, PAGE_TABLE + 8
        again

        operation cpuid
        xor %eax, %eax
        cpuid
        again

        operation vmcall
        vmcall
        again

        operation rdmsr
        mov $APIC_BASE, %ecx
        rdmsr
        again

        operation undefined
        ud2
        again

        operation mov_from_cr8
        mov %cr8, %rax
        again

        operation mov_to_cr8
        mov %rax, %cr8
        again

        operation syscall, user_mode /* into a kernel that only returns */
        syscall
        again

        .text 0
        .quad 0, 0, 0
        .text 1

clock:  lfence
        rdtsc
        lfence
        shl $32, %rdx
        or %rdx, %rax
return: ret

/* Returns in user mode, on the same stack. */
user_mode:
        pop %rcx
        mov $0x2, %r11d
        sysretq

system_call:
        sysretq

/* Handlers go on behind the instruction, which has two bytes. */
page_fault:
        add $8, %rsp /* the error code */
skip:   addq $2, (%rsp)
        iretq

protection: /* HLT of user mode */
        hlt

.macro gate vector, handler
        lea \handler(%rip), %rax
        mov %ax, IDT + 16 * \vector
        movw $KERNEL_CODE, IDT + 16 * \vector + 2
        movw $0x8e00, IDT + 16 * \vector + 4 /* a present interrupt gate */
        shr $16, %rax
        mov %ax, IDT + 16 * \vector + 6
.endm

.macro wrmsr_low msr
        mov $\msr, %ecx
        wrmsr
.endm

prepare:
        gate 0, skip
        gate 6, skip
        gate 13, protection
        gate 14, page_fault
        lidt idt_pointer(%rip)
        pop %rax
        mov $STACK_TOP, %esp
        movq $STACK_TOP, RSP0
        push %rax

        /* The first 2 MiB are user mode's too, the second are mapped by a table of ours. */
        mov %cr3, %rbx
        orq $4, (%rbx)
        mov (%rbx), %rbx
        and $~0xfff, %rbx
        orq $4, (%rbx)
        mov (%rbx), %rbx
        and $~0xfff, %rbx
        orq $4, (%rbx)
        movq $PAGE_TABLE + 7, 8(%rbx)
        mov %cr3, %rax
        mov %rax, %cr3

        mov $EFER, %ecx
        rdmsr
        or $1, %eax
        wrmsr
        xor %eax, %eax
        mov $SELECTORS, %edx
        wrmsr_low STAR
        xor %edx, %edx
        wrmsr_low SFMASK
        lea system_call(%rip), %rax
        wrmsr_low LSTAR
        ret

idt_pointer:
        .word 16 * 32 - 1
        .quad IDT
