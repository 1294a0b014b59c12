"""What is seen of live runs: the real machine beside the emulated one."""
