/* Guests that make their host work as hard as they can, one for each name; EBP holds the rounds. Each runs the same on
 * hvmx and on QEMU. */
#include "head.S"

        .text
#if defined STORM_aliases
/* One page of code at 32,768 linear addresses, each called; then a store to that page. */
#define ALIASES 32768
storm:  mov edi, 0x10000000
        mov ecx, ALIASES
        mov eax, FREE + ANYBODY
        xor edx, edx
        mov byte ptr [FREE], 0xc3
        call map_pages
2:      mov edi, 0x10000000
        mov ecx, ALIASES
1:      call edi
        add edi, PAGE_SIZE
        dec ecx
        jnz 1b
        mov byte ptr [FREE], 0xc3
        dec ebp
        jnz 2b
        ret

#elif defined STORM_crossing
/* Two pages of code at 16,384 pairs of linear addresses. First an instruction on their border is called at each, so that what
 * is decoded belongs to both, then one of the first page only; then a store to the second page. */
#define PAIRS 16384
storm:  mov edi, 0x10000000
        mov byte ptr [FREE], 0xc3
        mov byte ptr [FREE + 0xfff], 0xb8       /* mov eax, 0xc3; ret */
        mov dword ptr [FREE + 0x1000], 0xc3
        mov byte ptr [FREE + 0x1004], 0xc3
        mov esi, PAIRS
1:      mov eax, FREE + ANYBODY
        mov edx, PAGE_SIZE
        mov ecx, 2
        call map_pages
        dec esi
        jnz 1b
2:      mov edi, 0x10000fff
        mov ecx, PAIRS
1:      call edi
        add edi, 2 * PAGE_SIZE
        dec ecx
        jnz 1b
        mov edi, 0x10000000
        mov ecx, PAIRS
1:      call edi
        add edi, 2 * PAGE_SIZE
        dec ecx
        jnz 1b
        mov byte ptr [FREE + 0x1000], 0xc3
        dec ebp
        jnz 2b
        ret

#elif defined STORM_second_page
/* An instruction on the border of two pages, of which the second is another one each time; then a store to one of them. */
#define SECOND (TABLES + (0x10001000 >> 10))
storm:  mov edi, 0x10000000
        mov byte ptr [FREE + 0xfff], 0xb8       /* mov eax, 0xc3; ret */
        mov dword ptr [FREE + 0x1000], 0xc3
        mov byte ptr [FREE + 0x1004], 0xc3
        mov dword ptr [FREE + 0x2000], 0xc3
        mov byte ptr [FREE + 0x2004], 0xc3
        mov eax, FREE + ANYBODY
        mov edx, PAGE_SIZE
        mov ecx, 2
        call map_pages
        mov edi, 0x10000fff
2:      mov ecx, 20000
1:      mov dword ptr [SECOND], FREE + 0x1000 + ANYBODY
        invlpg [0x10001000]
        call edi
        mov dword ptr [SECOND], FREE + 0x2000 + ANYBODY
        invlpg [0x10001000]
        call edi
        dec ecx
        jnz 1b
        mov byte ptr [FREE + 0x1000], 0xc3
        dec ebp
        jnz 2b
        ret

#elif defined STORM_collisions
/* Code at addresses that a hash of the exclusive or of multiples of both page numbers puts into one bucket. */
#define FRAMES 4096
#define LINEAR 0x20000
#define LINEAR_END 0x60000
#define PLACES 0x6000000        /* linear: a list of what was found, in the frames from 48 MB on */
storm:  mov edi, PLACES
        mov eax, 0x3000000 + ANYBODY
        mov edx, PAGE_SIZE
        mov ecx, 64
        call map_pages
        mov edi, 0x5000000      /* by hash: the frame */
        mov eax, 0x3800000 + ANYBODY
        mov edx, PAGE_SIZE
        mov ecx, 32
        call map_pages
        xor ecx, ecx
1:      mov dword ptr [0x5000000 + ecx * 4], 0
        inc ecx
        cmp ecx, 32768
        jb 1b
        mov ecx, 0x1000000 >> 12
1:      mov eax, ecx
        shl eax, 12
        mov byte ptr [eax], 0xc3
        imul ebx, ecx, 0x9e5
        xor eax, ebx
        and eax, 0x7fff
        mov [0x5000000 + eax * 4], ecx
        inc ecx
        cmp ecx, (0x1000000 >> 12) + FRAMES
        jb 1b
        mov edi, LINEAR
        mov esi, PLACES
3:      imul eax, edi, 0x3d5b
        and eax, 0x7fff
        mov eax, [0x5000000 + eax * 4]
        test eax, eax
        jz 4f
        cmp esi, PLACES + 4 * 24000
        jae 5f
        shl eax, 12
        or eax, ANYBODY
        push edi
        shl edi, 12
        mov [esi], edi
        add esi, 4
        mov ecx, 1
        call map_pages
        pop edi
4:      inc edi
        cmp edi, LINEAR_END
        jb 3b
5:      mov ebx, esi
2:      mov esi, PLACES
1:      call [esi]
        add esi, 4
        cmp esi, ebx
        jb 1b
        dec ebp
        jnz 2b
        ret

#elif defined STORM_next_instruction
storm:  mov [1f + 1], bl
1:      mov al, 0
        inc ebx
        dec ebp
        jnz storm
        ret

#elif defined STORM_same_page
/* Stores beside the code, in its page. */
        .align 4096
storm:  mov [storm + 0x800], ebp
        mov [storm + 0x900], ebp
        dec ebp
        jnz storm
        ret
        .skip 0xf00

#elif defined STORM_other_page
/* As a compiler at run time: writes a function, and calls it. */
storm:  mov byte ptr [FREE], 0x90
        mov byte ptr [FREE + 1], 0xc3
        mov eax, FREE
        call eax
        dec ebp
        jnz storm
        ret

#elif defined STORM_long_blocks
/* Long straight code of which one instruction runs, and a store to it each time. */
storm:  mov edi, FREE
        mov word ptr [edi], 0x0474      /* jz over ... */
        mov dword ptr [edi + 2], 0x90909090
        mov byte ptr [edi + 6], 0xc3
        mov ecx, 120
1:      mov dword ptr [edi + ecx * 2], 0xc001d801 /* add eax, ebx; add eax, eax */
        sub ecx, 2
        cmp ecx, 4
        jae 1b
        mov word ptr [edi], 0x7e74
        mov byte ptr [edi + 0x80], 0xc3
        mov byte ptr [edi + 0x100], 0xc3
1:      xor eax, eax
        mov byte ptr [edi], 0x74
        call edi
        dec ebp
        jnz 1b
        ret

#elif defined STORM_page_of_blocks
/* 512 functions in a page are called and one is written anew. */
storm:  mov edi, FREE
        mov ecx, 512
1:      mov dword ptr [edi + ecx * 8 - 8], 0xc3909090
        mov dword ptr [edi + ecx * 8 - 4], 0xc3909090
        dec ecx
        jnz 1b
2:      mov edi, FREE
        mov ecx, 512
1:      call edi
        add edi, 8
        dec ecx
        jnz 1b
        mov byte ptr [FREE], 0x90
        dec ebp
        jnz 2b
        ret

#elif defined STORM_new_code
/* 16 MB of code, each byte run once a round. */
storm:  mov edi, FREE
        mov ecx, 0x1000000 / 8
1:      mov dword ptr [edi], 0xc001d801
        mov dword ptr [edi + 4], 0xc390d889
        add edi, 8
        dec ecx
        jnz 1b
2:      mov edi, FREE
        mov ecx, 0x1000000 / 8
1:      call edi
        add edi, 8
        dec ecx
        jnz 1b
        dec ebp
        jnz 2b
        ret

#elif defined STORM_new_long_code
/* Fresh code of which each time one instruction runs, and sixty are in line behind it. */
storm:  mov edi, FREE
        mov ecx, 0x1000000 / 8
1:      mov dword ptr [edi], 0xc0010674         /* jz to the last two; add eax, eax; ... */
        mov dword ptr [edi + 4], 0xc001c001
        add edi, 8
        dec ecx
        jnz 1b
        mov byte ptr [edi], 0xc3
2:      mov ebx, ebp
        mov edi, FREE
        mov ecx, 0x1000000 / 512
1:      mov byte ptr [edi + 8], 0xc3
        xor eax, eax
        call edi
        add edi, 512
        dec ecx
        jnz 1b
        dec ebp
        jnz 2b
        ret

#elif defined STORM_cr3
/* CR3 loads with a TLB full of global pages. */
storm:  mov edi, 0x10000000
        mov eax, FREE + ANYBODY + 0x100
        xor edx, edx
        mov ecx, 512
        call map_pages
        mov edi, 0x10000000
        mov ecx, 512
1:      mov eax, [edi]
        add edi, PAGE_SIZE
        dec ecx
        jnz 1b
        mov eax, cr3
1:      mov cr3, eax
        dec ebp
        jnz 1b
        ret

#elif defined STORM_invlpg
storm:  mov edi, 0x10000000
        mov eax, FREE + ANYBODY
        xor edx, edx
        mov ecx, 512
        call map_pages
        mov edi, 0x10000000
        mov ecx, 512
1:      mov eax, [edi]
        add edi, PAGE_SIZE
        dec ecx
        jnz 1b
1:      invlpg [0x20000000]
        dec ebp
        jnz 1b
        ret

#elif defined STORM_flush_and_touch
/* The whole TLB is filled and flushed. */
storm:  mov edi, FREE
        mov ecx, 512
1:      mov eax, [edi]
        add edi, PAGE_SIZE
        dec ecx
        jnz 1b
        mov eax, cr3
        mov cr3, eax
        dec ebp
        jnz storm
        ret

#elif defined STORM_wbinvd
storm:  wbinvd
        dec ebp
        jnz storm
        ret

#elif defined STORM_tlb_misses
storm:  mov eax, [FREE]
        mov eax, [FREE + 0x200000]
        mov eax, [FREE + 0x400000]
        mov eax, [FREE + 0x600000]
        dec ebp
        jnz storm
        ret

#elif defined STORM_protection
/* Protection off and on, paging being off. */
storm:  mov eax, cr0
        and eax, 0x7fffffff
        mov cr0, eax
1:      xor eax, 1
        mov cr0, eax
        xor eax, 1
        mov cr0, eax
        dec ebp
        jnz 1b
        or eax, 0x80000000
        mov cr0, eax
        ret

#elif defined STORM_paging
storm:  mov eax, cr0
1:      xor eax, 0x80000000
        mov cr0, eax
        xor eax, 0x80000000
        mov cr0, eax
        dec ebp
        jnz 1b
        ret

#elif defined STORM_paging_modes
/* Two-level and PAE paging in turn. */
#define PDPT 0x700000
storm:  mov dword ptr [PDPT], PDPT + 0x1000 + 1
        mov dword ptr [PDPT + 4], 0
        mov dword ptr [PDPT + 8], 0
        mov dword ptr [PDPT + 16], 0
        mov dword ptr [PDPT + 24], 0
        mov eax, 0x83
        xor ecx, ecx
1:      mov [PDPT + 0x1000 + ecx * 8], eax
        mov dword ptr [PDPT + 0x1004 + ecx * 8], 0
        add eax, 0x200000
        inc ecx
        cmp ecx, 32
        jb 1b
        mov esi, PDPT
        mov edi, DIRECTORY
2:      mov eax, cr0
        xor eax, 0x80000000
        mov cr0, eax
        mov ecx, cr4
        xor ecx, 0x20
        mov cr4, ecx
        mov cr3, esi
        xor eax, 0x80000000
        mov cr0, eax
        xchg esi, edi
        dec ebp
        jnz 2b
        mov eax, cr0
        xor eax, 0x80000000
        mov cr0, eax
        ret

#elif defined STORM_a20
storm:  mov al, 0
        out 0x92, al
        mov al, 2
        out 0x92, al
        dec ebp
        jnz storm
        ret

#elif defined STORM_code_segments
/* Far jumps through 4,096 code segments with bases of their own. */
#define SEGMENTS 4096
storm:  xor ecx, ecx
        mov esi, 0x100000
        mov edi, FREE
1:      mov eax, [gdt + ecx * 4]
        mov [edi + ecx * 4], eax
        inc ecx
        cmp ecx, 12
        jb 1b
        mov ecx, 6
1:      mov eax, ecx
        shl eax, 4
        mov edx, eax                    /* the base */
        shl eax, 16
        or eax, 0xffff
        mov [edi + ecx * 8], eax
        mov eax, edx
        shr eax, 16
        or eax, 0x00cf9b00
        mov [edi + ecx * 8 + 4], eax
        inc ecx
        cmp ecx, 6 + SEGMENTS
        jb 1b
        mov word ptr [gdt_place], 8 * (6 + SEGMENTS) - 1
        mov dword ptr [gdt_place + 2], FREE
        lgdt [gdt_place]
2:      mov ecx, 6
1:      mov eax, ecx
        shl eax, 4
        mov edx, offset 3f
        sub edx, eax
        mov [target], edx
        lea eax, [ecx * 8]
        mov [target + 4], ax
        ljmp [target]
3:      inc ecx
        cmp ecx, 6 + SEGMENTS
        jb 1b
        dec ebp
        jnz 2b
        ljmp 8, offset 1f
1:      ret
        .data
target: .long 0, 0

#elif defined STORM_segments
storm:  mov eax, 16
1:      mov ds, eax
        mov es, eax
        mov fs, eax
        dec ebp
        jnz 1b
        ret

#elif defined STORM_page_tables
/* A page is mapped, touched and unmapped. */
storm:  mov edi, 0x10000000
        mov eax, FREE + ANYBODY
        xor edx, edx
        mov ecx, 1
        call map_pages
        mov edi, 0x10000000
1:      mov dword ptr [TABLES + (0x10000000 >> 10)], FREE + ANYBODY
        mov eax, [edi]
        mov dword ptr [TABLES + (0x10000000 >> 10)], 0
        invlpg [edi]
        dec ebp
        jnz 1b
        ret

#elif defined STORM_repeat_across_pages
/* Strings of words that lie on the border of two pages. */
storm:  mov esi, FREE + 1
        mov edi, FREE + 0x800003
        mov ecx, 0x4000
        rep movsd
        dec ebp
        jnz storm
        ret

#elif defined STORM_repeat_over_code
/* A page of functions is called, and written anew by one instruction. */
storm:  mov edi, FREE
        mov ecx, 4096
        mov al, 0xc3
        rep stosb
        mov edi, FREE
        mov ecx, 64
1:      call edi
        add edi, 64
        dec ecx
        jnz 1b
        dec ebp
        jnz storm
        ret

#elif defined STORM_repeat_device
storm:  mov esi, 0xfed40000
        mov edi, 0x10000000
        mov eax, 0xfed40000 + ANYBODY
        xor edx, edx
        mov ecx, 1
        call map_pages
        mov esi, 0x10000000
1:      mov edi, FREE
        mov ecx, 1024
        rep movsd
        sub esi, 4096
        dec ebp
        jnz 1b
        ret

#elif defined STORM_crossing_accesses
storm:  mov eax, [FREE + 0xffd]
        mov [FREE + 0x1ffd], eax
        add [FREE + 0x2ffd], eax
        dec ebp
        jnz storm
        ret

#elif defined STORM_breakpoints_armed
storm:  mov eax, 0x12345678
        mov dr0, eax
        mov eax, 0x000d0402
        mov dr7, eax
1:      mov eax, [FREE]
        inc eax
        mov [FREE], eax
        dec ebp
        jnz 1b
        xor eax, eax
        mov dr7, eax
        ret

#elif defined STORM_breakpoints_moved
storm:  mov eax, 0x12345678
1:      mov dr0, eax
        mov ebx, [FREE]
        dec ebp
        jnz 1b
        ret

#elif defined STORM_single_step
#define OWN_HANDLER
handler:
        iret
storm:  pushf
        or dword ptr [esp], 0x100
        popf
1:      inc eax
        dec ebp
        jnz 1b
        pushf
        and dword ptr [esp], ~0x100
        popf
        ret

#elif defined STORM_exceptions
#define OWN_HANDLER
handler:
        add dword ptr [esp], 2
        iret
storm:  ud2
        dec ebp
        jnz storm
        ret

#elif defined STORM_page_faults
#define OWN_HANDLER
handler:
        add esp, 4
        add dword ptr [esp], 2
        iret
storm:  mov ecx, 0x80000000
1:      mov eax, [ecx]
        dec ebp
        jnz 1b
        ret

#elif defined STORM_rings
#define OWN_HANDLER
handler:
        dec ebp
        jz 1f
        iret
1:      mov esp, ss:[kept]      /* DS went with the ring */
        ret
storm:  mov [kept], esp
        push 0x23
        push offset stack3
        push 2
        push 0x1b
        push offset 1f
        iret
1:      int 0x80
        jmp 1b
        .bss
kept:   .long 0
        .skip 256
stack3:

#elif defined STORM_transcendentals
storm:  fld tbyte ptr [number]
        fsincos
        fpatan
        f2xm1
        fstp st(0)
        fld1
        fld tbyte ptr [number]
        fyl2x
        fptan
        fstp st(0)
        fstp st(0)
        dec ebp
        jnz storm
        ret
        .data
number: .quad 0xc90fdaa22168c235
        .word 0x403c

#elif defined STORM_remainders
storm:  fld tbyte ptr [small]
        fld tbyte ptr [big]
1:      fprem
        fprem1
        fstp st(0)
        fstp st(0)
        dec ebp
        jnz storm
        ret
        .data
small:  .quad 0x8000000000000003
        .word 1
big:    .quad 0xffffffffffffffff
        .word 0x7ffe

#elif defined STORM_denormals
storm:  movups xmm0, [tiny]
1:      movaps xmm1, xmm0
        mulps xmm1, xmm0
        divps xmm1, xmm0
        sqrtps xmm2, xmm0
        addps xmm2, xmm0
        dec ebp
        jnz 1b
        ret
        .data
tiny:   .long 1, 0x7fffff, 0x80000001, 3

#elif defined STORM_strings_compared
storm:  movups xmm0, [words]
1:      movaps xmm1, xmm0
        pcmpestri xmm1, xmm0, 0x0c
        pcmpistrm xmm1, xmm0, 0x40
        dec ebp
        jnz 1b
        ret
        .data
words:  .ascii "abcabcabcabcabca"

#elif defined STORM_state_images
storm:  fxsave [FREE]
        fxrstor [FREE]
        fnsave [FREE + 512]
        frstor [FREE + 512]
        dec ebp
        jnz storm
        ret

#elif defined STORM_decimals
storm:  fld tbyte ptr [number]
        fbstp [FREE]
        fbld [FREE]
        fstp st(0)
        dec ebp
        jnz storm
        ret
        .data
number: .quad 0xde0b6b3a763ffff0
        .word 0x403a

#elif defined STORM_ciphers
storm:  movups xmm0, [words]
1:      aesenc xmm0, xmm1
        aesdeclast xmm0, xmm1
        aesimc xmm1, xmm0
        aeskeygenassist xmm1, xmm0, 1
        pclmulqdq xmm0, xmm1, 1
        dec ebp
        jnz 1b
        ret
        .data
words:  .ascii "abcabcabcabcabca"

#elif defined STORM_tasks
/* A call of a task, and its return. */
storm:  mov eax, offset other
        mov edi, FREE
        xor ecx, ecx
1:      mov edx, [gdt + ecx * 4]
        mov [edi + ecx * 4], edx
        inc ecx
        cmp ecx, 12
        jb 1b
        mov edx, eax
        shl eax, 16
        or eax, 0x67
        mov [edi + 0x30], eax
        shr edx, 16
        or edx, 0x8900
        mov [edi + 0x34], edx
        mov word ptr [gdt_place], 0x37
        mov dword ptr [gdt_place + 2], edi
        lgdt [gdt_place]
1:      lcall 0x30, 0
        dec ebp
        jnz 1b
        ret
away:   iret
        jmp away
        .data
other:  .long 0, 0, 0, 0, 0, 0, 0, DIRECTORY, offset away, 2, 0, 0, 0, 0, offset other_stack, 0, 0, 0
        .long 16, 8, 16, 16, 16, 16, 0, 0x680000
        .bss
        .skip 256
other_stack:

#elif defined STORM_frames
storm:  push ebp
        mov ebp, offset FREE + 0x1000
        enter 16, 31
        leave
        pop ebp
        dec ebp
        jnz storm
        ret
#endif

#ifndef OWN_HANDLER
        .text
handler:
        hlt
        jmp handler
#endif
