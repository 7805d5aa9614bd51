# cython: language_level=3
from hvmx.core.translate.trace cimport *

cdef enum:
    POOL = 9

# Not those with a purpose of their own (see stretch.pxd).
cdef uint8_t *pool = [HOST_RBX, HOST_R8, HOST_R8 + 1, HOST_R8 + 2, HOST_R8 + 3, HOST_R8 + 4, HOST_R8 + 5, HOST_R8 + 6, HOST_R15]


cdef void forget_registers(Stretch *t) noexcept nogil:
    cdef uint32_t number
    for number in range(HELD):
        t.now.host_of[number] = HOST_NONE
    for number in range(16):
        t.guest_of[number] = HELD
        t.used[number] = 0
    t.now.dirty = 0


cdef inline void put_back(Stretch *t, uint32_t guest) noexcept nogil:
    if t.now.dirty >> guest & 1:
        emit_store(&t.e, 64, t.now.host_of[guest], HOST_RDI, at_register(guest))


cdef uint32_t place_for(Stretch *t, uint32_t guest) noexcept nogil:
    """A register of the host for one of the guest: a free one, or the one that has not been used for longest."""
    cdef uint32_t index, host, best = HOST_NONE
    for index in range(POOL):
        host = pool[index]
        if t.guest_of[host] == HELD:
            best = host
            break
        if t.used[host] == t.clock or t.guest_of[host] == VALUE and needs_value(t):
            continue
        if best == HOST_NONE or t.used[host] < t.used[best]:
            best = host
    if t.guest_of[best] != HELD:
        put_back(t, t.guest_of[best])
        t.now.dirty &= ~(<uint32_t>1 << t.guest_of[best])
        t.now.host_of[t.guest_of[best]] = HOST_NONE
    t.guest_of[best] = <uint8_t>guest
    t.now.host_of[guest] = <uint8_t>best
    return best


cdef uint32_t held(Stretch *t, uint32_t guest) noexcept nogil:
    cdef uint32_t host = t.now.host_of[guest]
    if host == HOST_NONE:
        host = place_for(t, guest)
        emit_load(&t.e, 64, host, HOST_RDI, at_register(guest))
    t.used[host] = t.clock
    return host


cdef uint32_t changed(Stretch *t, uint32_t guest) noexcept nogil:
    cdef uint32_t host = held(t, guest)
    t.now.dirty |= <uint32_t>1 << guest
    return host


cdef uint32_t taken(Stretch *t, uint32_t guest) noexcept nogil:
    cdef uint32_t host = t.now.host_of[guest]
    if host == HOST_NONE:
        host = place_for(t, guest)
    t.used[host] = t.clock
    if guest != VALUE:
        t.now.dirty |= <uint32_t>1 << guest
    return host


cdef void write_back(Stretch *t) noexcept nogil:
    cdef uint32_t guest
    for guest in range(<uint32_t>REG_ZERO):
        put_back(t, guest)
    t.now.dirty = 0
