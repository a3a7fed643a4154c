"""Unsealing, signing and locked memory: the offline side and the one signer of bundles only."""
