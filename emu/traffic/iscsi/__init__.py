"""A crafted iSCSI session: initiator and target, their PDUs, the TCP connection that carries them."""
