"""``python -m maeseg`` is ``maeseg``."""

import sys

from maeseg.cli import main

sys.exit(main())
