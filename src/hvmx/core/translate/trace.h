/* Offsets in Cpu, and in what Cpu points at, for translated code; and how it goes on to an Op. */
#ifndef HVMX_TRACE_H
#define HVMX_TRACE_H

#include "emit.h"
#include "state.h"

enum {
    AT_FL_RES = offsetof(Cpu, fl_res), AT_FL_AUX = offsetof(Cpu, fl_aux), AT_FL_CF = offsetof(Cpu, fl_cf),
    AT_ACCT = offsetof(Cpu, acct), AT_NODE = offsetof(Cpu, node), AT_RESUME = offsetof(Cpu, resume),
    AT_WAYS = sizeof(Node), WAY_BYTES = sizeof(Way), AT_WAY_TARGET = offsetof(Way, target), AT_WAY_NEXT = offsetof(Way, next),
    AT_WAY_COST = offsetof(Way, cost), AT_RIP = offsetof(Cpu, rip), AT_TLB = offsetof(Cpu, tlb),
    AT_EA = offsetof(Cpu, ea), AT_EA_OFFSET = offsetof(Cpu, ea_offset), AT_MODE_KEY = offsetof(Cpu, mode_key),
    AT_SEGMENTS = offsetof(Cpu, seg), AT_JCACHE = offsetof(Cpu, jcache),
    AT_BASE = offsetof(Segment, base), AT_LIMIT = offsetof(Segment, limit), AT_ACCESS = offsetof(Segment, access),
    AT_READ = offsetof(TlbEntry, r), AT_WRITE = offsetof(TlbEntry, w), AT_ADDEND = offsetof(TlbEntry, addend),
    AT_FN = offsetof(Op, fn), AT_KEY = offsetof(JumpEntry, key), AT_KNOWN = offsetof(JumpEntry, op), AT_TARGET = offsetof(Op, target),
    AT_RUN = offsetof(RunEntry, run), AT_RUN_LENGTHS = offsetof(RunEntry, lengths), AT_RUN_SURE = offsetof(RunEntry, sure),
    AT_RETURN_TOP = offsetof(Predictor, return_top), AT_RETURNS = offsetof(Predictor, returns),
    AT_RETURNED = offsetof(Predictor, returned),
};

_Static_assert(sizeof(TlbEntry) == 64 && sizeof(JumpEntry) == 16, "translated code shifts by these");

/* On to the Op in RSI: see go_on in state.h. */
static inline void emit_go_on(Emitter *e)
{
#ifdef HVMX_RETURNING
    emit_store(e, 64, HOST_RSI, HOST_RDI, offsetof(Cpu, next_op));
    emit_return(e);
#else
    emit_jump_to_memory(e, HOST_RSI, offsetof(Op, fn));
#endif
}

#endif
