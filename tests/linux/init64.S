/* /init of a test's initramfs: prints the marker, then powers the machine off. 64-bit Linux system calls. */
        .text
        .globl _start
_start:
        mov $1, %eax            /* write(1, marker, length) */
        mov $1, %edi
        lea marker(%rip), %rsi
        mov $marker_end - marker, %edx
        syscall
        mov $162, %eax          /* sync() */
        syscall
        mov $169, %eax          /* reboot(LINUX_REBOOT_MAGIC1, MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0) */
        mov $0xfee1dead, %edi
        mov $672274793, %esi
        mov $0x4321fedc, %edx
        xor %r10d, %r10d
        syscall
1:      jmp 1b

        .data
marker: .ascii "hvmx: init reached\n"
marker_end:

        .section .note.GNU-stack, "", @progbits
