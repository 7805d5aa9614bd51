"""Virtual hardware: one file per device, `board` wires them, `handlers` joins them to the exits.

A device knows its registers by offset and time by guest cycles; it imports nothing of the core.
"""
