"""`python -m tunesmith.cli`, for environments without the console script."""

from __future__ import annotations

import sys

from . import main

sys.exit(main())
