"""`python -m offline_processor` is `offline-processor`."""

from offline_processor.cli import main

main()
