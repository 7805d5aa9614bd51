/* KVM's hypercall 1 (KVM_HC_VAPIC_POLL_IRQ), the one that by definition does nothing, over and over: four
 * instructions an iteration. The checksum is the last answer, which is 0 where the hypercall exists. */
#define KVM_HC_VAPIC_POLL_IRQ 1

        .text
        .globl kernel
kernel:
        push %esi
        mov $ROUNDS, %esi
1:      mov $KVM_HC_VAPIC_POLL_IRQ, %eax
        vmcall
        dec %esi
        jnz 1b
        pop %esi
        ret
