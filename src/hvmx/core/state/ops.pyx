# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc

from hvmx.core.state.state cimport *
from hvmx.isa import families

cdef enum:
    FORMS = 2 * FORM_MMX
    WIDTHS = 4
    ADDRESSES = ADDRESS_BASE_64 + 1
    VARIANTS = FLAGS_NONE + 1
    FULL_SLOTS = 4096          # of a hash table with open addressing; a power of 2, several times what is in it

# A variant, and where the handler is that computes all flags.
cdef struct Full:
    OpFn variant
    OpFn *full

cdef Full full_table[FULL_SLOTS]
cdef uint32_t variants = 0

cdef dict family_numbers = {name: number for number, name in enumerate(families())}
cdef OpFn *handlers = <OpFn *>calloc(len(family_numbers) * FORMS * WIDTHS * ADDRESSES * VARIANTS, sizeof(OpFn))
if handlers == NULL:
    raise MemoryError


cdef inline OpFn *slot(uint32_t family, uint32_t form, uint32_t width_index, uint32_t address, uint32_t flags) noexcept nogil:
    return &handlers[(((family * FORMS + form) * WIDTHS + width_index) * ADDRESSES + address) * VARIANTS + flags]


cdef inline uint32_t width_index(uint32_t width) noexcept nogil:
    return 0 if width == 8 else 1 if width == 16 else 2 if width == 32 else 3


cdef int register_handler(str family, uint32_t form, uint32_t width, uint32_t address, OpFn fn) except -1:
    return register_variant(family, form, width, address, FLAGS_ALL, fn)


cdef int register_variant(str family, uint32_t form, uint32_t width, uint32_t address, uint32_t flags, OpFn fn) except -1:
    cdef uint32_t number = family_numbers[family]
    cdef uint32_t index
    if flags != FLAGS_ALL:
        add_full(fn, slot(number, form, width_index(width), address, FLAGS_ALL))
    if width:
        slot(number, form, width_index(width), address, flags)[0] = fn
    else:
        for index in range(WIDTHS):
            slot(number, form, index, address, flags)[0] = fn
    return 0


cdef inline Full *place_of(OpFn fn) noexcept nogil:
    cdef uint64_t value = <uint64_t>fn
    cdef uint32_t at = <uint32_t>((value ^ (value >> 12)) >> 4) & (FULL_SLOTS - 1)
    while full_table[at].variant != NULL and full_table[at].variant != fn:
        at = (at + 1) & (FULL_SLOTS - 1)
    return &full_table[at]


cdef int add_full(OpFn variant, OpFn *full) except -1:
    global variants
    cdef Full *place = place_of(variant)
    variants += place.variant == NULL
    if variants > FULL_SLOTS // 2:
        raise RuntimeError("the table of variants is too small")
    place.variant = variant
    place.full = full
    return 0


cdef OpFn full_handler(OpFn fn) noexcept nogil:
    cdef Full *place = place_of(fn)
    return place.full[0] if place.variant != NULL and place.full[0] != NULL else fn


cdef OpFn handler_of(uint32_t family, uint32_t form, uint32_t width, uint32_t address) noexcept nogil:
    return slot(family, form, width_index(width), address, FLAGS_ALL)[0]


cdef OpFn variant_of(uint32_t family, uint32_t form, uint32_t width, uint32_t address, uint32_t flags) noexcept nogil:
    return slot(family, form, width_index(width), address, flags)[0]


def registered():
    """{(family, form, width, address, flags)} of all handlers: the family's name, and numbers of `insn.h` and `ops.pxd`."""
    cdef uint32_t number, form, index, address, flags
    found = set()
    for name, number in family_numbers.items():
        for form in range(FORMS):
            for index in range(WIDTHS):
                for address in range(ADDRESSES):
                    for flags in range(VARIANTS):
                        if slot(number, form, index, address, flags)[0] != NULL:
                            found.add((name, form, 8 << index, address, flags))
    return found
