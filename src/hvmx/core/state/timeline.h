/* What happens to the guest when: spans of guest time, kept where that is asked for; else Cpu.timeline is NULL.
 *
 * A span is noted when it ends, with Cpu.acct at that place: so its times are those of the guest, however it is executed.
 */
#ifndef HVMX_TIMELINE_H
#define HVMX_TIMELINE_H

#include "state.h"

typedef struct {
    uint64_t begin, end;   /* in units of 1/CYCLE_FRACTION guest cycle */
    uint64_t value;
    uint32_t kind, number; /* SPAN_*; what they and the value are says SpanKind of src/hvmx/vocabulary */
} Span;

/* What a guest can make us hold. The first ones are kept, and those after them counted. */
enum { MOST_SPANS = 1 << 20 };

typedef struct Timeline {
    Span privilege, space; /* as at the last turn, and going on */
    uint64_t turn;         /* when the privilege level or CR3 may have changed last */
    Span waiting;          /* the last one: what is due while it lasts may leave the guest waiting */
    uint64_t count, dropped;
    Span spans[MOST_SPANS];
} Timeline;

static inline void keep_span(Timeline *timeline, const Span *span)
{
    if (timeline->count < MOST_SPANS)
        timeline->spans[timeline->count++] = *span;
    else
        timeline->dropped++;
}

/* For a span that may be noted later on. */
static inline uint64_t span_begins(const Cpu *cpu)
{
    return UNLIKELY(cpu->timeline != NULL) ? guest_time(cpu) : 0;
}

static inline void note_span(Cpu *cpu, uint32_t kind, uint32_t number, uint64_t value, uint64_t begin)
{
    if (UNLIKELY(cpu->timeline != NULL)) {
        Span span = { begin, guest_time(cpu), value, kind, number };
        keep_span(cpu->timeline, &span);
    }
}

static inline void note_entry(Cpu *cpu, uint32_t kind, uint32_t vector, uint64_t value)
{
    note_span(cpu, kind, vector, value, span_begins(cpu));
}

/* PRIVILEGE_*: of a PV guest, whose CPL is always 3, the mode that its hypervisor keeps. */
static inline uint32_t privilege_of(const Cpu *cpu)
{
    return cpu->pv != NULL ? cpu->pv_privilege : cpu->cpl;
}

static inline void turn_to(Timeline *timeline, Span *lasting, uint32_t number, uint64_t value)
{
    if (lasting->number == number && lasting->value == value)
        return;
    lasting->end = timeline->turn;
    if (lasting->end > lasting->begin)
        keep_span(timeline, lasting);
    lasting->begin = timeline->turn;
    lasting->number = number;
    lasting->value = value;
}

/* Before what may change the privilege level or CR3 at `time`: what there is now has been since the last turn. */
static inline void note_turn(Cpu *cpu, uint64_t time)
{
    Timeline *timeline = cpu->timeline;
    if (timeline == NULL)
        return;
    turn_to(timeline, &timeline->privilege, privilege_of(cpu), 0);
    turn_to(timeline, &timeline->space, 0, cpu->cr3);
    timeline->turn = time;
}

/* From Cpu.time on, to where the next thing is due, which may be but the end of a slice. */
static inline void note_wait(Cpu *cpu, uint64_t until)
{
    Timeline *timeline = cpu->timeline;
    if (timeline == NULL)
        return;
    if (timeline->waiting.end != cpu->time) {
        if (timeline->waiting.end)
            keep_span(timeline, &timeline->waiting);
        timeline->waiting.begin = cpu->time;
    }
    timeline->waiting.end = until;
}

#endif
