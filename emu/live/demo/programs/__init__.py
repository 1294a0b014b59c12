"""The real programs of a demonstration: each is a process of its own, bounded in time, and ends when it is told to."""
