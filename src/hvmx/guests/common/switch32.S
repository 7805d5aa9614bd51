    .text

/* void switch_stacks(void **save, void *load): the callee-saved registers travel on the stack. */
    .globl switch_stacks
switch_stacks:
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov %esp, (%eax)
    mov %edx, %esp
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret

/* void *stack_for_switch(void *frame, void (*resume)(void)): what switch_stacks() may load. */
    .globl stack_for_switch
stack_for_switch:
    mov %edx, -4(%eax)
    sub $20, %eax
    ret

    .section .note.GNU-stack, "", @progbits
