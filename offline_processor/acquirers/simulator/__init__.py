"""An acquirer that charges nobody: a server of its own, which keeps books of all that it sees."""
