"""Any history of orders, people and a bad line, lost and restored up to twice; the acquirer's books judge the end.

Environment: FAULTS_RESTORES (how many histories), FAULTS_SEED.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from offline_processor import dispatch, reversing
from offline_processor.acquirers.simulator.books import Standing, standings
from offline_processor.capturing import at_dispatch
from offline_processor.config import ChargingConfig
from offline_processor.errors import ProcessorError
from offline_processor.ledger import operations, reports
from offline_processor.ledger.ledger import Ledger
from tests.faults.sweep import at_most, seed
from tests.offline_processor.acquirers import BadLine, LineCutError, silent, unsteady
from tests.offline_processor.disaster import back_up, bring_in_report, lose, rebuild
from tests.offline_processor.shop import (
    DECLINED_CARD,
    HOUR,
    LOST_ANSWER_CARD,
    VISA,
    a_card,
    an_order,
    id_of,
    open_shop,
)
from tests.offline_processor.test_capture_when import LATER_CARD, receive
from tests.offline_processor.test_dispatch import run_with

pytestmark = pytest.mark.faults

_CARDS = (VISA, VISA, VISA, b"5555555555554444", DECLINED_CARD, LOST_ANSWER_CARD, LATER_CARD)
_HOURS = (1, 3, 20, 24, 48, 24 * 5, 24 * 9)
_PARTS = (500, 1_000)


class History:
    """One shop from its first bundle to the day when nothing is open any more."""

    def __init__(self, root: Path, number: int) -> None:
        self.chance = chance = random.Random(number)
        self.shop = open_shop(root, custodians=(2, 3), batch_keys=12)
        today = datetime.fromtimestamp(self.shop.now, UTC).date()
        ahead = [place for place in range(40) if chance.random() < 0.35]
        self.charging = ChargingConfig(
            capture=chance.choice(["sale", "dispatch"]),
            preorders={
                an_order(place).items[0].sku: today + timedelta(days=chance.choice([3, 12, 20]))
                for place in ahead
            },
            retry_declines=chance.choice([0, 2]),
            reversal_tries=2,
            reversal_days=1,
        )
        self.orders = 0
        self.backups = [back_up(self.shop).path]

    def play(self) -> None:
        losses = self.chance.randrange(3)
        for lost in range(losses + 1):
            for day in range(4):
                self._day(comes=lost == 0 or day == 0)
                if self.chance.random() < 0.4:
                    self.backups.append(back_up(self.shop, f"{lost}-{day}.sealed").path)
            if lost < losses:
                self._lose_and_restore(epoch_above=lost and self.shop.keystore.epoch + lost + 1)
        for _ in range(6):
            self.shop.now += 26 * HOUR
            run_with(self.shop, self.charging)

    def _day(self, *, comes: bool) -> None:
        shop, chance = self.shop, self.chance
        if comes:
            keys, count = shop.keys_for(), chance.randrange(1, 5)
            numbers = range(self.orders, self.orders + count)
            sealed = [shop.seal(number, keys=keys, card=a_card(chance.choice(_CARDS))) for number in numbers]
            shop.bundle(sealed, batch_key_id=keys.batch_key_id)
            self.orders += count
        if chance.random() < 0.4:
            receive(shop, self.charging)
        self._say(chance.randrange(5))
        with suppress(LineCutError):
            run_with(shop, self.charging, self._line())
        self._say(chance.randrange(4))
        shop.now += chance.choice(_HOURS) * HOUR

    def _line(self) -> BadLine:
        chance, books = self.chance, self.shop.books
        match chance.choice(["unsteady", "straight", "nothing follows", "nothing is reversed"]):
            case "unsteady":
                one, two, three = (unsteady(chance.randrange(10**9)) for _ in range(3))
                return BadLine(path=books, authorising=one, reversing=two, following=three)
            case "straight":
                return BadLine(path=books)
            case "nothing follows":
                return BadLine(path=books, following=silent)
            case _:
                return BadLine(path=books, reversing=silent)

    def _lose_and_restore(self, *, epoch_above: int) -> None:
        shop = self.shop
        lose(shop)
        shop.now += HOUR
        rebuild(shop, self.chance.choice(self.backups), epoch_above=epoch_above)
        bring_in_report(shop, capture=self.charging.capture)
        run_with(shop, self.charging)

    def _say(self, times: int) -> None:
        """What people wish; what may not be is refused."""
        for _ in range(times):
            with suppress(ProcessorError), self.shop.ledger() as ledger, ledger.atomic():
                self._wish(ledger, id_of(self.chance.randrange(self.orders)))

    def _wish(self, ledger: Ledger, order_id: str) -> None:
        chance, now = self.chance, self.shop.now
        charge = dispatch.find(ledger, order_id)
        match chance.choice(["ship", "ship", "part", "cancel", "refund", "when", "again", "settle"]):
            case "ship":
                self._ship(ledger, charge, amount=None, final=True)
            case "part":
                self._ship(ledger, charge, amount=chance.choice(_PARTS), final=chance.random() < 0.3)
            case "cancel":
                dispatch.cancel(ledger, charge, now=now)
            case "refund":
                amount, name = chance.choice([None, 300]), f"back {chance.randrange(99)}"
                dispatch.refund(ledger, charge, reference=name, amount=amount, currency=None, now=now)
            case "when":
                dispatch.capture_when(ledger, charge, chance.choice(["sale", "dispatch"]), now=now)
            case "again":
                for item in operations.failed(ledger):
                    if item.original.order_id == order_id:
                        dispatch.again(ledger, charge, item, now=now)
                        return
            case _:
                reversing.settle_manual(
                    ledger,
                    order_id,
                    found=reversing.Found(stands=any(one.reserved for one in self._booked(order_id))),
                    at_dispatch=at_dispatch(charge, self.charging.capture),
                    said={},
                    now=now,
                )

    def _ship(self, ledger: Ledger, charge: dispatch.Charge, *, amount: int | None, final: bool) -> None:
        name = f"parcel {self.chance.randrange(99)}"
        dispatch.ship(
            ledger,
            charge,
            self.charging,
            shipment=name,
            amount=amount,
            final=final,
            early=False,
            now=self.shop.now,
        )

    def _booked(self, order_id: str) -> list[Standing]:
        found: Sequence[Standing] = standings(self.shop.books) if self.shop.books.exists() else []
        return [one for one in found if one.reference == order_id]

    def wrong(self) -> list[str]:
        """What books and ledger say against it."""
        rows, found = self.shop.rows, []
        for order_id, (state, _, rule) in self.shop.states().items():
            booked = self._booked(order_id)
            done = rows(
                "SELECT p.kind, sum(p.amount) FROM operation AS p JOIN orders AS o USING (number)"
                " WHERE o.order_id = ? AND p.state = 'done' GROUP BY p.kind",
                order_id,
            )
            moved: dict[str, int] = dict(done)
            theirs = sum(one.captured for one in booked), sum(one.refunded for one in booked)
            if (moved.get("capture", 0), moved.get("refund", 0)) != theirs:
                found.append(f"{order_id}, {state} {rule}: {moved} here, {theirs} there")
            standing = sum(1 for one in booked if one.reserved)
            if standing > 1 or (standing and state in ("order-again", "declined")):
                found.append(f"{order_id} is {state}, and {standing} authorisations stand")
        kept = rows(
            "SELECT order_id FROM retry JOIN orders USING (number) WHERE orders.state != 'held' UNION ALL"
            " SELECT order_id FROM live_attempt JOIN orders USING (number)"
            " WHERE vault IS NOT NULL AND orders.state NOT IN ('held', 'authorised')"
        )
        found += [f"{order_id}: its card is still there" for (order_id,) in kept]
        with self.shop.ledger() as ledger:
            ledger.verify_chain()
        return found


def _played(folder: Path, number: int) -> list[str]:
    folder.mkdir()
    history = History(folder, number)
    try:
        history.play()
        return history.wrong()
    finally:
        history.shop.keystore.close()


def test_any_history_that_is_lost_and_restored_charges_nobody_twice_and_agrees_with_the_books(
    tmp_path: Path,
) -> None:
    for number in range(at_most("RESTORES", 300)):
        assert _played(tmp_path / str(number), seed() + number) == [], f"history {seed() + number}"


def test_same_histories_find_an_authorisation_that_a_restore_does_not_know_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "supersedes", lambda *_: False)
    found = (_played(tmp_path / str(number), seed() + number) for number in range(150))
    assert any("authorisations stand" in fault for faults in found for fault in faults)
