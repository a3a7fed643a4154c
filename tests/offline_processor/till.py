"""A ledger of screened orders and a till before an acquirer, without bundles: a window of them can be charged at once.

Why here: the tests of a window on its way and the bench of the charging need nothing else of a run.
Must not: stand in for the charging, the ledger, the cards or the acquirer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from keys.private.locked import LockedBuffer
from keys.private.secretbox import KEY_SIZE
from keys.private.unseal import SealingKey, generate_sealing_key
from keys.public.seal import seal
from offline_processor.acquirers.protocol import Acquirer
from offline_processor.attempts import OpenedWindow, ReadyOrder, Till
from offline_processor.cards import CardTable
from offline_processor.config import ChargingConfig
from offline_processor.ledger import bundles, orders
from offline_processor.ledger.bundles import BundleState
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.staging import stage
from offline_processor.stages import ScreenedOrder
from tests.offline_processor.shop import an_order
from transfer.wire.card import Card, encode_card
from transfer.wire.ids import OrderId
from transfer.wire.order import OrderCompartment
from transfer.wire.records import Outcome

NODE = "shop-a"
_BUNDLE = (
    "INSERT INTO bundle (node, sequence, manifest, batch_key, orders, state, outcome, screened_to, confirmed,"
    " accepted_at, settled_at, told) VALUES (?, 1, '', NULL, ?, ?, ?, ?, '', 0, 0, 0)"
)


@dataclass(kw_only=True)
class AtTheTill:
    """``window`` gives the next orders that wait, their cards open."""

    till: Till
    cards: CardTable
    key: SealingKey
    box: bytes
    after: int = -1

    @property
    def ledger(self) -> Ledger:
        return self.till.ledger

    def window(self) -> OpenedWindow:
        found = orders.waiting(
            self.ledger, node=NODE, sequence=1, again=False, after=self.after, limit=self.cards.size
        )
        self.after = found[-1].position if found else self.after
        ready = []
        for slot, order in enumerate(found):
            card = self.cards.open(slot, self.box, self.key)
            if isinstance(card, str):
                raise TypeError(card)
            ready.append(ReadyOrder(order=order, slot=slot, card=card))
        return OpenedWindow(orders=found, ready=ready, decided=[], cards=self.cards)

    def cards_are_wiped(self) -> bool:
        return not any(self.cards._slots.view)


@contextmanager
def at_the_till(
    folder: Path, acquirer: Acquirer, *, count: int, window: int, now: int
) -> Iterator[AtTheTill]:
    """With ``count`` orders that wait, ``window`` at a time, all paid with one card."""
    given = Card(pan=b"4242424242424242", cvv=b"737", expiry_month=12, expiry_year=2031)
    raw = encode_card(
        given, header_digest=bytes(32), order_box_digest=bytes(32), amount=2_499, currency="EUR"
    )
    with (
        closing(Ledger(folder / "ledger.db")) as ledger,
        CardTable(window) as cards,
        LockedBuffer(KEY_SIZE) as vault_key,
        closing(generate_sealing_key()) as key,
    ):
        till = Till(ledger=ledger, acquirer=acquirer, vault_key=vault_key, epoch=1, charging=ChargingConfig())
        with ledger.atomic():
            bundles.save_chain(ledger, bundles.NodeChain(node=NODE))
            ledger.execute(_BUNDLE, (NODE, count, BundleState.SCREENED.value, Outcome.PROCESSED.value, count))
            stage(ledger, [_screened(number) for number in range(count)], node=NODE, sequence=1, now=now)
        yield AtTheTill(till=till, cards=cards, key=key, box=seal(bytes(raw), key.public_key))


def _screened(number: int) -> ScreenedOrder:
    order = an_order(number)
    compartment = OrderCompartment(
        header="00" * 32,
        nonce="00" * 32,
        items=order.items,
        total=order.total,
        customer=order.customer,
        delivery=order.delivery,
    )
    return ScreenedOrder(
        position=number,
        order_id=OrderId(f"{number:032x}"),
        basket_digest=bytes(32),
        amount=order.total.amount,
        currency=order.total.currency,
        compartment=compartment,
    )
