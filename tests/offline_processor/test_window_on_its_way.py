"""A window of orders on its way: what a crash, a full disk, Ctrl-C or a dead line leaves without an outcome.

Why here: at every message that comes to the host, the ledger is read as the next run would find it after a crash.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import pytest

from offline_processor.acquirers.iso8583.driver import Iso8583Acquirer
from offline_processor.acquirers.iso8583.profile import Profile
from offline_processor.acquirers.iso8583.samples import AT
from offline_processor.acquirers.protocol import Answered, Authorisation
from offline_processor.attempts import charge, recover_intents
from offline_processor.stages import OrderState
from tests.offline_processor.acquirers import BadLine, silent
from tests.offline_processor.scripted_host import Host, Peer, Script, polite, scripted_host, signed_on
from tests.offline_processor.shop import HOUR, Shop, id_of
from tests.offline_processor.simulated import SimulatedAcquirer
from tests.offline_processor.test_iso8583_link import ASCII, PATIENT, SOON, authorisation, caller
from tests.offline_processor.till import AtTheTill, at_the_till

ORDERS, IN_FLIGHT = 60, 4
INTENTS = "SELECT count(*) FROM live_attempt WHERE state = 'intent'"


class StruckError(Exception):
    """Whatever ends a process in the middle."""


@contextmanager
def desk(
    folder: Path,
    *scripts: Script,
    in_flight: int = IN_FLIGHT,
    connections: int = 1,
    profile: Profile = PATIENT,
    clock: Callable[[], float] = time.monotonic,
    hosts: list[Host] | None = None,
) -> Iterator[tuple[Host, Iso8583Acquirer, AtTheTill]]:
    with scripted_host(profile, *scripts) as host:
        if hosts is not None:
            hosts.append(host)
        with (
            caller(host, profile, in_flight=in_flight, connections=connections, clock=clock) as ours,
            at_the_till(folder, ours.driver, count=ORDERS, window=ORDERS, now=AT) as made,
        ):
            yield host, ours.driver, made


def attempts(folder: Path) -> dict[str, int]:
    """The live attempts by state, as whoever opens the ledger next finds them."""
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
        return dict(ledger.execute("SELECT state, count(*) FROM live_attempt GROUP BY state"))


def looking(folder: Path, found: list[int], *, pause: float = 0) -> Script:
    """Answer everything, and note how many intents a crash would leave; what comes has a durable one, or this fails."""

    def script(peer: Peer) -> None:
        with closing(sqlite3.connect(folder / "ledger.db")) as ledger:
            while True:
                asked = peer.request()
                stan = int(asked.fields[11])
                state = ledger.execute("SELECT state FROM live_attempt WHERE stan = ?", (stan,)).fetchone()
                assert state == ("intent",)
                found.append(ledger.execute(INTENTS).fetchone()[0])
                time.sleep(pause)
                peer.answer(asked)

    return signed_on(script)


def found_by_the_host(folder: Path, in_flight: int) -> list[int]:
    """How many intents a crash would leave at each message of a window in which all goes well."""
    found: list[int] = []
    with desk(folder, looking(folder, found), in_flight=in_flight) as (host, _, made):
        charged = charge(made.till, made.window(), now=AT)
        assert [one.state for one in charged.outcomes] == [OrderState.PAID] * ORDERS
        assert (charged.unsent, len(charged.owed)) == (0, ORDERS)
        assert made.cards_are_wiped()
        assert len(host.seen("0100")) == len(found) == ORDERS
    assert attempts(folder) == {"approved": ORDERS}
    return found


def test_crash_at_any_message_leaves_few_intents_and_none_is_sent_without_one(tmp_path: Path) -> None:
    found = found_by_the_host(tmp_path, IN_FLIGHT)
    assert IN_FLIGHT < max(found) <= 2 * IN_FLIGHT  # three times it at most, when something has timed out too


def test_as_many_as_are_fetched_at_a_time_are_what_a_crash_leaves(tmp_path: Path) -> None:
    assert max(found_by_the_host(tmp_path, ORDERS)) == ORDERS  # the control: a whole window in one commit


def test_time_outs_on_one_connection_leave_few_intents_too(tmp_path: Path) -> None:
    pause = SOON / 20

    def falls_silent(peer: Peer) -> None:
        peer.request()
        until = time.monotonic() + SOON * 0.6
        while time.monotonic() < until:
            time.sleep(pause)
            peer.answer(peer.request())
        peer.until_hung_up()

    found: list[int] = []
    scripts = (signed_on(falls_silent), looking(tmp_path, found, pause=pause))
    with desk(tmp_path, *scripts, connections=2, profile=ASCII) as (host, _, made):
        charged = charge(made.till, made.window(), now=AT)
        states = Counter(outcome.state for outcome in charged.outcomes)
    assert states[OrderState.PAID] + states[OrderState.HELD] + charged.unsent == ORDERS
    assert states[OrderState.HELD] > 0
    assert max(Counter(host.seen("0100")).values()) == 1
    assert max(found) <= 3 * IN_FLIGHT


def test_full_disk_in_the_middle_stops_the_sending_and_what_was_sent_is_unknown(tmp_path: Path) -> None:
    full: list[AtTheTill] = []
    hosts: list[Host] = []

    def clock() -> float:
        if full and len(hosts[0].seen("0100")) >= 3 * IN_FLIGHT:
            ((pages,),) = full[0].ledger.rows("PRAGMA page_count")
            list(full.pop().ledger.rows(f"PRAGMA max_page_count = {pages}"))
        return time.monotonic()

    with desk(tmp_path, polite, clock=clock, hosts=hosts) as (host, driver, made):
        full.append(made)
        with pytest.raises(sqlite3.OperationalError, match="full"):
            charge(made.till, made.window(), now=AT)
        assert made.cards_are_wiped()
        assert not driver._link._connections
        left = attempts(tmp_path)
        assert 0 < left["intent"] <= 2 * IN_FLIGHT
        begun = {stan for (stan,) in made.ledger.rows("SELECT stan FROM live_attempt")}
        list(made.ledger.rows("PRAGMA max_page_count = 1000000"))
        assert recover_intents(made.ledger, now=AT) == left["intent"]
        assert attempts(tmp_path) == {"approved": left["approved"], "unknown": left["intent"]}
        assert made.ledger.verify_chain() > 0
    sent = {int(stan) for stan in host.seen("0100")}
    assert len(host.peers) == 1
    assert 3 * IN_FLIGHT <= len(sent) < ORDERS // 2
    assert sent <= begun


class Struck(SimulatedAcquirer):
    """Its process is struck when so many answers have come."""

    in_flight = IN_FLIGHT
    after = 2 * IN_FLIGHT + 1
    kind: type[BaseException] = StruckError

    def authorise(self, asked: Iterator[Authorisation]) -> Answered:
        for place, answer in each_alone(super().authorise, asked):
            yield place, answer
            if place + 1 == self.after:
                raise self.kind


def each_alone(
    authorise: Callable[[Iterator[Authorisation]], Answered], asked: Iterator[Authorisation]
) -> Answered:
    """What it answers to one after the other."""
    for place, one in enumerate(asked):
        ((_, answer),) = authorise(iter([one]))
        yield place, answer


@pytest.mark.parametrize("kind", [StruckError, KeyboardInterrupt])
def test_answers_that_came_before_it_was_struck_are_recorded(shop: Shop, kind: type[BaseException]) -> None:
    acquirer = Struck(shop.books)
    acquirer.kind = kind
    shop.bundle([shop.seal(number) for number in range(20)])
    with pytest.raises(kind):
        shop.run(acquirer)
    rows = shop.rows("SELECT state, count(*) FROM live_attempt GROUP BY state ORDER BY state")
    assert rows == [("approved", 9), ("intent", 3)]
    assert shop.rows("SELECT state, count(*) FROM operation GROUP BY state") == [("pending", 9)]
    report = shop.run_later()
    assert (report.interrupted, report.outcomes) == (3, {"paid": 11})
    assert shop.charges() == {id_of(number): 1 for number in range(20)}


class Gone(SimulatedAcquirer):
    """Its line is gone after so many."""

    in_flight = IN_FLIGHT
    reached = 6

    def authorise(self, asked: Iterator[Authorisation]) -> Answered:
        yield from each_alone(super().authorise, islice(asked, self.reached))


@pytest.mark.parametrize("reached", [0, 6])
def test_line_that_is_gone_stops_the_charging_and_makes_no_attempt_of_what_was_not_fetched(
    shop: Shop, reached: int
) -> None:
    acquirer = Gone(shop.books)
    acquirer.reached = reached
    shop.bundle([shop.seal(number) for number in range(20)])
    report = shop.run(acquirer)
    assert report.acquirer_silent
    states = [shop.state(number)[0] for number in range(20)]
    # Of the two that were fetched with the last ones nothing was said: only a reversal tells.
    unknown = 2 if reached else 0
    assert states == ["paid"] * reached + ["held"] * unknown + ["screened"] * (20 - reached - unknown)
    assert shop.keystore.ring.destroyed_records() == []
    report = shop.run_later()
    assert report.reversed == unknown
    assert not report.acquirer_silent
    assert shop.charges() == {id_of(number): 1 for number in range(20)}
    assert {shop.state(number)[0] for number in range(20)} == {"paid"}


def test_line_that_is_gone_while_reversed_orders_are_tried_again_leaves_them_for_the_next_run(
    shop: Shop,
) -> None:
    shop.bundle([shop.seal(number) for number in range(3)])
    shop.run(BadLine(path=shop.books, authorising=silent))
    acquirer = Gone(shop.books)
    acquirer.reached = 0
    shop.now += HOUR
    report = shop.run(acquirer)
    assert (report.acquirer_silent, report.reversed) == (True, 3)
    assert shop.rows("SELECT count(*) FROM live_attempt") == [(0,)]
    assert len(shop.keystore.ring.hold_records()) == 3
    assert shop.run_later().outcomes == {"paid": 3}
    assert shop.charges() == {id_of(number): 1 for number in range(3)}


def test_stream_that_is_closed_before_its_end_hangs_up() -> None:
    with scripted_host(PATIENT, polite) as host, caller(host, PATIENT, in_flight=2) as ours:
        with closing(ours.driver.authorise(authorisation(number) for number in range(1, 50))) as answers:
            next(answers)
        assert not ours.link._connections
        assert ours.memory_is_clean()
        assert ours.driver.echo()
        assert len(host.seen("0100")) <= 4
    assert len(host.peers) == 2
