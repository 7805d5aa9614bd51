"""hvmx: one deterministic, cycle-approximate x86 machine; hardware-assisted and paravirtual guests side by side."""
