"""Guests that try to take their host down, or to slow it down: `python -m tests.hostile.host_speed` is for the latter.

Under the address and undefined-behaviour sanitizers, in a checkout of its own:

    HVMX_SANITIZE=1 python setup.py build_ext --inplace
    export LD_PRELOAD="$(gcc -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=src
    python -m pytest tests/hostile tests/pv tests/boot tests/hvm
    python -m tests.hostile.campaign real 0 10000       # and the other modes of guests.py

For leaks, a third as fast: ASAN_OPTIONS=detect_leaks=1 PYTHONMALLOC=malloc. CPython's own few kilobytes, the same after
any number of guests, are reported then.
"""
