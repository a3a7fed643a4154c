"""The secrets in newsletter links, and the mark that stands for an address when the address is gone.

Why here: who has a link may confirm or leave, and nobody else; a mark says "that one again" and gives no address back.
Must not: put an address into a link, or be compared other than in constant time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum

from intake.errors import IntakeError

KEY_SIZE = 32
ID_SIZE = 16
_SEAL_SIZE = 23  # with the id a multiple of three bytes: base64 without padding, one way to write each token
_MARK_SIZE = 32
_FORM = re.compile(r"[A-Za-z0-9_-]{52}", re.ASCII)


class Purpose(StrEnum):
    """What a link is for; a token for one is worth nothing for another."""

    CONFIRM = "confirm"
    UNSUBSCRIBE = "unsubscribe"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkKey:
    """The node's secret of 32 bytes behind tokens and marks."""

    secret: bytes = field(repr=False)

    def token(self, purpose: Purpose, subscriber: bytes) -> str:
        """52 characters: the id of the subscription (16 bytes) and its keyed BLAKE2b for this purpose."""
        return base64.urlsafe_b64encode(subscriber + self._seal(purpose, subscriber)).decode("ascii")

    def read(self, purpose: Purpose, token: str) -> bytes:
        """The subscription's id; ``NEWSLETTER-TOKEN`` when the token is not one of ours for ``purpose``."""
        raw = base64.urlsafe_b64decode(token) if _FORM.fullmatch(token) else bytes(ID_SIZE + _SEAL_SIZE)
        subscriber, seal = raw[:ID_SIZE], raw[ID_SIZE:]
        if not hmac.compare_digest(seal, self._seal(purpose, subscriber)):
            raise IntakeError("NEWSLETTER-TOKEN", "the link is not complete, or not of this shop")
        return subscriber

    def mark(self, address: str) -> bytes:
        """32 bytes that stand for an address, however its letters are written."""
        text = address.casefold().encode("utf-8")
        return hashlib.blake2b(
            text, key=self.secret, digest_size=_MARK_SIZE, person=b"newsletter mark"
        ).digest()

    def message_id(self, issue: str, mark: bytes) -> str:
        """The left half of a Message-ID: the same for the same issue and address, and telling neither."""
        text = len(mark).to_bytes(1, "big") + mark + issue.encode("utf-8")
        keyed = hashlib.blake2b(text, key=self.secret, digest_size=16, person=b"newsletter mail")
        return keyed.hexdigest()

    def _seal(self, purpose: Purpose, subscriber: bytes) -> bytes:
        person = {Purpose.CONFIRM: b"nl confirm", Purpose.UNSUBSCRIBE: b"nl unsubscribe"}[purpose]
        return hashlib.blake2b(subscriber, key=self.secret, digest_size=_SEAL_SIZE, person=person).digest()
