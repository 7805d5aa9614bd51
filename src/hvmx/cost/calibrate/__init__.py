"""Measures this computer's processor, and makes a cost profile of what it found (``hvmx calibrate``).

``instructions`` has the table of what is measured of each cost class, which ``classes`` does; ``pipeline`` and
``memory`` measure the rest of a profile. All of them write assembly, which ``assembler`` makes machine code and
``loops`` has run by :mod:`hvmx.cost.native`. ``statistics`` says what counts as a figure, ``profile_file`` writes those
down, and ``run`` is all of it, from beginning to end.
"""

from .run import Calibration, CannotCalibrate, calibrate

__all__ = ["Calibration", "CannotCalibrate", "calibrate"]
