"""``python -m hvmx``: the command line."""

import sys

from hvmx.cli import main

sys.exit(main())
