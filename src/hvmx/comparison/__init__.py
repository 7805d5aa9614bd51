"""A guest in several ways under one clock: what each took, where the guest cycles went, and why.

``side_by_side`` has several runs carried out, ``runs`` carries out one and ``schedule`` many, each ``apart`` from the others or
on a ``cluster``; ``ledger`` splits a run's guest cycles by cause, ``explained`` those of one operation; ``outcome`` is what all
reports are made of. Each is imported by itself: the command line needs the names of the ``ways`` and no more to start.
"""
