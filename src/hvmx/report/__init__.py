"""What people and programs are shown: the exit table, the comparison.

Guest cycles are the model's, and the same on every host; host time is what a clock here said. No column holds both.
"""
