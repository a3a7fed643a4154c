"""Tests of the key room."""
