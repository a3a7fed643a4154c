"""Values of every wire type, for property tests; each within the limits of FORMAT.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from keys.errors import RuleError
from keys.public.roll import KeyEntry, KeyRoll, Role
from transfer.wire.card import Card
from transfer.wire.envelope import Envelope
from transfer.wire.header import Header, Kind
from transfer.wire.manifest import BundleManifest, ReturnManifest, SignedText
from transfer.wire.order import Customer, Delivery, Item, Order, SubjectRequest, Total
from transfer.wire.records import (
    Handover,
    Outcome,
    Reason,
    Receipt,
    Refusal,
    RefusalRule,
    Revocation,
    StatusRecord,
    StatusState,
    SubjectAnswer,
    SubjectState,
)


def sized(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def hexes(size: int) -> st.SearchStrategy[str]:
    return sized(size).map(bytes.hex)


def text(low: int, high: int) -> st.SearchStrategy[str]:
    """Any text without control characters; not longer than FORMAT.md says, and not so long that it is slow."""
    characters = st.characters(exclude_categories=("Cc", "Cs"))
    return st.text(characters, min_size=low, max_size=min(high, 40))


counts = st.integers(0, 2**53 - 1)
numbers = st.integers(1, 2**32 - 1)
nodes = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)
idempotency_keys = st.from_regex(r"[A-Za-z0-9_-]{22,128}", fullmatch=True)

headers = st.builds(
    Header,
    kind=st.sampled_from(Kind),
    suite=st.integers(0, 255),
    order_id=sized(16),
    order_key_id=sized(16),
    batch_key_id=sized(16),
    time=st.integers(0, 2**64 - 1),
    basket_digest=sized(32),
)
envelopes = st.builds(
    Envelope, header=sized(92), order_box=st.binary(max_size=2000), card_box=st.binary(max_size=300)
)
items = st.builds(
    Item,
    sku=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    quantity=st.integers(1, 999),
    price=st.integers(0, 10**12),
)
totals = st.builds(Total, amount=st.integers(1, 10**12), currency=st.from_regex(r"[A-Z]{3}", fullmatch=True))
orders = st.builds(
    Order,
    items=st.lists(items, min_size=1, max_size=5),
    total=totals,
    customer=st.builds(Customer, name=text(1, 200), email=text(3, 254)),
    delivery=st.builds(
        Delivery,
        lines=st.lists(text(1, 200), min_size=1, max_size=4),
        city=text(1, 100),
        region=text(0, 100),
        postcode=text(0, 20),
        country=st.from_regex(r"[A-Z]{2}", fullmatch=True),
    ),
)
requests = st.builds(
    SubjectRequest,
    header=hexes(32),
    request=st.sampled_from(["export", "erase", "restrict"]),
    email=text(3, 254),
    orders=st.lists(hexes(16), max_size=5),
)


def digits(low: int, high: int) -> st.SearchStrategy[bytes]:
    return st.text("0123456789", min_size=low, max_size=high).map(str.encode)


cards = st.builds(
    Card,
    pan=digits(12, 19),
    cvv=digits(3, 4),
    expiry_month=st.integers(1, 12),
    expiry_year=st.integers(1000, 9999),
)
plain_ascii = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.just("\n"), max_size=60)
bundle_manifests = st.builds(
    BundleManifest,
    node=nodes,
    sequence=numbers,
    prev=hexes(32),
    batch_key=st.none() | hexes(16),
    count=st.integers(0, 1_000_000),
    envelopes_sha256=hexes(32),
    envelopes_size=st.integers(0, 4 * 1024**3),
    time=counts,
    newest_return=st.none() | st.builds(SignedText, manifest=plain_ascii, signature=plain_ascii),
)
return_manifests = st.builds(
    ReturnManifest,
    node=nodes,
    epoch=numbers,
    number=numbers,
    prev=hexes(32),
    accepted=counts,
    keyroll_sha256=hexes(32),
    records=counts,
    records_sha256=hexes(32),
    records_size=st.integers(0, 2 * 1024**3),
    time=counts,
)
records = st.one_of(
    st.builds(
        Receipt,
        sequence=numbers,
        manifest=hexes(32),
        orders=counts,
        outcome=st.sampled_from(Outcome),
        settled_at=counts,
    ),
    st.builds(
        StatusRecord,
        order=hexes(16),
        state=st.sampled_from(StatusState),
        reason=st.sampled_from(Reason),
        changed_at=counts,
    ),
    st.builds(Refusal, rule=st.sampled_from(RefusalRule), expected=numbers, seen_at=counts),
    st.builds(
        Revocation,
        key=hexes(16),
        role=st.sampled_from(Role),
        epoch=numbers,
        revoked_at=counts,
        signature=hexes(64),
    ),
    st.builds(
        Handover,
        epoch=numbers,
        start=counts,
        old_identity=hexes(32),
        new_identity=hexes(32),
        old_signature=hexes(64),
        new_signature=hexes(64),
    ),
    st.builds(SubjectAnswer, request=hexes(16), state=st.sampled_from(SubjectState), changed_at=counts),
)
entries = st.builds(
    KeyEntry,
    role=st.sampled_from(Role),
    node=nodes,
    epoch=numbers,
    number=numbers,
    public_key=hexes(32),
    seal_until=counts,
    destroy_at=counts,
    signature=hexes(64),
)
rolls = st.builds(
    KeyRoll,
    node=nodes,
    epoch=numbers,
    number=numbers,
    prev=hexes(32),
    issued_at=counts,
    order_keys=st.lists(entries, max_size=2),
    batch_keys=st.lists(entries, max_size=3),
)


@st.composite
def mutated(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that differ from ``whole``: one byte changed, some cut off, added, or put in between."""
    raw = draw(whole)
    place = draw(st.integers(0, max(len(raw) - 1, 0)))
    match draw(st.sampled_from(("change", "cut", "add", "insert", "repeat"))):
        case "change" if raw:
            return raw[:place] + bytes([raw[place] ^ draw(st.integers(1, 255))]) + raw[place + 1 :]
        case "cut" if raw:
            return raw[:place]
        case "insert":
            return raw[:place] + draw(st.binary(min_size=1, max_size=4)) + raw[place:]
        case "repeat" if raw:
            return raw + raw[place:]
        case _:
            return raw + draw(st.binary(min_size=1, max_size=40))


def only_refuses(parse: Callable[[bytes], Any], raw: bytes) -> Any:
    """What ``parse`` makes of ``raw``; None when it refuses. Any other exception fails the test."""
    refusal = None
    try:
        return parse(raw)
    except RuleError as error:
        refusal = error
    assert refusal.rule
    assert refusal.message
    return None


def refuses(rule: str, parse: Callable[[bytes], Any], raw: bytes) -> None:
    with pytest.raises(RuleError) as caught:
        parse(raw)
    assert caught.value.rule == rule
