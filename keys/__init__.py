"""Bytes and keys: the ceremony, their custody and their destruction; knows no orders."""
