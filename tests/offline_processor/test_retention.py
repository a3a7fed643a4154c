"""The retention schedule on the offline side: what is over goes, what is open, owed or held stays, and it is proved."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.console import ExitCode
from offline_processor import backup, duties, retention, subjects
from offline_processor.config import ChargingConfig
from offline_processor.ledger import erasure, subject_requests
from offline_processor.ledger.disclosures import Disclosed, Export, record
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.snapshot import wipe_snapshot
from offline_processor.ledger.subject_requests import Request
from offline_processor.sequences import set_sequence
from tests.offline_processor.commands import Ran, configure, in_process, processor
from tests.offline_processor.disaster import back_up, bring_in_report, lose, rebuild
from tests.offline_processor.people import four_people
from tests.offline_processor.shop import (
    DECLINED_CARD,
    LOST_ANSWER_CARD,
    Shop,
    a_card,
    id_of,
    next_bundle,
    open_shop,
)
from tests.offline_processor.test_subjects import REQUEST, ask, carried, dispatched, raw
from transfer.retention import RULES, SCHEDULE, Kept

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DAY = 86_400
SECOND = bytes(range(16, 32))
SOLD, UNSOLD = RULES[Kept.PERSON].seconds, RULES[Kept.PERSON_UNSOLD].seconds


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Orders sent (0), declined (1), without an answer (2), paid and not sent (3)."""
    made = open_shop(tmp_path)
    cards = [a_card(), a_card(DECLINED_CARD), a_card(LOST_ANSWER_CARD), a_card()]
    made.bundle([made.seal(number, card=card) for number, card in enumerate(cards)])
    made.run()
    dispatched(made, 0)
    yield made
    made.keystore.close()


def people(shop: Shop) -> list[int]:
    return [number - 1 for (number,) in shop.rows("SELECT number FROM person ORDER BY number")]


def run(shop: Shop, after: int, *, dry: bool = False) -> retention.Report:
    with shop.ledger() as ledger:
        return retention.run(ledger, who="A. Keeper", now=shop.now + after, dry=dry)


def test_nothing_goes_before_its_time(shop: Shop) -> None:
    report = run(shop, UNSOLD - 1)
    assert (people(shop), report.anything(), report.proof) == ([0, 1, 2, 3], False, None)


def test_each_kind_goes_at_its_time_and_what_is_open_stays(shop: Shop) -> None:
    report = run(shop, UNSOLD)
    assert people(shop) == [0, 2, 3]
    assert report.proof is not None
    assert report.proof.holds
    report = run(shop, SOLD)
    assert people(shop) == [2]
    assert b"asa0@example.org" not in raw(shop)
    assert b"asa2@example.org" in raw(shop)
    assert dict(report.erased) == {"person": 2, "disclosure": 0}
    with shop.ledger() as ledger:
        ledger.verify_chain()
    assert shop.rows("SELECT count(*) FROM entry WHERE kind = 'retention'") == [(2,)]


def test_dry_run_changes_no_byte(shop: Shop) -> None:
    before = raw(shop)
    report = run(shop, SOLD, dry=True)
    assert report.erased["person"] == 3
    assert raw(shop) == before


def test_legal_hold_outlasts_every_time(shop: Shop) -> None:
    with shop.ledger() as ledger, ledger.atomic():
        erasure.add_hold(ledger, [(1, id_of(0))], who="A", why="court", now=shop.now)
    report = run(shop, SOLD)
    assert people(shop) == [0, 2]
    assert report.kept["legal-hold"] == 1
    with shop.ledger() as ledger, ledger.atomic():
        erasure.remove_hold(ledger, [(1, id_of(0))], who="A", why="over", now=shop.now + SOLD)
    run(shop, SOLD)
    assert people(shop) == [2]


def test_erasure_that_had_to_wait_is_done_when_nothing_stands_against_it(shop: Shop) -> None:
    carried(shop, ask(shop, "erase", "asa3@example.org"))
    with shop.ledger() as ledger:
        request = subject_requests.find(ledger, REQUEST.hex())
        found = subjects.of_request(ledger, request)
        done = subjects.erase(ledger, found, request=request, undelivered=False, who="A", now=shop.now)
    assert list(done.waiting) == [id_of(3)]
    run(shop, 1)
    assert people(shop) == [0, 1, 2, 3]
    dispatched(shop, 3)
    assert run(shop, 2).requests == 1
    assert people(shop) == [0, 1, 2]
    assert shop.rows("SELECT state, email FROM subject_request") == [("done", "")]
    assert b"asa3@example.org" not in raw(shop)


def test_who_asked_for_erasure_is_kept_no_longer_than_who_did_not(shop: Shop) -> None:
    with shop.ledger() as ledger:
        found = subjects.of_orders(ledger, [id_of(3)], whole_person=False)
        done = subjects.erase(ledger, found, request=None, undelivered=False, who="A", now=shop.now)
    assert list(done.waiting) == [id_of(3)]  # paid, and its goods are never marked as sent
    run(shop, SOLD - 1)
    assert 3 in people(shop)
    run(shop, SOLD)
    assert 3 not in people(shop)


def two_ask_for_one_order(shop: Shop) -> list[Request]:
    """Two requests of one person, both of which have to wait for the goods of order 3."""
    carried(shop, *(ask(shop, "erase", "asa3@example.org", request=one) for one in (REQUEST, SECOND)))
    with shop.ledger() as ledger:
        both = [subject_requests.find(ledger, one.hex()) for one in (REQUEST, SECOND)]
        for request in both:
            found = subjects.of_request(ledger, request)
            subjects.erase(ledger, found, request=request, undelivered=False, who="A", now=shop.now)
    return both


def states(shop: Shop) -> dict[str, str]:
    return dict(shop.rows("SELECT request, state FROM subject_request"))


def test_first_of_two_requests_is_not_answered_while_the_data_is_there(shop: Shop) -> None:
    two_ask_for_one_order(shop)
    assert run(shop, 1).requests == 0
    assert set(states(shop).values()) == {"waiting"}
    dispatched(shop, 3)
    assert run(shop, 2).requests == 2
    assert set(states(shop).values()) == {"done"}
    assert b"asa3@example.org" not in raw(shop)


@pytest.mark.parametrize("refused", [0, 1])
def test_refusal_of_one_of_two_requests_leaves_the_other_its_erasure(shop: Shop, refused: int) -> None:
    both = two_ask_for_one_order(shop)
    with shop.ledger() as ledger:
        subjects.refuse(ledger, both[refused], who="A", why="sent twice", now=shop.now)
    assert run(shop, 1).requests == 0
    dispatched(shop, 3)
    assert run(shop, 2).requests == 1
    assert 3 not in people(shop)
    assert states(shop) == {both[refused].request: "refused", both[1 - refused].request: "done"}


def test_refusal_leaves_an_erasure_that_was_asked_for_by_letter(shop: Shop) -> None:
    with shop.ledger() as ledger:
        found = subjects.of_orders(ledger, [id_of(3)], whole_person=False)
        subjects.erase(ledger, found, request=None, undelivered=False, who="A", now=shop.now)
    for request in two_ask_for_one_order(shop):
        with shop.ledger() as ledger:
            subjects.refuse(ledger, request, who="A", why="by letter", now=shop.now)
    with shop.ledger() as ledger:
        assert [wish.request for wish in erasure.wishes(ledger)] == [""]


def test_window_that_died_is_done_by_the_next_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "WINDOW", 1)
    with shop.ledger() as ledger, monkeypatch.context() as patch:
        done: list[int] = []
        erase = erasure.erase

        def dies(*given: Any, **more: Any) -> bool:
            if done:
                raise KeyboardInterrupt
            done.append(1)
            return erase(*given, **more)

        patch.setattr(erasure, "erase", dies)
        with pytest.raises(KeyboardInterrupt):
            retention.run(ledger, who="A", now=shop.now + SOLD, dry=False)
    assert len(people(shop)) == 3
    run(shop, SOLD)
    assert people(shop) == [2]


def test_disclosures_go_after_their_time(shop: Shop) -> None:
    export = Export(
        id=1,
        purpose="carrier",
        recipient="r",
        format="f",
        fields=("name",),
        ground="g",
        at=shop.now,
        who="A",
        name="n",
        sha256="00",
    )
    with shop.ledger() as ledger, ledger.atomic():
        record(ledger, export, [Disclosed(number=1, order_id=id_of(0))])
    run(shop, RULES[Kept.DISCLOSURE].seconds - 1)
    assert shop.rows("SELECT count(*) FROM disclosure") == [(1,)]
    run(shop, RULES[Kept.DISCLOSURE].seconds)
    assert shop.rows("SELECT count(*) FROM disclosure") == [(0,)]


def test_backup_made_after_an_erasure_holds_nothing_of_the_person(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, custodians=(2, 3))
    next_bundle(shop, 0, 1)
    shop.run()
    dispatched(shop, 0)
    with shop.ledger() as ledger, ledger.atomic():
        erasure.erase(ledger, 1, id_of(0), who="A", why="asked", now=shop.now)
    seen: list[bytes] = []

    def look(path: Path) -> None:
        seen.append(path.read_bytes())
        wipe_snapshot(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            backup, "wipe_snapshot", lambda path: look(path) if path.exists() else wipe_snapshot(path)
        )
        back_up(shop)
    snapshot = b"".join(seen)
    assert b"asa1@example.org" in snapshot
    assert b"asa0@example.org" not in snapshot
    shop.keystore.close()


def test_erasure_that_a_restored_backup_has_forgotten_is_done_again_by_the_same_request(
    tmp_path: Path,
) -> None:
    shop = open_shop(tmp_path, custodians=(2, 3))
    next_bundle(shop, 0, 1)
    shop.run()
    dispatched(shop, 0, 1)
    saved = back_up(shop)
    wish = ask(shop, "erase", "asa0@example.org")

    def settle() -> None:
        with shop.ledger() as ledger:
            request = subject_requests.find(ledger, REQUEST.hex())
            found = subjects.of_request(ledger, request)
            subjects.erase(ledger, found, request=request, undelivered=False, who="A", now=shop.now)

    carried(shop, wish)
    settle()
    assert people(shop) == [1]
    lose(shop)
    rebuild(shop, saved.path)
    bring_in_report(shop)
    assert people(shop) == [0, 1]  # the backup is older than the erasure
    shutil.rmtree(shop.drop_in / shop.node)  # the node has its receipt, and no more the bundle
    with shop.ledger() as ledger:
        spool = shop.root / "state" / "spool" / shop.node
        set_sequence(ledger, spool, node=shop.node, sequence=2, manifest=shop.previous, now=shop.now)
    shop.run_later()  # its return brings new keys
    carried(shop, wish)  # what `intake subject resend` sends
    settle()
    assert people(shop) == [1]
    assert b"asa0@example.org" not in raw(shop)
    shop.keystore.close()


def test_what_is_owed_to_people_shows_in_every_status(shop: Shop) -> None:
    def said(after: int) -> list[tuple[str, bool, str]]:
        with shop.ledger() as ledger:
            found = duties.notices(ledger, ChargingConfig(), now=shop.now + after)
        return [(notice.rule, notice.needs_person, notice.message) for notice in found]

    assert said(UNSOLD - 1) == []
    assert [rule for rule, person, _ in said(UNSOLD) if person] == ["RETENTION-DUE"]
    carried(shop, ask(shop, "export", "asa0@example.org"))
    (due,) = said(9 * DAY)
    assert due[:2] == ("SUBJECT-WAITING", True)
    assert "due in 21 days" in due[2]
    assert "OVERDUE by 5 days" in said(35 * DAY)[0][2]
    run(shop, UNSOLD)
    assert [rule for rule, _, _ in said(UNSOLD)] == ["SUBJECT-WAITING"]


# The commands, and the table


def test_commands_hold_release_and_erase(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 100 * DAY)
    keys = shop.keys_for()
    shop.bundle([shop.seal(0, keys=keys, card=a_card(DECLINED_CARD))], batch_key_id=keys.batch_key_id)
    shop.run()
    config = configure(shop)

    def command(*arguments: str) -> Ran:
        return in_process(config, *arguments)

    # The ledger is old: a person says that the clock is right before anything else is done.
    assert processor("run", config, "--clock-is-right").code in {ExitCode.DONE, ExitCode.NEEDS_PERSON}
    why = ("--who", "A. Keeper", "--why", "dispute")
    assert command("legal-hold", "add", id_of(0), *why).code == ExitCode.DONE
    held = command("retention", "run", "--who", "A. Keeper", "--json")
    assert (held.code, held.document["kept"]) == (ExitCode.NOTHING_TO_DO, {"legal-hold": 1})
    listed = command("legal-hold", "list", "--json").document
    assert [hold["order"] for hold in listed["holds"]] == [id_of(0)]
    assert command("legal-hold", "add", "ab" * 16, *why).code == ExitCode.REFUSED
    assert command("legal-hold", "remove", id_of(0), *why).code == ExitCode.DONE
    done = command("retention", "run", "--who", "A. Keeper", "--json")
    assert done.code == ExitCode.DONE, done.err
    assert done.document["proof"]["holds"]
    assert b"asa0@example.org" not in raw(shop)
    shown = command("retention", "schedule", "--json").document
    assert [rule["kind"] for rule in shown["schedule"]] == [rule.kind.value for rule in SCHEDULE]


def test_every_kind_has_one_rule_and_the_page_of_rules_has_them_all() -> None:
    assert [rule.kind for rule in SCHEDULE] == list(Kept)
    page = (ROOT / "offline_processor" / "RULES.md").read_text("utf-8")
    rows = [f"| {rule.what} | {rule.side} | {rule.kept} | {rule.ended_by} |" for rule in SCHEDULE]
    assert [row for row in rows if row not in page] == []


# Whatever happens in whatever order

STATES = ("paid", "dispatched", "declined", "refunded", "held", "authorised")
STEP = st.one_of(
    st.tuples(st.just("state"), st.integers(1, 4), st.sampled_from(STATES)),
    st.tuples(st.sampled_from(["hold", "free", "wish"]), st.integers(1, 4), st.none()),
    st.tuples(st.just("run"), st.sampled_from([0, UNSOLD, SOLD]), st.booleans()),
)


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(STEP, max_size=12))
def test_no_course_of_events_erases_what_is_held_open_or_young(steps: list[tuple[str, int, Any]]) -> None:
    with tempfile.TemporaryDirectory() as place, closing(Ledger(Path(place) / "ledger.db")) as ledger:
        four_people(ledger)
        now, states, held, wished, gone = (
            1000,
            dict.fromkeys(range(1, 5), "paid"),
            set[int](),
            set[int](),
            set[int](),
        )
        for what, number, more in steps:
            now += 1
            order = (number, f"{number:032x}")
            if what == "state":
                states[number] = more
                with ledger.atomic():
                    ledger.execute("UPDATE orders SET state = ? WHERE number = ?", (more, number))
            elif what in {"hold", "free"}:
                change = erasure.add_hold if what == "hold" else erasure.remove_hold
                (held.add if what == "hold" else held.discard)(number)
                with ledger.atomic():
                    change(ledger, [order], who="A", why="w", now=now)
            elif what == "wish":
                wished.add(number)
                with ledger.atomic():
                    erasure.wish(ledger, *order, who="A", request="", now=now)
            else:
                report = retention.run(ledger, who="A", now=now + number, dry=more)
                due = {one for one in states if may_go(one, states, held, wished, after=number)}
                assert report.erased["person"] == len(due - gone)
                gone |= set() if more else due
                assert report.proof is None or report.proof.holds
        left = {number for (number,) in ledger.rows("SELECT number FROM person")}
        assert left == set(states) - gone
        assert ledger.verify_chain() >= 1
        ledger.empty_log()
        content = (Path(place) / "ledger.db").read_bytes()
        assert {number for number in states if f"person-{number}@example.org".encode() in content} == left


def may_go(number: int, states: dict[int, str], held: set[int], wished: set[int], *, after: int) -> bool:
    state = states[number]
    if number in held or state in {"held", "authorised"}:
        return False
    if number in wished and state != "paid":
        return True
    return after == SOLD if state in {"paid", "dispatched", "refunded"} else after >= UNSOLD
