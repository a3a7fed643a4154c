"""Evidence that destroyed keys are gone: trying to open the cards of an old bundle with everything there is.

Why here: anybody should be able to check the promise about security codes, not only read it.
Must not: show a card, or leave one open.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keys.errors import RuleError
from keys.keystore import Keystore
from keys.private.locked import LockedBuffer, zero_stack
from keys.private.unseal import SealingKey, UnsealError, open_box_into
from keys.public.seal import SEAL_OVERHEAD
from offline_processor.errors import ProcessorError
from offline_processor.frames import numbered
from transfer.wire.envelope import decode_envelope
from transfer.wire.header import decode_header
from transfer.wire.manifest import ENVELOPES_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How many cards opened, of how many, with how many live keys; and when the named keys were destroyed."""

    cards: int
    opened: int
    keys_tried: int
    destroyed: dict[str, int]

    def as_document(self) -> dict[str, Any]:
        return {
            "cards": self.cards,
            "opened": self.opened,
            "keys_tried": self.keys_tried,
            "destroyed": self.destroyed,
        }

    def in_words(self) -> str:
        lines = [
            f"{self.opened} of {self.cards} cards opened; {self.keys_tried} live keys were tried on each"
        ]
        lines += [
            f"batch key {key} was destroyed on {datetime.fromtimestamp(when, UTC):%Y-%m-%d at %H:%M:%S} UTC"
            for key, when in self.destroyed.items()
        ]
        return "\n".join(lines)


def try_open(bundle: Path, keystore: Keystore) -> Opening:
    """Try every live batch and hold key on every card of ``bundle``; opened is opened, whatever it holds."""
    envelopes = bundle / ENVELOPES_NAME
    if not envelopes.is_file():
        raise ProcessorError(
            "BUNDLE-FORMAT",
            f"there is no {ENVELOPES_NAME} in {bundle}",
            "name a bundle's own directory: NODE/b00000001",
        )
    ring = keystore.ring
    live = [ring.batch_key(record.entry.key_id) for record in ring.batch_records()]
    live += [ring.hold_key(bytes.fromhex(record.key_id)) for record in ring.hold_records()]
    keys = [key for key in live if key is not None]
    cards = opened = 0
    destroyed = {}
    for _, raw in numbered(envelopes):
        cards += 1
        try:
            envelope = decode_envelope(raw)
            named = decode_header(envelope.header).batch_key_id
        except RuleError:
            continue  # what is no envelope holds no card
        gone = ring.find_destroyed(named)
        if gone is not None:
            destroyed[gone.key_id] = gone.destroyed_at
        opened += any(
            _opens(envelope.card_box, key) for key in sorted(keys, key=lambda key: key.key_id != named)
        )
    zero_stack()
    return Opening(cards=cards, opened=opened, keys_tried=len(keys), destroyed=destroyed)


def _opens(box: bytes, key: SealingKey) -> bool:
    if len(box) <= SEAL_OVERHEAD:
        return False
    with LockedBuffer(len(box) - SEAL_OVERHEAD) as plaintext:
        try:
            open_box_into(box, key.public_key, key.private, plaintext.view)
        except UnsealError:
            return False
    return True
