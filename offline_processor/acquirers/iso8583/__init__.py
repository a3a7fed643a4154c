"""The driver that speaks ISO 8583 to an acquirer over a private circuit."""
