"""The native core: processor state, memory, decoding, execution by topic, faults and interrupts, the run loop."""
