"""The persons of the vectors: keys from fixed seeds, and one order that most vectors vary.

Why here: the same cast in every file makes a failing vector readable.
Must not: be used for anything but vectors; these private keys are printed in them.
"""

from __future__ import annotations

import hashlib

from nacl.public import PrivateKey

from keys.entries import sign_entry
from keys.private.sign import SigningKey, signing_key
from keys.public.roll import KeyEntry, KeyRoll, Role
from transfer.wire.basket import basket_digest
from transfer.wire.card import Card
from transfer.wire.header import Header
from transfer.wire.ids import basket_nonce, order_id
from transfer.wire.order import Customer, Delivery, Item, Order, Total
from transfer.wire.sealing import SealingKeys

NOW = 1_800_000_000
NODE = "shop-a"
KEY_TEXT = "Zm9yIHRlc3RzIG9ubHkhIQ"


def seed(name: str) -> bytes:
    """32 bytes that are named, not random."""
    return hashlib.sha256(b"golden vectors, throwaway key: " + name.encode("ascii")).digest()


def signer(name: str) -> SigningKey:
    return signing_key(memoryview(seed(name)))


OFFLINE, NODE_KEY, STRANGER = signer("offline identity"), signer("node identity"), signer("stranger")
ORDER_KEY, BATCH_KEY, OTHER_KEY = (PrivateKey(seed(name)) for name in ("order key", "batch key", "other key"))
SEALING = SealingKeys.of(bytes(ORDER_KEY.public_key), bytes(BATCH_KEY.public_key))

ORDER = Order(
    items=[Item(sku="LP-0001", quantity=2, price=2499), Item(sku="7IN.B_3", quantity=1, price=0)],
    total=Total(amount=4998, currency="EUR"),
    customer=Customer(name="Žofie Ångström", email="zofie@example.org"),
    delivery=Delivery(
        lines=["Ulice 5", "c/o 東京"], city="Plzeň", region="", postcode="301 00", country="CZ"
    ),
)
CARD = Card(pan=b"4242424242424242", cvv=b"123", expiry_month=12, expiry_year=2031)
NONCE = basket_nonce(KEY_TEXT)
HEADER = Header(
    order_id=order_id(KEY_TEXT),
    order_key_id=SEALING.order_key_id,
    batch_key_id=SEALING.batch_key_id,
    time=NOW,
    basket_digest=basket_digest(nonce=NONCE, items=ORDER.items, total=ORDER.total),
)


def entry(
    role: Role = Role.BATCH, *, number: int = 1, node: str = NODE, epoch: int = 1, by: SigningKey = OFFLINE
) -> KeyEntry:
    """A signed key entry of the cast's order or batch key."""
    return sign_entry(
        by,
        role=role,
        node=node,
        epoch=epoch,
        number=number,
        public_key=SEALING.order_key if role is Role.ORDER else SEALING.batch_key,
        seal_until=NOW + 86_400,
        destroy_at=NOW + 172_800,
    )


def roll(number: int = 1) -> KeyRoll:
    """A key roll with one key of each role."""
    return KeyRoll(
        node=NODE,
        epoch=1,
        number=number,
        prev="00" * 32,
        issued_at=NOW,
        order_keys=[entry(Role.ORDER)],
        batch_keys=[entry()],
    )
