"""Inspecting a guest: disassembly, traces, crash reports."""
