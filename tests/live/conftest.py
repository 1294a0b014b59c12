"""What tests of this folder ask for by name; it is in live_ground.py, as mypy takes one conftest only."""

from live_ground import ground, lab, machine

__all__ = ["ground", "lab", "machine"]
