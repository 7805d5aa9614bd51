from collections.abc import Callable
from typing import TypeVar

_First = TypeVar("_First")
_Second = TypeVar("_Second")
_Result = TypeVar("_Result")

def undisturbed(
    function: Callable[[_First, _Second], _Result],
    keep: Callable[[_Result], object],
    first: _First,
    second: _Second,
) -> _Result: ...
