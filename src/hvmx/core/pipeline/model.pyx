# cython: language_level=3
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memset

from hvmx.core.generated.families cimport COST_COUNT, FAM_COUNT, COST_LOAD, COST_LOCKED, COST_STORE
from hvmx.core.state.state cimport *

from hvmx.isa import cost_classes, families

cdef enum:
    WIDEST_WINDOW = 250        # cycles: the state holds 255


cdef int no_overlap(Cpu *cpu, uint32_t[::1] costs) except -1:
    cdef PipelineModel *m = cpu.model
    cdef uint32_t index
    memset(m, 0, sizeof(PipelineModel))
    m.width = CYCLE_FRACTION
    m.slot_units = 1
    m.taken_branches = 1
    for index in range(COST_COUNT):
        m.classes[index].alone = costs[index]
    m.alone_load = costs[COST_LOAD]
    m.alone_store = costs[COST_STORE]
    m.alone_locked = costs[COST_LOCKED]
    return 0


cdef int fill_class(ClassTiming *k, object figures) except -1:
    cdef uint32_t index
    memset(k, 0, sizeof(ClassTiming))
    k.latency = figures.latency
    k.alone = figures.alone
    k.slots = <uint8_t>figures.slots
    k.only_moves = figures.only_moves
    if len(figures.uses) > CLASS_USES:
        raise ValueError(f"a class uses {CLASS_USES} groups of pipes at most")
    k.use_count = <uint8_t>len(figures.uses)
    for index in range(k.use_count):
        k.uses[index].pipes, k.uses[index].cycles = figures.uses[index]
    return 0


cdef int load_model(Cpu *cpu, object pipeline) except -1:
    cdef PipelineModel *m = cpu.model
    cdef uint32_t index
    cdef PipelineModel before = m[0]
    try:
        memset(m, 0, sizeof(PipelineModel))
        m.width = pipeline.width
        if not 0 < m.width <= CYCLE_FRACTION or CYCLE_FRACTION % m.width:
            raise ValueError(f"a pipeline dispatches 1 to 6, 8 or 10 micro-operations a cycle, not {m.width}")
        m.slot_units = CYCLE_FRACTION // m.width
        m.window = min(pipeline.window, WIDEST_WINDOW)
        m.taken_branches = pipeline.taken_branches
        m.misprediction = pipeline.misprediction
        m.load, m.load_vector = pipeline.load, pipeline.load_vector
        m.forward, m.forward_stack = pipeline.forward, pipeline.forward_stack
        m.alone_load = m.load * CYCLE_FRACTION
        m.alone_store = CYCLE_FRACTION
        m.alone_locked = pipeline.locked
        m.eliminated = pipeline.eliminated
        fill_class(&m.load_use, pipeline.load_use)
        fill_class(&m.store_use, pipeline.store_use)
        for index, name in enumerate(cost_classes()):
            fill_class(&m.classes[index], pipeline.classes[name])
        for index, name in enumerate(families()):
            m.traits[index] = (TRAIT_FUSES if name in pipeline.fusing else 0) | (TRAIT_ZEROES if name in pipeline.zeroing else 0)
    except BaseException:
        m[0] = before
        raise
    return 0
