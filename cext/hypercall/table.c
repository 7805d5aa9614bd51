#include "table.h"

#include "host_time.h"

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
    for (uint32_t number = 0; number <= HVMX_HYPERCALLS; number++) {
        table->entry[number].fn = no_function;
        table->entry[number].tally = &table->tally[number];
    }
}

void hvmx_table_divide(struct hypercall_table *table, uint32_t number, struct call_tally *tallies, uint32_t count)
{
    table->entry[number].tally = tallies;
    table->entry[number].sub_operations = count;
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

uint64_t calls_of(const struct hypercall_entry *entry)
{
    uint64_t calls = entry->exits;
    for (uint32_t i = 0; i <= entry->sub_operations; i++)
        calls += entry->tally[i].calls;
    return calls;
}

void tally_settle(struct call_tally *tally, uint64_t units, uint64_t host_ns)
{
    uint64_t before = tally->calls - 1 - tally->settled;
    if (before) {
        if (tally->settled == 0 || tally->last < tally->least)
            tally->least = tally->last;
        if (tally->last > tally->most)
            tally->most = tally->last;
        tally->settled += before;
        tally->units += before * tally->last;
        tally->host_ns += before * tally->host_sample;
    }
    tally->last = units;
    if (host_ns) {
        if (tally->host_sample == 0 || host_ns < tally->host_least)
            tally->host_least = host_ns;
        if (host_ns > tally->host_most)
            tally->host_most = host_ns;
        tally->host_sample = host_ns;
    }
}

struct answer timed_call(struct hypercall_entry *entry, struct call_tally *tally, struct hvmx_hypercall *call)
{
    uint64_t start = host_nanoseconds();
    int64_t result = entry->fn(call);
    uint64_t passed = host_nanoseconds() - start;
    if (tally->calls >= FIRST_TIMED && !(entry->flags & ENTRY_LIST))
        tally->untimed = ONE_TIMED_OF - 1;
    return (struct answer){ (uint64_t)result, passed ? passed : 1 };
}
