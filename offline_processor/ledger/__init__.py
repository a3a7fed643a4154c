"""The durable record of what happened, append-only."""
