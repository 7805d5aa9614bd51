# cython: language_level=3
"""The hypercall table and a Xen domain as seen from Python, and the core's services for the C behind them."""
cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from hvmx.core.decode.decoder cimport decode
from hvmx.core.exit.door cimport exit_to_handler
from hvmx.core.memory.codecache cimport code_written
from hvmx.core.state.host_time cimport host_nanoseconds
from hvmx.core.memory.mmu cimport flush_page, flush_tlb
from hvmx.core.memory.segmentation cimport update_mode
from hvmx.core.memory.paging cimport Translation, translate
from hvmx.core.registers cimport Registers, held, up_to
from hvmx.core.state.insn cimport Insn
from hvmx.core.state.state cimport *
from hvmx.pv.hypercall cimport *
from hvmx.pv.xen cimport *

FIRST_FREE = HVMX_FIRST_FREE
NUMBERS = HVMX_HYPERCALLS
cdef enum:
    SYSCALL_BYTES = 2
    BEYOND = HVMX_HYPERCALLS   # the table's entry for all larger numbers
    ENTRIES = BEYOND + 1

OTHERS = -1                    # under which stands what is not tallied number by number


# --- the core's services for C (cext/hypercall/core_services.h) ----------------------------------------------------------
cdef void service_flush_tlb(Cpu *cpu, int all) noexcept nogil:
    flush_tlb(cpu, all != 0)


cdef uint64_t service_translate(Cpu *cpu, uint64_t address, int write) noexcept nogil:
    cdef Translation translation
    if not translate(cpu, address, cpu.tlb_kind, 1 if write else 0, &translation):
        return NO_ADDRESS
    return (translation.physical | address & 0xfff) & cpu.a20_mask


cdef void service_page_written(Cpu *cpu, uint64_t page) noexcept nogil:
    cdef uint64_t physical = page << 12
    if physical >= cpu.ram_low:
        physical += (<uint64_t>1 << 32) - cpu.ram_low
    code_written(cpu, physical, 0x1000)


cdef int service_decode(const Cpu *cpu, const uint8_t *code, int available, Insn *insn) noexcept nogil:
    cdef int width = 16 if cpu.mode & MODE_WIDTH == MODE_16 else 32 if cpu.mode & MODE_WIDTH == MODE_32 else 64
    return decode(code, available, width, cpu.features, insn)


cdef hvmx_core services
services.flush_tlb = service_flush_tlb
services.flush_page = flush_page
services.update_mode = update_mode
services.translate = service_translate
services.page_written = service_page_written
services.exit_to_handler = exit_to_handler
services.decode = service_decode
(<const hvmx_core **>&hvmx_core_services)[0] = &services


# --- the table -----------------------------------------------------------------------------------------------------------
cdef class Call:
    """A hypercall, as a function in Python gets it; valid until that function returns."""

    cdef hvmx_hypercall *call

    cdef hvmx_hypercall *valid(self) except NULL:
        if self.call == NULL:
            raise RuntimeError("the hypercall is over")
        return self.call

    @property
    def number(self):
        return self.valid().number

    @property
    def args(self):
        """The six arguments, 64 bits each (KVM's calls have four; the others are 0)."""
        return tuple([self.valid().args[index] for index in range(6)])

    def read(self, uint64_t address, uint32_t size):
        """Read guest memory at a linear address. ValueError where the guest itself could not."""
        data = bytearray(size)
        cdef uint8_t[::1] view = data
        if size and hvmx_copy_from_guest(self.valid(), &view[0], address, size):
            raise ValueError(f"guest address {address:#x} (0x{size:x} bytes) is not readable for the guest")
        return bytes(data)

    def write(self, uint64_t address, const uint8_t[::1] data):
        """Write guest memory at a linear address. ValueError where the guest itself could not."""
        if data.shape[0] and hvmx_copy_to_guest(self.valid(), address, &data[0], data.shape[0]):
            raise ValueError(f"guest address {address:#x} (0x{data.shape[0]:x} bytes) is not writable for the guest")

    def charge(self, cycles):
        """Make the call cost this many more guest cycles. ValueError for more than can be accounted in one slice."""
        cdef hvmx_hypercall *call = self.valid()
        cdef uint64_t room = <uint64_t>((<int64_t>1 << 62) - (<Cpu *>call.vcpu).acct) >> ACCT_SHIFT
        hvmx_charge(call, up_to("cycles", cycles, room // CYCLE_FRACTION))


cdef object MAKER = object()  # Python code has no way to name it, so cannot pass it


cdef class Hypercalls:
    """The hypercall table of a machine: numbers, functions, counts.

    What a function in Python raises comes out of `run()`, with the guest as it was before the instruction: when it goes
    on it makes the call again. Of a multicall, the calls before it have been made, and are not made again.
    """

    cdef hypercall_table *table
    cdef Registers owner       # keeps the memory of the table alive
    cdef list functions        # keeps what was registered alive
    cdef object names
    cdef object error          # what a function in Python has raised

    def __cinit__(self, maker=None):
        if maker is not MAKER:
            raise TypeError("a table of hypercalls is had from a machine only")

    def register(self, uint32_t number, function, *, user=None):
        """Answer a number by `function`: a capsule named "hvmx.hypercall" that holds a C function, or a callable that
        takes a `Call` and returns an integer (the slow way: it takes the GIL, and is counted as such; by VMCALL it is an
        exit to Python, `Exits.on`).

        ValueError for a number that is taken or beyond the table. `user` is a capsule whose pointer the C function finds
        in its call.
        """
        cdef hvmx_hypercall_fn fn
        cdef void *pointer = NULL
        cdef uint32_t flags = ENTRY_CHARGES
        cdef int error
        if PyCapsule_IsValid(function, HVMX_HYPERCALL_CAPSULE):
            fn = <hvmx_hypercall_fn>PyCapsule_GetPointer(function, HVMX_HYPERCALL_CAPSULE)
            if user is not None:
                pointer = PyCapsule_GetPointer(user, NULL)
            kept = (function, user)
        elif callable(function):
            fn = call_python
            flags |= ENTRY_SLOW
            kept = PythonHypercall(self, function)
            pointer = <void *>kept
        else:
            raise TypeError(f"hypercall {number}: neither a {HVMX_HYPERCALL_CAPSULE.decode()!r} capsule nor a callable")
        held(self.owner)
        error = hvmx_table_register(self.table, number, fn, pointer, flags)
        if error == -HVMX_EEXIST:
            raise ValueError(f"hypercall {number} has a function already")
        if error:
            raise ValueError(f"hypercall {number} is beyond the table of {HVMX_HYPERCALLS}")
        self.functions.append(kept)

    def set_costs(self, costs):
        """Set the cost of each hypercall beyond the way in and out: {number: units of 1/CYCLE_FRACTION guest cycle}."""
        cdef hypercall_entry *entry
        held(self.owner)
        for number, cost in costs.items():
            if not 0 <= number < HVMX_HYPERCALLS:
                raise ValueError(f"hypercall {number} is beyond the table of {HVMX_HYPERCALLS}")
            entry = &self.table.entry[<uint32_t>number]
            entry.cost = <uint32_t>up_to(f"cost of hypercall {number}", cost, 0xffffffff)
            entry.flags |= ENTRY_CHARGES

    def counts(self):
        """{name: calls} of the numbers called so far; a number without a name is "hypercall N"."""
        cdef uint32_t number
        result = {}
        for number in range(<uint32_t>ENTRIES):
            if calls := calls_of(&self.table.entry[number]):
                result[self.name(number)] = calls
        return result

    cdef str name(self, uint32_t number):
        return "beyond the table" if number == BEYOND else self.names.get(number, f"hypercall {number}")

    def statistics(self):
        """{number: {sub-operation: (count, guest cycles, least, most, host nanoseconds, least, most)}} of the calls that C
        answered or was the first to see: of a multicall those within it, and of itself what they do not take. A number
        without sub-operations has one alone, 0. -1: a sub-operation, or a number, beyond those that are tallied one by one.

        Host time is that of the functions, that of a multicall with the calls within it. Some calls are timed, and each that
        is not counts as the last one that was: 0 says that none was.
        """
        cdef uint32_t number
        result = {}
        for number in range(<uint32_t>ENTRIES):
            if found := tallies(&self.table.entry[number]):
                result[OTHERS if number == BEYOND else number] = found
        return result

    def trace(self, called):
        """From now on call `called(rip, number, arguments, result)` after each call, with where it was made from, and the six
        arguments that it was made with. What that raises comes out of `run()`, and the call has been made."""
        cdef uint32_t number
        held(self.owner)
        for number in range(<uint32_t>ENTRIES):
            self.trace_entry(&self.table.entry[number], called)

    cdef int trace_entry(self, hypercall_entry *entry, object called) except -1:
        cdef Traced traced = Traced()
        traced.table = self
        traced.called = called
        traced.fn = entry.fn
        traced.user = entry.user
        entry.fn = call_traced
        entry.user = <void *>traced
        self.functions.append(traced)
        return 0

    def answered(self):
        """{number: name} of those that have a function."""
        return {number: self.name(number) for number in range(HVMX_HYPERCALLS)
                if self.table.entry[<uint32_t>number].flags & ENTRY_TAKEN}

    @property
    def refused(self):
        """Calls answered by an error, those that `unanswered` counts among them."""
        cdef uint32_t number
        return sum(self.table.entry[number].refused for number in range(<uint32_t>ENTRIES))

    @property
    def unanswered(self):
        """Calls answered by the ABI's "no such call" (Xen's -38, KVM's -1000), for want of a function or of the operation asked
        of it."""
        cdef uint32_t number
        return sum(self.table.entry[number].unanswered for number in range(<uint32_t>ENTRIES))

    @property
    def slow(self):
        """Calls that were answered by Python."""
        cdef uint32_t number
        return sum(calls_of(&self.table.entry[number]) for number in range(<uint32_t>ENTRIES)
                   if self.table.entry[number].flags & ENTRY_SLOW)


cdef tuple figures(const call_tally *tally):
    """As of the exits of one reason, with what is not in the sums yet."""
    cdef uint64_t more = tally.calls - tally.settled
    cdef uint64_t least = tally.least, most = tally.most
    if more:
        least = tally.last if tally.settled == 0 else min(least, tally.last)
        most = max(most, tally.last)
    return (tally.calls, (tally.units + more * tally.last) // CYCLE_FRACTION, least // CYCLE_FRACTION,
            most // CYCLE_FRACTION, tally.host_ns + more * tally.host_sample, tally.host_least, tally.host_most)


cdef dict tallies(hypercall_entry *entry):
    cdef uint32_t index
    cdef dict result = {}
    for index in range(entry.sub_operations + 1):
        row = figures(&entry.tally[index])
        if row[0]:
            result[OTHERS if entry.sub_operations and index == entry.sub_operations else index] = row
    return result


cdef class Traced:
    """A function of the table while its calls are traced."""

    cdef Hypercalls table
    cdef object called
    cdef hvmx_hypercall_fn fn
    cdef void *user


cdef int64_t call_traced(hvmx_hypercall *call) noexcept nogil:
    cdef hvmx_hypercall before = call[0]
    cdef Cpu *cpu = <Cpu *>call.vcpu
    cdef uint64_t rip = cpu.rip if cpu.pv == NULL else cpu.rip - SYSCALL_BYTES
    cdef int64_t result
    with gil:
        call.user = (<Traced>before.user).user
        result = (<Traced>before.user).fn(call)
        report_call(<Traced>before.user, rip, &before, cpu, result)
    took_time(<Cpu *>call.vcpu)
    return result


cdef int report_call(Traced traced, uint64_t rip, const hvmx_hypercall *before, Cpu *cpu, int64_t result) noexcept:
    if cpu.fault == FAULT_ABORT:
        return 0               # it has not happened
    try:
        traced.called(rip, before.number, tuple([before.args[index] for index in range(6)]), result)
    except BaseException as error:
        traced.table.owner.report(error)  # when the call is over: it has been made
    return 0


cdef class PythonHypercall:
    cdef object table
    cdef object function

    def __cinit__(self, table, function):
        self.table = table
        self.function = function


cdef int64_t call_python(hvmx_hypercall *call) noexcept nogil:
    cdef int64_t result
    with gil:
        result = python_answer(<PythonHypercall>call.user, call)
    took_time(<Cpu *>call.vcpu)
    return result


cdef void took_time(Cpu *cpu) noexcept nogil:
    """After a function in Python, which may have taken long: return to the run loop if its limits are to be checked."""
    if cpu.stop_request or cpu.held_signals[0] or host_nanoseconds() >= cpu.poll_at:
        cpu.pending |= PEND_BUDGET


cdef int64_t python_answer(PythonHypercall entry, hvmx_hypercall *call) noexcept:
    cdef Call view = Call()
    cdef Hypercalls table = entry.table
    view.call = call
    try:
        return <int64_t>int(entry.function(view))
    except BaseException as error:
        keep_error(table, <Cpu *>call.vcpu, error)
        return 0
    finally:
        view.call = NULL


cdef int keep_error(Hypercalls table, Cpu *cpu, object error) except -1:
    """Keep the exception that a function raised, for run() to raise; the call has not happened."""
    cpu.fault = FAULT_ABORT
    if cpu.pv != NULL:
        table.owner.report(error)
    else:
        table.error = error  # the handler of VMCALL raises it
    return 0


cdef Hypercalls face(hypercall_table *table, Registers owner, object names):
    cdef Hypercalls result = Hypercalls.__new__(Hypercalls, MAKER)
    result.table = table
    result.owner = owner
    result.functions = []
    result.names = names
    return result


@cython.no_gc_clear  # __dealloc__ needs the processor
cdef class VmcallTable:
    """KVM's hypercalls for an HVM guest: the handler of VMCALL exits, unless another one is set.

    While it is the handler, calls that a C function answers do not go through Python.
    """

    cdef vmcall state
    cdef Cpu *cpu
    cdef object vcpu
    cdef readonly Hypercalls hypercalls

    def __cinit__(self, Registers vcpu not None, uint64_t frequency, uint64_t epoch, names):
        self.vcpu = vcpu
        self.cpu = held(vcpu)
        vmcall_init(&self.state, self.cpu, frequency, epoch)
        self.cpu.vmcall_table = &self.state
        self.hypercalls = face(&self.state.table, vcpu, names)

    def __dealloc__(self):
        if self.cpu != NULL and self.cpu.vmcall_table == &self.state:
            self.cpu.vmcall = NULL

    def answer_in_c(self, vcpu):
        """Have the processor answer in C where it can; called when this becomes its handler of VMCALL. ValueError for the
        processor of another machine."""
        if vcpu is not self.vcpu:
            raise ValueError("the hypercall table of another machine")
        self.cpu.vmcall = vmcall_dispatch

    def __call__(self, vcpu, exit):
        if vcpu is not self.vcpu:
            raise ValueError("the hypercall table of another machine")
        cdef int64_t before = self.cpu.acct
        cdef bint raised = vmcall_answer(&self.state, self.cpu) != 0
        # The cost of the call counts as time in the handler of the exit.
        self.cpu.time += 0 if raised else <uint64_t>(self.cpu.acct - before) >> ACCT_SHIFT
        self.cpu.acct = before
        self.cpu.pending |= PEND_BUDGET
        if raised:
            error, self.hypercalls.error = self.hypercalls.error, None
            raise error

    def answered_in_c(self):
        """{number: (count, guest cycles, least, most, host nanoseconds, least, most)} of the calls that did not go through
        Python."""
        return {number: rows[0] for number, rows in self.hypercalls.statistics().items()}


# --- a domain --------------------------------------------------------------------------------------------------------------
@cython.no_gc_clear  # __dealloc__ needs the processor
cdef class XenDomain:
    """A paravirtual domain on a processor: its memory, its hypercall table, its state."""

    cdef domain *state
    cdef Registers vcpu
    cdef object console
    cdef readonly Hypercalls hypercalls

    def __cinit__(self, Registers vcpu not None, *, uint64_t frequency, uint64_t epoch, bint privileged, console, names,
                  uint32_t update_cost=0, uint32_t entry_cost=0):
        cdef domain_config config
        if vcpu.runner:
            raise RuntimeError("a processor that runs becomes no domain's")
        if vcpu.cpu.pv != NULL:
            raise RuntimeError("the processor is another domain's already")
        memset(&config, 0, sizeof(config))
        config.frequency = frequency
        config.epoch = epoch
        config.flags = SIF_PRIVILEGED | SIF_INITDOMAIN if privileged else 0
        config.update_cost = update_cost
        config.entry_cost = entry_cost
        config.console = write_console
        config.owner = <void *>self
        self.vcpu = vcpu
        self.console = console
        self.state = xen_create(vcpu.cpu, &config)
        if self.state == NULL:
            raise ValueError(f"memory of {vcpu.memory_bytes} bytes is too small for a PV domain, or beyond its 64 GiB")
        self.hypercalls = face(&self.state.table, vcpu, names)

    def __dealloc__(self):
        if self.state != NULL:
            xen_destroy(self.state)

    def start(self, uint64_t l4, uint64_t entry, uint64_t stack, uint64_t start_info, uint64_t console_frame):
        """Validate and load the page tables below frame `l4`, and set the registers of the start of day."""
        cdef domain_start start
        if self.vcpu.runner or self.state.kernel_table:
            raise RuntimeError("the domain has been started already")
        start.l4 = l4
        start.entry = entry
        start.stack = stack
        start.start_info = start_info
        start.console_frame = console_frame
        error = xen_start(self.state, &start)
        if error:
            raise ValueError(f"the page tables of the start of day are refused: Xen errno {-error}")

    def frame(self, uint64_t page):
        """The machine frame of a page of the domain's pseudo-physical memory."""
        if page >= self.state.nr_pages:
            raise ValueError(f"page {page:#x} is beyond the domain's {self.state.nr_pages:#x}")
        return self.state.reserved - 1 - page

    @property
    def page_count(self):
        """Pages of the domain's memory."""
        return self.state.nr_pages

    @property
    def flags(self):
        """SIF_* of start_info."""
        return self.state.flags

    @property
    def shared_info_frame(self):
        return self.state.shared_info_frame

    @property
    def console_port(self):
        """Event channel of the console ring; 0 for a dom0."""
        return self.state.console_port

    @property
    def store_port(self):
        """Event channel of the xenstore ring; 0 for a dom0."""
        return self.state.store_port

    @property
    def system_time(self):
        """Xen's system time in nanoseconds."""
        return system_time(self.state)

    @property
    def running(self):
        return self.state.state == DOMAIN_RUNNING

    @property
    def crash_reason(self):
        """Why the hypervisor crashed the domain; None if it did not."""
        if self.state.state != DOMAIN_CRASHED:
            return None
        return (<bytes>self.state.crash_reason).decode("ascii", "replace")

    @property
    def shutdown_code(self):
        """The domain's shutdown code (SHUTDOWN_*); None while it runs."""
        return None if self.state.state == DOMAIN_RUNNING else self.state.shutdown_code

    def has_msr(self, uint32_t number):
        """Whether the hypervisor answers the kernel's RDMSR of this register."""
        return bool(domain_has_msr(self.state, number))

    def msr_counts(self):
        """{MSR: accesses} of those that it answered."""
        cdef uint32_t index
        return {self.state.msrs[index].number: self.state.msrs[index].count
                for index in range(<uint32_t>ANSWERED_MSRS) if self.state.msrs[index].count}

    @property
    def refused_instructions(self):
        """Privileged instructions of the kernel that were not emulated: it got the #GP."""
        return self.state.refused_instructions

    @property
    def page_tables(self):
        """Pages of the domain that are in use as page tables, as which the hypervisor has validated them."""
        return count_tables(self.state)

    @property
    def state_bytes(self):
        """What the hypervisor keeps of the domain itself, beside the table of frames."""
        return sizeof(domain)

    @property
    def frame_table_bytes(self):
        """What it keeps of all frames: owner, type and references of each."""
        return self.state.frame_count * sizeof(frame)

    @property
    def input_room(self):
        """How many bytes of console input there is room for until the guest reads some."""
        return xen_console_room(self.state)

    def input(self, const uint8_t[::1] text):
        """Add console input; returns how many bytes there was room for."""
        held(self.vcpu)
        return xen_console_input(self.state, &text[0], <uint32_t>text.shape[0]) if text.shape[0] else 0


cdef int write_console(void *owner, const char *text, uint32_t size) noexcept nogil:
    cdef int raised
    with gil:
        raised = console_text(<XenDomain>owner, text, size)
    took_time((<XenDomain>owner).state.cpu)
    return raised


cdef int console_text(XenDomain domain, const char *text, uint32_t size) noexcept:
    try:
        domain.console((<const char *>text)[:size])
    except BaseException as error:
        domain.vcpu.report(error)
        return 1
    return 0
