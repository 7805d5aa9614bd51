/* Where a program begins, and where it returns from a signal's handler. */
        .text
        .globl _start, return_from_signal
_start: mov     %rsp, %rdi      /* the count of arguments, then the arguments */
        and     $-16, %rsp
        call    program

return_from_signal:
        mov     $15, %eax       /* rt_sigreturn() */
        syscall

        .section .note.GNU-stack, "", @progbits
