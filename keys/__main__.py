"""`python -m keys` is `key-ceremony`."""

from keys.cli import main

main()
