# cython: language_level=3
"""Cython's view of state.h: the processor state, decoded operations, and the constants of the architecture."""
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from hvmx.core.generated.vocabulary cimport *

cdef extern from "tlb.h" nogil:
    enum:
        PAGE_4K
        PAGE_2M
        PAGE_1G
        PAGE_SIZES
    enum:
        TLB_OF_DATA
        TLB_OF_CODE
        TLB_SECOND
        TLB_PARTS
    enum:
        MAP_WRITABLE
        MAP_USER
        MAP_NO_EXECUTE
        MAP_DIRTY
        MAP_GLOBAL
        MAP_PIECE_2M
        MAP_PIECE_1G
        PIECE_REGIONS
        MAP_RIGHTS
    enum:
        WALK_LEVELS
        MOST_UNDONE
        PCIDS
    uint32_t PAGE_SHIFT_OF(uint32_t size)

    const uint64_t NO_MASK
    ctypedef struct TlbArray:
        uint32_t entries, ways, sets, first
        uint64_t mask
        uint32_t used
        uint32_t *next
        uint64_t *full
        uint64_t *key
        uint64_t *page
        uint64_t *stamp

    ctypedef struct WalkEntry:
        uint64_t key, stamp

    ctypedef struct WalkCache:
        uint32_t entries, next
        WalkEntry *entry

    ctypedef struct WalkFill:
        WalkCache *cache
        WalkEntry before
        uint32_t next

    ctypedef struct TlbModel:
        TlbArray arrays[TLB_PARTS][PAGE_SIZES]
        WalkCache tables[WALK_LEVELS]
        WalkCache nested[WALK_LEVELS]
        uint64_t flushes, all_flushed, private_flushed, nested_flushed
        uint64_t flushed[PCIDS]
        uint64_t tables_flushed[PCIDS]
        WalkFill undo[MOST_UNDONE]
        uint32_t undo_count, second_hit_cost
        uint64_t pieces[PIECE_REGIONS // 64]
        uint64_t *jump_words

cdef extern from "state.h" nogil:
    bint LIKELY(bint)
    bint UNLIKELY(bint)

    enum:
        REG_RAX
        REG_RCX
        REG_RDX
        REG_RBX
        REG_RSP
        REG_RBP
        REG_RSI
        REG_RDI
        REG_R8
        REG_ZERO
    enum:
        SEG_ES
        SEG_CS
        SEG_SS
        SEG_DS
        SEG_FS
        SEG_GS
        SEG_LDTR
        SEG_TR
        SEG_COUNT
    enum:
        VEC_DE
        VEC_DB
        VEC_NMI
        VEC_BP
        VEC_OF
        VEC_BR
        VEC_UD
        VEC_NM
        VEC_DF
        VEC_TS
        VEC_NP
        VEC_SS
        VEC_GP
        VEC_PF
        VEC_MF
        VEC_AC
        VEC_MC
        VEC_XM
    enum:
        FL_CF
        FL_PF
        FL_AF
        FL_ZF
        FL_SF
        FL_TF
        FL_IF
        FL_DF
        FL_OF
        FL_IOPL
        FL_NT
        FL_RF
        FL_VM
        FL_AC
        FL_VIF
        FL_VIP
        FL_ID
    enum:
        AR_ACCESSED
        AR_TYPE
        AR_S
        AR_DPL
        AR_P
        AR_AVL
        AR_L
        AR_DB
        AR_G
        AR_UNUSABLE
    enum:
        CR0_PE
        CR0_MP
        CR0_EM
        CR0_TS
        CR0_ET
        CR0_NE
        CR0_WP
        CR0_AM
        CR0_NW
        CR0_CD
    enum:
        CR4_VME
        CR4_PVI
        CR4_TSD
        CR4_DE
        CR4_PSE
        CR4_PAE
        CR4_MCE
        CR4_PGE
        CR4_PCE
        CR4_OSFXSR
        CR4_OSXMMEXCPT
        CR4_UMIP
        CR4_PCIDE
        CR4_OSXSAVE
        CR4_SMEP
        CR4_SMAP
    enum:
        EFER_SCE
        EFER_LME
        EFER_LMA
        EFER_NXE
    enum:
        MODE_16
        MODE_32
        MODE_64
        MODE_WIDTH
        MODE_STACK32
        MODE_FLAT_DS
        MODE_FLAT_ES
        MODE_FLAT_SS
        MODE_USER
        MODE_CS_ID_SHIFT
        MODE_CS_IDS
    enum:
        TLB_WRITE
        TLB_EXEC
        TLB_GLOBAL
        TLB_DIRTY
        TLB_LARGE
        TLB_HUGE
        TLB_DATA
        TLB_CODE
    enum:
        OPEN_READ
        OPEN_WRITE
    enum:
        TLB_SUPER
        TLB_SUPER_AC
        TLB_USER
        TLB_USER_AC
        TLB_KINDS
    enum:
        SHADOW_STI
        SHADOW_MOV_SS
    enum:
        NMI_BLOCKED
        NMI_LATCHED
    enum:
        VECTORING_NMI
        VECTORING_EXCEPTION
    enum:
        PAST_EXCEPTIONS
    enum:
        FAULT_NONE
        FAULT_EXCEPTION
        FAULT_ABORT
        FAULT_SKIP
    enum:
        PEND_INTR
        PEND_NMI
        PEND_FLUSH
        PEND_TRAP
        PEND_EVENT
        PEND_BUDGET
    enum:
        PAGE_ROM
        PAGE_HOLE
        PAGE_BACKED
        PAGE_CODE
        PAGE_TABLE
        PAGE_OPEN
    const int FL_ARITH
    const uint32_t CR0_PG
    const uint32_t VECTORING_VALID
    const int ACCT_SHIFT
    const int ACCT_INSTR_MASK
    const int CYCLE_FRACTION
    enum:
        BLOCK_INSTRUCTIONS
    const int BLOCK_UNITS
    const uint32_t TRANSLATE_NEVER
    const int BUCKETS
    const int BUCKET_BITS
    const int TLB_ENTRIES
    const uint64_t NO_SLOT
    const int JCACHE_ENTRIES
    const int MOST_PLAIN
    const uint64_t NO_PAGE

    enum:
        PIPES
        BOOKED_CYCLES
        WINDOW_PARTS
        MOST_BEHIND
        MOST_HELD
        FAR_FRONT
        SEEN_STORES
        CLASS_USES
        TIMING_READS
        TIMING_WRITES
        READY_GENERAL
        READY_XMM
        READY_X87
        READY_CARRY
        READY_FLAGS
        READY_COUNT
        READY_NONE
    enum:
        TIMING_LOAD
        TIMING_STORE
        TIMING_CONDITIONAL
        TIMING_TAKEN
        TIMING_FUSES
        TIMING_ELIMINATED
        TIMING_ZEROES
        TIMING_ONLY_MOVES
        TIMING_SHIFTS
        TIMING_VECTOR
        TIMING_LOCKED
        TIMING_EXCHANGES
        TIMING_STACK
        TIMING_REPEATED
        TIMING_WHOLE
        TIMING_FUSED
        NO_WAY
    enum:
        STRING_MOVS
        STRING_STOS
        STRING_LODS
        STRING_CMPS
        STRING_SCAS
        STRING_KINDS
    enum:
        ELIMINATES_GENERAL
        ELIMINATES_VECTOR
        TRAIT_FUSES
        TRAIT_ZEROES
    Op *NOWHERE

    ctypedef struct SeenStore:
        int32_t disp
        uint8_t base, index, scale, segment, width
        uint16_t forgotten

    ctypedef struct Booking:
        uint16_t cycles, work

    ctypedef struct Pipeline:
        uint16_t ready[READY_COUNT]
        uint16_t booked_until[PIPES]
        uint16_t complete[WINDOW_PARTS]
        Booking booked[PIPES]
        SeenStore stores[SEEN_STORES]
        uint32_t front
        uint8_t slot, fetched, fuses, filled, filled_vectors

    ctypedef struct Timing:
        uint8_t reads[TIMING_READS]
        uint8_t writes[TIMING_WRITES]
        uint8_t read_count, write_count, flags_read, flags_written
        uint8_t base, index, scale, segment, width
        int8_t x87_push
        uint8_t string, vectors
        uint16_t cost
        uint32_t flags
        int32_t disp, shift

    ctypedef struct PipeUse:
        uint16_t pipes, cycles

    ctypedef struct ClassTiming:
        uint32_t latency, alone
        uint8_t slots, only_moves, use_count
        PipeUse uses[CLASS_USES]

    ctypedef struct PipelineModel:
        uint32_t width, slot_units, window, window_cycles, vectors, vector_cycles
        uint32_t taken_branch, indirect, call, fetch_ahead, misprediction
        uint32_t load, load_vector, forward, forward_stack, forward_operand, forward_vector
        uint32_t forward_slack
        uint32_t locked
        uint32_t alone_load, alone_store, alone_locked
        uint32_t repeat_start[STRING_KINDS]
        uint32_t repeat_element[STRING_KINDS][2][4]
        uint8_t eliminated
        uint8_t traits[1024]
        ClassTiming classes[256]

    enum:
        RUN_BITS
        RUN_ENTRIES
        RUN_FOREVER
        RUN_SURE
        HISTORY_TABLES
        HISTORY_BITS
        MOST_RETURNS
        MOST_TARGETS
    ctypedef struct HistoryEntry:
        uint16_t tag
        int8_t direction
        uint8_t useful
    ctypedef struct TargetEntry:
        uint64_t target
        uint16_t tag
    ctypedef struct RunEntry:
        uint16_t run
        uint16_t lengths[2]
        uint8_t sure, counter
    ctypedef struct Predictor:
        RunEntry runs[RUN_ENTRIES]
        uint32_t tables
        uint32_t lengths[HISTORY_TABLES]
        uint32_t entry_bits, target_bits, return_entries
        uint32_t folded[HISTORY_TABLES]
        uint8_t outcomes[HISTORY_BITS]
        uint32_t latest, return_top
        uint64_t returns[MOST_RETURNS]
        uint64_t targets, targets_kept
        uint32_t target_history, bits_of_target, returned
        HistoryEntry *entries
        TargetEntry *by_history
        TargetEntry *by_address

    ctypedef struct State

    ctypedef struct Node:
        Op *entry
        State *state

    ctypedef struct State:
        Node here
        Node *latest
        uint64_t hash

    ctypedef struct Way:
        Op *target
        Node *next
        int64_t cost
        Node *after

    Way *ways_of(Node *node) noexcept nogil

    ctypedef struct Block
    ctypedef struct CodePage
    ctypedef struct Cpu
    ctypedef struct Op
    ctypedef void (*OpFn)(Cpu *, Op *) noexcept nogil

    ctypedef struct Op:
        OpFn fn
        uint8_t d, s
        uint8_t b, i
        uint8_t scale
        uint8_t seg
        uint8_t len
        uint8_t x
        int64_t imm
        int64_t disp
        Op *target
        uint16_t place, number
        uint8_t way
        uint64_t ip

    ctypedef struct Block:
        Block *hash_next
        Block *page_next
        Block *page2_next
        uint64_t physical, ip, physical2
        uint32_t mode
        uint16_t ops, dropped, ways
        Timing *timings
        Op head

    ctypedef struct ShadowPage:
        uint64_t present[16]
        uint64_t writable[16]
        uint64_t writes
        uint64_t parent
        uint32_t entry_size
        uint8_t upper, out_of_sync
        uint64_t frame
        ShadowPage *next
        uint32_t mirrored[1024]

    ctypedef struct CodePage:
        Block *first
        uint64_t chunks
        CodePage *next_used
        uint64_t frame

    ctypedef struct TlbEntry:
        uint64_t r, w
        uint64_t tag
        int64_t addend
        uint64_t phys
        uint64_t rights
        uint64_t slot
        uint64_t open

    ctypedef struct JumpEntry:
        uint64_t key
        Op *op

    ctypedef struct Segment:
        uint64_t base
        uint32_t limit
        uint32_t access
        uint16_t selector

    ctypedef struct TableRegister:
        uint64_t base
        uint32_t limit

    ctypedef struct Rom:
        uint64_t base, size
        uint8_t *host

    ctypedef struct Charged:
        int64_t count, units

    ctypedef struct PastException:
        uint64_t time, rip
        uint64_t address
        uint32_t vector, error
        uint32_t vectoring

    ctypedef struct ExitInfo:
        uint32_t reason
        uint32_t length
        uint64_t qualification
        uint64_t linear, physical
        uint64_t value
        uint32_t number
        uint32_t width
        uint32_t is_write
        uint32_t error_code, host_only

    ctypedef struct Cpu:
        uint64_t r[17]
        int64_t fl_res, fl_aux
        uint64_t fl_cf
        int64_t acct
        Node *node
        uint64_t ea, ea_offset
        uint64_t rmw_value
        TlbEntry *tlb
        uint64_t mode_key
        uint32_t fault
        uint32_t pending
        uint64_t rip
        uint64_t rflags
        Segment seg[SEG_COUNT]
        Op *link_from
        Op *resume
        Op *cut
        OpFn cut_handler
        uint8_t cpl, tlb_kind, halted, shadow
        uint32_t mode
        TableRegister gdtr, idtr
        uint64_t cr0, cr2, cr3, cr4, cr8, efer
        uint64_t dr[8]
        uint64_t dr6_pending
        uint64_t pdpte[4]
        uint32_t fault_vector, fault_error
        uint32_t entered
        uint64_t fault_dr6
        uint64_t time
        uint64_t instructions
        int64_t acct_start, budget_end
        uint64_t deadline, platform_deadline, input_at
        uint64_t slice_end
        int64_t tsc_offset
        uint32_t stop, stop_request, stepping, window, host_interrupted, vectoring
        uint8_t nmi, ignne
        uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux, apic_base, pat, misc_enable
        uint64_t sysenter_cs, sysenter_esp, sysenter_eip
        uint64_t mtrr_def_type
        uint64_t mtrr_fixed[11]
        uint64_t mtrr_phys[16]
        uint64_t mcg_status, debugctl
        uint64_t event_select[2]
        uint64_t event_count[2]
        uint64_t counted_time, counted_instructions, counted_deliveries
        uint64_t uncounted_events[4]
        uint32_t counting
        uint32_t tr[8]
        uint16_t fcw, fsw, ftw, fop
        uint64_t fip, fdp
        uint16_t fcs, fds
        uint32_t mxcsr, mxcsr_mask, mxcsr_lent
        uint64_t xcr0
        uint8_t fpr[8][16]
        uint8_t xmm[16][16]
        uint64_t vector_operand[2]
        uint64_t vector_result[2]
        uint64_t random_state, random_draws
        TlbModel *tlb_model
        void *caches
        uint64_t code_slot
        uint8_t *ram
        uint64_t ram_low
        uint64_t ram_high
        uint8_t *page_flags
        CodePage **code_pages
        CodePage *used_pages
        ShadowPage **shadow_pages
        ShadowPage *out_of_sync
        Rom roms[8]
        uint32_t rom_count
        uint32_t cs_count
        uint64_t cs_base[256]
        uint32_t cs_limit[256]
        uint8_t *arena
        uint64_t arena_used, arena_size
        uint8_t *host_code
        uint64_t host_code_used, host_code_size
        uint32_t translate_after
        Block **buckets
        uint64_t bucket_keys[3]
        OpFn stale
        uint64_t features
        uint64_t cr4_defined, efer_defined
        uint32_t phys_bits
        uint64_t a20_mask
        ExitInfo exit
        int (*on_deadline)(Cpu *) noexcept nogil
        int (*acknowledge)(Cpu *) noexcept nogil
        int (*on_idle)(Cpu *) noexcept nogil
        int (*on_ferr)(Cpu *) noexcept nogil
        int (*on_input)(Cpu *) noexcept nogil
        int (*on_poll)(Cpu *) noexcept nogil
        uint64_t poll_at
        const uint64_t *held_signals
        int (*vmexit)(Cpu *) noexcept nogil
        uint32_t controls
        uint32_t exception_bitmap
        uint64_t cr0_mask, cr4_mask
        uint64_t cr0_shadow, cr4_shadow
        uint8_t *io_bitmap
        uint8_t *msr_bitmap
        void *pv
        int (*pv_hypercall)(Cpu *, Op *) noexcept nogil
        int (*pv_exception)(Cpu *, uint32_t vector, uint32_t error, uint64_t cr2) noexcept nogil
        int (*pv_privileged)(Cpu *, uint64_t ip) noexcept nogil
        int (*pv_event)(Cpu *) noexcept nogil
        void (*pv_schedule)(Cpu *) noexcept nogil
        int (*vmcall)(Cpu *) noexcept nogil
        void *vmcall_table
        PipelineModel *model
        Predictor *predictor
        int (*predicts)(Cpu *, uint64_t ip, int taken) noexcept nogil
        int (*predicts_target)(Cpu *, uint64_t ip, uint64_t target) noexcept nogil
        int (*predicts_return)(Cpu *, uint64_t target) noexcept nogil
        void (*on_misprediction)(Cpu *, Op *) noexcept nogil
        uint64_t mispredictions
        void *hot
        void *timeline
        void *paths
        void (*time_through)(Cpu *, Op *) noexcept nogil
        void (*go_through)(Cpu *, Op *, Op *) noexcept nogil
        void (*begin_at)(Cpu *, Op *) noexcept nogil
        void (*account_before)(Cpu *, Op *) noexcept nogil
        void (*take_back)(Cpu *, Op *) noexcept nogil
        const uint32_t *exit_cost
        uint32_t walk_cost, exception_cost, hypercall_cost, pv_bounce_cost
        uint64_t tlb_misses, tlb_second_hits, walk_references, exceptions, hypercalls, interrupts, blocks_decoded, blocks_translated, code_flushes
        uint64_t halted_time
        uint64_t shadow_faults
        Charged charged[CHARGES]
        PastException past_exceptions[PAST_EXCEPTIONS]
        uint64_t past_exception_count
        void *machine
        Op *string_op
        TlbEntry string_tlb[2]
        uint64_t jumps_used[JCACHE_ENTRIES // 64]
        uint64_t tlb_used[TLB_KINDS][TLB_ENTRIES // 64]
        uint64_t tlb_global[TLB_KINDS][TLB_ENTRIES // 64]
        uint64_t tlb_large[TLB_KINDS][TLB_ENTRIES // 64]
        uint32_t plain_count
        Op *plain[MOST_PLAIN]
        OpFn plain_handler[MOST_PLAIN]
        JumpEntry jcache[JCACHE_ENTRIES]
        TlbEntry tlbs[TLB_KINDS][TLB_ENTRIES]

    const bint HOST_IS_TRANSLATED_FOR
    uint64_t guest_time(const Cpu *cpu) noexcept nogil
    void go_on(Cpu *cpu, Op *op) noexcept nogil
    Block *block_of(Op *op) noexcept nogil
    void account(Cpu *cpu, Op *op) noexcept nogil
    void arrive_at(Cpu *cpu, Op *op) noexcept nogil
