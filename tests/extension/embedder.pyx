"""Hypercalls of an embedder's own, as capsules for `Machine.hypercalls.register`."""
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint64_t

from hvmx.pv.hypercall cimport (
    HVMX_EFAULT, HVMX_HYPERCALL_CAPSULE, hvmx_copy_to_guest, hvmx_hypercall, hvmx_hypercall_fn)

cdef extern from *:
    """
    #include <hvmx_hypercall.h>
    int64_t checksum(struct hvmx_hypercall *call);  /* checksum.c */
    """
    int64_t checksum_in_c "checksum"(hvmx_hypercall *call) noexcept nogil


cdef int64_t add_numbers(hvmx_hypercall *call) noexcept nogil:
    """add(a, b, *sum)"""
    cdef uint64_t total = call.args[0] + call.args[1]
    if hvmx_copy_to_guest(call, call.args[2], &total, sizeof(total)):
        return -HVMX_EFAULT
    return 0


cdef object capsule(hvmx_hypercall_fn function):
    return PyCapsule_New(<void *>function, HVMX_HYPERCALL_CAPSULE, NULL)


add = capsule(add_numbers)
checksum = capsule(checksum_in_c)
