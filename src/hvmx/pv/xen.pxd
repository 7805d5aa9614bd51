# cython: language_level=3
"""Cython's view of the hypercall table and of a Xen domain (cext/)."""
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from hvmx.core.generated.vocabulary cimport ExitOutcome
from hvmx.core.state.insn cimport Insn
from hvmx.core.state.state cimport Cpu
from hvmx.pv.hypercall cimport hvmx_hypercall, hvmx_hypercall_fn

cdef extern from "core_services.h" nogil:
    const uint64_t NO_ADDRESS
    struct hvmx_core:
        void (*flush_tlb)(Cpu *, int) noexcept
        void (*flush_page)(Cpu *, uint64_t) noexcept
        void (*update_mode)(Cpu *) noexcept
        uint64_t (*translate)(Cpu *, uint64_t, int) noexcept
        void (*page_written)(Cpu *, uint64_t) noexcept
        ExitOutcome (*exit_to_handler)(Cpu *, uint32_t) noexcept
        int (*decode)(const Cpu *, const uint8_t *, int, Insn *) noexcept
    const hvmx_core *hvmx_core_services "hvmx_core"

cdef extern from "table.h" nogil:
    enum:
        ENTRY_TAKEN
        ENTRY_SLOW
        ENTRY_CHARGES
    struct call_tally:
        uint64_t calls, units, least, most, last, settled, host_ns, host_least, host_most, host_sample
    struct hypercall_entry:
        hvmx_hypercall_fn fn
        void *user
        uint64_t refused, unanswered
        uint64_t exits
        uint32_t cost
        uint32_t flags
        call_tally *tally
        uint32_t sub_operations
    struct hypercall_table:
        hypercall_entry entry[257]
    uint64_t calls_of(const hypercall_entry *)
    int hvmx_table_register(hypercall_table *, uint32_t, hvmx_hypercall_fn, void *, uint32_t)
    struct vmcall:
        hypercall_table table
    void vmcall_init(vmcall *, Cpu *, uint64_t frequency, uint64_t epoch)
    int vmcall_dispatch(Cpu *)
    int vmcall_answer(vmcall *, Cpu *)

cdef extern from "domain.h" nogil:
    enum:
        SIF_PRIVILEGED
        SIF_INITDOMAIN
        DOMAIN_RUNNING
        DOMAIN_SHUT_DOWN
        DOMAIN_CRASHED
    enum:
        ANSWERED_MSRS
    struct msr_count:
        uint32_t number
        uint64_t count
    struct domain:
        uint64_t kernel_table
        Cpu *cpu
        hypercall_table table
        uint64_t nr_pages, reserved, frame_count
        uint64_t shared_info_frame
        uint32_t console_port, store_port
        uint8_t state
        uint32_t shutdown_code
        char *crash_reason
        uint32_t flags
        uint64_t refused_instructions
        msr_count msrs[ANSWERED_MSRS]

cdef extern from "emulate.h" nogil:
    int domain_has_msr "has_msr"(domain *, uint32_t)

cdef extern from "frames.h" nogil:
    struct frame:
        pass
    uint64_t count_tables(const domain *)

cdef extern from "create.h" nogil:
    struct domain_config:
        uint64_t frequency, epoch
        uint32_t flags
        uint32_t update_cost, entry_cost
        int (*console)(void *, const char *, uint32_t) noexcept
        void *owner
    struct domain_start:
        uint64_t l4, entry, stack, start_info, console_frame
    domain *xen_create(Cpu *, const domain_config *)
    void xen_destroy(domain *)
    int xen_start(domain *, const domain_start *)

cdef extern from "console.h" nogil:
    uint32_t xen_console_room(domain *)
    uint32_t xen_console_input(domain *, const uint8_t *, uint32_t)

cdef extern from "clock.h" nogil:
    uint64_t system_time(const domain *)
