"""Everything that crosses the gap, and how it crosses."""
