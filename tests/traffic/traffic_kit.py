"""The frames and replays of the replay tests: pytest puts only a test's own folder on the path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "replay"))
import replay_kit as kit

__all__ = ["kit"]
