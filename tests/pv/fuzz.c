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

static uint64_t frame_of(struct domain *d, uint64_t page) { return d->reserved - 1 - page; }

static uint64_t entry_of(struct domain *d, uint64_t page, uint64_t flags) { return frame_of(d, page) << 12 | flags; }

/* Numbers that mean something as often as ones that do not. */
static uint64_t value(struct domain *d)
{
    static const uint64_t corners[] = { 0, 1, 2, 3, 7, 8, 63, 64, 512, 4095, 4096, 0x7ff0, 0x7fffffff, 0x80000000, ~0ull,
                                        1ull << 47, 1ull << 63, 0xffff800000000000ull, 0xffff820000000000ull };
    uint64_t page = draw() % 40;
    switch (draw() % 8) {
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
    case 6:
        return corners[draw() % (sizeof corners / sizeof *corners)];
    default:
        return draw() % 48;
    }
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
        l1[page & 511] = entry_of(d, page, page > last - 5 ? all & ~(uint64_t)PTE_RW : all);
    }
    uint64_t console_frame = d->flags ? 0 : frame_of(d, 30);
    if (harness_start(cpu, frame_of(d, last), base, base + (STACK_PAGE + 1) * 0x1000, 0, console_frame))
        abort();
    for (int vector = 0; vector < 256; vector++)
        d->traps[vector] = (struct trap_info){ (uint8_t)vector, draw() & 7, FLAT_KERNEL_CS64, base };
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

/* The steps that were made, or what is wrong. */
const char *fuzz(uint64_t number, uint64_t domains, uint64_t steps)
{
    static char result[512];
    uint64_t calls = 0;
    seed = number * 2 + 1;
    for (uint64_t domain = 0; domain < domains; domain++) {
        Cpu *cpu = fresh();
        for (uint64_t i = 0; i < steps && ((struct domain *)cpu->pv)->state == DOMAIN_RUNNING; i++, calls++) {
            step(cpu);
            const char *wrong = harness_audit(cpu);
            if (wrong) {
                snprintf(result, sizeof result, "domain %lu, step %lu: %s", domain, i, wrong);
                return result;
            }
        }
        harness_free(cpu);
    }
    snprintf(result, sizeof result, "%lu steps", calls);
    return result;
}
