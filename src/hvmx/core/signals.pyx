# cython: language_level=3
import signal

from libc.stdint cimport uint64_t

cdef extern from "signals.h":
    const uint64_t *held_signals_word() noexcept
    void (*python_handler)(int) noexcept nogil
    void hold_back_signals()
    int handle_signals() except -1
    void run_begins()
    void run_ends()

cdef extern from "Python.h":
    int _PyOS_IsMainThread()
    void (*PyOS_getsig(int))(int) noexcept nogil


cdef bint in_main_thread() noexcept:
    return _PyOS_IsMainThread() != 0


cdef const uint64_t *signals_held() noexcept:
    return held_signals_word()


cdef void begin_run() noexcept:
    run_begins()


cdef void end_run() noexcept:
    run_ends()


cdef int find_python_handler() except -1:
    """The C function that Python gives all signals: one that is ignored by default shows it."""
    global python_handler
    before = signal.signal(signal.SIGURG, signal.default_int_handler)
    python_handler = PyOS_getsig(signal.SIGURG)
    signal.signal(signal.SIGURG, signal.SIG_DFL if before is None else before)
    return 0


cdef int hold_signals() except -1:
    if python_handler == NULL:
        find_python_handler()
    hold_back_signals()
    return handle_held_signals()


cdef int handle_held_signals() except -1:
    # What these handlers run is no part of the guest's.
    run_ends()
    try:
        handle_signals()
    finally:
        run_begins()
    return 0
