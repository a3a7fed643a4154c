"""The real command in a process of its own, which may be killed; with a planted bug where one is named.

Why here: what a kill leaves behind must be what the real command would leave, and the sweep must be able to find bugs.
Must not: change anything else but the cost of the passphrase, and the person who confirms the control total.

Usage: python -m tests.faults.acquirer_child BUG FAULTS COMMAND …      (BUG "-": none; FAULTS with commas between)
"""

from __future__ import annotations

import sys

import pytest

from offline_processor import cli
from offline_processor.acquirers import drivers
from tests.faults.acquirer_bugs import LINE_BUGS
from tests.faults.world import make_light
from tests.offline_processor.simulated import SimulatedAcquirer


def main() -> None:
    bug, faults, *arguments = sys.argv[1:]
    patch = pytest.MonkeyPatch()
    make_light(patch)
    patch.setattr(cli, "_confirm", lambda total, given: None)
    rules = [rule for rule in faults.split(",") if rule]
    patch.setattr(drivers, "SimulatedAcquirer", lambda books: SimulatedAcquirer(books, faults=rules))
    if bug != "-":
        LINE_BUGS[bug](patch)
    sys.argv = ["offline-processor", *arguments]
    cli.main()


if __name__ == "__main__":
    main()
