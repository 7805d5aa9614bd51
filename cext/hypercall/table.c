#include "table.h"

#include <string.h>

const struct hvmx_core *hvmx_core;

static int64_t no_function(struct hvmx_hypercall *call)
{
    (void)call;
    return -HVMX_ENOSYS;
}

void hvmx_table_init(struct hypercall_table *table)
{
    memset(table, 0, sizeof *table);
    for (uint32_t number = 0; number < HVMX_HYPERCALLS; number++)
        table->entry[number].fn = no_function;
    table->beyond.fn = no_function;
}

int hvmx_table_register(struct hypercall_table *table, uint32_t number, hvmx_hypercall_fn fn, void *user, uint32_t flags)
{
    if (number >= HVMX_HYPERCALLS || fn == NULL)
        return -HVMX_EINVAL;
    struct hypercall_entry *entry = &table->entry[number];
    if (entry->flags & ENTRY_TAKEN)
        return -HVMX_EEXIST;
    entry->fn = fn;
    entry->user = user;
    entry->flags = flags | ENTRY_TAKEN;
    return 0;
}
