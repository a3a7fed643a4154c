"""The acquirer that the configuration names, asked who is at its other end before anything is charged.

Why here: commands open an acquirer by one function and know no driver.
Must not: choose a driver by itself, open one that was not named, or let a real card go to a simulator.
"""

from __future__ import annotations

from collections.abc import Callable

from offline_processor.acquirers.batch_file.answering import read_public_key
from offline_processor.acquirers.batch_file.driver import BatchFileAcquirer
from offline_processor.acquirers.operator import OperatorAcquirer
from offline_processor.acquirers.protocol import Acquirer
from offline_processor.acquirers.simulator.at_hand import SimulatedAcquirer
from offline_processor.config import AcquirerConfig
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger


def open_acquirer(
    config: AcquirerConfig,
    ledger: Ledger,
    *,
    rehearsal: bool,
    takes_at_once: bool = True,
    clock: Callable[[], int],
    before_screen: Callable[[], None] = lambda: None,
) -> Acquirer:
    """The driver that is configured, open.

    ``rehearsal`` is the keystore's; ``takes_at_once`` when orders are captured at once; ``before_screen`` is called
    before an operator is shown another screen.
    """
    match config.driver:
        case "operator":
            return OperatorAcquirer(
                rehearsal=rehearsal, takes_at_once=takes_at_once, before_screen=before_screen
            )
        case "batch-file":
            if config.batch_key is None or not config.merchant:
                raise ProcessorError(
                    "CONFIG-BATCH-FILE",
                    "charging by files needs the acquirer's public key and our name there",
                    "set [acquirer] batch_key and merchant",
                )
            return BatchFileAcquirer(
                ledger, public_key=read_public_key(config.batch_key), rehearsal=rehearsal, clock=clock
            )
        case _:
            return SimulatedAcquirer(config.books)
