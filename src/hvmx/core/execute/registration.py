"""Imports every module of the rooms beside this file: each registers its handlers of operations when it is imported."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from hvmx.core.execute import integer, simd, system, x87

for _room in (integer, simd, system, x87):
    for _module in iter_modules(_room.__path__, f"{_room.__name__}."):
        import_module(_module.name)
