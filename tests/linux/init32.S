/* /init of a test's initramfs: prints the marker, then powers the machine off. i386 Linux system calls. */
        .text
        .globl _start
_start:
        mov $4, %eax            /* write(1, marker, length) */
        mov $1, %ebx
        mov $marker, %ecx
        mov $marker_end - marker, %edx
        int $0x80
        mov $36, %eax           /* sync() */
        int $0x80
        mov $88, %eax           /* reboot(LINUX_REBOOT_MAGIC1, MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0) */
        mov $0xfee1dead, %ebx
        mov $672274793, %ecx
        mov $0x4321fedc, %edx
        xor %esi, %esi
        int $0x80
1:      jmp 1b

        .data
marker: .ascii "hvmx: init reached\n"
marker_end:

        .section .note.GNU-stack, "", @progbits
