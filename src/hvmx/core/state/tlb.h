/* The state of the model of the profile's TLBs and paging-structure caches: see memory/tlb.pxd. */
#ifndef HVMX_TLB_H
#define HVMX_TLB_H

#include <stdint.h>

/* The sizes of pages. A page of 4 MiB is held as two of 2 MiB. */
enum { PAGE_4K, PAGE_2M, PAGE_1G, PAGE_SIZES };
#define PAGE_SHIFT_OF(size) (12 + 9 * (size))

/* The first level has TLBs for data and for instructions, the second one for both. */
enum { TLB_OF_DATA, TLB_OF_CODE, TLB_SECOND, TLB_PARTS };

/* What an entry knows of its page, besides where it is: bits of TlbArray.page. */
enum { MAP_WRITABLE = 1, MAP_USER = 2, MAP_NO_EXECUTE = 4, MAP_DIRTY = 8, MAP_GLOBAL = 16, MAP_RIGHTS = 31 };

/* The entries of one page size: `sets` of `ways` each. Where two sizes share them both have the same pointers. What an
 * entry has is in three arrays: a look-up reads the keys of a set, and little else. */
typedef struct {
    uint32_t entries, ways, sets;
    uint32_t first;            /* number of its first entry, among those of the instruction TLBs */
    uint64_t mask;             /* sets - 1 where they are a power of two, else NO_MASK */
    uint32_t used;             /* it may have a valid entry of this size */
    uint32_t *next;            /* of each set, the way that is replaced next */
    uint64_t *full;            /* of each set, TlbModel.flushes when all its entries were last found valid */
    uint64_t *key;             /* size, PCID or "global", and number of the linear page; 0: empty */
    uint64_t *page;            /* guest-physical page | MAP_* */
    uint64_t *stamp;           /* TlbModel.flushes when it was filled: what has been flushed since is not valid */
} TlbArray;
#define NO_MASK (~0ULL)

typedef struct { uint64_t key, stamp; } WalkEntry;

/* A fully associative cache of what walks read. */
typedef struct {
    uint32_t entries;
    uint32_t next;             /* the entry that is replaced next */
    WalkEntry *entry;
} WalkCache;

typedef struct { WalkCache *cache; WalkEntry before; uint32_t next; } WalkFill; /* and what was there before it */

enum { WALK_LEVELS = 5 };      /* caches are indexed by the level of the entries that they hold: 2 for page directories */
enum { MOST_UNDONE = 32 };     /* fills of one walk: 3 of its own, 4 for each of 5 nested ones */
enum { PCIDS = 4096 };

typedef struct {
    TlbArray arrays[TLB_PARTS][PAGE_SIZES];
    WalkCache tables[WALK_LEVELS];   /* for linear addresses */
    WalkCache nested[WALK_LEVELS];   /* the same of the nested tables, for guest-physical addresses; 1: their pages */
    /* Flushes are numbered. An entry is valid if none of those that it is subject to came after it was filled. */
    uint64_t flushes;
    uint64_t all_flushed, private_flushed, nested_flushed;   /* private: not global */
    uint64_t flushed[PCIDS], tables_flushed[PCIDS];
    /* What the walk in hand has filled, to be taken back if its instruction is to be repeated from the start. */
    WalkFill undo[MOST_UNDONE];
    uint32_t undo_count;
    uint32_t second_hit_cost;        /* in units of 1/CYCLE_FRACTION cycle */
    uint64_t *jump_words;            /* for each instruction-TLB entry, a bit for each entry of the jump cache that may rely on it */
} TlbModel;

#endif
