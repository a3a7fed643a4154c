"""The golden vectors and their maker."""
