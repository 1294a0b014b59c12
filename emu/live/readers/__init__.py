"""What the real readers of the host have consumed, learnt from its sockets."""
