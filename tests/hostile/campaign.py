"""Runs the hostile guests of a range of seeds; the seed in progress is the last line of the output.

python -m tests.hostile.campaign MODE FIRST COUNT
"""

from __future__ import annotations

import faulthandler
import sys

from .guests import HostileGuest


def main(mode: str, first: int, count: int) -> None:
    faulthandler.enable()
    for seed in range(first, first + count):
        print(f"{mode} {seed}", flush=True)
        HostileGuest(mode, seed).run()
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
