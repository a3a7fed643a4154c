"""Authorise, capture, release, give back, expire, in any order, over a line that loses and refuses: the books judge.

Whatever is wished, however often, and whatever is lost on the way: at the acquirer an order is authorised once at most,
no more is taken than was authorised, no more given back than was taken; and once everything is answered, its books
and our ledger say the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from offline_processor import dispatch
from offline_processor.acquirers.report import parse_report, write_report
from offline_processor.acquirers.simulator.books import Standing, standings
from offline_processor.acquirers.simulator.books import report as simulated_report
from offline_processor.daily import reconcile_day
from offline_processor.errors import ProcessorError
from offline_processor.ledger import operations
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import OperationKind, OperationState
from tests.offline_processor.acquirers import BadLine, LineCutError, cut, silent
from tests.offline_processor.shop import Shop, id_of, next_bundle, open_shop
from tests.offline_processor.simulated import SimulatedAcquirer
from tests.offline_processor.test_dispatch import AMOUNT, DISPATCH, run_with

HOUR, DAY = 3_600, 86_400
CLOCK_AHEAD = 34 * DAY  # a clock that is further ahead of the newest entry needs a person
ORDERS = 2
NAMES = ["sent", "p-1", "p-2"]
FAULTS = [
    "lost-after@capture:1",
    "lost-before@reversal:1",
    "code-91@refund:1",
    "code-13@capture:1",
    "code-12@refund:1",
]
REFUSALS = frozenset(
    {
        "DISPATCH-AMOUNT",
        "DISPATCH-EXPIRED",
        "DISPATCH-NAME",
        "DISPATCH-STATE",
        "CAPTURE-REFUSED",
        "REFUND-AMOUNT",
        "REFUND-NAME",
        "REFUND-REFUSED",
        "VOID-REFUSED",
    }
)
orders = st.integers(0, ORDERS - 1)
amounts = st.none() | st.sampled_from([1, 1_000, AMOUNT - 1, AMOUNT, AMOUNT + 1])


class ChargedOrders(RuleBasedStateMachine):
    """Two authorised orders, and a person and a line that do anything."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.shop: Shop = open_shop(Path(self.folder.name))
        next_bundle(self.shop, *range(ORDERS))
        run_with(self.shop, DISPATCH)
        self.wished = False

    def teardown(self) -> None:
        try:
            self._drain()
            self._books_agree()
        finally:
            self.shop.keystore.close()
            self.folder.cleanup()

    @rule(number=orders, name=st.sampled_from(NAMES), amount=amounts, final=st.booleans())
    def ship(self, number: int, name: str, amount: int | None, final: bool) -> None:
        with self._deciding() as (ledger, charge):
            dispatch.ship(
                ledger,
                charge(number),
                DISPATCH,
                shipment=name,
                amount=amount,
                final=final,
                early=False,
                now=self.shop.now,
            )

    @rule(number=orders)
    def cancel(self, number: int) -> None:
        with self._deciding() as (ledger, charge):
            dispatch.cancel(ledger, charge(number), now=self.shop.now)

    @rule(number=orders, name=st.sampled_from(NAMES), amount=amounts)
    def refund(self, number: int, name: str, amount: int | None) -> None:
        with self._deciding() as (ledger, charge):
            dispatch.refund(
                ledger, charge(number), reference=name, amount=amount, currency="EUR", now=self.shop.now
            )

    @rule(number=orders)
    def send_what_was_refused_again(self, number: int) -> None:
        with self._deciding() as (ledger, charge):
            for item in operations.failed(ledger):
                if item.original.order_id == id_of(number):
                    dispatch.again(ledger, charge(number), item, now=self.shop.now)
                    return

    @rule(fault=st.sampled_from(FAULTS))
    @precondition(lambda self: self.wished)
    def run_with_a_fault(self, fault: str) -> None:
        self._run(SimulatedAcquirer(self.shop.books, faults=[fault]))

    @rule()
    @precondition(lambda self: self.wished)
    def run_with_a_silent_line(self) -> None:
        self._run(BadLine(path=self.shop.books, following=silent, reversing=silent))

    @rule()
    @precondition(lambda self: self.wished)
    def die_while_the_acquirer_has_it(self) -> None:
        with suppress(LineCutError):
            self._run(BadLine(path=self.shop.books, following=cut))

    @rule()
    @precondition(lambda self: self.wished)
    def run(self) -> None:
        self._run(None)

    @rule(days=st.sampled_from([1, 3, 10]))
    def wait(self, days: int) -> None:
        with self.shop.ledger() as ledger:
            longest = (ledger.newest + CLOCK_AHEAD - self.shop.now) // DAY
        self.shop.now += max(0, min(days, longest)) * DAY
        self.wished = True  # an authorisation may have come to its end

    @invariant()
    def nothing_too_much(self) -> None:
        charged: dict[str, int] = {}
        for one in standings(self.shop.books):
            assert one.captured <= one.amount
            assert one.refunded <= one.captured
            if one.reserved:
                assert one.captured <= one.reserved
                charged[one.reference] = charged.get(one.reference, 0) + 1
        assert set(charged.values()) <= {1}

    @contextmanager
    def _deciding(self) -> Iterator[tuple[Ledger, Callable[[int], dispatch.Charge]]]:
        """One wish in one transaction; a refusal by a known rule changes nothing and is well."""
        self.wished = True
        self.shop.now += 60
        try:
            with self.shop.ledger() as ledger, ledger.atomic():
                yield ledger, lambda number: dispatch.find(ledger, id_of(number))
        except ProcessorError as refusal:
            assert refusal.rule in REFUSALS, refusal  # noqa: PT017

    def _run(self, acquirer: SimulatedAcquirer | BadLine | None) -> None:
        self.shop.now += HOUR
        run_with(self.shop, DISPATCH, acquirer)

    def _drain(self) -> None:
        for _ in range(2):
            self._run(None)
        with self.shop.ledger() as ledger:
            assert operations.pending(ledger) == []

    def _books_agree(self) -> None:
        there: dict[str, Standing] = {one.reference: one for one in standings(self.shop.books)}
        with self.shop.ledger() as ledger:
            for number in range(ORDERS):
                charge, one = dispatch.find(ledger, id_of(number)), there[id_of(number)]
                sums = [
                    operations.total(charge.found, kind, OperationState.DONE)
                    for kind in (OperationKind.CAPTURE, OperationKind.REFUND)
                ]
                assert sums == [one.captured, one.refunded]
                assert (charge.authorised is None) == (one.reserved == 0)
            report = parse_report(write_report(simulated_report(self.shop.books)))
            done = reconcile_day(ledger, report, start=0, until=self.shop.now, who="A", now=self.shop.now)
            assert done.findings == []
            assert ledger.verify_chain()
            kept = ledger.rows(
                "SELECT count(vault) FROM live_attempt JOIN orders AS o USING (number) WHERE o.state NOT IN"
                " ('authorised', 'held', 'dispatched')"
            )
            assert list(kept) == [(0,)]


def run_machine(*, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        ChargedOrders,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_books_bound_and_agree_whatever_is_wished_and_lost() -> None:
    run_machine(examples=6, steps=15)
