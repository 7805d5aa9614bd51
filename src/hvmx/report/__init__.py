"""Reports for people and programs: the exit table, the comparison.

Guest cycles are those of the model, the same on every host; host time is that of this computer's clock. No column has
both.
"""
