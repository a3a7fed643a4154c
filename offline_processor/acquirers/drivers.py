"""The acquirer that the configuration names.

Why here: commands open an acquirer by one function and know no driver.
Must not: choose a driver by itself, or open one that was not named.
"""

from __future__ import annotations

from offline_processor.acquirers.protocol import Acquirer
from offline_processor.acquirers.simulator.at_hand import SimulatedAcquirer
from offline_processor.config import AcquirerConfig


def open_acquirer(config: AcquirerConfig) -> Acquirer:
    """The driver that is configured, open."""
    return SimulatedAcquirer(config.books)
