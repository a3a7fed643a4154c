"""The wire format twice: what JavaScript, written from FORMAT.md alone, seals and judges agrees with ours.

Why here: a format that only its own author can write is no format; tests/wire_js shares no code with us.
Must not: help the other side along: it gets keys and orders, never bytes that ours made for it to copy.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from keys.errors import RuleError
from keys.private.locked import LockedBuffer
from keys.private.sign import generate_signing_key, sign
from keys.private.unseal import SealingKey, generate_sealing_key, open_box, open_box_into
from keys.public.digest import digest
from keys.public.fingerprint import fingerprint
from keys.public.roll import Role
from keys.public.seal import key_id
from offline_processor.opening import open_order
from offline_processor.screening import card_fault, screen
from offline_processor.stages import OpenedOrder, ScreenedOrder
from tests.offline_processor.shop import Shop, open_shop
from tests.tools.known import WIRE_JS, find
from tests.transfer.house import NODE, NOW, House
from transfer.errors import TransferError
from transfer.wire.basket import basket_digest
from transfer.wire.card import CARD_SIZE, Card, decode_card
from transfer.wire.envelope import CARD_BOX_SIZE, Envelope, decode_envelope, encode_envelope, frame
from transfer.wire.header import decode_header, header_digest
from transfer.wire.ids import basket_nonce, order_id
from transfer.wire.manifest import NO_PREVIOUS, bundle_manifest_digest
from transfer.wire.order import Order, decode_order_compartment
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
    decode_record,
    encode_record,
    handover_message,
    revocation_message,
)
from transfer.wire.sealing import SealingKeys, order_box_digest, seal_order

pytestmark = pytest.mark.needs_tool("node", "wire_js")

Json = dict[str, Any]
SAMPLE = {
    "items": [{"sku": "LP-0001", "quantity": 1, "price": 2499}],
    "total": {"amount": 2499, "currency": "EUR"},
    "customer": {"name": "Anna Muster", "email": "anna@example.org"},
    "delivery": {
        "lines": ["Hauptstraße 1"],
        "city": "Köln",
        "region": "",
        "postcode": "50667",
        "country": "DE",
    },
}
VISA = {"number": "4242424242424242", "expiry_month": 12, "expiry_year": 2031, "security_code": "123"}
AMEX = {"number": "378282246310005", "expiry_month": 1, "expiry_year": 2030, "security_code": "1234"}
NINETEEN = {"number": "6304000000000000006", "expiry_month": 9, "expiry_year": 2099, "security_code": "000"}
TWELVE = {"number": "500000000009", "expiry_month": 2, "expiry_year": 2031, "security_code": "999"}


def javascript(program: str, questions: list[Json]) -> list[Json]:
    """Ask a program of the second implementation many things at once."""
    node = find("node")
    assert node is not None
    result = subprocess.run(
        [node, WIRE_JS / program],
        input=json.dumps(questions).encode(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr.decode()
    answers: list[Json] = json.loads(result.stdout)
    return answers


def verify(check: str, **question: Any) -> Json:
    return javascript("verify.mjs", [{"check": check, **question}])[0]


def changed(order: Json, **members: Json) -> Json:
    return {**order, **{name: {**order[name], **value} for name, value in members.items()}}


def bought(currency: str, *items: tuple[str, int, int]) -> Json:
    wanted = [{"sku": sku, "quantity": quantity, "price": price} for sku, quantity, price in items]
    amount = sum(quantity * price for _, quantity, price in items)
    return {**SAMPLE, "items": wanted, "total": {"amount": amount, "currency": currency}}


NOTE = "\U0001f3b6"  # four bytes of UTF-8, one character, two of JavaScript's


def of_size(size: int) -> Json:
    """An order whose length and JSON have exactly this many bytes together."""
    order = changed(SAMPLE, customer={"name": "A"}, delivery={"lines": ["x"] * 4, "city": "K"})
    if size > 4096:
        goods = bought("IDR", *[("S" * 64, 10, 10**9)] * 99, ("X", 1, 1))
        order |= {"items": goods["items"], "total": goods["total"]}
        order = changed(order, customer={"name": NOTE * 200, "email": NOTE * 254})
        order = changed(order, delivery={"city": NOTE * 100, "region": NOTE * 100})
    missing = size - 4 - len(written(order))
    lines = []
    for _ in range(4):
        grown = min(missing, 199 * 4)
        lines.append("x" + NOTE * (grown // 4) + "y" * (grown % 4))
        missing -= grown
    assert missing == 0, (size, missing)
    return changed(order, delivery={"lines": lines})


def written(order: Json) -> bytes:
    """The JSON of an order compartment, its digests zero, as both sides would write it."""
    bound = {"header": "0" * 64, "nonce": "0" * 64, **order}
    return json.dumps(bound, separators=(",", ":"), ensure_ascii=False).encode()


ORDERS: dict[str, tuple[Json, Json]] = {
    "plain": (SAMPLE, VISA),
    "amex": (SAMPLE, AMEX),
    "pan of 19": (SAMPLE, NINETEEN),
    "pan of 12": (SAMPLE, TWELVE),
    "yen": (bought("JPY", ("LP-0001", 2, 3200)), VISA),
    "dinars": (bought("KWD", ("CD-0001", 1, 12_345), ("BOX.9_z", 3, 7)), VISA),
    "greatest": (bought("IDR", ("X", 1, 10**12)), VISA),
    "free record": (bought("EUR", ("X", 999, 0), ("Y", 1, 1)), VISA),
    "hundred items": (bought("EUR", *[(f"LP-{n:04d}", n + 1, 100 + n) for n in range(100)]), VISA),
    "greek": (
        changed(SAMPLE, customer={"name": "Ἀλέξανδρος Παπαδόπουλος"}, delivery={"country": "GR"}),
        VISA,
    ),
    "arabic": (changed(SAMPLE, customer={"name": "\u0645\u062d\u0645\u062f \u200f\u0639\u0644\u064a"}), VISA),
    "japanese": (
        changed(SAMPLE, delivery={"lines": ["千代田区千代田1番1号"], "city": "東京都", "country": "JP"}),
        VISA,
    ),
    "combining": (changed(SAMPLE, customer={"name": "A\u030asa O\u0308lund"}), VISA),
    "outside the first plane": (changed(SAMPLE, customer={"name": NOTE * 200}), VISA),
    "escapes": (changed(SAMPLE, customer={"name": 'Zoë "Z" \\ O\'Neil </b> \u2028 &'}), VISA),
    "long lines": (changed(SAMPLE, delivery={"lines": ["ü" * 200] * 4, "region": "r" * 100}), VISA),
    "longest": (changed(SAMPLE, customer={"name": "n" * 200, "email": "e" * 254}), VISA),
    **{f"{size} bytes": (of_size(size), VISA) for size in (511, 512, 513, 1024, 1025, 16_383, 16_384)},
}


def key_text(name: str) -> str:
    return digest("test", name.encode()).hex()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Key pairs of ours; JavaScript gets the public halves to seal, and test keys' private halves to open."""

    order: SealingKey
    batch: SealingKey

    @property
    def public(self) -> SealingKeys:
        return SealingKeys.of(self.order.public_key, self.batch.public_key)

    def question(self, name: str, order: Json, card: Json) -> Json:
        return {
            "idempotency_key": key_text(name),
            "order_key": self.order.public_key.hex(),
            "batch_key": self.batch.public_key.hex(),
            "time": NOW,
            "order": order,
            "card": card,
        }

    def order_text(self, envelope: Envelope) -> bytes:
        return open_box(envelope.order_box, self.order.public_key, self.order.private)

    def card_text(self, envelope: Envelope) -> bytes:
        with LockedBuffer(CARD_SIZE) as card:
            open_box_into(envelope.card_box, self.batch.public_key, self.batch.private, card.view)
            return bytes(card.view)


@pytest.fixture(scope="module")
def keys() -> Iterator[Keys]:
    made = Keys(order=generate_sealing_key(), batch=generate_sealing_key())
    yield made
    made.order.close()
    made.batch.close()


@pytest.fixture(scope="module")
def theirs(keys: Keys) -> dict[str, Envelope]:
    """Every order of the table, sealed in JavaScript."""
    answers = javascript("seal.mjs", [keys.question(name, *given) for name, given in ORDERS.items()])
    envelopes = {}
    for name, answer in zip(ORDERS, answers, strict=True):
        assert answer["ok"], (name, answer)
        raw = bytes.fromhex(answer["frame"])
        envelopes[name] = decode_envelope(raw[4:])
        assert raw == frame(encode_envelope(envelopes[name]))
    return envelopes


def ours(keys: Keys, name: str) -> Envelope:
    order, card = ORDERS[name]
    return seal_order(
        msgspec.convert(order, Order),
        as_card(card),
        order_id=order_id(key_text(name)),
        nonce=basket_nonce(key_text(name)),
        keys=keys.public,
        now=NOW,
    )


def as_card(card: Json) -> Card:
    return Card(
        pan=card["number"].encode(),
        cvv=card["security_code"].encode(),
        expiry_month=card["expiry_month"],
        expiry_year=card["expiry_year"],
    )


@pytest.mark.parametrize("name", ORDERS)
def test_order_sealed_in_javascript_opens_to_every_field(
    name: str, keys: Keys, theirs: dict[str, Envelope]
) -> None:
    envelope, (order, card) = theirs[name], ORDERS[name]
    header = decode_header(envelope.header)
    assert header.order_id == order_id(key_text(name))
    assert (header.order_key_id, header.batch_key_id) == (keys.order.key_id, keys.batch.key_id)
    assert header.time == NOW

    opened = decode_order_compartment(keys.order_text(envelope))
    assert opened.header == header_digest(envelope.header).hex()
    assert opened.nonce == basket_nonce(key_text(name)).hex()
    assert {part: msgspec.to_builtins(getattr(opened, part)) for part in order} == order
    assert header.basket_digest == basket_digest(
        nonce=basket_nonce(key_text(name)), items=opened.items, total=opened.total
    )

    view = decode_card(memoryview(keys.card_text(envelope)))
    assert view.header_digest == header_digest(envelope.header)
    assert view.order_box_digest == order_box_digest(envelope.order_box)
    assert (view.amount, view.currency) == (order["total"]["amount"], order["total"]["currency"])
    assert (bytes(view.pan), bytes(view.cvv)) == (card["number"].encode(), card["security_code"].encode())
    assert (view.expiry_month, view.expiry_year) == (card["expiry_month"], card["expiry_year"])


@pytest.mark.parametrize("name", ORDERS)
def test_order_sealed_in_javascript_passes_screening(
    name: str, keys: Keys, theirs: dict[str, Envelope]
) -> None:
    envelope = theirs[name]
    opened = open_order(
        encode_envelope(envelope),
        position=0,
        order_keys={keys.order.key_id: keys.order},
        batch_key_id=keys.batch.key_id,
    )
    assert isinstance(opened, OpenedOrder)
    screened = screen(opened)
    assert isinstance(screened, ScreenedOrder)
    fault = card_fault(
        decode_card(memoryview(keys.card_text(envelope))),
        header_digest=opened.header_digest,
        order_box_digest=order_box_digest(envelope.order_box),
        amount=screened.amount,
        currency=screened.currency,
    )
    assert fault == ""


@pytest.mark.parametrize("name", ORDERS)
def test_both_sides_seal_the_same_order_to_the_same_plaintext(
    name: str, keys: Keys, theirs: dict[str, Envelope]
) -> None:
    their, our = theirs[name], ours(keys, name)
    assert their.header == our.header
    assert json.loads(unpadded(keys.order_text(their))) == json.loads(unpadded(keys.order_text(our)))
    assert len(their.order_box) == len(our.order_box)
    assert len(their.card_box) == len(our.card_box) == CARD_BOX_SIZE
    # Only the digest of the order box differs: each box was made with a key of its own.
    their_card, our_card = keys.card_text(their), keys.card_text(our)
    assert their_card[:32] + their_card[64:] == our_card[:32] + our_card[64:]


def unpadded(plaintext: bytes) -> bytes:
    return plaintext[4 : 4 + int.from_bytes(plaintext[:4], "big")]


@pytest.mark.parametrize("size", [511, 512, 513, 1024, 1025, 16_383, 16_384])
def test_order_box_grows_in_steps_of_512(size: int, keys: Keys, theirs: dict[str, Envelope]) -> None:
    envelope = theirs[f"{size} bytes"]
    assert len(unpadded(keys.order_text(envelope))) == size - 4
    assert len(envelope.order_box) == len(ours(keys, f"{size} bytes").order_box) == 48 + -(-size // 512) * 512


def test_javascript_opens_what_python_sealed(keys: Keys) -> None:
    envelopes = {name: ours(keys, name) for name in ORDERS}
    secrets = {"order_secret": private(keys.order), "batch_secret": private(keys.batch)}
    answers = javascript(
        "open.mjs",
        [{"envelope": encode_envelope(envelope).hex(), **secrets} for envelope in envelopes.values()],
    )
    for name, answer in zip(ORDERS, answers, strict=True):
        order, card = ORDERS[name]
        assert answer["ok"], (name, answer)
        assert {part: answer["order"][part] for part in order} == order
        assert answer["card"] == card
        assert answer["fields"]["order_id"] == order_id(key_text(name)).hex()
        assert answer["fields"]["time"] == NOW


def private(key: SealingKey) -> str:
    return bytes(key.private.view).hex()


def test_javascript_binds_compartments_to_each_other(keys: Keys) -> None:
    right, other = ours(keys, "plain"), ours(keys, "yen")
    moved = [
        replace_envelope(right, order_box=other.order_box),
        replace_envelope(right, card_box=other.card_box),
        replace_envelope(right, header=other.header),
        replace_envelope(right, order_box=ours(keys, "plain").order_box),
        replace_envelope(right, card_box=flipped(right.card_box, 60)),
        replace_envelope(right, order_box=flipped(right.order_box, 0)),
    ]
    secrets = {"order_secret": private(keys.order), "batch_secret": private(keys.batch)}
    answers = javascript("open.mjs", [{"envelope": encode_envelope(item).hex(), **secrets} for item in moved])
    assert [answer["ok"] for answer in answers] == [False] * len(moved)


def replace_envelope(envelope: Envelope, **parts: bytes) -> Envelope:
    known = {"header": envelope.header, "order_box": envelope.order_box, "card_box": envelope.card_box}
    return Envelope(**(known | parts))


def flipped(raw: bytes, place: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


IMPOSSIBLE: dict[str, Json] = {
    "total is not the sum": {**SAMPLE, "total": {"amount": 2498, "currency": "EUR"}},
    "nothing to pay": bought("EUR", ("X", 1, 0)),
    "no items": {**SAMPLE, "items": []},
    "101 items": bought("EUR", *[("X", 1, 1)] * 101),
    "quantity of 1000": bought("EUR", ("X", 1000, 1)),
    "long SKU": bought("EUR", ("X" * 65, 1, 1)),
    "foreign SKU": bought("EUR", ("É", 1, 1)),
    "currency in lower case": {**SAMPLE, "total": {"amount": 2499, "currency": "eur"}},
    "no name": changed(SAMPLE, customer={"name": ""}),
    "name of 201": changed(SAMPLE, customer={"name": NOTE * 201}),
    "line feed in a line": changed(SAMPLE, delivery={"lines": ["a\nb"]}),
    "five lines": changed(SAMPLE, delivery={"lines": ["x"] * 5}),
    "next line character": changed(SAMPLE, delivery={"city": "a\u0085b"}),
    "country of three": changed(SAMPLE, delivery={"country": "DEU"}),
    "unknown member": changed(SAMPLE, delivery={"street": "x"}),
    "too large for its box": changed(of_size(16_384), delivery={"postcode": "5" * 20}),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_neither_side_seals_an_order_outside_the_limits(name: str, keys: Keys) -> None:
    order = IMPOSSIBLE[name]
    assert not javascript("seal.mjs", [keys.question(name, order, VISA)])[0]["ok"]
    assert not readable_by_us(order, keys)


def readable_by_us(order: Json, keys: Keys) -> bool:
    """Whether our side would take this order from a sealer that observed no limit at all."""
    try:
        text = written(order)
        raw = len(text).to_bytes(4, "big") + text
        opened = decode_order_compartment(raw + bytes(-len(raw) % 512))
        return sum(item.quantity * item.price for item in opened.items) == opened.total.amount
    except TransferError:
        return False


def test_orders_sealed_in_javascript_are_charged_and_the_return_is_read_there(tmp_path: Path) -> None:
    shop = open_shop(tmp_path)
    try:
        signer = shop.keystore.ring.nodes()[0].public_key
        identity = shop.keystore.identity.public_key.hex()
        unit = shop.bundle(sealed_for(shop))
        read = verify("bundle", directory=str(unit), signer=signer, identity=identity, last=None)
        assert read["ok"], read
        assert [envelope["ok"] for envelope in read["envelopes"]] == [True, True, True]

        report = shop.run()
        assert len(report.received) == 1
        assert {state[0] for state in shop.states().values()} == {"paid"}
        back = verify(
            "return", directory=str(shop.newest_return()), identity=identity, node="shop-a", last=None
        )
        assert back["ok"], back
        assert back["manifest"]["accepted"] == 1
        statuses = [record for record in back["records"] if record["kind"] == "status"]
        assert {record["order"] for record in statuses} == {item["order_id"] for item in read["envelopes"]}
        assert {record["state"] for record in statuses} == {"paid"}
        receipts = [record for record in back["records"] if record["kind"] == "receipt"]
        assert [receipt["manifest"] for receipt in receipts] == [read["digest"]]
        assert back["roll"]["batch_keys"]

        shop.now += 60
        confirming = shop.bundle([], newest_return=shop.confirmation())
        chain = {"sequence": 1, "prev": read["digest"]}
        read = verify("bundle", directory=str(confirming), signer=signer, identity=identity, last=chain)
        assert read["ok"], read
        assert read["confirmed"] == {"epoch": back["manifest"]["epoch"], "number": back["manifest"]["number"]}
    finally:
        shop.keystore.close()


def sealed_for(shop: Shop) -> list[bytes]:
    keys = shop.keys_for()
    questions = [
        {
            "idempotency_key": key_text(name),
            "order_key": keys.order_key.hex(),
            "batch_key": keys.batch_key.hex(),
            "time": shop.now,
            "order": ORDERS[name][0],
            "card": ORDERS[name][1],
        }
        for name in ("plain", "amex", "dinars")
    ]
    return [bytes.fromhex(answer["frame"])[4:] for answer in javascript("seal.mjs", questions)]


def test_first_roll_and_its_entries_are_judged_alike(house: House) -> None:
    spoken = fingerprint(house.identity.public_key)
    read = verify("enrolment", directory=str(house.enrolment()), node=NODE, fingerprint=spoken)
    assert read["ok"], read
    assert read["identity"] == house.identity.public_key.hex()
    assert len(read["roll"]["batch_keys"]) == house.keys
    assert (
        verify("enrolment", directory=str(house.enrolment()), node="shop-b", fingerprint=spoken)["rule"]
        == "ROLL-NODE"
    )


def test_key_entry_is_covered_in_every_field(house: House) -> None:
    entry = house.entry(Role.BATCH, 3)
    changes: list[Json] = [
        {},
        {"role": "order"},
        {"node": "shop-b"},
        {"epoch": 2},
        {"number": 4},
        {"public_key": "11" * 32},
        {"seal_until": entry.seal_until + 1},
        {"destroy_at": entry.destroy_at + 1},
        {"signature": "00" * 64},
    ]
    identity = house.identity.public_key.hex()
    given: Json = msgspec.to_builtins(entry)
    answers = javascript(
        "verify.mjs",
        [{"check": "key-entry", "entry": given | change, "identity": identity} for change in changes],
    )
    assert [answer["ok"] for answer in answers] == [True] + [False] * (len(changes) - 1)
    assert answers[0]["key_id"] == key_id(bytes.fromhex(entry.public_key)).hex()
    assert {answer["rule"] for answer in answers[1:]} == {"ROLL-ENTRY"}


def bundle_of(house: House) -> tuple[Path, Json]:
    """A pushed bundle of two orders, and the question whether it is good."""
    house.take([1, 2])
    house.push()
    unit = house.unit(1)
    last = {"sequence": 0, "prev": NO_PREVIOUS}
    question = {
        "signer": house.node_key.public_key.hex(),
        "identity": house.identity.public_key.hex(),
        "last": last,
    }
    return unit, {"directory": str(unit), **question}


def test_bundle_that_spool_sync_wrote_is_read_whole(house: House) -> None:
    unit, question = bundle_of(house)
    read = verify("bundle", **question)
    assert read["ok"], read
    assert read["manifest"] == json.loads((unit / "manifest.json").read_bytes())
    assert read["digest"] == bundle_manifest_digest((unit / "manifest.json").read_bytes())
    assert [envelope["order_id"] for envelope in read["envelopes"]] == house.carried(1)


def append(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda unit: (unit / name).write_bytes((unit / name).read_bytes() + data)


def flip(name: str, place: int) -> Callable[[Path], object]:
    return lambda unit: (unit / name).write_bytes(flipped((unit / name).read_bytes(), place))


BUNDLE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped byte of an envelope": (flip("envelopes.bin", 200), "BUNDLE-DAMAGED"),
    "byte behind the envelopes": (append("envelopes.bin", b"\0"), "BUNDLE-DAMAGED"),
    "no envelopes": (lambda unit: (unit / "envelopes.bin").write_bytes(b""), "BUNDLE-DAMAGED"),
    "flipped byte of the manifest": (flip("manifest.json", 20), "BUNDLE-SIGNATURE"),
    "line feed behind the manifest": (append("manifest.json", b"\n"), "BUNDLE-SIGNATURE"),
    "line behind the signature": (append("manifest.json.minisig", b"x\n"), "BUNDLE-SIGNATURE"),
    "stranger in the directory": (lambda unit: (unit / "note.txt").write_text("x"), "BUNDLE-FORMAT"),
    "missing envelopes": (lambda unit: (unit / "envelopes.bin").unlink(), "BUNDLE-FORMAT"),
}


@pytest.mark.parametrize("name", BUNDLE_FAULTS)
def test_faulty_bundle_is_refused_by_rule(house: House, name: str) -> None:
    unit, question = bundle_of(house)
    fault, rule = BUNDLE_FAULTS[name]
    fault(unit)
    assert verify("bundle", **question)["rule"] == rule


def test_bundle_of_another_signer_or_place_in_the_chain_is_refused_by_rule(house: House) -> None:
    unit, question = bundle_of(house)
    known = bundle_manifest_digest((unit / "manifest.json").read_bytes())
    stranger = generate_signing_key().public_key.hex()
    assert verify("bundle", **question | {"signer": stranger})["rule"] == "BUNDLE-SIGNATURE"
    chains = [(1, "11" * 32, "BUNDLE-FORK"), (3, known, "BUNDLE-FORK"), (0, "11" * 32, "BUNDLE-SEQUENCE")]
    for sequence, prev, rule in chains:
        last = {"sequence": sequence, "prev": prev}
        assert verify("bundle", **question | {"last": last})["rule"] == rule
    assert verify("bundle", **question | {"last": {"sequence": 1, "prev": known}})["message"] == "known"


def test_return_inside_a_bundle_must_be_genuine(tmp_path: Path) -> None:
    shop = open_shop(tmp_path)
    try:
        shop.bundle([shop.seal(1)])
        shop.run()
        genuine = shop.confirmation()
        identity = shop.keystore.identity.public_key.hex()
        signer = shop.node_key.public_key.hex()
        altered = replace(genuine, manifest=genuine.manifest.replace('"accepted":1', '"accepted":2'))
        rules = [
            verify(
                "bundle",
                directory=str(shop.bundle([], newest_return=carried)),
                signer=signer,
                identity=identity,
            )
            for carried in (genuine, altered)
        ]
        assert rules[0]["ok"], rules[0]
        assert rules[1]["rule"] == "BUNDLE-RETURN"
    finally:
        shop.keystore.close()


def test_faulty_return_is_refused_and_the_good_one_read(house: House) -> None:
    identity = house.identity.public_key.hex()
    question = {"identity": identity, "node": NODE, "last": None}
    good = house.give_return(all_records(house))
    read = verify("return", directory=str(good), **question)
    assert read["ok"], read
    assert [record["kind"] for record in read["records"]] == [
        "receipt",
        "status",
        "refusal",
        "revocation",
        "handover",
        "subject",
    ]
    old = {"epoch": 1, "number": 1}
    assert not verify("return", directory=str(good), **question | {"last": old})["ok"]
    faulty = [
        house.give_return(node="shop-b"),
        house.give_return(comment="sealed-orders v1 bundle"),
        house.give_return(signer=generate_signing_key()),
        house.give_return(records=1),
        house.give_return(records_size=1),
        house.give_return(keyroll_sha256="11" * 32),
        house.give_return(name="r0001-00000099"),
        house.give_return([b'{"kind":"note"}\n']),
        house.give_return([replace(all_records(house)[3], revoked_at=NOW + 1)]),
    ]
    answers = javascript(
        "verify.mjs", [{"check": "return", "directory": str(unit), **question} for unit in faulty]
    )
    assert [answer["ok"] for answer in answers] == [False] * len(faulty)


def all_records(house: House) -> list[Any]:
    """One record of each kind, the signed ones signed."""
    identity, successor = house.identity, generate_signing_key()
    revoked = {"role": Role.BATCH, "epoch": 1, "key": bytes(range(16)), "revoked_at": NOW}
    handed = {
        "epoch": 2,
        "start": NOW,
        "old_identity": identity.public_key,
        "new_identity": successor.public_key,
    }
    handover = handover_message(**handed)  # type: ignore[arg-type]
    return [
        Receipt(sequence=1, manifest="22" * 32, orders=3, outcome=Outcome.PROCESSED, settled_at=NOW),
        StatusRecord(order="33" * 16, state=StatusState.DECLINED, reason=Reason.TRY_LATER, changed_at=NOW),
        Refusal(rule=RefusalRule.SEQUENCE, expected=2, seen_at=NOW),
        Revocation(
            role=Role.BATCH,
            epoch=1,
            key=bytes(range(16)).hex(),
            revoked_at=NOW,
            signature=sign(identity, revocation_message(**revoked)).hex(),  # type: ignore[arg-type]
        ),
        Handover(
            epoch=2,
            start=NOW,
            old_identity=identity.public_key.hex(),
            new_identity=successor.public_key.hex(),
            old_signature=sign(identity, handover).hex(),
            new_signature=sign(successor, handover).hex(),
        ),
        SubjectAnswer(request="44" * 16, state=SubjectState.DONE, changed_at=NOW),
    ]


def test_both_sides_judge_damaged_records_alike(house: House) -> None:
    lines = [
        encode_record(record)
        for record in all_records(house)
        if record.__class__ not in (Revocation, Handover)
    ]
    source = random.Random(2)
    pieces = [
        b" ",
        b"0",
        b"-",
        b".0",
        b'"',
        b"\\",
        b"\\u0041",
        b"1e2",
        b",",
        b"null",
        b"A",
        b"\xc3\xa9",
        b"\t",
    ]
    damaged = []
    for _ in range(400):
        line = bytearray(source.choice(lines)[:-1])
        place = source.randrange(len(line))
        match source.randrange(3):
            case 0:
                line[place:place] = source.choice(pieces)
            case 1:
                del line[place : place + source.randrange(1, 4)]
            case _:
                line[place] ^= 1 << source.randrange(7)
        damaged.append(bytes(line))
    # A changed byte may be a line feed, which makes two lines of one.
    damaged = [line for line in damaged if b"\n" not in line]
    identity = house.identity.public_key.hex()
    answers = javascript(
        "verify.mjs",
        [{"check": "records", "data": (line + b"\n").hex(), "identity": identity} for line in damaged],
    )
    disagreed = [
        line for line, answer in zip(damaged, answers, strict=True) if answer["ok"] != accepted_by_us(line)
    ]
    assert disagreed == []
    assert {answer["ok"] for answer in answers} == {True, False}


def accepted_by_us(line: bytes) -> bool:
    try:
        decode_record(line)
    except RuleError:
        return False
    return True


def test_unknown_suite_and_oversize_are_judged_from_the_envelope_alone(keys: Keys) -> None:
    raw = encode_envelope(ours(keys, "plain"))
    given = {
        "ORDER-SUITE": raw[:2] + b"\x02" + raw[3:],
        "ORDER-SIZE": raw + bytes(20_001 - len(raw)),
        "ENVELOPE-HEADER": b"\x02" + raw[1:],
        "ENVELOPE-FORM": raw[:-1],
    }
    answers = javascript("verify.mjs", [{"check": "envelope", "data": data.hex()} for data in given.values()])
    assert [answer["rule"] for answer in answers] == list(given)
    assert verify("envelope", data=raw.hex())["ok"]
