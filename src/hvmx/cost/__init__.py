"""Cost profiles: what operations cost on one processor, each figure with its source.

A profile is a TOML file; ``skylake.toml``, beside this module, explains itself and is the one to copy. A profile
that a user writes is checked whole: a figure that is missing, unknown or absurd is a ``ProfileError`` that names
the file, the key and the value.
"""

from .loader import BUNDLED, ProfileError, load_profile
from .profile import FRACTION, Figure, Mark, Profile, marks_in_words

__all__ = ["BUNDLED", "FRACTION", "Figure", "Mark", "Profile", "ProfileError", "load_profile", "marks_in_words"]
