/* The programs that run in user mode. */
#pragma once
#include "process.h"

/* Workloads: the argument is the number of operations, whose time they report. */
program user_null_calls, user_page_faults, user_divides, user_switches, user_forks;

/* Checks: value 0 if all is well; or the fault that ends them is the one that is expected. */
program user_call_value, user_registers, user_read, user_write, user_halt, user_undefined, user_breakpoint,
    user_string, user_fork_copies, user_tick;
