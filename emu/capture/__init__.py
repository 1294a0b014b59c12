"""Captures: files and pipes of frames, read through one window, written back with what became of each."""
