"""Looking into a guest: disassembly, traces, and what is known of a crash."""
