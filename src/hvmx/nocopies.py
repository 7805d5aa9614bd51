"""Objects that stand for a processor, or a part of a machine, cannot be copied."""

from __future__ import annotations

from typing import NoReturn, SupportsIndex


class NoCopies:
    """Refuses ``copy.copy``, ``copy.deepcopy`` and ``pickle``: a second object would share the first one's processor."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled")
