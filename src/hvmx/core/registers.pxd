# cython: language_level=3
"""The registers of a processor as attributes in Python."""
from hvmx.core.state cimport Cpu


cdef class Registers:
    cdef Cpu *cpu
