"""`python -m transfer` is `spool-sync`."""

from transfer.cli import main

main()
