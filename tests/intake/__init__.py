"""Tests of the online room."""
