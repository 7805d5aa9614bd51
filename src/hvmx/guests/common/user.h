/* The programs that run in user mode. */
#pragma once
#include "process.h"

/* Workloads: the argument is the number of operations, the report the cycles that they took. */
program user_null_calls, user_page_faults, user_divides, user_switches, user_forks;

/* Checks: value 0 when all was as it should be, or the fault that they end by is what is wanted. */
program user_call_value, user_registers, user_read, user_write, user_halt, user_undefined, user_breakpoint,
    user_string, user_fork_copies, user_tick;
