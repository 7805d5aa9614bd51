/* Guest time of plain code: the state of the processor's pipeline, and what is known of the paths through decoded code.
 *
 * The pipeline is a scoreboard (core/pipeline/scoreboard.pyx). Its state is a small value, relative to the front, the place in
 * program order up to which instructions have been dispatched: so what a path through a block costs from a state, and the
 * state behind it, is computed once and looked up from then on. A Node is a place in decoded code together with a state.
 * All of this is a cache: throwing it away changes no guest cycle. */
#ifndef HVMX_PIPELINE_H
#define HVMX_PIPELINE_H

#include <stdint.h>

enum { PIPES = 16, BOOKED_CYCLES = 16, WINDOW_PARTS = 8, SEEN_STORES = 6, CLASS_USES = 6, TIMING_READS = 8, TIMING_WRITES = 4 };

/* Cycles that the front is at most behind the completion of an instruction: what is left to wait for on entry into a block. */
enum { MOST_BEHIND = 1000 };

/* Cycles behind the front that a time can be, and that the front can move before the state is settled. */
enum { MOST_HELD = 0x7fff, FAR_FRONT = 0x4000 };

/* What can be ready or not. x87 registers count from the top of their stack, MMX registers from 0 in the same places. */
enum { READY_GENERAL = 0, READY_XMM = 16, READY_X87 = 32, READY_CARRY = 40, READY_FLAGS = 41, READY_COUNT = 48,
       READY_NONE = 0xff };

/* A store that a load from the same address expression may be forwarded from. */
typedef struct {
    int32_t disp;
    uint8_t base, index;           /* registers, or READY_NONE */
    uint8_t scale, segment;
    uint8_t width;                 /* bytes; 0: there is none */
    uint8_t unused;
    uint16_t forgotten;            /* cycles behind the front; its data is there forward_slack cycles before */
} SeenStore;

/* What a pipe has to do. So few cycles are known for the sake of the number of states: only what starts near each other is
 * in each other's way. */
typedef struct {
    uint16_t cycles;               /* the BOOKED_CYCLES before Pipeline.booked_until in which it is taken, the last in bit 15 */
    uint16_t work;                 /* when operations that take it for more than one, which begin one behind the other, are done */
} Booking;

/* The value of the state. Times are whole cycles. They count from where the front was when it was last settled, and what is
 * not behind the front has passed; in a settled state, the only kind that is kept, they count from the front. */
typedef struct {
    uint16_t ready[READY_COUNT];
    uint16_t booked_until[PIPES];  /* each pipe has nothing to do from then on */
    uint16_t complete[WINDOW_PARTS]; /* of what fills a part of the window, the latest first: when it and all before is */
    Booking booked[PIPES];
    SeenStore stores[SEEN_STORES]; /* the latest first */
    uint32_t front;                /* 0 when settled */
    uint8_t slot;                  /* micro-operations dispatched in this cycle */
    uint8_t fetched;               /* cycles that fetching is ahead of the front */
    uint8_t fuses;                 /* the last instruction fuses with a conditional branch */
    uint8_t filled;                /* micro-operations in the latest part of the window */
    uint8_t filled_vectors;        /* vector registers that they write */
    uint8_t unused[7];
} Pipeline;

/* What the pipeline sees of one instruction. */
enum { TIMING_LOAD = 1, TIMING_STORE = 2, TIMING_CONDITIONAL = 4, TIMING_TAKEN = 8, TIMING_FUSES = 0x10,
       TIMING_ELIMINATED = 0x20,   /* a move between registers that renaming does */
       TIMING_ZEROES = 0x40,       /* an idiom whose result does not depend on its operands */
       TIMING_ONLY_MOVES = 0x80,   /* with a memory operand there is no more to it than the load or store */
       TIMING_SHIFTS = 0x100,      /* adds `shift` to the register writes[0] */
       TIMING_VECTOR = 0x200,      /* the load is to a vector or x87 register */
       TIMING_LOCKED = 0x400,
       TIMING_EXCHANGES = 0x800,   /* FXCH: renaming swaps the two registers */
       TIMING_STACK = 0x1000,      /* a push, whose store is below the new top, or a pop; the class has the access, too */
       TIMING_REPEATED = 0x2000,   /* REP: what its elements take comes on top */
       TIMING_WHOLE = 0x4000,      /* the load is no part of an operation on a register, and of 4 or 8 bytes */
       TIMING_FUSED = 0x8000 };    /* the conditional branch behind it, in its page, is one micro-operation with it */
typedef struct {
    uint8_t reads[TIMING_READS], writes[TIMING_WRITES];
    uint8_t read_count, write_count;
    uint8_t flags_read, flags_written;  /* 1: CF, 2: the others */
    uint8_t base, index, scale, segment;
    uint8_t width;                 /* of the memory operand, in bytes */
    int8_t x87_push;               /* registers that the x87 stack grows by */
    uint8_t string;                /* STRING_*, of a repeated instruction */
    uint8_t vectors;               /* vector, MMX and x87 registers that it writes, and renaming does not */
    uint16_t cost;                 /* COST_* */
    uint32_t flags;                /* TIMING_* */
    int32_t disp;
    int32_t shift;                 /* what is added to writes[0], or by the stack engine to RSP */
} Timing;

typedef struct { uint16_t pipes, cycles; } PipeUse; /* one of these pipes, for so long */

/* What a profile says of a cost class. */
typedef struct {
    uint32_t latency;              /* cycles */
    uint32_t alone;                /* not 0: what comes before has to be complete, and it takes so long, in units of
                                    * 1/CYCLE_FRACTION cycle; nothing overlaps with it */
    uint8_t slots;                 /* micro-operations at dispatch */
    uint8_t only_moves;            /* with a memory operand, see TIMING_ONLY_MOVES */
    uint8_t use_count;
    PipeUse uses[CLASS_USES];
} ClassTiming;

enum { STRING_MOVS, STRING_STOS, STRING_LODS, STRING_CMPS, STRING_SCAS, STRING_KINDS };
enum { ELIMINATES_GENERAL = 1, ELIMINATES_VECTOR = 2 };
enum { TRAIT_FUSES = 1, TRAIT_ZEROES = 2 };

/* What a profile says of a pipeline. Times in cycles, where no other unit stands. */
typedef struct {
    uint32_t width;                /* micro-operations dispatched in a cycle */
    uint32_t slot_units;           /* the time of one, in units of 1/CYCLE_FRACTION cycle */
    uint32_t window;               /* micro-operations in flight; 0: nothing overlaps */
    uint32_t window_cycles;        /* in which so many are dispatched */
    uint32_t vectors, vector_cycles; /* vector registers that those in flight write; cycles in which so many are dispatched */
    uint32_t taken_branch, indirect, call; /* how long fetching takes for a taken branch, an indirect jump, and a call or return */
    uint32_t fetch_ahead;          /* cycles that fetching may be ahead of dispatch */
    uint32_t misprediction;
    uint32_t load, load_vector, forward, forward_stack, forward_operand, forward_vector;
    uint32_t forward_slack;        /* how much longer than a load forwarding can take: after that no load waits for the store */
    uint32_t locked;               /* how long a locked read-modify-write keeps other stores away, and takes besides them */
    uint32_t alone_load, alone_store, alone_locked; /* what these add where nothing overlaps, in units of 1/CYCLE_FRACTION cycle */
    uint32_t repeat_start[STRING_KINDS]; /* of a repeated string instruction, in units of 1/CYCLE_FRACTION cycle */
    uint32_t repeat_element[STRING_KINDS][2][4]; /* of an element going up and down, of 1, 2, 4 and 8 bytes, in the same */
    uint8_t eliminated;            /* moves that renaming does: ELIMINATES_* */
    uint8_t traits[1024];          /* TRAIT_*, by family */
    ClassTiming classes[256];      /* by COST_*; memory operands add some of their own */
} PipelineModel;

/* The branch predictor: see core/pipeline/predictor.pxd. */
enum { RUN_BITS = 13, RUN_ENTRIES = 1 << RUN_BITS, HISTORY_TABLES = 8, HISTORY_BITS = 256, MOST_RETURNS = 64,
       MOST_TARGETS = 8 };
/* How a conditional branch goes one way for a while, and then the other. */
typedef struct {
    uint16_t run;                  /* how often it went this way in a row */
    uint16_t lengths[2];           /* of the latest complete runs, by direction; RUN_FOREVER: of no other is known */
    uint8_t sure;                  /* bit 0: the direction of this run; above it, how many runs were as long as that before, up to 8 */
    uint8_t counter;               /* saturating, of two bits: where it tends to */
} RunEntry;
enum { RUN_FOREVER = 0xffff, RUN_SURE = 8 << 1 };
typedef struct { uint16_t tag; int8_t direction; uint8_t useful; } HistoryEntry;
typedef struct { uint64_t target; uint16_t tag; } TargetEntry;
typedef struct {
    RunEntry runs[RUN_ENTRIES];    /* by address */
    uint32_t tables, lengths[HISTORY_TABLES], entry_bits, target_bits, return_entries;
    uint32_t folded[HISTORY_TABLES]; /* the latest outcomes, as many as the table's length, folded to 32 bits */
    uint8_t outcomes[HISTORY_BITS];  /* a ring */
    uint32_t latest, return_top;
    uint64_t returns[MOST_RETURNS];  /* a ring */
    uint64_t targets, targets_kept;  /* bits of the latest of indirect branches, the last one lowest; a mask of all of them */
    uint32_t target_history;       /* indirect branches and returns that a target is kept for; 0: targets are outcomes, too */
    uint32_t bits_of_target, returned; /* of each in `targets`; returns since the last indirect branch */
    HistoryEntry *entries;         /* of all tables, one after the other */
    TargetEntry *by_history, *by_address; /* of indirect branches */
} Predictor;

/* A place in decoded code and the state there. Behind it are its ways, one for each Op of its block that may leave it. */
typedef struct State State;

typedef struct Node {
    struct Op *entry;              /* the first Op of an instruction; NULL where the place is not known */
    State *state;
} Node;

/* A Pipeline as it is kept: most of its words are 0, and only the others are. */
enum { PIPELINE_WORDS = sizeof(Pipeline) / 8 };
_Static_assert(sizeof(Pipeline) % 8 == 0 && PIPELINE_WORDS <= 64, "each word has a bit of State.present");
struct State {
    Node here;                     /* in this state, at no place */
    Node *latest;                  /* at a place in this state; NULL: there has been none */
    uint64_t hash;
    uint64_t present;              /* which words of the Pipeline are not 0 */
    uint64_t count;                /* of these */
    uint64_t words[PIPELINE_WORDS];
};

typedef struct {
    struct Op *target;             /* where `next` is; NOWHERE: nobody has gone this way */
    Node *next;
    int64_t cost;                  /* cycles and instructions up to here, as in Cpu.acct */
    Node *after;                   /* the state here, at no place; NULL: not computed yet */
} Way;
#define NOWHERE ((struct Op *)1)
enum { NO_WAY = 0xff };

static inline Way *ways_of(Node *node) { return (Way *)(node + 1); }

#endif
