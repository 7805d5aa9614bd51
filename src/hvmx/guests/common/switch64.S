    .text

/* void switch_stacks(void **save, void *load): the callee-saved registers travel on the stack. */
    .globl switch_stacks
switch_stacks:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

/* void *stack_for_switch(void *frame, void (*resume)(void)): what switch_stacks() may load. */
    .globl stack_for_switch
stack_for_switch:
    mov %rsi, -8(%rdi)
    lea -56(%rdi), %rax
    ret

    .section .note.GNU-stack, "", @progbits
