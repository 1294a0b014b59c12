"""The frames and replays of the replay tests: pytest puts only a test's own folder on the path."""

import replay_kit as kit

__all__ = ["kit"]
