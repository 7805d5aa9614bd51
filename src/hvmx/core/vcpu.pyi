from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEGMENT_NAMES: tuple[str, ...]

class Exit:
    @property
    def reason(self) -> int: ...
    @property
    def qualification(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def guest_linear(self) -> int: ...
    @property
    def guest_physical(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def is_write(self) -> bool: ...
    @property
    def is_in(self) -> bool: ...
    @property
    def number(self) -> int: ...
    @property
    def port(self) -> int: ...
    @property
    def msr(self) -> int: ...
    @property
    def vector(self) -> int: ...
    @property
    def error_code(self) -> int: ...
    value: int

class Vcpu:
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
    gdtr: tuple[int, int]
    idtr: tuple[int, int]
    a20: bool
    controls: int
    exception_bitmap: int
    cr0_mask: int
    cr4_mask: int
    cr0_shadow: int
    cr4_shadow: int
    deadline: int | None
    board: Any
    machine: Any
    poll: Callable[[], None] | None
    exit: Exit
    exit_details: dict[tuple[int, int], int]
    def __init__(self, memory_bytes: int) -> None: ...
    def reset(self) -> None: ...
    @property
    def cpl(self) -> int: ...
    def segment(self, name: str) -> tuple[int, int, int, int]: ...
    def set_segment(self, name: str, selector: int, base: int, limit: int, access: int) -> None: ...
    @property
    def memory(self) -> NDArray[np.uint8]: ...
    @property
    def memory_bytes(self) -> int: ...
    def read(self, address: int, length: int) -> bytes: ...
    def write(self, address: int, data: bytes | bytearray | memoryview) -> None: ...
    def add_rom(self, address: int, data: bytes | bytearray | memoryview) -> None: ...
    def add_hole(self, address: int, length: int) -> None: ...
    def ram_view(self) -> memoryview: ...
    def registers(self) -> dict[str, Any]: ...
    def translate(self, address: int) -> int | None: ...
    def set_handler(self, reason: int, handler: Callable[[Vcpu, Exit], None] | None) -> None: ...
    def handler(self, reason: int) -> Callable[[Vcpu, Exit], None] | None: ...
    def inject(self, vector: int, error_code: int | None = None) -> None: ...
    def set_interrupt(self, level: bool) -> None: ...
    def raise_nmi(self) -> None: ...
    def halt(self) -> None: ...
    @property
    def halted(self) -> bool: ...
    def stop(self) -> None: ...
    @property
    def io_bitmap(self) -> NDArray[np.uint8]: ...
    @property
    def msr_bitmap(self) -> NDArray[np.uint8]: ...
    @property
    def cycles(self) -> int: ...
    @property
    def instructions(self) -> int: ...
    def charge(self, cycles: int) -> None: ...
    def set_costs(
        self,
        op_costs: Mapping[str, int],
        exit_costs: Mapping[int, int],
        walk_reference: int = 0,
        exception: int = 0,
        hypercall: int = 0,
        pv_bounce: int = 0,
    ) -> None: ...
    def run(self, cycles: int | None = None) -> int: ...
    def step(self) -> int: ...
    def counters(self) -> dict[str, int]: ...
    def exit_statistics(self) -> dict[int, tuple[int, int, int, int, int]]: ...
