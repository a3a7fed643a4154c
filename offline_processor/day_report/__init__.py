"""What happened on one day: figures from the ledger, drawn, as a page and on paper; nothing of a person in it."""
