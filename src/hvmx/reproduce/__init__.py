"""Published results, reproduced: what a paper measured on its machines, run here on the same kind of guest.

``signs`` times what Linux does for its programs, in each way of running it, and compares with published ratios. Its program
is ``linux/signs.c``, built by the package's build into ``built/``.
"""
