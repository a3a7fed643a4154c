"""People's rights: a request in a bundle, a copy, an erasure, a restriction; what stands against them; the answer."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.console import ExitCode
from offline_processor import erasure_proof, subjects
from offline_processor.decisions import Said
from offline_processor.exports.people import Wish, select
from offline_processor.exports.purposes import PURPOSES, Purpose
from offline_processor.ledger import erasure, subject_requests
from offline_processor.ledger.erasure import Against
from offline_processor.opening import open_order
from offline_processor.stages import Quarantined, SubjectAsked
from tests.offline_processor.commands import Ran, configure, in_process
from tests.offline_processor.shop import (
    LOST_ANSWER_CARD,
    Shop,
    a_card,
    an_order,
    id_of,
    next_bundle,
    open_shop,
)
from transfer.wire.envelope import Envelope, encode_envelope
from transfer.wire.header import HEADER_SIZE
from transfer.wire.records import SubjectAnswer
from transfer.wire.sealing import seal_request

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
WHO = ("--who", "A. Keeper")
REQUEST = bytes(range(16))


def ask(shop: Shop, kind: str, email: str, *orders: str, request: bytes = REQUEST) -> Envelope:
    """What intake seals of a person's wish."""
    return seal_request(
        kind=kind,
        email=email,
        orders=orders,
        request_id=request,
        order_key=shop.keys_for().order_key,
        now=shop.now,
    )


def carried(shop: Shop, *requests: Envelope) -> None:
    """The requests come in a bundle of their own, which has no batch key."""
    shop.now += 10
    shop.bundle(requests, batch_key=None)
    shop.run()


def answers(shop: Shop) -> list[tuple[str, str]]:
    shop.now += 10
    shop.run()
    return [
        (record.request, record.state.value) for record in shop.records() if isinstance(record, SubjectAnswer)
    ]


def dispatched(shop: Shop, *numbers: int) -> None:
    """The goods of these orders are gone, and with them what stood against an erasure."""
    with shop.ledger() as ledger, ledger.atomic():
        for number in numbers:
            ledger.execute("UPDATE orders SET state = 'dispatched' WHERE order_id = ?", (id_of(number),))


def raw(shop: Shop) -> bytes:
    """Every byte of the ledger's files."""
    places = [shop.root / "state", *([shop.mirror.parent] if shop.mirror else [])]
    return b"".join(path.read_bytes() for place in places for path in place.glob("*.db*"))


@pytest.fixture
def sold(shop: Shop) -> Shop:
    """A shop with three orders of three people, all paid and sent."""
    next_bundle(shop, 0, 1, 2)
    shop.run()
    dispatched(shop, 0, 1, 2)
    return shop


# The request's way


def test_request_in_a_bundle_waits_for_a_person_and_is_answered_in_the_return(sold: Shop) -> None:
    carried(sold, ask(sold, "erase", "ASA1@example.org"))
    with sold.ledger() as ledger:
        (request,) = subject_requests.waiting(ledger)
        found = subjects.of_request(ledger, request)
        assert [order.order_id for order in found.orders] == [id_of(1)]
        assert found.others == []
        done = subjects.erase(
            ledger, found, request=request, undelivered=False, who="A. Keeper", now=sold.now
        )
    assert done.erased == [id_of(1)]
    assert answers(sold) == [(REQUEST.hex(), "done")]
    assert sold.rows("SELECT email, state FROM subject_request") == [("", "done")]


def test_request_among_orders_is_taken_in_too(shop: Shop) -> None:
    keys = shop.keys_for()
    shop.bundle([shop.seal(0), ask(shop, "export", "asa0@example.org")], batch_key_id=keys.batch_key_id)
    report = shop.run()
    assert (report.subjects, report.outcomes["paid"], report.strays) == (1, 1, 0)
    assert shop.rows("SELECT count(*) FROM orders") == [(1,)]


def test_request_that_comes_again_changes_nothing_and_is_answered_again(sold: Shop) -> None:
    wish = ask(sold, "restrict", "asa0@example.org")
    carried(sold, wish, wish)
    with sold.ledger() as ledger:
        (request,) = subject_requests.waiting(ledger)
        subjects.refuse(ledger, request, who="A. Keeper", why="not theirs", now=sold.now)
    assert answers(sold) == [(REQUEST.hex(), "refused")]
    sold.bundle([], newest_return=sold.confirmation())
    assert answers(sold) == []
    carried(sold, wish)
    assert answers(sold) == [(REQUEST.hex(), "refused")]
    assert sold.rows("SELECT count(*) FROM entry WHERE kind = 'subject-asked'") == [(1,)]


def test_flood_of_requests_is_refused_and_those_that_came_first_wait(
    sold: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject_requests, "WAITING_LIMIT", 2)
    wishes = [ask(sold, "erase", "asa1@example.org", request=bytes([number]) * 16) for number in range(4)]
    carried(sold, *wishes)
    assert sold.rows("SELECT count(*) FROM subject_request WHERE state = 'waiting'") == [(2,)]
    assert answers(sold) == [((bytes([number]) * 16).hex(), "refused") for number in (2, 3)]
    assert sold.rows("SELECT email FROM subject_request WHERE state = 'refused'") == [("",), ("",)]


def test_only_orders_of_the_address_are_touched_whatever_ids_are_named(sold: Shop) -> None:
    carried(sold, ask(sold, "erase", "asa1@example.org", id_of(0), id_of(1), "ab" * 16))
    with sold.ledger() as ledger:
        found = subjects.of_request(ledger, subject_requests.find(ledger, REQUEST.hex()))
    assert [order.order_id for order in found.orders] == [id_of(1)]
    assert found.others == sorted([id_of(0), "ab" * 16])


@pytest.fixture(scope="module")
def wish(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, bytes]]:
    shop = open_shop(tmp_path_factory.mktemp("wish"))
    yield shop, encode_envelope(ask(shop, "erase", "asa@example.org", "ab" * 16))
    shop.keystore.close()


def judged(shop: Shop, envelope: bytes) -> SubjectAsked | Quarantined:
    keys = {order.key.key_id: order.key for order in shop.keystore.order_keys}
    found = open_order(envelope, position=0, order_keys=keys, batch_key_id=b"")
    assert isinstance(found, SubjectAsked | Quarantined)
    return found


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_request_of_any_other_bytes_is_put_aside(wish: tuple[Shop, bytes], data: st.DataObject) -> None:
    shop, good = wish
    assert isinstance(judged(shop, good), SubjectAsked)
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= data.draw(st.integers(1, 255))
    assert isinstance(judged(shop, bytes(bad)), Quarantined)
    assert isinstance(judged(shop, good[: data.draw(st.integers(0, len(good) - 1))]), Quarantined)


def test_request_with_a_card_or_a_batch_key_is_none(wish: tuple[Shop, bytes]) -> None:
    shop, good = wish
    with_key = bytearray(good)
    with_key[36:52] = shop.keys_for().batch_key_id
    for bad in (bytes(with_key), good[:-4] + (1).to_bytes(4, "big") + b"x"):
        found = judged(shop, bad)
        assert isinstance(found, Quarantined)
        assert found.rule == "ORDER-KIND"
    assert len(good) > HEADER_SIZE


# The copy


def test_copy_holds_everything_of_this_person_and_nothing_of_another(sold: Shop, tmp_path: Path) -> None:
    with sold.ledger() as ledger:
        found = subjects.of_orders(ledger, [id_of(1)], whole_person=False)
        place = subjects.export(
            ledger, found, tmp_path, name="s", request=None, who="A. Keeper", now=sold.now
        )
    document = json.loads((place / subjects.DATA).read_bytes())
    (order,) = document["orders"]
    assert order["person"]["email"] == "asa1@example.org"
    assert order["person"]["address"]["lines"] == ["Storgatan 1"]
    assert order["items"] == [{"sku": "LP-0001", "quantity": 1, "price": 2499}]
    assert {event["what"] for event in order["history"]} >= {"screened", "intent", "attempt"}
    assert document["kept_for"]
    text = (place / subjects.TEXT).read_text()
    assert "Storgatan 1" in text
    for other in ("asa0@", "asa2@", "Storgatan 0", "A. Keeper"):
        assert other not in text + json.dumps(document)
    assert place.stat().st_mode & 0o077 == 0
    assert sold.rows("SELECT subject FROM entry WHERE kind = 'subject-exported'") == [(id_of(1),)]


def test_copy_names_nobody_who_worked_on_it(sold: Shop, tmp_path: Path) -> None:
    with sold.ledger() as ledger:
        with ledger.atomic():
            said = Said(who="A. Keeper", why="broken", second="B. Witness").as_facts()
            ledger.append("refund", id_of(1), sold.now, {**said, "amount": 5})
        found = subjects.of_orders(ledger, [id_of(1)], whole_person=False)
        place = subjects.export(ledger, found, tmp_path, name="s", request=None, who="C. Clerk", now=sold.now)
    copy = (place / subjects.DATA).read_text() + (place / subjects.TEXT).read_text()
    assert "broken" in copy
    assert [name for name in ("A. Keeper", "B. Witness", "C. Clerk") if name in copy] == []


def test_copy_never_rides_the_status_channel(sold: Shop, tmp_path: Path) -> None:
    carried(sold, ask(sold, "export", "asa1@example.org"))
    with sold.ledger() as ledger:
        request = subject_requests.find(ledger, REQUEST.hex())
        found = subjects.of_request(ledger, request)
        subjects.export(ledger, found, tmp_path, name="s", request=request, who="A. Keeper", now=sold.now)
    assert answers(sold) == [(REQUEST.hex(), "done")]
    unit = sold.newest_return()
    assert b"asa1" not in b"".join(path.read_bytes() for path in unit.iterdir())


# The erasure


def test_erased_person_is_nowhere_in_ledger_log_and_mirror(sold: Shop, tmp_path: Path) -> None:
    sold.mirror = tmp_path / "second" / "mirror.db"
    sold.mirror.parent.mkdir()
    with sold.ledger():
        pass  # the mirror is begun
    person = [b"asa1@example.org", b"Storgatan 1"]
    assert all(word in raw(sold) for word in person), "the positive control"
    with sold.ledger() as ledger:
        before = ledger.verify_chain()
        found = subjects.of_orders(ledger, [id_of(1)], whole_person=False)
        traces = erasure_proof.look_for(ledger, [found.orders[0].number])
        assert traces.found >= 4
        subjects.erase(ledger, found, request=None, undelivered=False, who="A. Keeper", now=sold.now)
        proof = erasure_proof.search_again(ledger, traces)
        assert proof.holds, proof
        assert any(file.endswith("mirror.db") for file in proof.files)
        assert not any(word in raw(sold) for word in person), "while it is open, log and all"
        assert ledger.verify_chain() > before
    assert not any(word in raw(sold) for word in person)
    assert b"asa0@example.org" in raw(sold)
    with sold.ledger() as ledger:
        found = subjects.of_orders(ledger, [id_of(1)], whole_person=False)
        again = subjects.erase(ledger, found, request=None, undelivered=False, who="A", now=sold.now)
    assert again.gone_before == [id_of(1)]


def test_search_that_finds_what_should_be_gone_says_so(sold: Shop) -> None:
    with sold.ledger() as ledger:
        traces = erasure_proof.look_for(ledger, [2])
        assert not erasure_proof.search_again(ledger, traces).holds


def test_words_that_another_order_still_needs_are_not_searched(shop: Shop) -> None:
    order = shop.seal(0)
    shop.bundle([order, shop.seal(1)])
    shop.run()
    with shop.ledger() as ledger, ledger.atomic():
        ledger.execute(
            "UPDATE person SET person = (SELECT person FROM person WHERE number = 1) WHERE number = 2"
        )
    dispatched(shop, 0, 1)
    with shop.ledger() as ledger:
        traces = erasure_proof.look_for(ledger, [1])
        assert traces.words == ()
        assert len(traces.salts) == 1
        found = subjects.of_orders(ledger, [id_of(0)], whole_person=False)
        subjects.erase(ledger, found, request=None, undelivered=False, who="A", now=shop.now)
        assert erasure_proof.search_again(ledger, traces).holds


def test_open_charge_owed_goods_and_legal_hold_stand_against_erasure(shop: Shop) -> None:
    shop.bundle([shop.seal(0), shop.seal(1, card=a_card(LOST_ANSWER_CARD)), shop.seal(2)])
    shop.run()
    dispatched(shop, 2)
    boxes = shop.rows("SELECT count(*) FROM live_attempt WHERE vault IS NOT NULL")
    with shop.ledger() as ledger:
        with ledger.atomic():
            erasure.add_hold(ledger, [(3, id_of(2))], who="A", why="dispute", now=shop.now)
        found = subjects.of_orders(ledger, [id_of(0), id_of(1), id_of(2)], whole_person=False)
        done = subjects.erase(ledger, found, request=None, undelivered=False, who="A", now=shop.now)
    assert done.waiting == {
        id_of(0): Against.GOODS_OWED,
        id_of(1): Against.OPEN_CHARGE,
        id_of(2): Against.LEGAL_HOLD,
    }
    assert shop.rows("SELECT count(*) FROM person") == [(3,)]
    assert shop.rows("SELECT count(*) FROM live_attempt WHERE vault IS NOT NULL") == boxes == [(1,)]
    with shop.ledger() as ledger:
        found = subjects.of_orders(ledger, [id_of(0), id_of(1), id_of(2)], whole_person=False)
        done = subjects.erase(ledger, found, request=None, undelivered=True, who="A", now=shop.now)
    assert done.erased == [id_of(0)]


def test_legal_hold_is_kept_by_the_database_itself(sold: Shop) -> None:
    with sold.ledger() as ledger:
        with ledger.atomic():
            erasure.add_hold(ledger, [(2, id_of(1))], who="A", why="court", now=sold.now)
        with pytest.raises(sqlite3.IntegrityError, match="legal hold"), ledger.atomic():
            erasure.erase(ledger, 2, id_of(1), who="A", why="bug", now=sold.now)
        with ledger.atomic():
            assert erasure.remove_hold(ledger, [(2, id_of(1))], who="A", why="over", now=sold.now) == 1
        with ledger.atomic():
            assert erasure.erase(ledger, 2, id_of(1), who="A", why="asked", now=sold.now)


@pytest.mark.parametrize("point", ["before-commit", "after-commit"])
def test_crash_in_the_middle_of_an_erasure_leaves_all_or_nothing(sold: Shop, point: str) -> None:
    ledger_path = sold.root / "state" / "ledger.db"
    code = f"""
import os, signal
from pathlib import Path
from offline_processor.ledger import erasure
from offline_processor.ledger.ledger import Ledger
ledger = Ledger(Path({str(ledger_path)!r}))
with ledger.atomic():
    for number, order in ((1, {id_of(0)!r}), (2, {id_of(1)!r})):
        erasure.erase(ledger, number, order, who="A", why="asked", now={sold.now})
    if {point!r} == "before-commit":
        os.kill(os.getpid(), signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)
    assert died.returncode == -signal.SIGKILL
    with sold.ledger() as ledger:  # opening and closing it ends what the crash left
        entries = ledger.verify_chain()
        assert entries
    left = {
        word: word in raw(sold) for word in (b"asa0@example.org", b"asa1@example.org", b"asa2@example.org")
    }
    kept = point == "before-commit"
    assert left == {b"asa0@example.org": kept, b"asa1@example.org": kept, b"asa2@example.org": True}
    assert sold.rows("SELECT count(*) FROM entry WHERE kind = 'erased'") == [(0 if kept else 2,)]


# The restriction


def test_restricted_person_is_in_no_export_of_orders_now_and_to_come(sold: Shop) -> None:
    with sold.ledger() as ledger:
        found = subjects.of_orders(ledger, [id_of(1)], whole_person=False)
        assert (
            subjects.set_restriction(ledger, found, request=None, take_back=False, who="A", now=sold.now) == 1
        )
        for purpose in Purpose:
            people = select(ledger, PURPOSES[purpose], Wish(orders=(id_of(1),)), now=sold.now).people
            assert people == []
        assert (
            subjects.set_restriction(ledger, found, request=None, take_back=True, who="A", now=sold.now) == 1
        )
        people = select(ledger, PURPOSES[Purpose.FEEDBACK], Wish(), now=sold.now).people
    assert {person.email for person in people} == {f"asa{number}@example.org" for number in range(3)}


def test_restriction_that_was_asked_for_outlives_the_erasure(sold: Shop) -> None:
    carried(sold, ask(sold, "restrict", "Asa1@Example.org"))
    with sold.ledger() as ledger:
        request = subject_requests.find(ledger, REQUEST.hex())
        found = subjects.of_request(ledger, request)
        subjects.set_restriction(ledger, found, request=request, take_back=False, who="A", now=sold.now)
        subjects.erase(ledger, found, request=None, undelivered=False, who="A", now=sold.now)
    sold.now += 10
    keys = sold.keys_for()
    sold.bundle(
        [sold.seal(9, keys=keys, order=an_order(1))], batch_key_id=keys.batch_key_id
    )  # the same person
    sold.run()
    dispatched(sold, 9)
    with sold.ledger() as ledger:
        people = select(ledger, PURPOSES[Purpose.FEEDBACK], Wish(), now=sold.now).people
    assert id_of(9) not in {person.order_id for person in people}
    assert len(people) == 2


# The commands


@pytest.fixture
def today(tmp_path: Path) -> Iterator[Shop]:
    made = open_shop(tmp_path / "today", now=int(time.time()) - 100)
    next_bundle(made, 0, 1)
    made.run()
    dispatched(made, 0, 1)
    carried(
        made,
        ask(made, "erase", "asa1@example.org", id_of(0)),
        ask(made, "export", "asa0@example.org", request=b"e" * 16),
    )
    yield made
    made.keystore.close()


def test_person_at_the_machine_settles_requests_by_the_commands(today: Shop, tmp_path: Path) -> None:
    config = configure(today)

    def run(*arguments: str) -> Ran:
        return in_process(config, "subject", *arguments)

    listed = run("list", "--json").document
    assert {request["kind"] for request in listed["requests"]} == {"erase", "export"}
    assert "asa" not in json.dumps(listed)
    erase = ("erase", "--request", REQUEST.hex(), *WHO)
    unconfirmed = run(*erase, "--json")
    assert (unconfirmed.code, unconfirmed.document["rule"]) == (
        ExitCode.USAGE,
        "USAGE-CONFIRM",
    )
    wrong = run(*erase, "--confirm", "2 orders", "--json")
    assert wrong.document["rule"] == "SUBJECT-CONFIRM"
    done = run(*erase, "--confirm", "0 orders", "--json")  # the order that was named is another person's
    assert done.document["not_theirs"] == [id_of(0)]
    other = run("erase", "--request", (b"e" * 16).hex(), *WHO, "--json")
    assert other.document["rule"] == "SUBJECT-KIND"
    out = ("--out", str(tmp_path), "--request", (b"e" * 16).hex(), *WHO, "--confirm", "1 order")
    written = run("export", *out)
    assert written.code == ExitCode.DONE, written.err
    assert "asa0" not in written.out + written.err
    assert "asa0@example.org" in (tmp_path / f"subject-{(b'e' * 16).hex()[:12]}" / "data.txt").read_text()
    local = run("erase", id_of(1), *WHO, "--confirm", "1 order", "--json")
    assert local.document["proof"]["holds"], local.out
    assert run("erase", "ab" * 16, *WHO, "--json").document["rule"] == "ORDER-UNKNOWN"
    assert run("erase", *WHO, "--json").document["rule"] == "USAGE-SUBJECT"
    assert run("refuse", "ab" * 16, *WHO, "--why", "x", "--json").document["rule"] == "SUBJECT-UNKNOWN"
    today.now = int(time.time()) + 10
    today.reopen()
    assert sorted(answers(today)) == [(REQUEST.hex(), "done"), ((b"e" * 16).hex(), "done")]
    ended = today.rows("SELECT subject FROM entry WHERE kind = 'command-ended' ORDER BY id")
    assert [name for (name,) in ended].count("subject erase") == 7
    assert ended[-1] == ("subject refuse",)
