"""What emu brings to Wireshark: a plugin, a profile, a capture interface, and how they get to a user."""
