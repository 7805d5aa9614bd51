# cython: language_level=3
"""What the guest's time is made of."""
from libc.stdint cimport uint32_t

from hvmx.core.exit.devices cimport DevicePlaces
from hvmx.core.physical_memory cimport PhysicalMemory


cdef class CostModels(PhysicalMemory):
    cdef object exit_costs
    cdef uint32_t[::1] exit_cost_values
    cdef DevicePlaces places
