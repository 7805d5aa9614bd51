import mmap

from typing_extensions import Buffer

CAN_RUN: int
CODE_ADDRESS: int
STACK_ADDRESS: int
STACK_BYTES: int
DATA_ADDRESS: int
LARGEST_CODE: int
LARGEST_DATA: int
CHAIN_CYCLES: int
EMPTY_SAMPLES: int

def start(
    code: Buffer, data: Buffer, data_bytes: int, width: int, huge: bool, repetitions: int, results: mmap.mmap
) -> int: ...
