"""Cost profiles: what operations take on one processor, each figure with its source.

A profile is a TOML file; ``skylake.toml``, in this folder, has explanations, and is the one to copy. A user's profile
is checked completely: a missing, unknown or absurd figure is a ``ProfileError`` with file, line, key and value.
"""

from .figures import FRACTION, Figure, Mark, Provenance, Timing, marks_in_words
from .loader import BUNDLED, load_profile, read_profile
from .profile import PipelineTables, Profile
from .reader import ProfileError

__all__ = [
    "BUNDLED", "FRACTION", "Figure", "Mark", "PipelineTables", "Profile", "ProfileError", "Provenance", "Timing",
    "load_profile", "marks_in_words", "read_profile",
]  # fmt: skip
