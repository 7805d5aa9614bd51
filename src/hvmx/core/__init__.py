"""The native core, from the bottom up: state, exit, memory, execute, translate, decode, and here the run loop."""
