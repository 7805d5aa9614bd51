# cython: language_level=3
import numpy

from libc.stdint cimport uint64_t

from hvmx.core.state.state cimport *


cdef class DevicePlaces:
    def __cinit__(self):
        self.kernel_ports = numpy.zeros(65536, dtype=numpy.uint8)
        self.kernel_port_bytes = self.kernel_ports
        self.mmio_devices = []

    cdef uint64_t extra_cost(self, Cpu *cpu) except? 0:
        cdef bint in_kernel = False
        if cpu.exit.reason == EXIT_REASON_IO_INSTRUCTION:
            in_kernel = self.kernel_port_bytes[cpu.exit.number]
        elif cpu.exit.reason == EXIT_REASON_EPT_MISCONFIG:
            for addresses, kernels in self.mmio_devices:
                if cpu.exit.physical in addresses:
                    in_kernel = kernels
                    break
        else:
            return 0
        return 0 if in_kernel else self.user_device_cost
