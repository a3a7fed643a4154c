"""Vectors of what is not signed and not sealed: digests, header, envelope, frames, compartments.

Why here: they are deterministic, so the maker can make them again and compare.
Must not: hold more than one fault in a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from keys.public.digest import digest
from keys.public.fingerprint import fingerprint
from tests.vectors import cast
from tests.vectors.form import OK, Vector
from transfer.wire.basket import basket_digest
from transfer.wire.card import Card, encode_card
from transfer.wire.envelope import Envelope, encode_envelope, frame
from transfer.wire.header import Header, Kind, encode_header, header_digest
from transfer.wire.ids import basket_nonce, order_id
from transfer.wire.order import (
    Item,
    SubjectRequest,
    Total,
    encode_order_compartment,
    encode_subject_request,
    pad,
)

RAW_HEADER = encode_header(cast.HEADER)
WHOSE = header_digest(RAW_HEADER)
BOX_DIGEST = digest("order-box", b"not a box, but its digest is one")
_DOMAINS = {
    "key-id": 16,
    "fingerprint": 16,
    "minisign-key-number": 8,
    "order-id": 16,
    "basket-nonce": 32,
    "basket": 32,
    "header": 32,
    "order-box": 32,
    "key-entry": 32,
    "key-roll": 32,
    "bundle-manifest": 32,
    "return-manifest": 32,
    "revocation": 32,
    "handover": 32,
}


def digests() -> list[Vector]:
    """Every domain over the same data, and what has a text form."""
    data = bytes(range(64))
    vectors = [
        Vector(
            name=f"digest-{domain}",
            kind="digest",
            what=f"the domain {domain} over 64 bytes",
            inputs={"domain": domain, "data": data.hex(), "size": size},
            output={"digest": digest(domain, data, size=size).hex()},
        )
        for domain, size in _DOMAINS.items()
    ]
    key = cast.OFFLINE.public_key
    return [
        *vectors,
        Vector(
            name="fingerprint",
            kind="fingerprint",
            what="how two people compare a public key",
            inputs={"public_key": key.hex()},
            output={"fingerprint": fingerprint(key)},
        ),
    ]


def idempotency_keys() -> list[Vector]:
    """Order ids and nonces, and keys that are none."""

    def good(name: str, key: str) -> Vector:
        output = {"order_id": order_id(key).hex(), "nonce": basket_nonce(key).hex()}
        return Vector(name=name, kind="idempotency-key", what=name, inputs={"key": key}, output=output)

    def bad(name: str, key: str) -> Vector:
        return Vector(
            name=name, kind="idempotency-key", what=name, inputs={"key": key}, expect="ORDER-IDEMPOTENCY-KEY"
        )

    return [
        good("key-of-22-characters", cast.KEY_TEXT),
        good("key-of-128-characters", "-_9zZ" * 25 + "abc"),
        good("key-in-hexadecimal", "00112233445566778899aabbccddeeff"),
        bad("key-of-21-characters", "a" * 21),
        bad("key-of-129-characters", "a" * 129),
        bad("key-with-padding", "Zm9yIHRlc3RzIG9ubHkhIQ=="),
        bad("key-with-a-line-feed", "a" * 22 + "\n"),
        bad("key-with-a-letter-beyond-ascii", "a" * 22 + "\u00e9"),
    ]


def baskets() -> list[Vector]:
    """Basket digests."""
    baskets: dict[str, tuple[list[Item], Total]] = {
        "basket": (cast.ORDER.items, cast.ORDER.total),
        "basket-in-another-order": (cast.ORDER.items[::-1], cast.ORDER.total),
        "basket-at-its-limits": (
            [Item(sku="A" * 64, quantity=999, price=10**12)],
            Total(amount=10**12, currency="BHD"),
        ),
    }
    return [
        Vector(
            name=name,
            kind="basket",
            what="nonce, items with prices, total and currency",
            inputs={
                "nonce": cast.NONCE.hex(),
                "items": [msgspec.to_builtins(item) for item in items],
                "total": msgspec.to_builtins(total),
            },
            output={"digest": basket_digest(nonce=cast.NONCE, items=items, total=total).hex()},
        )
        for name, (items, total) in baskets.items()
    ]


def headers() -> list[Vector]:
    """Headers of both kinds and of an unknown suite, and what is none."""

    def good(name: str, what: str, header: Header) -> Vector:
        raw = encode_header(header)
        fields = {
            "kind": int(header.kind),
            "suite": header.suite,
            "order_id": header.order_id.hex(),
            "order_key_id": header.order_key_id.hex(),
            "batch_key_id": header.batch_key_id.hex(),
            "time": header.time,
            "basket_digest": header.basket_digest.hex(),
            "digest": header_digest(raw).hex(),
        }
        return Vector(name=name, kind="header", what=what, inputs={"raw": raw.hex()}, output=fields)

    def bad(name: str, what: str, raw: bytes) -> Vector:
        return Vector(
            name=name, kind="header", what=what, inputs={"raw": raw.hex()}, expect="ENVELOPE-HEADER"
        )

    request = replace(cast.HEADER, kind=Kind.SUBJECT_REQUEST, batch_key_id=bytes(16), basket_digest=bytes(32))
    return [
        good("header", "of an order", cast.HEADER),
        good("header-of-a-request", "of a subject request: no batch key and no basket", request),
        good("header-of-an-unknown-suite", "readable; the order is put aside later", _suite(2)),
        good("header-at-the-end-of-time", "the largest time", replace(cast.HEADER, time=2**64 - 1)),
        bad("header-cut-short", "91 bytes", RAW_HEADER[:-1]),
        bad("header-too-long", "93 bytes", RAW_HEADER + b"\0"),
        bad("header-version-0", "format version 0", b"\0" + RAW_HEADER[1:]),
        bad("header-version-2", "format version 2", b"\2" + RAW_HEADER[1:]),
        bad("header-kind-0", "kind 0", RAW_HEADER[:1] + b"\0" + RAW_HEADER[2:]),
        bad("header-kind-3", "kind 3", RAW_HEADER[:1] + b"\3" + RAW_HEADER[2:]),
        bad("header-fourth-byte", "the fourth byte is not zero", RAW_HEADER[:3] + b"\1" + RAW_HEADER[4:]),
    ]


def envelopes() -> list[Vector]:
    """Envelopes and frames, with boxes that are only bytes."""
    envelope = Envelope(header=RAW_HEADER, order_box=b"\xaa" * 560, card_box=b"\xbb" * 176)
    raw = encode_envelope(envelope)
    output = {"header": RAW_HEADER.hex(), "order_box": "aa" * 560, "card_box": "bb" * 176}
    no_card = encode_envelope(replace(envelope, card_box=b""))
    long_box = raw[:92] + (len(raw)).to_bytes(4, "big") + raw[96:]

    def one(name: str, what: str, content: bytes, expect: str = "ENVELOPE-FORM") -> Vector:
        found = output if expect == OK else {}
        return Vector(
            name=name,
            kind="envelope",
            what=what,
            inputs={"raw": content.hex()},
            expect=expect,
            output=found,
        )

    def many(name: str, what: str, content: bytes, found: list[bytes] | None = None) -> Vector:
        return Vector(
            name=name,
            kind="frames",
            what=what,
            inputs={"raw": content.hex()},
            expect="ENVELOPE-FRAME" if found is None else OK,
            output={} if found is None else {"envelopes": [part.hex() for part in found]},
        )

    return [
        one("envelope", "header and two boxes", raw, OK),
        one("envelope-cut-in-the-header", "91 bytes", raw[:91]),
        one("envelope-cut-in-a-length", "ends inside the first length", raw[:94]),
        one("envelope-order-box-too-long", "the order box is longer than the envelope", long_box),
        one("envelope-card-box-cut-short", "one byte is missing at the end", raw[:-1]),
        one("envelope-with-a-byte-behind", "one byte too many at the end", raw + b"\0"),
        many("frames", "two envelopes", frame(raw) + frame(no_card), [raw, no_card]),
        many("frames-of-an-empty-file", "no envelope at all", b"", []),
        many("frames-cut-in-a-length", "ends inside a length", frame(raw) + b"\0\0\0"),
        many("frames-cut-in-an-envelope", "ends inside an envelope", frame(raw)[:-1]),
        many("frames-of-no-bytes", "a frame of no bytes, to be put aside", bytes(4), [b""]),
        many("frames-too-short", "shorter than a header, to be put aside", frame(raw[:91]), [raw[:91]]),
        many("frames-too-long", "a frame of 65,537 bytes", (65_537).to_bytes(4, "big") + bytes(65_537)),
        many("frames-with-zeros-behind", "another frame, of no bytes", frame(raw) + bytes(4), [raw, b""]),
    ]


def order_compartments() -> list[Vector]:
    """Opened order compartments, good and bad."""
    good = encode_order_compartment(cast.ORDER, header_digest=WHOSE, nonce=cast.NONCE)
    size = int.from_bytes(good[:4], "big")
    text = good[4 : 4 + size]
    full = pad(text.ljust(508, b" ")[:508] if size <= 508 else text.ljust(1020, b" "))
    request = SubjectRequest(
        header=WHOSE.hex(), request="erase", email="zofie@example.org", orders=[cast.HEADER.order_id.hex()]
    )

    def bad(name: str, what: str, raw: bytes, expect: str) -> Vector:
        return Vector(name=name, kind="order", what=what, inputs={"raw": raw.hex()}, expect=expect)

    def without(old: bytes, new: bytes) -> bytes:
        assert old in text
        return pad(text.replace(old, new, 1))

    def fine(name: str, kind: str, what: str, raw: bytes) -> Vector:
        length = int.from_bytes(raw[:4], "big")
        return Vector(
            name=name,
            kind=kind,
            what=what,
            inputs={"raw": raw.hex()},
            output={"json": raw[4 : 4 + length].hex()},
        )

    shorter = (size - 1).to_bytes(4, "big") + good[4:]
    return [
        fine("order", "order", "an order with names beyond ASCII", good),
        fine("order-that-fills-its-steps", "order", "no padding at all", full),
        fine("request", "request", "a subject request", encode_subject_request(request)),
        bad("order-padded-by-a-step-too-many", "512 zeros more", good + bytes(512), "ORDER-PADDING"),
        bad("order-padding-not-zero", "the last byte is 1", good[:-1] + b"\1", "ORDER-PADDING"),
        bad("order-not-in-steps", "one zero less", good[:-1], "ORDER-PADDING"),
        bad("order-length-too-long", "longer than all", b"\xff" * 4 + good[4:], "ORDER-PADDING"),
        bad("order-length-too-short", "ends before its text", shorter, "ORDER-PADDING"),
        bad("order-empty", "no bytes", b"", "ORDER-PADDING"),
        bad("order-above-the-limit", "33 steps", bytes(33 * 512), "ORDER-PADDING"),
        bad("order-not-json", "not JSON", pad(b"order"), "ORDER-FORM"),
        bad("order-not-utf-8", "a byte that is no UTF-8", without("Ž".encode(), b"\xff"), "ORDER-FORM"),
        bad("order-unknown-member", "a member more", without(b'"total"', b'"note":"","total"'), "ORDER-FORM"),
        bad("order-missing-member", "no region", without(b'"region":"",', b""), "ORDER-FORM"),
        bad("order-quantity-0", "quantity 0", without(b'"quantity":2', b'"quantity":0'), "ORDER-FORM"),
        bad("order-price-as-text", "a price in quotes", without(b'"price":0', b'"price":"0"'), "ORDER-FORM"),
        bad("order-price-a-fraction", "a price of 0.5", without(b'"price":0', b'"price":0.5'), "ORDER-FORM"),
        bad("order-currency-small", "a currency in small letters", without(b"EUR", b"eur"), "ORDER-FORM"),
        bad("order-sku-with-a-space", "a space in a SKU", without(b"LP-0001", b"LP 0001"), "ORDER-FORM"),
        bad("order-control-character", "a tab in a name", without(b"fie", b"\\t"), "ORDER-TEXT"),
    ]


def card_compartments() -> list[Vector]:
    """Opened card compartments, good and bad."""

    def encoded(card: Card) -> bytes:
        return bytes(
            encode_card(card, header_digest=WHOSE, order_box_digest=BOX_DIGEST, amount=4998, currency="EUR")
        )

    def good(name: str, what: str, card: Card) -> Vector:
        output = {
            "header_digest": WHOSE.hex(),
            "order_box_digest": BOX_DIGEST.hex(),
            "amount": 4998,
            "currency": "EUR",
            "pan": card.pan.decode(),
            "expiry_month": card.expiry_month,
            "expiry_year": card.expiry_year,
            "cvv": card.cvv.decode(),
        }
        return Vector(name=name, kind="card", what=what, inputs={"raw": encoded(card).hex()}, output=output)

    raw = encoded(cast.CARD)

    def bad(name: str, what: str, place: int, value: int) -> Vector:
        changed = raw[:place] + bytes([value]) + raw[place + 1 :]
        return Vector(name=name, kind="card", what=what, inputs={"raw": changed.hex()}, expect="CARD-FORM")

    def cut(name: str, what: str, content: bytes) -> Vector:
        return Vector(name=name, kind="card", what=what, inputs={"raw": content.hex()}, expect="CARD-FORM")

    longest = replace(cast.CARD, pan=b"6304000000000000000", cvv=b"1234")
    return [
        good("card", "16 digits and 3", cast.CARD),
        good("card-with-the-longest-numbers", "19 digits and 4", longest),
        good("card-with-the-shortest-number", "12 digits", replace(cast.CARD, pan=b"501800000009")),
        cut("card-cut-short", "127 bytes", raw[:-1]),
        cut("card-too-long", "129 bytes", raw + b"\0"),
        bad("card-11-digits", "a PAN of 11 digits", 75, 11),
        bad("card-20-digits", "a PAN of 20 digits", 75, 20),
        bad("card-pan-with-a-letter", "a letter in the PAN", 80, 0x41),
        bad("card-digit-behind-the-pan", "a digit behind the PAN", 92, 0x30),
        bad("card-month-0", "month 0", 95, 0),
        bad("card-month-13", "month 13", 95, 13),
        bad("card-cvv-of-2", "a CVV of 2 digits", 98, 2),
        bad("card-cvv-of-5", "a CVV of 5 digits", 98, 5),
        bad("card-cvv-with-a-space", "a space in the CVV", 99, 0x20),
        bad("card-digit-behind-the-cvv", "a digit behind the CVV", 102, 0x30),
        bad("card-padding-not-zero", "the last byte is 1", 127, 1),
        bad("card-currency-small", "a small letter in the currency", 72, 0x65),
    ]


def _suite(suite: int) -> Header:
    return replace(cast.HEADER, suite=suite)


FILES: dict[str, Callable[[], list[Vector]]] = {
    "digests.json": digests,
    "idempotency-keys.json": idempotency_keys,
    "baskets.json": baskets,
    "headers.json": headers,
    "envelopes.json": envelopes,
    "order-compartments.json": order_compartments,
    "card-compartments.json": card_compartments,
}
