/* Signals while a guest runs: what their Python handlers raise comes out of run() between two instructions.
 *
 * Python runs the handlers of signals in its main thread, between any two bytecodes, so also in the midst of an exit
 * handler or a device, whose work would then be done in part, and again when the guest goes on. Hence, while a guest runs
 * in the main thread, a signal is only noted; the run loop, which looks at held_signals, lets Python have it between two
 * instructions. A handler that takes long holds one back as long, but the next of its kind after half a second gets
 * through to it: whoever presses Ctrl-C again means it.
 */
#ifndef HVMX_SIGNALS_H
#define HVMX_SIGNALS_H

#include <Python.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { SIGNAL_NUMBERS = 65, NS_HELD_BACK = 500000000 };

static _Atomic(uint64_t) held_signals;               /* a bit for each */
static _Atomic(uint64_t) held_since[SIGNAL_NUMBERS]; /* ns of CLOCK_MONOTONIC */
static atomic_int holds;                             /* how many there are to hold signals back, one within another */
static void (*python_handler)(int);

static uint64_t signal_bit(int number) { return 1ull << (number - 1); }

static void hold_signal(int number)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    uint64_t now = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    if (atomic_load(&holds)) {
        if (!(atomic_fetch_or(&held_signals, signal_bit(number)) & signal_bit(number)))
            atomic_store(&held_since[number], now);
        if (now - atomic_load(&held_since[number]) < NS_HELD_BACK && atomic_load(&holds))
            return;
        if (!(atomic_fetch_and(&held_signals, ~signal_bit(number)) & signal_bit(number)))
            return; /* who has ceased to hold it back just now has let Python have it */
    }
    python_handler(number);
}

/* Not 0 when there are some: for the run loop, which has nothing to do with atomics. */
static const uint64_t *held_signals_word(void) { return (const uint64_t *)&held_signals; }

/* Stand before Python's own handler of a signal. Only in the main thread. */
static void hold_back_signal(int number)
{
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) && action.sa_handler == python_handler) {
        action.sa_handler = hold_signal;
        sigaction(number, &action, NULL);
    }
}

/* Let Python have what was held back. With the GIL, in the main thread. */
static void release_signals(void)
{
    uint64_t held = atomic_exchange(&held_signals, 0);
    for (int number = 1; number < SIGNAL_NUMBERS; number++)
        if (held & signal_bit(number))
            PyErr_SetInterruptEx(number);
}

static int get_holds(void) { return atomic_load(&holds); }
static void set_holds(int count) { atomic_store(&holds, count); }

#endif
