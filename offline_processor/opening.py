"""Opening an order compartment, or a subject request, with the order key that its header names.

Why here: the only place where an order becomes readable.
Must not: try keys, judge the order, or touch the card box; charging opens that into locked memory.
"""

from __future__ import annotations

from collections.abc import Mapping

from keys.errors import RuleError
from keys.private.unseal import SealingKey, UnsealError, open_box
from keys.public.digest import equal
from offline_processor.stages import OpenedOrder, Quarantined, SubjectAsked
from transfer.wire.envelope import ENVELOPE_LIMIT, Envelope, decode_envelope
from transfer.wire.header import SUITE_SEALED_BOX, ZERO_KEY_ID, Header, Kind, decode_header, header_digest
from transfer.wire.ids import OrderId
from transfer.wire.order import decode_order_compartment, decode_subject_request

_NO_BASKET = bytes(32)


def open_order(
    raw: bytes, *, position: int, order_keys: Mapping[bytes, SealingKey], batch_key_id: bytes
) -> OpenedOrder | SubjectAsked | Quarantined:
    """Open one envelope's order compartment; whatever is wrong with it quarantines this order alone."""
    try:
        envelope = decode_envelope(raw)
        header = decode_header(envelope.header)
        order_key = order_keys.get(header.order_key_id)
        rule = _closed(raw, header, batch_key_id)
        if rule or order_key is None:
            return unopened(raw, position=position, rule=rule or "ORDER-KEY")
        if header.kind is Kind.SUBJECT_REQUEST:
            return _asked(envelope, header, order_key, position) or unopened(
                raw, position=position, rule="ORDER-KIND"
            )
        return OpenedOrder(
            position=position,
            order_id=OrderId(header.order_id.hex()),
            basket_digest=header.basket_digest,
            header_digest=header_digest(envelope.header),
            compartment=decode_order_compartment(
                open_box(envelope.order_box, order_key.public_key, order_key.private)
            ),
        )
    except UnsealError:
        return unopened(raw, position=position, rule="ORDER-UNREADABLE")
    except RuleError as error:
        return unopened(raw, position=position, rule=error.rule)


def _closed(raw: bytes, header: Header, batch_key_id: bytes) -> str:
    """The rule by which this envelope is not even opened, or an empty string."""
    if len(raw) > ENVELOPE_LIMIT:
        return "ORDER-SIZE"
    if header.suite != SUITE_SEALED_BOX:
        return "ORDER-SUITE"
    if header.kind is not Kind.ORDER:
        return ""  # a subject request needs no batch key
    return "" if header.batch_key_id == batch_key_id else "ORDER-BATCH-KEY"


def _asked(envelope: Envelope, header: Header, order_key: SealingKey, position: int) -> SubjectAsked | None:
    """The subject request in an envelope of its kind; None when that is not what it holds."""
    if header.batch_key_id != ZERO_KEY_ID or header.basket_digest != _NO_BASKET or envelope.card_box:
        return None
    try:
        found = decode_subject_request(open_box(envelope.order_box, order_key.public_key, order_key.private))
    except (UnsealError, RuleError):
        return None
    if not equal(found.header.encode(), header_digest(envelope.header).hex().encode()):
        return None
    return SubjectAsked(
        position=position,
        request=header.order_id.hex(),
        kind=found.request,
        email=found.email,
        orders=tuple(dict.fromkeys(found.orders)),
    )


def unopened(raw: bytes, *, position: int, rule: str) -> Quarantined:
    """An envelope that stays closed, known by what its clear header says, if that can be read."""
    try:
        header = decode_header(decode_envelope(raw).header)
    except RuleError:
        return Quarantined(position=position, order_id=None, basket_digest=b"", rule=rule)
    return Quarantined(
        position=position,
        order_id=OrderId(header.order_id.hex()),
        basket_digest=header.basket_digest,
        rule=rule,
    )
