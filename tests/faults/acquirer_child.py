"""The real command in a process of its own, which may be killed; with a planted bug where one is named.

Why here: what a kill leaves behind must be what the real command would leave, and the sweep must be able to find bugs.
Must not: change anything else but the cost of the passphrase, and the person who confirms the control total.

Usage: python -m tests.faults.acquirer_child BUG MEMORY COMMAND …
(BUG "-": none; MEMORY: a file for what is in this process's memory at its end, "-": none)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from offline_processor import cli, cli_work
from tests.faults.acquirer_bugs import LINE_BUGS
from tests.faults.world import make_light
from tests.keys.memory_child import dump


def main() -> None:
    bug, out, *arguments = sys.argv[1:]
    memory, maps = (os.open(f"/proc/self/{name}", os.O_RDONLY) for name in ("mem", "maps"))
    patch = pytest.MonkeyPatch()
    make_light(patch)
    patch.setattr(cli_work, "confirm_total", lambda total, given, *, asks: None)
    if bug != "-":
        LINE_BUGS[bug](patch)
    sys.argv = ["offline-processor", *arguments]
    try:
        cli.main()
    finally:
        if out != "-":
            dump(memory, maps, Path(out))


if __name__ == "__main__":
    main()
