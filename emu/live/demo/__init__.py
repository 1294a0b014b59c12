"""The demonstration: real block I/O under a real flood, one policy after the other."""
