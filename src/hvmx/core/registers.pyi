from typing import Any

SEGMENT_NAMES: tuple[str, ...]

class Registers:
    rax: int
    rcx: int
    rdx: int
    rbx: int
    rsp: int
    rbp: int
    rsi: int
    rdi: int
    r8: int
    r9: int
    r10: int
    r11: int
    r12: int
    r13: int
    r14: int
    r15: int
    rip: int
    rflags: int
    es: int
    cs: int
    ss: int
    ds: int
    fs: int
    gs: int
    fs_base: int
    gs_base: int
    ldtr: int
    tr: int
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int
    dr0: int
    dr1: int
    dr2: int
    dr3: int
    dr6: int
    dr7: int
    star: int
    lstar: int
    cstar: int
    sfmask: int
    kernel_gs_base: int
    tsc_aux: int
    sysenter_cs: int
    sysenter_esp: int
    sysenter_eip: int
    apic_base: int
    pat: int
    xcr0: int
    random_state: int
    gdtr: tuple[int, int]
    idtr: tuple[int, int]
    @property
    def cpl(self) -> int: ...
    def segment(self, name: str) -> tuple[int, int, int, int]: ...
    def set_segment(self, name: str, selector: int, base: int, limit: int, access: int) -> None: ...
    def has_msr(self, number: int) -> bool: ...
    def msr(self, number: int) -> int: ...
    def set_msr(self, number: int, value: int) -> None: ...
    def registers(self) -> dict[str, Any]: ...
    fcw: int
    fsw: int
    ftw: int
    mxcsr: int
    xmm0: int
    xmm1: int
    xmm2: int
    xmm3: int
    xmm4: int
    xmm5: int
    xmm6: int
    xmm7: int
    xmm8: int
    xmm9: int
    xmm10: int
    xmm11: int
    xmm12: int
    xmm13: int
    xmm14: int
    xmm15: int
    st0: int
    st1: int
    st2: int
    st3: int
    st4: int
    st5: int
    st6: int
    st7: int
    mm0: int
    mm1: int
    mm2: int
    mm3: int
    mm4: int
    mm5: int
    mm6: int
    mm7: int
