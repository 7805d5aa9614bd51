# cython: language_level=3
"""Guest-physical memory in Python: RAM, ROMs, holes for devices, the A20 gate."""
import mmap
import sys

cimport cython

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memmove

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize

from hvmx.core cimport guest_memory
from hvmx.core.memory.mmu cimport flush_tlb
from hvmx.core.memory.paging cimport peek
from hvmx.core.registers cimport Registers, fitting, held, up_to
from hvmx.core.state.state cimport *

# Guest memory that is never touched takes none of the host's. Python names the flag from 3.12 on.
MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)

cdef uint64_t FOUR_GIB = <uint64_t>1 << 32
cdef uint64_t THREE_GIB = <uint64_t>3 << 30
cdef uint64_t NEVER = ~<uint64_t>0
cdef uint64_t PHYSICAL_BYTES = <uint64_t>1 << 52  # SDM vol. 3, 4.1.4


@cython.no_gc_clear  # __dealloc__ needs `view`
cdef class PhysicalMemory(Registers):
    """The memory of one processor by guest-physical address."""

    cdef int add_ram(self, uint64_t size, bint hole, object level) except -1:
        """Memory for Cpu, which has none yet. Without `hole` it is in one piece."""
        cdef uint64_t reach = <uint64_t>1 << <uint32_t>level.physical_bits
        if size < 4096 or size % 4096:
            raise ValueError(f"memory is {size} bytes: it must be a multiple of 4096 and not empty")
        try:
            self.ram = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
        except OSError as error:
            raise MemoryError(f"the host has no room for guest memory of {size} bytes") from error
        if hole and size > THREE_GIB and FOUR_GIB + size - THREE_GIB > reach:
            raise ValueError(f"memory of {size} bytes: of {reach} that a {level.name} reaches, devices have 1 GiB")
        if size > reach:
            raise ValueError(f"memory of {size} bytes: a {level.name} reaches {reach}")
        self.ram_bytes = self.ram
        self.cpu.ram = &self.ram_bytes[0]
        self.cpu.ram_low = min(size, THREE_GIB) if hole else size
        self.cpu.ram_high = size - self.cpu.ram_low
        self.cpu.page_flags = <uint8_t *>calloc(size >> 12, 1)
        self.cpu.code_pages = <CodePage **>calloc(size >> 12, sizeof(CodePage *))
        self.cpu.shadow_pages = <ShadowPage **>calloc(size >> 12, sizeof(ShadowPage *))
        if self.cpu.shadow_pages == NULL or self.cpu.page_flags == NULL or self.cpu.code_pages == NULL:
            raise MemoryError(f"the host has no room for the books of guest memory of {size} bytes")
        self.cpu.a20_mask = NEVER
        self.roms = []
        self.view = guest_memory.guest_memory(self.ram, self)
        return 0

    def __dealloc__(self):
        cdef uint64_t frame
        if self.cpu == NULL:
            return
        if self.view is not None:
            guest_memory.detach(self.view)
        if self.cpu.code_pages != NULL and self.cpu.shadow_pages != NULL:
            for frame in range(<uint64_t>((self.cpu.ram_low + self.cpu.ram_high) >> 12)):
                free(self.cpu.code_pages[frame])
                free(self.cpu.shadow_pages[frame])
        free(self.cpu.code_pages)
        free(self.cpu.shadow_pages)
        free(self.cpu.page_flags)

    @property
    def memory(self):
        """Guest RAM as a numpy array of bytes, without a copy. An index is a guest-physical address; where there is a
        hole for devices from 3 to 4 GiB, the RAM above it follows that below.

        Reading it costs nothing. What was decoded from bytes that are written through it is decoded anew; other ways
        to them (`memoryview`, `numpy.asarray`) are read-only. RuntimeError for a write while another thread runs the
        processor.
        """
        return self.view

    @property
    def memory_bytes(self):
        """Size of guest RAM in bytes."""
        return self.cpu.ram_low + self.cpu.ram_high

    @property
    def nested_tables(self):
        """Pages of page tables that nested paging needs for the guest pages that it has mapped so far, of 4 KiB each (SDM
        vol. 3, 28.2.2): one for each 2 MiB, 1 GiB and 512 GiB in which there is one, and the root."""
        cdef uint64_t frame, table, last, count = 0
        cdef int shift
        for shift in (9, 18, 27, 36):
            last = NEVER
            for frame in range(<uint64_t>((self.cpu.ram_low + self.cpu.ram_high) >> 12)):
                if self.cpu.page_flags[frame] & PAGE_BACKED:
                    table = frame >> shift
                    count += table != last
                    last = table
        return count

    @property
    def shadow_tables(self):
        """Pages of page tables that shadow paging keeps: one for each page table of the guest that a walk has used."""
        cdef uint64_t frame, count = 0
        for frame in range(<uint64_t>((self.cpu.ram_low + self.cpu.ram_high) >> 12)):
            count += self.cpu.shadow_pages[frame] != NULL
        return count

    cdef uint64_t _range(self, uint64_t address, uint64_t length) except? 0xbad:
        cdef uint64_t start = address, end = self.cpu.ram_low
        if address >= FOUR_GIB and self.cpu.ram_high:
            start = address - FOUR_GIB + self.cpu.ram_low
            end = self.cpu.ram_low + self.cpu.ram_high
        if start > end or length > end - start:
            raise ValueError(f"guest-physical {address:#x}+{length:#x} is not RAM")
        return start

    def read(self, address, length):
        """`length` bytes of RAM at a guest-physical address. ValueError outside of RAM."""
        cdef uint64_t size = up_to("length", length, NEVER)
        cdef uint64_t start = self._range(up_to("address", address, NEVER), size)
        return PyBytes_FromStringAndSize(<char *>self.cpu.ram + start, size)

    def write(self, address, data):
        """Write bytes to RAM at a guest-physical address. ValueError outside of RAM."""
        cdef Py_buffer source
        cdef uint64_t start, at = up_to("address", address, NEVER)
        PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)  # its own length counts, not what len() says
        try:
            start = self._range(at, source.len)
            held(self)
            memmove(self.cpu.ram + start, source.buf, source.len)
            guest_memory.bytes_written(self, start, source.len)
        finally:
            PyBuffer_Release(&source)

    def add_rom(self, address, data):
        """Map bytes read-only at a guest-physical address: over RAM, where there is some, or beside it."""
        cdef bytes kept = bytes(memoryview(data))
        cdef uint64_t length = len(kept), at = self._physical(address, length), page
        cdef const uint8_t[::1] octets
        if at % 4096 or length % 4096 or not length:
            raise ValueError(f"a ROM of {length} bytes at {at:#x}: both must be multiples of 4096")
        held(self)
        pages = self._pages(at, length)
        if pages:
            self.write(at, kept)
            for page in pages:
                self.cpu.page_flags[page] |= PAGE_ROM
        else:
            if self.cpu.rom_count == 8:
                raise ValueError("more than 8 ROMs")
            octets = kept
            self.roms.append(octets)
            self.cpu.roms[self.cpu.rom_count].base = at
            self.cpu.roms[self.cpu.rom_count].size = length
            self.cpu.roms[self.cpu.rom_count].host = <uint8_t *>&octets[0]
            self.cpu.rom_count += 1
        flush_tlb(self.cpu, True)

    def add_hole(self, address, length):
        """Take a range of pages out of RAM: accesses exit as memory-mapped I/O. Where there is no RAM nothing changes."""
        cdef uint64_t size = up_to("length", length, NEVER), at = self._physical(address, size), page
        held(self)
        for page in self._pages(at, size):
            self.cpu.page_flags[page] |= PAGE_HOLE
            guest_memory.bytes_written(self, page << 12, 0x1000)
        flush_tlb(self.cpu, True)

    cdef uint64_t _physical(self, object address, uint64_t length) except? 0xbad:
        """A guest-physical address with `length` bytes behind it; ValueError for one that no processor has."""
        cdef uint64_t at = up_to("address", address, NEVER)
        if at >= PHYSICAL_BYTES or length > PHYSICAL_BYTES - at:
            raise ValueError(f"{length:#x} bytes at {at:#x}: physical addresses have 52 bits")
        return at

    cdef list _pages(self, uint64_t address, uint64_t length):
        """The pages of RAM that guest-physical addresses touch, by their place in RAM."""
        cdef uint64_t first = address >> 12, end = (address + length + 0xfff) >> 12, low = self.cpu.ram_low >> 12
        cdef uint64_t high = self.cpu.ram_high >> 12, above = FOUR_GIB >> 12
        cdef list pages = list(range(first, min(end, low)))
        if high and end > above:
            first = max(first, above)
            pages += range(first - above + low, min(end, above + high) - above + low)
        return pages

    def ram_view(self):
        """Guest RAM, read-only, without a copy."""
        return memoryview(self.ram).toreadonly()

    def translate(self, address):
        """The guest-physical address of a linear one by the present page tables, or None; changes nothing."""
        cdef uint64_t result = 0
        return result if peek(self.cpu, fitting("address", address, NEVER), &result) else None

    @property
    def a20(self):
        """The A20 gate: when False, bit 20 of every physical address is 0."""
        return self.cpu.a20_mask == NEVER

    @a20.setter
    def a20(self, bint enabled):
        held(self).a20_mask = NEVER if enabled else NEVER ^ <uint64_t>0x100000
        flush_tlb(self.cpu, True)
        self.cpu.pending |= PEND_FLUSH
