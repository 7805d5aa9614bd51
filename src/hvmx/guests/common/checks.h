/* Self-checks: what the environment must have set up for the workloads to mean anything. */
#pragma once

/* Prints `check NAME: ok` or `check NAME: FAILED (...)` for each; returns how many failed. */
unsigned run_checks(void);
