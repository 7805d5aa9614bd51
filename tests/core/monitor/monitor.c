/* Runs a batch of processor states, one after another, and says what became of each.
 *
 * The monitor lives in system management mode. RSM takes the whole state of a processor from the save area, hidden parts
 * of the segment registers included, and an SMI puts it back there, whatever the guest has made of its tables. A timer
 * raises the SMI, long after the guest has halted. A guest that shuts down resets the machine instead; memory stays.
 * The save area is that of 64-bit processors as AMD defines it (APM vol. 2, table 10-1), which emulators use too.
 */
#include <stdint.h>

enum {
    MEMORY = 0x40000, /* of a guest, from 0 */
    INITIAL = 0x400000, /* what it held before the guest ran */
    BATCH = 0xffe00000, /* the ROM's first bytes */
    FIRST_SMBASE = 0x30000,
    SMBASE = 0x200000,
    ENTRY = 0x8000,
    SAVE_AREA = 0xfe00,
    SAVE_WORDS = 0x200 / 4,
    REVISION = 0xfc / 4, /* these two words of the save area are the processor's own */
    BASE = 0x100 / 4,
    STATE = 0x80000000, /* reports: of a word of the state, not of memory */
    NEXT = 0xffffffff,
    SHUT_DOWN = 0xfffffffe,
};
enum { PIT_CHANNEL0 = 0x40, PIT_CONTROL = 0x43, PIT_ONE_SHOT = 0x30, PIC1_MASK = 0x21, PIC2_MASK = 0xa1 };
enum { CONSOLE = 0xe9, DEBUG_EXIT = 0xf4, BOCHS_SHUTDOWN = 0x8900 };
enum { TIMER_PIN = 2, DELIVER_SMI = 2 << 8, SPURIOUS_ENABLED = 0x1ff };
#define APIC_SPURIOUS (*(volatile uint32_t *)0xfee000f0)
#define APIC_COMMAND (*(volatile uint32_t *)0xfee00300)
#define IOAPIC_INDEX (*(volatile uint32_t *)0xfec00000)
#define IOAPIC_DATA (*(volatile uint32_t *)0xfec00010)

static const uint32_t msrs[] = {0x174, 0x175, 0x176, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000102};
enum { MSRS = sizeof msrs / sizeof msrs[0], TIMER_TICKS = 8000 };

/* The layout that emulators.py writes. */
struct state {
    uint32_t save[SAVE_WORDS];
    uint32_t cr2[2];
    uint32_t dr[4][2];
    uint64_t msr[MSRS];
};
struct chunk {
    uint32_t to, bytes, from;
};
struct job {
    uint32_t state, chunks, count;
};
struct batch {
    uint32_t jobs;
    struct job job[];
};

static struct state before, after;
static uint32_t number;
static uint8_t running, relocated;

static void outb(uint16_t port, uint8_t value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

static void copy(void *to, const void *from, uint32_t bytes)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

static void report(uint32_t word)
{
    for (int shift = 0; shift < 32; shift += 8)
        outb(CONSOLE, word >> shift);
}

static void report_text(const char *text)
{
    while (*text)
        outb(CONSOLE, *text++);
}

/* Where memory differs from what it was, says so unless `label` is SHUT_DOWN, and puts it back. */
static void report_changes(const uint32_t *old, uint32_t *new, uint32_t words, uint32_t label)
{
    uint32_t *start = new;
    while (words) {
        __asm__ volatile("cmp %%eax, %%eax; repe cmpsl" : "+S"(old), "+D"(new), "+c"(words) : : "cc", "eax", "memory");
        if (old[-1] != new[-1]) {
            if (label != SHUT_DOWN) {
                report(label + 4 * (uint32_t)(new - 1 - start));
                report(new[-1]);
            }
            new[-1] = old[-1];
        }
    }
}

static void end(void)
{
    report(NEXT);
    outb(DEBUG_EXIT, 0);
    for (const char *text = "Shutdown"; *text; text++)
        outb(BOCHS_SHUTDOWN, *text);
    for (;;)
        ;
}

static void collect(volatile uint32_t *area)
{
    copy(after.save, (void *)area, sizeof after.save);
    after.save[REVISION] = before.save[REVISION];
    after.save[BASE] = before.save[BASE];
    __asm__ volatile("mov %%cr2, %0" : "=r"(after.cr2[0]));
    __asm__ volatile("mov %%dr0, %0" : "=r"(after.dr[0][0]));
    __asm__ volatile("mov %%dr1, %0" : "=r"(after.dr[1][0]));
    __asm__ volatile("mov %%dr2, %0" : "=r"(after.dr[2][0]));
    __asm__ volatile("mov %%dr3, %0" : "=r"(after.dr[3][0]));
    for (int i = 0; i < MSRS; i++)
        __asm__ volatile("rdmsr" : "=A"(after.msr[i]) : "c"(msrs[i]));
    report_changes((uint32_t *)&before, (uint32_t *)&after, sizeof before / 4, STATE);
    report_changes((uint32_t *)INITIAL, (uint32_t *)0, MEMORY / 4, 0);
}

/* Writes what a job has in memory, or zeros, to the guest's and to the copy of it. */
static void fill(const struct job *job, int with_content)
{
    const struct chunk *chunk = (struct chunk *)job->chunks;
    for (uint32_t i = 0; i < job->count; i++, chunk++)
        for (uint32_t base = 0; base <= INITIAL; base += INITIAL) {
            void *to = (void *)(base + chunk->to);
            uint32_t bytes = chunk->bytes;
            if (with_content)
                copy(to, (void *)chunk->from, bytes);
            else
                __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0) : "memory");
        }
}

static void prepare(volatile uint32_t *area)
{
    const struct batch *batch = (struct batch *)BATCH;
    if (number == batch->jobs)
        end();
    const struct job *job = &batch->job[number];
    if (number)
        fill(&batch->job[number - 1], 0);
    fill(job, 1);
    copy(&before, (void *)job->state, sizeof before);
    before.save[REVISION] = area[REVISION];
    before.save[BASE] = area[BASE];
    copy((void *)area, before.save, sizeof before.save);
    __asm__ volatile("mov %0, %%cr2" : : "r"(before.cr2[0]));
    __asm__ volatile("mov %0, %%dr0" : : "r"(before.dr[0][0]));
    __asm__ volatile("mov %0, %%dr1" : : "r"(before.dr[1][0]));
    __asm__ volatile("mov %0, %%dr2" : : "r"(before.dr[2][0]));
    __asm__ volatile("mov %0, %%dr3" : : "r"(before.dr[3][0]));
    for (int i = 0; i < MSRS; i++)
        __asm__ volatile("wrmsr" : : "A"(before.msr[i]), "c"(msrs[i]));
}

/* In system management mode. */
void on_smi(void)
{
    volatile uint32_t *area = (uint32_t *)(SMBASE + SAVE_AREA);
    if (!relocated) {
        ((uint32_t *)(FIRST_SMBASE + SAVE_AREA))[BASE] = SMBASE;
        relocated = 1;
        APIC_COMMAND = DELIVER_SMI;
        return;
    }
    outb(PIT_CONTROL, PIT_ONE_SHOT);
    if (running) {
        report(number++);
        collect(area);
        report(NEXT);
    } else {
        void *to = (void *)(FIRST_SMBASE + ENTRY); /* what relocating has left in the guest's memory */
        uint32_t bytes = MEMORY - FIRST_SMBASE - ENTRY;
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0) : "memory");
    }
    prepare(area);
    running = 1;
    outb(PIT_CHANNEL0, TIMER_TICKS & 0xff);
    outb(PIT_CHANNEL0, TIMER_TICKS >> 8);
}

void after_reset(void)
{
    extern char smi_entry[], smi_entry_end[];
    report_text("\nRESULTS\n");
    if (running) {
        report(number++);
        report(SHUT_DOWN);
        report(NEXT);
        report_changes((uint32_t *)INITIAL, (uint32_t *)0, MEMORY / 4, SHUT_DOWN);
    }
    running = relocated = 0;
    copy((void *)(FIRST_SMBASE + ENTRY), smi_entry, smi_entry_end - smi_entry);
    copy((void *)(SMBASE + ENTRY), smi_entry, smi_entry_end - smi_entry);
    outb(PIC1_MASK, 0xff);
    outb(PIC2_MASK, 0xff);
    outb(PIT_CONTROL, PIT_ONE_SHOT);
    APIC_SPURIOUS = SPURIOUS_ENABLED;
    IOAPIC_INDEX = 0x10 + 2 * TIMER_PIN + 1;
    IOAPIC_DATA = 0;
    IOAPIC_INDEX = 0x10 + 2 * TIMER_PIN;
    IOAPIC_DATA = DELIVER_SMI;
    APIC_COMMAND = DELIVER_SMI;
}
