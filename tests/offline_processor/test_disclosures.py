"""The disclosure log and the wishes of people: what is recorded of an export, and when nobody may be named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from offline_processor.ledger import disclosures, restrictions
from offline_processor.ledger.disclosures import Disclosed, Export, ExportState
from offline_processor.ledger.restrictions import ALL, Restrictions
from tests.offline_processor.shop import NOW, Shop, id_of, next_bundle

if TYPE_CHECKING:
    from offline_processor.ledger.ledger import Ledger


def an_export(number: int) -> Export:
    return Export(
        id=number,
        purpose="carrier",
        recipient="royal-mail",
        format="csv",
        fields=("name", "address"),
        ground="contract",
        at=NOW,
        who="A. Keeper",
        name="carrier-1.csv",
        sha256="00" * 32,
    )


def disclose(ledger: Ledger, *numbers: int, reference: str = "") -> Export:
    with ledger.atomic():
        export = an_export(disclosures.next_export(ledger))
        some = [
            Disclosed(number=number, order_id=id_of(number - 1), reference=reference) for number in numbers
        ]
        disclosures.record(ledger, export, some)
    return export


def test_disclosure_says_whose_data_went_where_and_is_chained(shop: Shop) -> None:
    next_bundle(shop, 0, 1, 2)
    shop.run()
    with shop.ledger() as ledger:
        export = disclose(ledger, 1, 3)
        with ledger.atomic():
            disclosures.release(ledger, export.id, now=NOW + 1)
        assert [one.number for one in disclosures.orders_in(ledger, export.id)] == [1, 3]
        assert [(one.recipient, one.state) for one, _ in disclosures.of_order(ledger, 3)] == [
            ("royal-mail", ExportState.RELEASED)
        ]
        assert disclosures.of_order(ledger, 2) == []
        said = list(
            ledger.rows("SELECT kind, subject FROM entry WHERE at >= ? ORDER BY id DESC LIMIT 4", (NOW,))
        )
        assert said[::-1] == [
            ("export", "1"),
            ("disclosed", id_of(0)),
            ("disclosed", id_of(2)),
            ("export-released", "1"),
        ]
        ledger.verify_chain()


def test_export_that_never_came_out_is_known_as_such(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    with shop.ledger() as ledger:
        export = disclose(ledger, 1)
        assert [one.id for one in disclosures.unfinished(ledger)] == [export.id]
        with ledger.atomic():
            disclosures.withdraw(ledger, export.id, now=NOW)
            disclosures.release(ledger, export.id, now=NOW)  # what is withdrawn stays so
        assert disclosures.unfinished(ledger) == []
        assert disclosures.exports(ledger)[0].state is ExportState.WITHDRAWN


def test_forgotten_reference_leads_to_nobody(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    with shop.ledger() as ledger:
        disclose(ledger, 1, reference="r4nd0m")
        with ledger.atomic():
            disclosures.forget_references(ledger, 1)
        assert [reference for _, reference in disclosures.of_order(ledger, 1)] == [""]
    assert b"r4nd0m" not in (shop.root / "state" / "ledger.db").read_bytes()


@pytest.mark.parametrize("written", ["asa@example.org", "ASA@Example.ORG ", "\uff41sa@example.org"])
def test_wish_is_found_however_the_address_is_written(shop: Shop, written: str) -> None:
    with shop.ledger() as ledger:
        with ledger.atomic():
            assert restrictions.restrict(ledger, "asa@example.org", "feedback", who="A", now=NOW)
            assert not restrictions.restrict(ledger, written, "feedback", who="A", now=NOW)
        found = Restrictions(ledger)
        assert found.of(written) == {"feedback"}
        assert found.of("bo@example.org") == frozenset()


def test_wish_that_is_taken_back_no_longer_stands(shop: Shop) -> None:
    with shop.ledger() as ledger:
        with ledger.atomic():
            assert not restrictions.lift(ledger, "asa@example.org", ALL, who="A", now=NOW)
            restrictions.restrict(ledger, "asa@example.org", ALL, who="A", now=NOW)
            restrictions.restrict(ledger, "asa@example.org", "feedback", who="A", now=NOW)
        with ledger.atomic():
            assert restrictions.lift(ledger, "asa@example.org", ALL, who="A", now=NOW)
        assert Restrictions(ledger).of("asa@example.org") == {"feedback"}


def test_wish_holds_no_address(shop: Shop) -> None:
    with shop.ledger() as ledger, ledger.atomic():
        restrictions.restrict(ledger, "asa@example.org", ALL, who="A", now=NOW)
    assert b"example.org" not in (shop.root / "state" / "ledger.db").read_bytes()
