/* Random hypercalls with random arguments, exceptions and privileged instructions against one domain after another, for
 * fuzz.py. */
#include "harness.c"

static uint64_t seed;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1dull;
}

static const uint64_t base = 0xffffffff80000000ull;
enum { PAGES = 600, ARGUMENT_PAGE = 1, STACK_PAGE = 2 };
/* Pages that are mapped read-only and filled as tables: of level 4, 3, 2, and 1. */
enum { FOREST = 40, FOREST_L3 = 44, FOREST_L2 = 52, FOREST_L1 = 68, FOREST_END = 100 };

static uint64_t frame_of(struct domain *d, uint64_t page) { return d->reserved - 1 - page; }

static uint64_t entry_of(struct domain *d, uint64_t page, uint64_t flags) { return frame_of(d, page) << 12 | flags; }

/* Numbers that mean something as often as ones that do not. */
static uint64_t value(struct domain *d)
{
    static const uint64_t corners[] = { 0, 1, 2, 3, 7, 8, 63, 64, 512, 4095, 4096, 0x7ff0, 0x7fffffff, 0x80000000, ~0ull,
                                        1ull << 47, 1ull << 63, 0xffff800000000000ull, 0xffff820000000000ull };
    uint64_t page = draw() % 40;
    switch (draw() % 9) {
    case 0:
        return draw();
    case 1:
        return base + page * 0x1000 + (draw() & 0xff8);
    case 2:
        return base + ARGUMENT_PAGE * 0x1000 + (draw() & 0x7f8);
    case 3:
        return frame_of(d, draw() % 2 ? page : d->nr_pages - 1 - draw() % 6);
    case 4:
        return entry_of(d, page, draw() & 0x8000000000000fffull);
    case 5:
        return entry_of(d, d->nr_pages - 1 - draw() % 6, draw() & 0xfff);
    case 7:
        return frame_of(d, FOREST + draw() % (FOREST_END - FOREST));
    case 6:
        return corners[draw() % (sizeof corners / sizeof *corners)];
    default:
        return draw() % 48;
    }
}

static uint32_t forest_level(uint64_t page)
{
    return page < FOREST_L3 ? 4 : page < FOREST_L2 ? 3 : page < FOREST_L1 ? 2 : 1;
}

/* What an entry of a table in the forest names: a table of the level below, mostly; below level 1, a page of data. */
static uint64_t forest_child(uint32_t level)
{
    static const uint32_t first[5] = { 0, FOREST_END, FOREST_L1, FOREST_L2, FOREST_L3 };
    static const uint32_t end[5] = { 0, FOREST_END + 50, FOREST_END, FOREST_L1, FOREST_L2 };
    return draw() % 64 ? first[level] + draw() % (end[level] - first[level]) : draw() % FOREST_END;
}

/* Fills a page of the forest that is in no use as a table: now and then with an entry that is refused. */
static void plant(struct domain *d, uint64_t page)
{
    uint64_t *entries = frame_memory(d, frame_of(d, page));
    uint32_t level = forest_level(page);
    if (d->frames[frame_of(d, page)].type_refs)
        return;
    memset(entries, 0, 0x1000);
    for (uint64_t i = draw() % 12; i; i--)
        entries[draw() % 512] = entry_of(d, forest_child(level), 0x65);
    if (draw() % 16 == 0)
        entries[draw() % 512] = entry_of(d, draw() % FOREST_END, 0xe7);
}

/* Page tables as a guest would have them: pinned, unpinned, loaded, linked to each other; and some not to the end. */
static void tend(Cpu *cpu)
{
    struct domain *d = cpu->pv;
    uint64_t page = FOREST + draw() % (FOREST_END - FOREST), at = base + ARGUMENT_PAGE * 0x1000;
    uint32_t level = forest_level(page);
    uint64_t args[6] = { at, 1 + draw() % 3, draw() % 2 ? 0 : at + 0x800, DOMID_SELF, 0, 0 };
    uint64_t number = __HYPERVISOR_mmuext_op;
    plant(d, FOREST + draw() % (FOREST_END - FOREST));
    for (uint64_t i = 0; i < args[1]; i++) {
        struct mmuext_op op = { .cmd = draw() % 8 ? MMUEXT_PIN_L1_TABLE + level - 1 : draw() % 20 };
        op.arg1.mfn = frame_of(d, page);
        if (draw() % 2)
            op.cmd = draw() % 2 ? MMUEXT_UNPIN_TABLE : MMUEXT_NEW_USER_BASEPTR;
        guest_write(cpu, at + i * sizeof op, &op, sizeof op);
        page = draw() % 3 ? page : FOREST + draw() % (FOREST_END - FOREST);
        level = forest_level(page);
    }
    if (draw() % 3 == 0) {
        number = __HYPERVISOR_mmu_update;
        for (uint64_t i = 0; i < args[1]; i++) {
            struct mmu_update update = { frame_of(d, page) << 12 | (draw() % 512) << 3,
                                         draw() % 4 ? entry_of(d, forest_child(level), 0x65) : 0 };
            guest_write(cpu, at + i * sizeof update, &update, sizeof update);
        }
    }
    if (draw() % 4 == 0) { /* within a list */
        struct multicall_entry list[2] = { { .op = number }, { .op = number } };
        for (int i = 0; i < 2; i++)
            memcpy(list[i].args, args, sizeof list[i].args);
        guest_write(cpu, at + 0x900, list, sizeof list);
        number = __HYPERVISOR_multicall;
        args[0] = at + 0x900;
        args[1] = 2;
    }
    if (cpu->halted)
        return;
    harness_call_parts(cpu, number, args, draw() % 4 ? 0 : 1 + draw() % 4);
}

static Cpu *fresh(void)
{
    Cpu *cpu = harness_new(PAGES, draw() % 2 ? 3 : 0, 1000000000 + draw() % 3000000000ull);
    struct domain *d = cpu->pv;
    const uint64_t all = PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D;
    uint64_t last = d->nr_pages - 1, *l1;
    ((uint64_t *)frame_memory(d, frame_of(d, last)))[511] = entry_of(d, last - 1, all);
    ((uint64_t *)frame_memory(d, frame_of(d, last - 1)))[510] = entry_of(d, last - 2, all);
    for (uint64_t i = 0; i < 2; i++)
        ((uint64_t *)frame_memory(d, frame_of(d, last - 2)))[i] = entry_of(d, last - 3 - i, all);
    for (uint64_t page = 0; page <= last; page++) {
        l1 = frame_memory(d, frame_of(d, last - 3 - (page >> 9)));
        int table = page > last - 5 || (page >= FOREST && page < FOREST_END);
        l1[page & 511] = entry_of(d, page, table ? all & ~(uint64_t)PTE_RW : all);
    }
    uint64_t console_frame = d->flags ? 0 : frame_of(d, 30);
    if (harness_start(cpu, frame_of(d, last), base, base + (STACK_PAGE + 1) * 0x1000, 0, console_frame))
        abort();
    for (int vector = 0; vector < 256; vector++)
        d->traps[vector] = (struct trap_info){ (uint8_t)vector, draw() & 7, FLAT_KERNEL_CS64, base };
    for (uint64_t page = FOREST; page < FOREST_END; page++)
        plant(d, page);
    d->work_limit = draw() % 4 ? draw() % 700 : WORK_LIMIT;
    d->event_callback = d->sysenter_callback = d->syscall_callback = base;
    d->kernel_sp = base + (STACK_PAGE + 1) * 0x1000;
    d->iopl = 1;
    d->vm_assist = 1u << VMASST_TYPE_writable_pagetables;
    return cpu;
}

/* The guest may write wherever it has a writable mapping. */
static void scribble(Cpu *cpu)
{
    struct domain *d = cpu->pv;
    for (int i = 0; i < 24; i++) {
        uint64_t word = value(d);
        guest_write(cpu, base + ARGUMENT_PAGE * 0x1000 + (draw() & 0x7f8), &word, sizeof word);
    }
    uint64_t word = value(d);
    guest_write(cpu, base + (draw() % 40) * 0x1000 + (draw() & 0xff8), &word, sizeof word);
    if (draw() % 8 == 0)
        *((uint64_t *)frame_memory(d, d->shared_info_frame) + draw() % 512) = draw();
}

static void step(Cpu *cpu)
{
    struct domain *d = cpu->pv;
    static const uint8_t instructions[][4] = {
        { 0x0f, 0x20, 0xc0 }, { 0x0f, 0x22, 0xc0 }, { 0x0f, 0x22, 0xd8 }, { 0x0f, 0x32 }, { 0x0f, 0x30 }, { 0xec }, { 0xee },
        { 0xe5, 0x80 }, { 0xfa }, { 0x0f, 0x06 }, { 0x0f, 0x23, 0xf8 }, { 0x0f, 0x21, 0xf8 }, { 0x66, 0xef }, { 0xf4 },
        { 0x6d }, { 0xf3, 0x6c }, { 0xf3, 0x66, 0x6f }, { 0x0f, 0x34 } };
    static const uint8_t stores[][4] = { { 0x48, 0x89, 0x07 }, { 0xf0, 0x0f, 0xba, 0x37 }, { 0x48, 0xab }, { 0x50 } };
    scribble(cpu);
    cpu->r[REG_RSP] = draw() % 4 ? base + (STACK_PAGE + 1) * 0x1000 - (draw() & 0x3f8) : value(d);
    uint64_t args[6], number;
    for (int i = 0; i < 6; i++)
        args[i] = value(d);
    switch (draw() % 16) {
    case 0:
        cpu->rip = value(d);
        if (draw() % 32)
            cpu->r[REG_RSP] = base + (STACK_PAGE + 1) * 0x1000;
        xen_exception(cpu, draw() % 32, draw() % 2 ? 0 : (uint32_t)draw(), value(d));
        if (draw() % 2) { /* to one of the tables of the start of day, which the guest has mapped */
            cpu->rip = base + 4 * 0x1000;
            guest_write(cpu, cpu->rip, stores[draw() % 4], 4);
            xen_exception(cpu, VEC_PF, 3, base + (d->max_pages - 1 - draw() % 6) * 0x1000 + (draw() & 0xff8));
        }
        if (d->page_write.entry) { /* the instruction writes, and ends one way or another */
            for (uint64_t i = draw() % 3; i; i--)
                ((uint64_t *)frame_memory(d, d->page_write.table))[draw() % 512] = draw() % 2 ? value(d) : entry_of(d, draw() % 40, 0x67);
            xen_exception(cpu, draw() % 8 ? VEC_DB : VEC_GP, 0, 0);
        }
        break;
    case 1:
        cpu->rip = base + 4 * 0x1000;
        guest_write(cpu, cpu->rip, instructions[draw() % (sizeof instructions / sizeof *instructions)], 4);
        cpu->r[REG_RAX] = value(d);
        cpu->r[REG_RCX] = draw() % 2 ? 0xc0000100 + draw() % 4 : draw() % 0x300;
        cpu->r[REG_RDX] = value(d);
        xen_privileged(cpu, cpu->rip);
        break;
    case 2:
        harness_pass(cpu, draw() % 10000000);
        break;
    case 3:
    case 4:
    case 5:
        tend(cpu);
        break;
    default:
        if (cpu->halted)
            harness_pass(cpu, 100000000);
        cpu->halted = 0;
        if (draw() % 2 && args[1] > 64)
            args[1] %= 6;
        do
            number = draw() % 44;
        while (draw() % 8 && (number == __HYPERVISOR_iret || number == __HYPERVISOR_sched_op
                              || number == __HYPERVISOR_set_trap_table)); /* these tend to be the last */
        harness_call(cpu, number, args);
        break;
    }
    cpu->stop_request = 0;
}

static uint64_t partial_tables(const struct domain *d)
{
    uint64_t count = 0;
    for (uint64_t page = FOREST; page < FOREST_END; page++)
        count += d->frames[d->reserved - 1 - page].type == FRAME_PARTIAL;
    return count;
}

/* The steps that were made, or what is wrong. */
const char *fuzz(uint64_t number, uint64_t domains, uint64_t steps)
{
    static char result[512];
    uint64_t calls = 0, left = 0;
    seed = number * 2 + 1;
    for (uint64_t domain = 0; domain < domains; domain++) {
        Cpu *cpu = fresh();
        const char *wrong = NULL;
        for (uint64_t i = 0; i < steps && ((struct domain *)cpu->pv)->state == DOMAIN_RUNNING; i++, calls++) {
            step(cpu);
            wrong = harness_audit(cpu);
            left += partial_tables(cpu->pv) > 0;
            if (wrong) {
                snprintf(result, sizeof result, "domain %lu, step %lu: %s", domain, i, wrong);
                return result;
            }
        }
        if (!harness_finish_partial(cpu) || (wrong = harness_audit(cpu)) != NULL) {
            snprintf(result, sizeof result, "domain %lu, at its end: %s", domain, wrong ? wrong : "a table stays partial");
            return result;
        }
        harness_free(cpu);
    }
    snprintf(result, sizeof result, "%lu steps, after %lu of which a table was partial", calls, left);
    return result;
}
