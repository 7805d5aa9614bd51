"""Runs fuzz.c, built with sanitizers, in a process of its own: ``python -m pv.fuzz LIBRARY SEED DOMAINS STEPS``.

The sanitizers have to be there before anything else is: it is started with AddressSanitizer's library preloaded.
"""

from __future__ import annotations

import ctypes
import sys

from .harness import give_decoder

if __name__ == "__main__":
    library = ctypes.CDLL(sys.argv[1])
    library.fuzz.restype = ctypes.c_char_p
    give_decoder(library)
    print(library.fuzz(*(ctypes.c_uint64(int(number)) for number in sys.argv[2:])).decode())
