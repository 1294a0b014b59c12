"""Bytes of one frame: offsets as names, checksums, dissection.  Knows nothing of the rest."""
