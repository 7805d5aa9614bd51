# cython: language_level=3
import signal
from _signal import getsignal  # signal.getsignal() converts its result to an enumeration, which is slow

from libc.stdint cimport uint64_t

cdef extern from "signals.h":
    const uint64_t *held_signals_word() noexcept
    void (*python_handler)(int) noexcept nogil
    const int SIGNAL_NUMBERS
    void hold_back_signal(int)
    void release_signals()
    int get_holds()
    void set_holds(int)

cdef extern from "Python.h":
    int _PyOS_IsMainThread()
    void (*PyOS_getsig(int))(int) noexcept nogil
    int PyErr_CheckSignals() except -1

cdef int runs = 0  # in the main thread: they nest, as handlers may run a machine
cdef uint64_t none_held = 0


cdef bint in_main_thread() noexcept:
    return _PyOS_IsMainThread() != 0


cdef const uint64_t *begin_run() noexcept:
    global runs
    runs += 1
    set_holds(get_holds() + 1)
    return held_signals_word() if runs == 1 else no_signals()


cdef const uint64_t *no_signals() noexcept:
    return &none_held


cdef void end_run() noexcept:
    global runs
    runs -= 1
    set_holds(get_holds() - 1)


cdef int find_python_handler() except -1:
    """Find the C function that Python installs for all signals, with one that is ignored by default."""
    global python_handler
    before = signal.signal(signal.SIGURG, signal.default_int_handler)
    python_handler = PyOS_getsig(signal.SIGURG)
    signal.signal(signal.SIGURG, signal.SIG_DFL if before is None else before)
    return 0


cdef int hold_signals() except -1:
    if python_handler == NULL:
        find_python_handler()
    # Only for signals with a handler in Python: it would take long to ask the kernel about each.
    cdef int number
    for number in range(1, SIGNAL_NUMBERS):
        if callable(getsignal(number)):
            hold_back_signal(number)
    PyErr_CheckSignals()
    return 0


cdef int handle_held_signals() except -1:
    global runs
    cdef int before = runs
    if before > 1:
        PyErr_CheckSignals()
        return 0
    # A run in a signal's handler is not nested in this one. Signals that come meanwhile are still held: if the handler
    # raises, they must not interrupt the Python that leaves this run.
    runs = 0
    try:
        release_signals()
        PyErr_CheckSignals()
    finally:
        runs = before
    return 0


cdef int signals_after() except -1:
    if get_holds() == 0:
        release_signals()
        PyErr_CheckSignals()
    return 0


def undisturbed(function, keep, first, second):
    if not in_main_thread():
        return function(first, second)
    set_holds(get_holds() + 1)
    try:
        hold_signals()
        result = function(first, second)
    except BaseException:
        set_holds(get_holds() - 1)
        if get_holds() == 0:
            release_signals()
        raise
    keep(result)  # a signal's handler may raise here, and also between this and the caller's next instruction
    set_holds(get_holds() - 1)
    signals_after()
    return result
