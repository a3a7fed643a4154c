"""Tests of the four rooms, and of the whole. Without this file tests/keys would shadow keys."""
