"""Published results, reproduced: what a paper measured on its machines, run here on the same kind of guest.

``publications`` has published tables, and ``predictions`` what the model has for them: of single operations
(``bare/operations.S``), and of what Linux does for its programs (``linux/signs.c``). ``signs`` times the latter in each way of
running Linux, and compares with published ratios. Both programs are built by the package's build into ``built/``.
"""
