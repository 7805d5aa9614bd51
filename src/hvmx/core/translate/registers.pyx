# cython: language_level=3
from hvmx.core.translate.trace cimport *

cdef enum:
    POOL = 9

# Not those with a purpose of their own (see trace.pxd).
cdef uint8_t *pool = [HOST_RBX, HOST_R8, HOST_R8 + 1, HOST_R8 + 2, HOST_R8 + 3, HOST_R8 + 4, HOST_R8 + 5, HOST_R8 + 6, HOST_R15]


cdef void clear_allocation(Trace *t) noexcept nogil:
    cdef uint32_t number
    for number in range(VIRTUAL_REGISTERS):
        t.state.host_of[number] = HOST_NONE
    for number in range(16):
        t.guest_of[number] = FREE
        t.used[number] = 0
    t.state.dirty = 0


cdef inline void spill_register(Trace *t, uint32_t guest) noexcept nogil:
    if t.state.dirty >> guest & 1:
        emit_store(&t.e, 64, t.state.host_of[guest], HOST_RDI, at_register(guest))


cdef uint32_t allocate_register(Trace *t, uint32_t guest) noexcept nogil:
    """A host register for a guest register: a free one, or the least recently used, whose guest register is evicted."""
    cdef uint32_t index, host, best = HOST_NONE
    for index in range(POOL):
        host = pool[index]
        if t.guest_of[host] == FREE:
            best = host
            break
        if t.used[host] == t.clock or t.guest_of[host] == TEMP and needs_temp(t):
            continue
        if best == HOST_NONE or t.used[host] < t.used[best]:
            best = host
    if t.guest_of[best] != FREE:
        spill_register(t, t.guest_of[best])
        t.state.dirty &= ~(<uint32_t>1 << t.guest_of[best])
        t.state.host_of[t.guest_of[best]] = HOST_NONE
    t.guest_of[best] = <uint8_t>guest
    t.state.host_of[guest] = <uint8_t>best
    return best


cdef uint32_t use_register(Trace *t, uint32_t guest) noexcept nogil:
    cdef uint32_t host = t.state.host_of[guest]
    if host == HOST_NONE:
        host = allocate_register(t, guest)
        emit_load(&t.e, 64, host, HOST_RDI, at_register(guest))
    t.used[host] = t.clock
    return host


cdef uint32_t modify_register(Trace *t, uint32_t guest) noexcept nogil:
    cdef uint32_t host = use_register(t, guest)
    t.state.dirty |= <uint32_t>1 << guest
    return host


cdef uint32_t define_register(Trace *t, uint32_t guest) noexcept nogil:
    cdef uint32_t host = t.state.host_of[guest]
    if host == HOST_NONE:
        host = allocate_register(t, guest)
    t.used[host] = t.clock
    if guest != TEMP:
        t.state.dirty |= <uint32_t>1 << guest
    return host


cdef void spill_all(Trace *t) noexcept nogil:
    cdef uint32_t guest
    for guest in range(<uint32_t>REG_ZERO):
        spill_register(t, guest)
    t.state.dirty = 0
