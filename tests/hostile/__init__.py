"""Guests that try to take their host down.

Under the address and undefined-behaviour sanitizers, in a checkout of its own:

    HVMX_SANITIZE=1 python setup.py build_ext --inplace
    LD_PRELOAD="$(gcc -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=src python -m pytest tests/hostile
"""
