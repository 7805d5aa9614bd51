# cython: language_level=3
"""For extensions in Cython that answer hypercalls: the public header cext/include/hvmx_hypercall.h."""
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "hvmx_hypercall.h" nogil:
    const char *HVMX_HYPERCALL_CAPSULE
    enum:
        HVMX_HYPERCALLS
    const int HVMX_FIRST_FREE
    const int HVMX_ENOENT
    const int HVMX_EFAULT
    const int HVMX_EEXIST
    const int HVMX_EINVAL
    const int HVMX_ENOSYS
    struct hvmx_hypercall:
        uint64_t args[6]
        uint32_t number
        void *user
        void *vcpu
    ctypedef int64_t (*hvmx_hypercall_fn)(hvmx_hypercall *) noexcept
    int hvmx_copy_from_guest(hvmx_hypercall *, void *to, uint64_t guest, uint64_t size)
    int hvmx_copy_to_guest(hvmx_hypercall *, uint64_t guest, const void *from_, uint64_t size)
    void hvmx_charge(hvmx_hypercall *, uint64_t cycles)
