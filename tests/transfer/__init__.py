"""Tests of what crosses the gap."""
