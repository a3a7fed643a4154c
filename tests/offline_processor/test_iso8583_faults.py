"""Every fault of the line, at every kind of message, by the real link to the simulator as a process of its own."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from offline_processor.acquirers.iso8583.driver import Iso8583Acquirer, open_iso8583
from offline_processor.acquirers.iso8583.profile import SHIPPED
from offline_processor.acquirers.protocol import (
    Advice,
    Authorisation,
    BatchAnswer,
    BatchTotals,
    Capture,
    Refund,
    Reversal,
)
from offline_processor.acquirers.simulator.books import standings
from offline_processor.acquirers.simulator.faults import UNANSWERED, WIRE_FAULTS, Fault
from offline_processor.charging import Reference, is_reversed, matches
from offline_processor.config import AcquirerConfig
from tests.faults.acquirer_judge import read_books
from tests.offline_processor.commands import profile_with
from tests.offline_processor.line import Line, start
from tests.offline_processor.mac_keys import CHECKS, KEYS, key_file
from transfer.wire.card import Card, decode_card, encode_card

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from offline_processor.acquirers.iso8583.mac import Algorithm

ANSWER, LATE = 0.3, "0.6"
TRIES = 4
ALGORITHMS: dict[str, Algorithm] = {name: name for name in KEYS}
UNHEARD = UNANSWERED | {Fault.LATE}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[Line, str]]]:
    """A simulator of a shipped profile ("NAME", or "NAME ALGORITHM" with a MAC) and our file of the same."""
    folder = tmp_path_factory.mktemp("faults")
    running: dict[str, Line] = {}

    with ExitStack() as ends:

        def line_of(name: str) -> tuple[Line, str]:
            shipped, _, mac = name.partition(" ")
            own = profile_with(folder, answer=ANSWER, name=shipped, mac=ALGORITHMS.get(mac))
            if name not in running:
                key = ["--mac-key", str(key_file(folder, ALGORITHMS[mac]))] if mac else []
                running[name] = start(folder / f"{name}.db", "--profile", str(own), "--late", LATE, *key)
                ends.callback(running[name].end)
            return running[name], str(own)

        yield line_of


@pytest.fixture
def opened(
    lines: Callable[[str], tuple[Line, str]], request: pytest.FixtureRequest
) -> Iterator[tuple[Iso8583Acquirer, Line]]:
    line, own = lines(request.param)
    line.faults()
    config = AcquirerConfig(
        driver="iso8583",
        profile=own,
        address=line.address,
        terminal="SHOP0001",
        merchant="RECORDSTORE0001",
        acquirer_id="000001",
        mac_key=key_file(Path(own).parent, ALGORITHMS[mac])
        if (mac := request.param.partition(" ")[2])
        else None,
        mac_key_check=CHECKS[ALGORITHMS[mac]] if mac else "",
    )
    acquirer = open_iso8583(
        config, now=lambda: int(time.time()), clock=time.monotonic, sleep=lambda seconds: None
    )
    with closing(acquirer):
        yield acquirer, line


class Numbers:
    """Trace numbers, each used once in this module."""

    def __init__(self) -> None:
        self._last = 0

    def reference(self, amount: int, *, of: Reference | None = None) -> Reference:
        self._last += 1
        return Reference(
            number=self._last if of is None else of.number,
            order_id=f"{self._last:032x}" if of is None else of.order_id,
            attempt=1,
            stan=self._last,
            rrn=f"01{self._last:010d}" if of is None else of.rrn,
            sent_at=int(time.time()),
            amount=amount,
            currency="EUR",
        )


NUMBERS = Numbers()


def a_card() -> Any:
    card = Card(pan=b"4242424242424242", cvv=b"737", expiry_month=12, expiry_year=2031)
    raw = encode_card(card, header_digest=bytes(32), order_box_digest=bytes(32), amount=2_500, currency="EUR")
    return decode_card(memoryview(raw))


def advice(kind: type[Advice], original: Reference, amount: int, **more: Any) -> Any:
    return kind(
        operation=f"{NUMBERS._last + 1:032x}",
        reference=NUMBERS.reference(amount, of=original),
        original=original,
        approval="",
        repeat=False,
        card=a_card() if kind is Reversal else None,
        **more,
    )


def until_answered(verb: Callable[[Sequence[Any]], Sequence[Any]], asked: Any, *, fault: Fault) -> int:
    """Repeat one advice until it is answered, as the caller does; how often it was sent."""
    for tried in range(TRIES):
        (answer,) = verb([replace(asked, repeat=tried > 0)])
        if isinstance(asked, Reversal):
            done = is_reversed(asked.reference, answer)
        else:
            done = answer is not None and matches(asked.reference, answer) and answer.code == "00"
        assert done is not (tried == 0 and fault in UNHEARD), (tried, answer)
        if done:
            return tried + 1
    raise AssertionError("never answered")


CASES = [("ascii-1987", fault) for fault in WIRE_FAULTS] + [
    ("bcd-1987", fault) for fault in (Fault.LOST_AFTER, Fault.CUT, Fault.OTHER_STAN, Fault.TRUNCATED)
]
CASES += [("ascii-1987 aes-cmac", Fault.WRONG_MAC), ("bcd-1987 retail", Fault.WRONG_MAC)]


@pytest.mark.parametrize(("opened", "fault"), CASES, indirect=["opened"])
def test_whatever_the_line_does_nobody_is_charged_twice(
    opened: tuple[Iso8583Acquirer, Line], fault: Fault
) -> None:
    acquirer, line = opened
    line.faults(f"{fault}@authorisation/2:1")
    sent = [NUMBERS.reference(2_500) for _ in range(3)]
    heard = dict(acquirer.authorise(Authorisation(reference=one, card=a_card()) for one in sent))
    answers = [heard[place] for place in range(len(sent))]
    assert (answers[1] is None) is (fault in UNHEARD)
    good = [one for one, answer in zip(sent, answers, strict=True) if answer is not None]
    assert all(matches(one, answer) for one, answer in zip(sent, answers, strict=True) if answer is not None)
    assert all(answer.code == "00" for answer in answers if answer is not None)

    repeated = 2 if fault in UNHEARD else 1
    for one, answer in zip(sent, answers, strict=True):
        if answer is None:
            line.faults(f"{fault}@reversal:1")
            undone = advice(Reversal, one, 2_500)
            assert until_answered(acquirer.reverse, undone, fault=fault) == repeated
    assert good
    line.faults(f"{fault}@capture:1")
    taken = advice(Capture, good[0], 1_500, final=False)
    assert until_answered(acquirer.capture, taken, fault=fault) == repeated
    line.faults(f"{fault}@refund:1")
    given_back = advice(Refund, good[0], 400)
    assert until_answered(acquirer.refund, given_back, fault=fault) == repeated
    line.faults(f"{fault}@reversal:1")
    rest = advice(Reversal, good[0], 2_500, keep=1_500)
    assert until_answered(acquirer.reverse, rest, fault=fault) == repeated
    line.faults()

    ours = {one.order_id for one in sent}
    books = [one for one in standings(line.books) if one.reference in ours]
    first = next(one for one in books if one.reference == good[0].order_id)
    assert (first.reserved, first.captured, first.refunded) == (1_500, 1_500, 400)
    assert {one.reference for one in books if one.reserved} == {one.order_id for one in good}
    seen = Counter(
        booked.stan
        for booked in read_books(line.books)
        if booked.kind == "authorisation" and booked.reference in ours
    )
    assert sorted(seen) == [one.stan for one in sent]
    assert max(seen.values()) == 1  # whatever came back, nothing was sent again


@pytest.mark.parametrize("opened", SHIPPED, indirect=True)
def test_totals_agree_or_are_said_to_differ(opened: tuple[Iso8583Acquirer, Line]) -> None:
    acquirer, line = opened
    for currency in ("CHF", "SEK"):
        sent = replace(NUMBERS.reference(900), currency=currency)
        ((_, answer),) = acquirer.authorise(iter([Authorisation(reference=sent, card=a_card())]))
        assert answer is not None
        asked = advice(Capture, sent, 900, final=True)
        asked = replace(asked, reference=replace(asked.reference, currency=currency))
        assert [one and one.code for one in acquirer.capture([asked])] == ["00"]
        ours = BatchTotals(
            currency=currency,
            captures=1,
            captured=900 + (currency == "SEK"),
            refunds=0,
            refunded=0,
            stan=NUMBERS.reference(1).stan,
            sent_at=sent.sent_at,
        )
        line.faults("lost-before@totals:1")
        assert acquirer.close_batch(ours) is None
        again = replace(ours, stan=NUMBERS.reference(1).stan)
        expected = BatchAnswer.IN_BALANCE if currency == "CHF" else BatchAnswer.OUT_OF_BALANCE
        assert acquirer.close_batch(again) is expected


@pytest.mark.parametrize("opened", SHIPPED, indirect=True)
@pytest.mark.parametrize(
    ("fault", "rule"), [("partial", "10"), ("cvv-mismatch", "00"), ("other-amount", "00"), ("code-09", None)]
)
def test_what_is_approved_and_not_good_is_told(
    opened: tuple[Iso8583Acquirer, Line], fault: str, rule: str | None
) -> None:
    acquirer, line = opened
    line.faults(f"{fault}@authorisation:1")
    sent = NUMBERS.reference(2_500)
    ((_, answer),) = acquirer.authorise(iter([Authorisation(reference=sent, card=a_card())]))
    assert (answer and answer.code) == rule
    if fault == "partial":
        assert answer is not None
        assert answer.amount == 1_250
    if fault == "other-amount":
        assert answer is not None
        assert not matches(sent, answer)
