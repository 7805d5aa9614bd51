/* The micro-workloads: each prints `bench NAME OPERATIONS CYCLES CYCLES_PER_OPERATION`. */
#pragma once
#include <stdbool.h>

/* Runs those in a comma-separated list, in the list's order; all of them if it is null. Returns how many of
 * the names are unknown. A workload that the hypervisor does not permit prints `bench NAME unavailable ERROR`. */
unsigned run_workloads(const char *list);
