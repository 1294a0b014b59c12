"""Frames rewritten on their way from a source: other addresses, ports and times, cut short, or played in a loop."""
