"""Charging by files: authorisations out on a medium, encrypted to the acquirer's key, and answers back."""
