/* Signals while a guest runs: what their Python handlers raise comes out of run() between two instructions.
 *
 * Python runs signal handlers in its main thread, between any two bytecodes, and so also in the middle of an exit
 * handler or a device: half of its work would be done, and done again when the guest continues. Hence, while a guest
 * runs in the main thread, a signal is only recorded in held_signals, and the run loop passes it on to Python between
 * two instructions. A slow exit handler delays signals until it returns; but if the same signal comes again after half
 * a second, it is passed on at once: whoever presses Ctrl-C again means it.
 */
#ifndef HVMX_SIGNALS_H
#define HVMX_SIGNALS_H

#include <Python.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

enum { SIGNAL_NUMBERS = 65, NS_HELD_BACK = 500000000 };

static _Atomic(uint64_t) held_signals;               /* a bit for each signal */
static _Atomic(uint64_t) held_since[SIGNAL_NUMBERS]; /* ns of CLOCK_MONOTONIC */
static atomic_int holds;                             /* how many nested runs hold signals back */
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
            return; /* release_signals() has just passed it on */
    }
    python_handler(number);
}

/* Not 0 if signals are held: a plain word for the run loop, as Cython has no atomics. */
static const uint64_t *held_signals_word(void) { return (const uint64_t *)&held_signals; }

/* Install hold_signal in front of Python's own handler. Only in the main thread. */
static void hold_back_signal(int number)
{
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0 && !(action.sa_flags & SA_SIGINFO) && action.sa_handler == python_handler) {
        action.sa_handler = hold_signal;
        sigaction(number, &action, NULL);
    }
}

/* Pass all held signals on to Python. With the GIL, in the main thread. */
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
