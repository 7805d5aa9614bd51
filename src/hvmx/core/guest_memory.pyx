# cython: language_level=3
"""Guest RAM as a numpy array whose writes the code cache hears of.

The array that numpy sees is read-only. What writes it by way of its class (items, in-place operators, ufuncs and functions
with `out`, `fill`, `sort` and so on) is done on a writable twin that nobody else has, and what was decoded from the bytes
written is dropped. What goes another way (`memoryview`, `numpy.asarray(...)[...] = `) meets numpy's own refusal.
"""
import numpy

from cpython.buffer cimport (PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release,
                             PyObject_GetBuffer)
from libc.stdint cimport uint8_t, uint64_t

from hvmx.core.memory.codecache cimport code_written
from hvmx.core.registers cimport PyThread_get_thread_ident, Registers, held
from hvmx.core.state.state cimport *

cdef uint64_t FOUR_GIB = <uint64_t>1 << 32


cdef void bytes_written(Registers registers, uint64_t start, uint64_t length) noexcept:
    """RAM was written from its byte `start` on, as it lies in host memory: what was decoded from it is forgotten."""
    cdef Cpu *cpu = registers.cpu
    cdef uint64_t here, end = start + length
    while start < end:
        here = min(end, (start | 0xfff) + 1) - start
        if cpu.page_flags[start >> 12] & PAGE_CODE:
            code_written(cpu, start if start < cpu.ram_low else start - cpu.ram_low + FOUR_GIB, here)
        start += here


cdef class Ram:
    """Guest RAM as a buffer that cannot be written: the base of `GuestMemory`."""

    def __cinit__(self, mapping):
        cdef uint8_t[::1] octets = mapping
        self.plain = numpy.frombuffer(mapping, dtype=numpy.uint8)
        self.octets = &octets[0]
        self.size = self.shape = octets.shape[0]
        self.stride = 1

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("guest memory is written through the array, or by Vcpu.write")
        buffer.buf = self.octets
        buffer.obj = self
        buffer.len = self.size
        buffer.itemsize = 1
        buffer.readonly = 1
        buffer.ndim = 1
        buffer.format = NULL
        if flags & PyBUF_FORMAT:
            buffer.format = b"B"
        buffer.shape = &self.shape if flags & PyBUF_ND else NULL
        buffer.strides = &self.stride if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL

    cdef bint claim(self) except -1:
        """Keep other threads from running the processor meanwhile: numpy lets them in. True where `release` is to end that."""
        if self.registers == NULL:
            return False
        held(<Registers>self.registers)
        if (<Registers>self.registers).runner:
            return False
        (<Registers>self.registers).runner = PyThread_get_thread_ident()
        (<Registers>self.registers).writing = True
        return True

    cdef int release(self) except -1:
        if self.registers != NULL:
            (<Registers>self.registers).runner = 0
            (<Registers>self.registers).writing = False
        return 0

    cdef int written(self, uint64_t low, uint64_t high) except -1:
        """Host addresses from `low` to `high`, exclusive, were written."""
        if self.registers != NULL:
            bytes_written(<Registers>self.registers, low - <uint64_t>self.octets, high - low)
        return 0


cdef object guest_memory(object mapping, Registers registers):
    cdef Ram ram = Ram(mapping)
    cdef object root = GuestMemory(ram.size, numpy.uint8, ram)
    ram.registers = <void *>registers
    ram.root = <void *>root
    return root


cdef void detach(object memory) noexcept:
    """The processor goes; the array may stay."""
    cdef Ram ram = memory.base
    ram.registers = NULL
    ram.root = NULL


cdef Ram ram_of(object array):
    """The RAM that an array is a view of; None for one with memory of its own."""
    while isinstance(array, numpy.ndarray):
        array = array.base
    return <Ram>array if isinstance(array, Ram) else None


cdef class Writing:
    """One call that writes: the twins of the arrays that it writes, and where they lie."""

    cdef list arrays, twins, places

    def __cinit__(self):
        self.arrays, self.twins, self.places = [], [], []

    cdef object twin(self, object array):
        """The same elements, writable, where the array is a view of guest memory."""
        cdef Ram ram
        if not isinstance(array, GuestMemory):
            return array
        ram = ram_of(array)
        if ram is None or not array.size:
            return array.view(numpy.ndarray)
        twin = twin_of(ram, array)
        self.add(ram, array, twin)
        return twin

    cdef int add(self, Ram ram, object array, object twin) except -1:
        """The call writes the twin."""
        cdef Span span = span_of(twin)
        self.arrays.append(array)
        self.twins.append(twin)
        self.places.append((ram, span.low, span.high))
        return 0

    cdef object call(self, object function, tuple arguments, dict options):
        cdef Ram ram
        cdef list claimed = []
        try:
            for ram, _, _ in self.places:
                if ram.claim():
                    claimed.append(ram)
            try:
                return self.given(function(*arguments, **options))
            finally:
                for ram, low, high in self.places:
                    ram.written(low, high)
        finally:
            for ram in claimed:
                ram.release()

    cdef object given(self, object result):
        """A twin never leaves: what the caller gave comes back."""
        if isinstance(result, tuple):
            return tuple([self.given(one) for one in result])
        for array, twin in zip(self.arrays, self.twins):
            if result is twin:
                return array
        return result


cdef Span span_of(object array):
    """The host addresses of an array that is not empty: where it begins, its lowest, and the one behind its highest."""
    cdef Span span
    cdef Py_buffer buffer
    cdef int axis
    PyObject_GetBuffer(array, &buffer, PyBUF_STRIDES)
    span.first = span.low = span.high = <uint64_t>buffer.buf
    for axis in range(buffer.ndim):
        if buffer.strides[axis] < 0:
            span.low += (buffer.shape[axis] - 1) * buffer.strides[axis]
        else:
            span.high += (buffer.shape[axis] - 1) * buffer.strides[axis]
    span.high += buffer.itemsize
    PyBuffer_Release(&buffer)
    return span


cdef object twin_of(Ram ram, object array):
    """The same elements, writable."""
    return numpy.ndarray(array.shape, array.dtype, ram.plain, span_of(array).first - <uint64_t>ram.octets, array.strides)


cdef object part_of(object twin, object index):
    """The view that an index picks; for what picks by numbers or by a mask, which gives copies, all of the array."""
    cdef Span one, whole
    part = twin[index]
    if not isinstance(part, numpy.ndarray):
        part = twin[(*index, ...) if isinstance(index, tuple) else (index, ...)]
    if part.size:
        one, whole = span_of(part), span_of(twin)
        if not whole.low <= one.low < whole.high:
            return twin
    return part


WRITES_ITS_FIRST = {
    numpy.copyto: "dst", numpy.fill_diagonal: "a", numpy.place: "arr", numpy.put: "a", numpy.put_along_axis: "arr",
    numpy.putmask: "a",
}


class GuestMemory(numpy.ndarray):
    """Guest RAM, or a part of it, as a numpy array without a copy. Copies of it are ordinary arrays.

    RuntimeError for a write while another thread runs the processor, which would be at no certain guest cycle.
    """

    def __setitem__(self, index, value):
        cdef Ram ram = ram_of(self)
        cdef Span span
        cdef bint claimed
        if ram is None or not self.size:
            self.view(numpy.ndarray)[index] = value
            return
        twin = twin_of(ram, self)
        part = part_of(twin, index)
        if not part.size:
            twin[index] = value
            return
        span = span_of(part)
        claimed = ram.claim()
        try:
            twin[index] = value
        finally:
            ram.written(span.low, span.high)
            if claimed:
                ram.release()

    def __setattr__(self, name, value):
        ram = self.base
        if isinstance(ram, Ram) and (<Ram>ram).root == <void *>self:
            raise AttributeError(f"{name} of a machine's memory is fixed: reshape() and view() give other arrays of it")
        numpy.ndarray.__setattr__(self, name, value)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        cdef Writing writing = Writing()
        arguments = [one.view(numpy.ndarray) if isinstance(one, GuestMemory) else one for one in inputs]
        if method == "at":
            arguments[0] = writing.twin(inputs[0])
        for name, value in options.items():
            if name == "out":
                options[name] = tuple([writing.twin(one) for one in value])
            elif isinstance(value, GuestMemory):
                options[name] = value.view(numpy.ndarray)
        return writing.call(getattr(ufunc, method), tuple(arguments), options)

    def __array_function__(self, function, types, arguments, options):
        cdef Writing writing = Writing()
        written = WRITES_ITS_FIRST.get(function)
        if written is not None and arguments:
            arguments = (writing.twin(arguments[0]), *arguments[1:])
        options = {name: writing.twin(value) if name in ("out", written) else value for name, value in options.items()}
        if not writing.places:
            return numpy.ndarray.__array_function__(self, function, types, arguments, options)
        return writing.call(function, tuple(arguments), options)

    def byteswap(self, inplace=False):
        cdef Writing writing = Writing()
        return writing.call(numpy.ndarray.byteswap, (writing.twin(self) if inplace else self, inplace), {})

    def copy(self, order="C"):
        return numpy.array(self, order=order)

    def __copy__(self):
        return numpy.array(self)

    def __deepcopy__(self, memo):
        return numpy.array(self)

    def __reduce_ex__(self, protocol):
        return numpy.array(self).__reduce_ex__(protocol)


def writing_method(name):
    def method(self, *arguments, **options):
        cdef Writing writing = Writing()
        return writing.call(getattr(numpy.ndarray, name), (writing.twin(self), *arguments), options)

    method.__name__ = name
    method.__doc__ = getattr(numpy.ndarray, name).__doc__
    return method


for name in ("fill", "itemset", "partition", "put", "setfield", "sort"):
    if hasattr(numpy.ndarray, name):  # itemset has gone in numpy 2
        setattr(GuestMemory, name, writing_method(name))
