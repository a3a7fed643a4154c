"""The acquirer that the configuration names, asked who is at its other end before anything is charged.

Why here: commands open an acquirer by one function and know no driver.
Must not: choose a driver by itself, open one that was not named, or let a real card go to a simulator.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from offline_processor.acquirers.batch_file.answering import read_public_key
from offline_processor.acquirers.batch_file.driver import BatchFileAcquirer
from offline_processor.acquirers.iso8583.driver import open_iso8583
from offline_processor.acquirers.operator import OperatorAcquirer
from offline_processor.acquirers.protocol import Acquirer
from offline_processor.acquirers.simulator.at_hand import SimulatedAcquirer
from offline_processor.config import AcquirerConfig
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a command gives to its driver: the ledger, the keystore's ``rehearsal``, the clock (Unix seconds).

    ``before_screen`` is called before an operator is shown another screen.
    """

    ledger: Ledger
    rehearsal: bool
    clock: Callable[[], int]
    before_screen: Callable[[], None] = lambda: None


def open_acquirer(config: AcquirerConfig, desk: Desk) -> Acquirer:
    """The driver that is configured, open. ``RUN-SIMULATOR`` or ``RUN-REHEARSAL`` when keys and other end differ."""
    acquirer = _open(config, desk)
    try:
        _check_other_end(acquirer, rehearsal=desk.rehearsal)
    except BaseException:
        acquirer.close()
        raise
    return acquirer


def _check_other_end(acquirer: Acquirer, *, rehearsal: bool) -> None:
    simulator = acquirer.is_simulator
    if simulator and not rehearsal:
        raise ProcessorError(
            "RUN-SIMULATOR",
            "the simulated acquirer charges nobody, and this keystore is a real one",
            "use a rehearsal keystore (key-ceremony init --rehearsal) with the simulator",
        )
    if rehearsal and not simulator:
        raise ProcessorError(
            "RUN-REHEARSAL",
            "this keystore is a rehearsal's, and the acquirer at the other end is a real one",
            "name a simulator in [acquirer], or use the real keystore",
        )


def _open(config: AcquirerConfig, desk: Desk) -> Acquirer:
    match config.driver:
        case "iso8583":
            return open_iso8583(config, now=desk.clock, clock=time.monotonic, sleep=time.sleep)
        case "operator":
            return OperatorAcquirer(
                rehearsal=desk.rehearsal,
                before_screen=desk.before_screen,
            )
        case "batch-file":
            if config.batch_key is None or not config.merchant:
                raise ProcessorError(
                    "CONFIG-BATCH-FILE",
                    "charging by files needs the acquirer's public key and our name there",
                    "set [acquirer] batch_key and merchant",
                )
            return BatchFileAcquirer(
                desk.ledger,
                public_key=read_public_key(config.batch_key),
                rehearsal=desk.rehearsal,
                clock=desk.clock,
            )
        case "simulator":
            if config.books is None:
                raise ProcessorError(
                    "CONFIG-SIMULATOR",
                    "the simulated acquirer in this process needs a file for its books",
                    'set [acquirer] books, or driver = "iso8583" with the address of simulate-acquirer',
                )
            return SimulatedAcquirer(config.books)
