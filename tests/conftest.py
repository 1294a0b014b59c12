"""What holds for every test: Hypothesis without a stopwatch, and the same examples in every CI run."""

import os

from hypothesis import settings

settings.register_profile("emu", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
settings.load_profile("emu")
