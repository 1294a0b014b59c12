"""What `emu show` finds in a log or an annotated capture: packets that match, groups, a flow's fate, one packet."""
