"""Measures this computer's processor, and makes a cost profile of what it found (``hvmx calibrate``).

Machine code is assembled (:mod:`~hvmx.cost.calibrate.assembler`) from what :mod:`~hvmx.cost.calibrate.instructions` lists and the
modules beside it compose, and run in loops (:mod:`~hvmx.cost.calibrate.loops`) by :mod:`hvmx.cost.native`. What counts as a figure
is said in :mod:`~hvmx.cost.calibrate.statistics`.
"""

from .run import Calibration, CannotCalibrate, calibrate

__all__ = ["Calibration", "CannotCalibrate", "calibrate"]
