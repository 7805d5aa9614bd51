# cython: language_level=3
"""Where devices are emulated: in the hypervisor's kernel, or in its user space, which costs an exit extra cycles."""
from libc.stdint cimport uint8_t, uint64_t

from hvmx.core.state.state cimport *


cdef class DevicePlaces:
    cdef readonly object kernel_ports    # a byte for each port, in a numpy array: 1 where a device in the kernel answers it
    cdef uint8_t[::1] kernel_port_bytes
    cdef readonly list mmio_devices      # [(range of guest-physical addresses, whether a device in the kernel answers it)]: the
                                         # first that fits counts, and what is in none is in user space
    cdef uint64_t user_device_cost       # in units of 1/CYCLE_FRACTION cycle

    # What the access in cpu.exit costs besides its exit, whoever answered it.
    cdef uint64_t extra_cost(self, Cpu *cpu) except? 0
