"""Enquiries: what customers ask us, kept only until it is resolved."""
