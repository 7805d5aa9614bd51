/* Frames of memory: their owners, their types, and checked writes to page tables. */
#ifndef HVMX_XEN_FRAMES_H
#define HVMX_XEN_FRAMES_H

#include "domain.h"

/* FRAME_PARTIAL: on its way to become, or to be no longer, a table of level 2 or above. Nobody holds it as such: one of its
 * references keeps it. */
enum frame_type { FRAME_NONE, FRAME_L1, FRAME_L2, FRAME_L3, FRAME_L4, FRAME_SEGDESC, FRAME_WRITABLE, FRAME_PARTIAL };
enum frame_owner { OWNER_DOMAIN, OWNER_XEN, OWNER_NOBODY };

/* All zero means "owned by the domain, otherwise unused": so the host allocates the table of frames only as far as it is used. */
struct frame {
    uint64_t refs : 24;       /* 1 for each mapping and each use as `type`, FRAME_MAX at most; of a free frame (OWNER_NOBODY)
                               * the next free one, 0: none */
    uint64_t type_refs : 24;  /* uses as `type`, each counted in `refs`, too; the type can change only at 0. Of FRAME_PARTIAL:
                               * PARTIAL(level, how many entries, from the first on, hold references) */
    uint64_t flush_clock : 9; /* domain.flush_clock when type_refs fell to 0 */
    uint64_t type : 3, owner : 2;
    uint64_t pinned : 1;      /* by MMUEXT_PIN, which holds one of the type_refs */
    uint64_t released : 1;    /* not (any more) in the domain's reservation */
};
#define FRAME_MAX 0xffffffu   /* limit of references, and of frames: 64 GiB of memory */
static inline int is_table(const struct frame *frame)
{
    return frame->type_refs && frame->type >= FRAME_L1 && frame->type <= FRAME_L4;
}

#define PARTIAL(level, held) ((uint32_t)(level) << 10 | (held))
#define PARTIAL_LEVEL(frame) ((enum frame_type)((frame)->type_refs >> 10))
#define PARTIAL_HELD(frame) ((uint32_t)(frame)->type_refs & 1023)

enum { PTE_P = 1, PTE_RW = 2, PTE_US = 4, PTE_PWT = 8, PTE_PCD = 0x10, PTE_A = 0x20, PTE_D = 0x40, PTE_PSE = 0x80,
       PTE_G = 0x100 };
#define PTE_NX (1ull << 63)
#define PTE_FRAME 0x000ffffffffff000ull
#define INVALID_M2P_ENTRY (~0ull)

/* Functions that return int give 0 or a negative XEN_E*, or that the limit of work is reached and the same call goes on from
 * there. */
enum { UNFINISHED = 1 };
struct frame *get_frame(struct domain *d, uint64_t mfn);
void put_frame(struct domain *d, uint64_t mfn);
int get_frame_and_type(struct domain *d, uint64_t mfn, enum frame_type type);
void put_frame_and_type(struct domain *d, uint64_t mfn);
/* Drops the references that the tables in `dropping` hold. Some are left only where work is beyond the limit, which
 * preempt_after() says. */
void drop_tables(struct domain *d);
uint64_t take_free_frame(struct domain *d);
int set_entry(struct domain *d, uint64_t table, uint32_t index, uint64_t value, int preserve_ad);
int check_descriptor(uint64_t *descriptor);
void flush_all(struct domain *d);
/* How many frames are in use as page tables. */
uint64_t count_tables(const struct domain *d);
/* The level 1 table for a guest address, below a level 4 table; 0 if there is none. `*granted`: the bits that the entries on the
 * way have in common. */
uint64_t level1_table(const struct domain *d, uint64_t l4, uint64_t address, uint64_t *granted);

#endif
