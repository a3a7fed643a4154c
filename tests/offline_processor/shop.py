"""A shop and its offline machine for the tests: real keys, real envelopes, real bundles, no process around them.

Why here: every test of this room begins with bundles that a node has signed, and ends with a look at ledger and return.
Must not: stand in for any part of the offline processor, nor falsify an envelope; ``forgery`` does that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from keys.custody import split
from keys.keystore import Keystore
from keys.private.locked import LockedBuffer
from keys.private.sign import SigningKey, generate_signing_key, sign_file
from keys.private.unseal import SealingKey
from offline_processor.acquirers.protocol import Acquirer
from offline_processor.acquirers.simulator.books import unreversed_approvals
from offline_processor.batch import run
from offline_processor.control_total import ControlTotal
from offline_processor.ledger.ledger import Ledger, Row
from offline_processor.workplace import RunReport, Workplace
from tests.offline_processor.simulated import SimulatedAcquirer
from transfer.wire.card import Card
from transfer.wire.envelope import Envelope, encode_envelope, frame
from transfer.wire.ids import basket_nonce, order_id
from transfer.wire.manifest import (
    BUNDLE_COMMENT,
    ENVELOPES_NAME,
    MANIFEST_NAME,
    NO_PREVIOUS,
    RECORDS_NAME,
    SIGNATURE_NAME,
    BundleManifest,
    SignedText,
    bundle_manifest_digest,
    bundle_name,
    encode_manifest,
)
from transfer.wire.order import Customer, Delivery, Item, Order, Total
from transfer.wire.records import Record, StatusRecord, decode_record
from transfer.wire.sealing import SealingKeys, seal_order

NOW = 1_790_000_000
PASSPHRASE = b"correct horse battery staple"
VISA = b"4242424242424242"
DECLINED_CARD = b"4000000000000002"
LOST_ANSWER_CARD = b"4000000000000341"
NO_ANSWER_AMOUNT = 19_968
SILENT_AMOUNT = 19_969
HOUR = 3600
HOLD_HOURS = 72


def passphrase() -> LockedBuffer:
    """The rehearsal passphrase in locked memory."""
    return LockedBuffer(len(PASSPHRASE)).copy_from(PASSPHRASE)


def an_order(number: int = 0, *, amount: int = 2499, currency: str = "EUR") -> Order:
    """A believable order."""
    return Order(
        items=[Item(sku=f"LP-{number % 10_000:04d}", quantity=1, price=amount)],
        total=Total(amount=amount, currency=currency),
        customer=Customer(name=f"Åsa Ölund {number}", email=f"asa{number}@example.org"),
        delivery=Delivery(
            lines=[f"Storgatan {number}"], city="Växjö", region="", postcode="352 30", country="SE"
        ),
    )


def a_card(pan: bytes = VISA, *, cvv: bytes = b"123", month: int = 12, year: int = 2031) -> Card:
    """A public test card."""
    return Card(pan=pan, cvv=cvv, expiry_month=month, expiry_year=year)


def key_text(number: int) -> str:
    """An Idempotency-Key for the order of this number."""
    return f"idempotency-key-{number:016d}"


@dataclass(kw_only=True)
class Shop:
    """One intake node and one offline machine. ``now`` may be moved; ``confirm`` is the operator, who agrees."""

    root: Path
    keystore: Keystore
    node_key: SigningKey
    node: str = "shop-a"
    now: int = NOW
    window: int = 50
    sequence: int = 0
    previous: str = NO_PREVIOUS
    confirm: Callable[[ControlTotal], None] = field(default=lambda total: None)
    mirror: Path | None = None
    custody_key: SealingKey | None = None
    shares: Sequence[str] = field(default=(), repr=False)  # a failing test prints what it was given

    @property
    def drop_in(self) -> Path:
        return self.root / "in"

    @property
    def drop_out(self) -> Path:
        return self.root / "out"

    @property
    def books(self) -> Path:
        return self.root / "books.db"

    def keys_for(self, place: int = 0) -> SealingKeys:
        """The sealing keys that an intake would use: the order key and the unused batch key at ``place``."""
        roll = self.keystore.order_entries(self.node, self.now)
        batch = self.keystore.ring.unused(self.node)[place]
        return SealingKeys.of(bytes.fromhex(roll[-1].public_key), bytes.fromhex(batch.public_key))

    def seal(
        self,
        number: int,
        *,
        keys: SealingKeys | None = None,
        order: Order | None = None,
        card: Card | None = None,
    ) -> Envelope:
        """Seal the order of this number as intake does."""
        return seal_order(
            order or an_order(number),
            card or a_card(),
            order_id=order_id(key_text(number)),
            nonce=basket_nonce(key_text(number)),
            keys=keys or self.keys_for(),
            now=self.now,
        )

    def bundle(
        self,
        envelopes: Sequence[Envelope | bytes],
        *,
        batch_key_id: bytes | None = None,
        newest_return: SignedText | None = None,
        **changes: object,
    ) -> Path:
        """Sign and drop a bundle of these envelopes, next in the node's chain; ``changes`` falsify the manifest."""
        self.sequence += 1
        frames = [frame(item if isinstance(item, bytes) else encode_envelope(item)) for item in envelopes]
        body = b"".join(frames)
        key_id = batch_key_id or self.keys_for().batch_key_id
        manifest = BundleManifest(
            node=self.node,
            sequence=self.sequence,
            prev=self.previous,
            batch_key=key_id.hex() if envelopes else None,
            count=len(envelopes),
            envelopes_sha256=hashlib.sha256(body).hexdigest(),
            envelopes_size=len(body),
            time=self.now,
            newest_return=newest_return,
        )
        return self.drop(replace(manifest, **changes), body)

    def drop(self, manifest: BundleManifest, body: bytes, *, signer: SigningKey | None = None) -> Path:
        """Write a bundle's directory into the drop; the next bundle of this shop will follow it."""
        raw = encode_manifest(manifest)
        self.previous = bundle_manifest_digest(raw)
        unit = self.drop_in / self.node / bundle_name(manifest.sequence)
        unit.mkdir(parents=True, exist_ok=True)
        (unit / ENVELOPES_NAME).write_bytes(body)
        (unit / MANIFEST_NAME).write_bytes(raw)
        (unit / SIGNATURE_NAME).write_text(sign_file(signer or self.node_key, raw, BUNDLE_COMMENT))
        return unit

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The open ledger."""
        (self.root / "state").mkdir(exist_ok=True)
        ledger = Ledger(self.root / "state" / "ledger.db", mirror=self.mirror)
        try:
            yield ledger
        finally:
            ledger.close()

    def run(self, acquirer: Acquirer | None = None) -> RunReport:
        """One run of the offline processor, with the simulated acquirer unless another is given."""
        self.drop_in.mkdir(exist_ok=True)
        self.drop_out.mkdir(exist_ok=True)
        acquirer = acquirer or SimulatedAcquirer(self.books)
        try:
            with self.ledger() as ledger:
                return run(self.workplace(ledger, acquirer))
        finally:
            acquirer.close()

    def run_later(self, seconds: int = 60) -> RunReport:
        """One more run, some time after the last."""
        self.now += seconds
        return self.run()

    def workplace(self, ledger: Ledger, acquirer: Acquirer) -> Workplace:
        """What a run works with."""
        return Workplace(
            ledger=ledger,
            keystore=self.keystore,
            acquirer=acquirer,
            state=self.root / "state",
            drop_in=self.drop_in,
            drop_out=self.drop_out,
            window=self.window,
            hold_seconds=HOLD_HOURS * HOUR,
            clock=lambda: self.now,
            confirm=self.confirm,
            progress=lambda what, done, total: None,
        )

    def states(self) -> dict[str, tuple[str, str, str]]:
        """Order id to (state, reason, rule)."""
        return {row[0]: row[1:] for row in self.rows("SELECT order_id, state, reason, rule FROM orders")}

    def state(self, number: int) -> tuple[str, str, str]:
        """(state, reason, rule) of the order of this number."""
        return self.states()[id_of(number)]

    def rows(self, query: str, *values: object) -> list[Row]:
        """The rows of a query to the ledger."""
        with self.ledger() as ledger:
            return list(ledger.rows(query, values))

    def charges(self) -> dict[str, int]:
        """Order id to the approvals that stand in the acquirer's books; more than 1 is a double charge."""
        return unreversed_approvals(self.books) if self.books.exists() else {}

    def hold_key_of(self, number: int) -> SealingKey | None:
        """The live hold key under which the card of this order waits."""
        kept = self.rows("SELECT key_id FROM held_card WHERE order_id = ?", id_of(number))
        return self.keystore.ring.hold_key(bytes.fromhex(kept[0][0])) if kept else None

    def newest_return(self) -> Path:
        """The directory of the return in the drop."""
        return max((self.drop_out / self.node).iterdir())

    def records(self) -> list[Record]:
        """The records of the return in the drop."""
        return [
            decode_record(line) for line in (self.newest_return() / RECORDS_NAME).read_bytes().splitlines()
        ]

    def told(self, number: int) -> tuple[str, str] | None:
        """(state, reason) that the return in the drop gives for an order, None when it says nothing of it."""
        wanted = id_of(number)
        for record in self.records():
            if isinstance(record, StatusRecord) and record.order == wanted:
                return record.state.value, record.reason.value
        return None

    def confirmation(self) -> SignedText:
        """What a node puts into its next bundle once it has taken in the return in the drop."""
        unit = self.newest_return()
        return SignedText(
            manifest=(unit / MANIFEST_NAME).read_text(), signature=(unit / SIGNATURE_NAME).read_text()
        )

    def enrol(self, node: str, *, batch_keys: int = 5) -> Shop:
        """A second node of the same offline machine."""
        node_key = generate_signing_key()
        self.keystore.ring.enrol_node(node, node_key.public_key, self.now)
        self.keystore.issue_batch_keys(node, batch_keys, now=self.now)
        return Shop(root=self.root, keystore=self.keystore, node_key=node_key, node=node, now=self.now)

    def reopen(self) -> None:
        """Close the keystore, as the end of a process does, and open it again."""
        self.keystore.close()
        with passphrase() as secret:
            self.keystore = Keystore.open(self.root / "keystore", [secret])


def id_of(number: int) -> str:
    """The order id of this number, hex."""
    return order_id(key_text(number)).hex()


def next_bundle(shop: Shop, *numbers: int, pan: bytes | None = None, **changes: Any) -> Path:
    """Drop a bundle of the orders of these numbers, ``pan`` on each card; ``changes`` are those of ``bundle``."""
    keys = shop.keys_for()
    envelopes = [shop.seal(number, keys=keys, card=a_card(pan) if pan else None) for number in numbers]
    return shop.bundle(envelopes, batch_key_id=keys.batch_key_id, **changes)


def open_shop(
    root: Path,
    *,
    batch_keys: int = 5,
    rehearsal: bool = True,
    now: int = NOW,
    custodians: tuple[int, int] | None = None,
) -> Shop:
    """A new shop whose node is enrolled; with ``custodians`` (M, N) its keystore has a custody."""
    custody, custody_key, shares = split(*custodians) if custodians else (None, None, [])
    with passphrase() as secret:
        keystore = Keystore.create(
            root / "keystore", [secret], rehearsal=rehearsal, now=now - 1000, custody=custody
        )
    node_key = generate_signing_key()
    keystore.ring.enrol_node("shop-a", node_key.public_key, now - 1000)
    keystore.issue_batch_keys("shop-a", batch_keys, now=now - 1000)
    return Shop(
        root=root, keystore=keystore, node_key=node_key, now=now, custody_key=custody_key, shares=shares
    )
