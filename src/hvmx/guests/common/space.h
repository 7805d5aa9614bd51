/* Address spaces.
 *
 * The kernel is mapped the same way in all of them. User memory is the 2 MB from USER_BASE, which one lowest-level
 * page table covers in every paging mode: text, a stack that ends in the middle, and an arena of pages that
 * appear when they are first touched.
 */
#pragma once
#include "paging.h"

#define USER_BASE        0x40000000ul
#define USER_PAGES       512
#define USER_STACK_TOP   (USER_BASE + 0x100000)
#define USER_ARENA       (USER_BASE + 0x180000)
#define USER_ARENA_PAGES 64
#define SPACE_TABLES_MAX 5

struct space {
    entry_t *root;
    entry_t *leaf;                       /* the table of user memory */
    entry_t *tables[SPACE_TABLES_MAX];   /* those that only this space has, root first */
    unsigned table_count;
};

/* By the common code, on top of the environment's functions below. */
void space_new(struct space *space);
void space_copy(struct space *child, struct space *parent); /* user pages become copy-on-write in both */
void space_free(struct space *space);
void space_map(struct space *space, uintptr_t address, void *page, unsigned flags);
void space_unmap(struct space *space, uintptr_t address);
entry_t space_entry(const struct space *space, uintptr_t address);
bool space_fault(struct space *space, uintptr_t address, uintptr_t error); /* true: resolved, try again */

/* By the environment. */
extern struct space kernel_space;
void space_build_tables(struct space *space);   /* root, leaf, tables: linked, not yet in use */
void space_publish(struct space *space);        /* from here on the processor may use it */
void space_retire(struct space *space);         /* ... and from here on no longer */
void space_load(const struct space *space);
/* Writes an entry of a published space's leaf; within a batch it may be delayed until the batch's end. */
void space_write_entry(struct space *space, unsigned index, entry_t value);
void space_begin_batch(void);
void space_end_batch(void);
void tlb_flush_page(uintptr_t address);
void tlb_flush(void);
