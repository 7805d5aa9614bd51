/* pv64: what Xen's domain builders read, and the entry point. */
#include "xen.h"

.macro NOTE type, content:vararg
    .align 4
    .long 4, 2f - 1f, \type
    .asciz "Xen"
1:
    \content
2:
.endm

    .section .note.Xen, "a", @note
    NOTE 6, .asciz "hvmx guest"      /* GUEST_OS */
    NOTE 7, .asciz "1"               /* GUEST_VERSION */
    NOTE 5, .asciz "xen-3.0"         /* XEN_VERSION */
    NOTE 8, .asciz "generic"         /* LOADER */
    NOTE 3, .quad XEN_VIRT_BASE      /* VIRT_BASE */
    NOTE 4, .quad 0                  /* PADDR_OFFSET */
    NOTE 1, .quad _start             /* ENTRY */
    NOTE 9, .asciz "yes"             /* PAE_MODE */
    NOTE 17, .long 1 << 11           /* SUPPORTED_FEATURES: XENFEAT_dom0 */
    .align 4

    .text
    .globl _start
_start:
    cld
    mov $boot_stack_top, %rsp
    mov %rsi, %rdi
    call pv_start /* (RDI: start_info) */

    .bss
    .align 16
    .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
