#include "space.h"

#include "pages.h"
#include "string.h"

static unsigned index_of(uintptr_t address)
{
    return (address - USER_BASE) / PAGE_SIZE;
}

void space_new(struct space *space)
{
    space->table_count = 0;
    space_build_tables(space);
    space_publish(space);
}

void space_copy(struct space *child, struct space *parent)
{
    child->table_count = 0;
    space_build_tables(child);
    space_begin_batch();
    for (unsigned i = 0; i < USER_PAGES; i++) {
        entry_t entry = parent->leaf[i];
        if (!(entry & ENTRY_PRESENT))
            continue;
        page_hold(entry_page(entry));
        if (entry & ENTRY_WRITABLE) {
            entry = (entry & ~(entry_t)ENTRY_WRITABLE) | ENTRY_COPY;
            space_write_entry(parent, i, entry);
        }
        child->leaf[i] = entry; /* not published yet: ordinary memory */
    }
    space_end_batch();
    tlb_flush();
    space_publish(child);
}

void space_free(struct space *space)
{
    space_retire(space);
    for (unsigned i = 0; i < USER_PAGES; i++)
        if (space->leaf[i] & ENTRY_PRESENT)
            page_drop(entry_page(space->leaf[i]));
    for (unsigned i = 0; i < space->table_count; i++)
        page_drop(space->tables[i]);
}

void space_map(struct space *space, uintptr_t address, void *page, unsigned flags)
{
    space_write_entry(space, index_of(address), page_entry(page, flags | ENTRY_PRESENT | ENTRY_USER));
}

void space_unmap(struct space *space, uintptr_t address)
{
    entry_t entry = space_entry(space, address);
    if (!(entry & ENTRY_PRESENT))
        return;
    space_write_entry(space, index_of(address), 0);
    tlb_flush_page(address);
    page_drop(entry_page(entry));
}

entry_t space_entry(const struct space *space, uintptr_t address)
{
    return space->leaf[index_of(address)];
}

bool space_fault(struct space *space, uintptr_t address, uintptr_t error)
{
    if (address < USER_BASE || index_of(address) >= USER_PAGES)
        return false;
    entry_t entry = space_entry(space, address);
    uintptr_t arena_end = USER_ARENA + USER_ARENA_PAGES * PAGE_SIZE;

    if (!(entry & ENTRY_PRESENT) && address >= USER_ARENA && address < arena_end) {
        space_map(space, address, page_new(), ENTRY_WRITABLE);
        return true;
    }
    if ((entry & ENTRY_COPY) && (error & FAULT_WRITE)) {
        void *shared = entry_page(entry), *own = shared;
        if (page_users(shared) > 1) {
            own = page_new();
            memcpy(own, shared, PAGE_SIZE);
            page_drop(shared);
        }
        space_map(space, address, own, ENTRY_WRITABLE);
        tlb_flush_page(address);
        return true;
    }
    return false;
}
