"""Mail to customers: its settings, its form, and the way to the mail server."""
