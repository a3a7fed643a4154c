"""One webhook message: its stable id, its body and its signatures, by the Standard Webhooks specification (1.0).

Why here: pure, so that the specification's own library can judge every byte.
Must not: say more than the status board says, or take a time of its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from intake.forms import OrderStatus
from transfer.register_changes import StatusChange
from transfer.wire.records import Reason

SECRET_PREFIX = "whsec_"  # noqa: S105  the form of secrets, not one
SECRET_MINIMUM, SECRET_MAXIMUM = 24, 64
_ID_SIZE = 16
_PERSON = b"webhook message"


class OrderStatusChange(msgspec.Struct, frozen=True, kw_only=True):
    """What the order's status is now, as ``GET /orders/{order_id}`` says it. ``changed_at``: Unix seconds."""

    order_id: str
    status: OrderStatus
    reason: Reason
    changed_at: int


class StatusMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The body. ``timestamp``: when the status changed, ISO 8601 in UTC."""

    type: Literal["order.status"] = "order.status"
    timestamp: str
    data: OrderStatusChange


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """``message_id`` is the same however often a change is told, so that the receiver can drop what it had."""

    message_id: str
    body: bytes


_encoder = msgspec.json.Encoder()


def message_of(change: StatusChange) -> Message:
    """The message that tells of ``change``."""
    data = OrderStatusChange(
        order_id=change.order_id,
        status=OrderStatus(change.status),
        reason=Reason(change.reason),
        changed_at=change.changed_at,
    )
    moment = datetime.fromtimestamp(change.changed_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = _encoder.encode(data)
    return Message(
        message_id="msg_" + hashlib.blake2b(said, digest_size=_ID_SIZE, person=_PERSON).hexdigest(),
        body=_encoder.encode(StatusMessage(timestamp=moment, data=data)),
    )


def headers_of(message: Message, secrets: Sequence[bytes], now: int) -> dict[str, str]:
    """The three headers; one signature a secret, so that a secret can be changed while both sides run."""
    signed = f"{message.message_id}.{now}.".encode("ascii") + message.body
    signatures = (
        "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode("ascii") for secret in secrets
    )
    return {
        "webhook-id": message.message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(signatures),
    }


def read_secret(text: str) -> bytes | None:
    """The key of a secret in its text form (``whsec_`` and base64 of 24 to 64 bytes); None when it is not one."""
    if not text.startswith(SECRET_PREFIX):
        return None
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return key if SECRET_MINIMUM <= len(key) <= SECRET_MAXIMUM else None


def secret_text(key: bytes) -> str:
    """The text form of a key."""
    return SECRET_PREFIX + base64.b64encode(key).decode("ascii")
