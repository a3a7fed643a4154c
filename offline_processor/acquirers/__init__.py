"""The ways to an acquirer: the only modules of the offline side that may open a socket."""
