from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hvmx.core.physical_memory import PhysicalMemory
from hvmx.cost.profile import PipelineTables

class CostModels(PhysicalMemory):
    def set_costs(
        self,
        op_costs: Mapping[str, int],
        exit_costs: Mapping[int, int],
        walk_reference: int = 0,
        exception: int = 0,
        hypercall: int = 0,
        pv_bounce: int = 0,
        user_device: int = 0,
    ) -> None: ...
    def set_pipeline(self, tables: PipelineTables) -> None: ...
    def set_predictor(
        self,
        *,
        history_lengths: Sequence[int] = ...,
        table_entries: int = ...,
        target_entries: int = ...,
        target_history: int = ...,
        return_stack: int = ...,
    ) -> None: ...
    @property
    def mispredictions(self) -> int: ...
    def find_hot(self) -> None: ...
    def time_by_class(self) -> dict[str, tuple[int, int]]: ...
    def hot_blocks(self) -> dict[str, Any]: ...
    def keep_timeline(self) -> None: ...
    def timeline(self) -> tuple[NDArray[np.void], int]: ...
    def set_tlb(
        self,
        *,
        data_4k: tuple[int, int] | str = ...,
        data_2m: tuple[int, int] | str = ...,
        data_1g: tuple[int, int] | str = ...,
        code_4k: tuple[int, int] | str = ...,
        code_2m: tuple[int, int] | str = ...,
        second_4k: tuple[int, int] | str = ...,
        second_2m: tuple[int, int] | str = ...,
        second_1g: tuple[int, int] | str = ...,
        second_hit: int = 0,
        pml4_entries: int = ...,
        pdpt_entries: int = ...,
        pd_entries: int = ...,
        nested_entries: int = ...,
    ) -> None: ...
    def set_caches(
        self,
        levels: Sequence[tuple[int, int, int]] = ...,
        *,
        line: int = 64,
        memory: int = 0,
        prefetched: int = 0,
        overlapping_stores: int = 1,
    ) -> None: ...
    def cache_hits(self) -> dict[str, int] | None: ...
