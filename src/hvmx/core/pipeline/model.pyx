# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from hvmx.core.generated.families cimport *
from hvmx.core.state.state cimport *

from hvmx.isa import families


cdef int no_overlap(Cpu *cpu, uint32_t[::1] costs) except -1:
    cdef PipelineModel *m = cpu.model
    cdef uint32_t index, kind, string
    memset(m, 0, sizeof(PipelineModel))
    for index in range(COST_COUNT):
        m.classes[index].alone = costs[index]
    for index in range(4):
        for kind, string in enumerate((COST_MOVS, COST_STOS, COST_LODS, COST_CMPS, COST_SCAS)):
            m.repeat_element[kind][0][index] = m.repeat_element[kind][1][index] = costs[string]
    m.alone_load = costs[COST_LOAD]
    m.alone_store = costs[COST_STORE]
    m.alone_locked = costs[COST_LOCKED]
    return 0


cdef int fill_class(ClassTiming *k, object figures) except -1:
    cdef uint32_t index
    memset(k, 0, sizeof(ClassTiming))
    k.latency = figures.latency
    k.alone = figures.latency * CYCLE_FRACTION if figures.serial else 0
    k.slots = <uint8_t>figures.slots
    k.only_moves = figures.moves
    k.use_count = <uint8_t>len(figures.uses)
    for index in range(k.use_count):
        k.uses[index].pipes, k.uses[index].cycles = figures.uses[index]
    return 0


cdef int load_model(Cpu *cpu, object tables) except -1:
    cdef PipelineModel *m = cpu.model
    cdef uint32_t index
    if CYCLE_FRACTION % tables.width:
        raise ValueError(f"a pipeline dispatches 1 to 6, 8 or 10 micro-operations a cycle, not {tables.width}")
    memset(m, 0, sizeof(PipelineModel))
    m.width = tables.width
    m.slot_units = CYCLE_FRACTION // m.width
    m.window = tables.window
    m.window_cycles = m.window // m.width
    m.vectors = tables.window_vectors
    m.vector_cycles = min(m.window_cycles, m.vectors // m.width)
    m.taken_branch, m.indirect, m.call = tables.taken_branch, tables.indirect, tables.call
    m.fetch_ahead = tables.fetch_ahead
    m.misprediction = tables.misprediction
    m.load, m.load_vector = tables.load, tables.load_vector
    m.forward, m.forward_stack = tables.forward, tables.forward_stack
    m.forward_operand, m.forward_vector = tables.forward_operand, tables.forward_vector
    longest = max(tables.forward, tables.forward_stack, tables.forward_operand, tables.forward_vector)
    m.forward_slack = max(0, longest - min(tables.load, tables.load_vector))
    m.eliminated = ((ELIMINATES_GENERAL if tables.eliminates_general else 0)
                    | (ELIMINATES_VECTOR if tables.eliminates_vector else 0))
    for index in range(COST_COUNT):
        fill_class(&m.classes[index], tables.classes[index])
    m.locked = m.classes[COST_LOCKED].latency
    for kind, (start, up, down) in enumerate(tables.repeats):
        m.repeat_start[kind] = start
        for index in range(4):
            m.repeat_element[kind][0][index], m.repeat_element[kind][1][index] = max(1, up[index]), max(1, down[index])
    for index, name in enumerate(families()):
        m.traits[index] = (TRAIT_FUSES if name in tables.fusion else 0) | (TRAIT_ZEROES if name in tables.zero_idioms else 0)
    return 0
