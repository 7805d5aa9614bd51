"""Cost profiles: what operations cost on one processor, each figure with its source.

A profile is a TOML file; ``skylake.toml``, in this folder, has explanations, and is the one to copy. A user's profile
is checked completely: a missing, unknown or absurd figure is a ``ProfileError`` with file, key and value.
"""

from .loader import BUNDLED, ProfileError, load_profile
from .profile import FRACTION, Figure, Mark, Profile, marks_in_words

__all__ = ["BUNDLED", "FRACTION", "Figure", "Mark", "Profile", "ProfileError", "load_profile", "marks_in_words"]
