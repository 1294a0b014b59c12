"""emu: which packets survive a kernel that is short of memory, and why."""

__version__ = "0.1.0"
