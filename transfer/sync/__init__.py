"""Carrying ciphertext between spool and drop, in both directions."""
