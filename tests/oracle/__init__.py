"""Oracles that run instructions outside hvmx: the processor that the tests run on."""
