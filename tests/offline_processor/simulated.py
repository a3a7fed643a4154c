"""The simulated acquirer without its line: the same host and books, asked in this process.

Why here: the many tests that are not about the line need an acquirer that costs no process and no socket.
Must not: decide or book anything itself, or answer where the real line would have lost the answer.
"""

from __future__ import annotations

from offline_processor.acquirers.simulator.at_hand import SimulatedAcquirer

__all__ = ["SimulatedAcquirer"]
