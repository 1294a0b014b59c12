"""Time: the order of events, the batches, and the two speeds at which one source runs."""
