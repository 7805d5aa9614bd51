# cython: language_level=3
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc

from hvmx.core.state.state cimport *
from hvmx.isa import families

cdef enum:
    FORMS = 32
    WIDTHS = 4
    ADDRESSES = 16

cdef dict family_numbers = {name: number for number, name in enumerate(families())}
cdef OpFn *handlers = <OpFn *>calloc(len(family_numbers) * FORMS * WIDTHS * ADDRESSES, sizeof(OpFn))
if handlers == NULL:
    raise MemoryError


cdef inline uint32_t slot(uint32_t family, uint32_t form, uint32_t width_index, uint32_t address) noexcept nogil:
    return ((family * FORMS + form) * WIDTHS + width_index) * ADDRESSES + address


cdef inline uint32_t width_index(uint32_t width) noexcept nogil:
    return 0 if width == 8 else 1 if width == 16 else 2 if width == 32 else 3


cdef int register_handler(str family, uint32_t form, uint32_t width, uint32_t address, OpFn fn) except -1:
    cdef uint32_t number = family_numbers[family]
    cdef uint32_t index
    if width:
        handlers[slot(number, form, width_index(width), address)] = fn
    else:
        for index in range(WIDTHS):
            handlers[slot(number, form, index, address)] = fn
    return 0


cdef OpFn handler_of(uint32_t family, uint32_t form, uint32_t width, uint32_t address) noexcept nogil:
    return handlers[slot(family, form, width_index(width), address)]
