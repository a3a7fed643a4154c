"""Tests of the offline room."""
