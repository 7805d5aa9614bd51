# A ROM that carries out a script of port accesses and tells what it read on the debug console.
# The script, at offset 0x4000, holds records of one operation byte and its operands (see probe.py).
    .intel_syntax noprefix
    .code16
    .globl _start
    .equ ROM, 0xf000
    .equ SCRIPT, 0x4000
    .equ CONSOLE, 0xe9
    .equ EXIT, 0xf4

_start:
    cli
    xor ax, ax
    mov ss, ax
    mov es, ax
    mov sp, 0x7000
    xor di, di                  # interrupt vectors: the stubs below
    mov ax, offset stubs
vector:
    stosw
    mov word ptr es:[di], ROM
    add di, 2
    add ax, 4
    cmp di, 1024
    jb vector
    mov ax, ROM
    mov ds, ax
    mov si, SCRIPT
next:
    lodsb
    cmp al, 1
    je write
    cmp al, 2
    je read
    cmp al, 3
    je wait
    cmp al, 4
    je interrupt
    mov al, 0
    out EXIT, al
    hlt
write:
    lodsw
    mov dx, ax
    lodsb
    out dx, al
    jmp next
read:
    lodsw
    mov dx, ax
    in al, dx
    out CONSOLE, al
    jmp next
wait:
    lodsw
    mov dx, ax
    lodsw                       # al: mask, ah: value
again:
    in al, dx
    and al, byte ptr [si - 2]
    cmp al, ah
    jne again
    jmp next
interrupt:                      # take at most one interrupt: 1 and its vector, or 0 and 0
    xor bx, bx
    sti
    nop
    nop
    nop
    nop
    cli
    mov al, bh
    out CONSOLE, al
    mov al, bl
    out CONSOLE, al
    jmp next

stubs:
    .rept 256
    .byte 0xe8                  # call took: the return address tells the vector
    .word took - . - 2
    nop
    .endr
took:
    pop ax
    sub ax, offset stubs + 3
    shr ax, 2
    mov bl, al
    mov bh, 1
    mov bp, sp
    and word ptr [bp + 4], 0xfdff  # return with interrupts off
    iret

    .org 0xfff0
    .byte 0xea                  # jmp far ROM:_start
    .word _start, ROM
    .org 0x10000
