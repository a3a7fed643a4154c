"""Sealing and verifying: all that an online host may import of the key room."""
