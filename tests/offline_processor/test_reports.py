"""The acquirer's report: read strictly, whatever bytes come; and warnings of the state of keys and backup."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_processor import key_state
from offline_processor.acquirers import report as reports
from offline_processor.acquirers.report import (
    HEADER,
    ReportKind,
    ReportLine,
    ReportOutcome,
    in_seconds,
    in_words,
    parse_report,
    read_report,
    write_report,
)
from offline_processor.errors import ProcessorError
from offline_processor.key_state import KeyState, NodeKeys, Notice, OrderKeyTimes
from tests.offline_processor.disaster import acquirers_report, back_up
from tests.offline_processor.shop import (
    DECLINED_CARD,
    HOUR,
    LOST_ANSWER_CARD,
    NOW,
    Shop,
    a_card,
    id_of,
    open_shop,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DAY = 24 * HOUR
GOOD = "0123456789abcdef0123456789abcdef,010000000001,1,2026-11-22T21:19:10Z,2499,EUR,approved,capture,visa"

lines = st.builds(
    ReportLine,
    order_id=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    rrn=st.from_regex(r"[0-9A-Z]{12}", fullmatch=True),
    stan=st.integers(1, 999_999),
    at=st.integers(0, 4_000_000_000),
    amount=st.integers(0, 10**15 - 1),
    currency=st.from_regex(r"[A-Z]{3}", fullmatch=True),
    outcome=st.sampled_from(ReportOutcome),
    kind=st.sampled_from(ReportKind),
    scheme=st.from_regex(r"[a-z]{2,16}", fullmatch=True),
)


def bytes_of(*rows: str) -> bytes:
    return ("\n".join([HEADER, *rows]) + "\n").encode()


# The report


@given(st.lists(lines, max_size=20, unique_by=lambda line: line.key))
def test_what_is_written_is_read(written: list[ReportLine]) -> None:
    assert parse_report(write_report(written)).lines == tuple(written)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_in_order(raw: bytes) -> None:
    with pytest.raises(ProcessorError, match="REPORT-"):
        parse_report(raw)


@given(place=st.integers(0, len(bytes_of(GOOD)) - 1), byte=st.integers(0, 255))
def test_any_changed_byte_is_read_as_it_stands_or_refused(place: int, byte: int) -> None:
    raw = bytearray(bytes_of(GOOD))
    raw[place] = byte
    try:
        found = parse_report(bytes(raw))
    except ProcessorError as error:
        assert error.rule.startswith("REPORT-")  # noqa: PT017
    else:
        assert write_report(found.lines) == bytes(raw)


@pytest.mark.parametrize(
    "row",
    [
        "",
        GOOD + ",",
        GOOD.replace("2499", "-2499"),
        GOOD.replace("2499", "02499"),
        GOOD.replace("2499", "24.99"),
        GOOD.replace("2499", "1" * 16),
        GOOD.replace(",1,", ",0,"),
        GOOD.replace("EUR", "eur"),
        GOOD.replace("approved", "APPROVED"),
        GOOD.replace("approved", "settled"),
        GOOD.replace("21:19:10Z", "21:19:10"),
        GOOD.replace("11-22T", "13-22T"),
        GOOD.replace("11-22T", "02-30T"),
        GOOD.replace("0123456789abcdef0", "0123456789ABCDEF0"),
        f'"{GOOD}"',
        "=" + GOOD,
        " " + GOOD,
        GOOD.replace("1,2026", "1,\u0662026"),
        GOOD.removesuffix(",capture,visa"),
        GOOD.replace("capture", "void"),
        GOOD.replace(",visa", ","),
        GOOD.replace(",visa", ""),
        GOOD.replace("visa", "Visa"),
        GOOD.replace("visa", "v" * 17),
        "x" * 300,
        HEADER,
    ],
)
def test_line_of_another_form_refuses_the_whole_report(row: str) -> None:
    with pytest.raises(ProcessorError, match="REPORT-FORM"):
        parse_report(bytes_of(GOOD, row))


def test_report_that_does_not_say_what_was_taken_is_refused() -> None:
    short = "order_reference,rrn,stan,time,amount,currency,outcome\n" + GOOD.removesuffix(",capture,visa")
    with pytest.raises(ProcessorError, match=r"REPORT-FORM.*kind,scheme"):
        parse_report(f"{short}\n".encode())


def test_report_that_was_cut_short_is_refused() -> None:
    raw = bytes_of(GOOD, GOOD.replace("010000000001", "010000000002"))
    for end in range(len(raw)):
        if raw[:end].endswith(b"\n") and end >= len(HEADER):
            continue  # whole lines: what is missing behind them only the person who asked for it can know
        with pytest.raises(ProcessorError, match="REPORT-FORM"):
            parse_report(raw[:end])


def test_lines_may_end_as_other_systems_end_them() -> None:
    assert len(parse_report(bytes_of(GOOD).replace(b"\n", b"\r\n")).lines) == 1


def test_transaction_that_stands_twice_is_refused() -> None:
    with pytest.raises(ProcessorError, match="REPORT-REPEATED"):
        parse_report(bytes_of(GOOD, GOOD))


def test_report_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "SIZE_LIMIT", 100)
    file = tmp_path / "report.csv"
    file.write_bytes(bytes_of(GOOD))
    with pytest.raises(ProcessorError, match="REPORT-SIZE"):
        read_report(file)


def test_report_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProcessorError, match="REPORT-FORM"):
        read_report(tmp_path / "none.csv")


@given(st.integers(0, 4_000_000_000))
def test_times_are_written_and_read_the_same(at: int) -> None:
    assert in_seconds(in_words(at)) == at


def test_simulated_acquirer_reports_what_became_of_each_authorisation(shop: Shop) -> None:
    keys = shop.keys_for()
    cards = {1: DECLINED_CARD, 2: LOST_ANSWER_CARD}
    envelopes = [
        shop.seal(number, keys=keys, card=a_card(cards[number]) if number in cards else None)
        for number in range(3)
    ]
    shop.bundle(envelopes, batch_key_id=keys.batch_key_id)
    shop.run()
    shop.run_later()
    found = {
        (line.order_id, line.outcome.value)
        for line in acquirers_report(shop).lines
        if line.kind is ReportKind.AUTHORISATION
    }
    assert found == {
        (id_of(0), "approved"),
        (id_of(1), "declined"),
        (id_of(2), "reversed"),
        (id_of(2), "approved"),
    }
    assert {line.at for line in acquirers_report(shop).lines} == {NOW, NOW + 60}


# Warnings


def state(**changes: object) -> KeyState:
    values: dict[str, object] = {
        "epoch": 1,
        "custody": False,
        "order_keys": [OrderKeyTimes(number=1, seal_until=NOW + 90 * DAY, destroy_at=NOW + 400 * DAY)],
        "nodes": [NodeKeys(node="shop-a", unused=30, usable=30, unconfirmed=[])],
        "hold_keys": 0,
        "overdue": 0,
    }
    return KeyState(**{**values, **changes})  # type: ignore[arg-type]


def warned(shop: Shop, seen: KeyState, *, now: int = NOW, same_disk: bool = False) -> Sequence[Notice]:
    with shop.ledger() as ledger:
        return key_state.warnings(ledger, seen, mirror_on_same_disk=same_disk, backup_days=7, now=now)


def rules(notices: Sequence[Notice]) -> list[str]:
    return [notice.rule for notice in notices]


@pytest.mark.parametrize(
    ("changes", "rule", "person"),
    [
        (
            {"order_keys": [OrderKeyTimes(number=1, seal_until=NOW, destroy_at=NOW + DAY)]},
            "ORDER-KEY-EXPIRED",
            True,
        ),
        ({"order_keys": []}, "ORDER-KEY-EXPIRED", True),
        (
            {"order_keys": [OrderKeyTimes(number=1, seal_until=NOW + 29 * DAY, destroy_at=NOW + 60 * DAY)]},
            "ORDER-KEY-EXPIRING",
            False,
        ),
        ({"overdue": 2}, "KEYS-OVERDUE", False),
        ({"nodes": [NodeKeys(node="shop-a", unused=20, usable=14, unconfirmed=[])]}, "KEYS-LOW", False),
        (
            {"nodes": [NodeKeys(node="shop-a", unused=30, usable=30, unconfirmed=["handover/00"])]},
            "KEYS-UNCONFIRMED",
            False,
        ),
        ({"custody": True}, "BACKUP-OLD", False),
    ],
)
def test_state_of_keys_is_warned_of(shop: Shop, changes: dict[str, object], rule: str, person: bool) -> None:
    (notice,) = warned(shop, state(**changes))
    assert (notice.rule, notice.needs_person) == (rule, person)
    assert warned(shop, state()) == []


def test_backup_is_warned_of_when_it_grows_old(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, custodians=(2, 3))
    shop.run()
    back_up(shop)
    assert rules(warned(shop, state(custody=True), now=NOW + 7 * DAY - 1)) == []
    assert rules(warned(shop, state(custody=True), now=NOW + 7 * DAY)) == ["BACKUP-OLD"]
    shop.keystore.close()


def test_doubtful_clock_and_one_disk_for_both_are_warned_of(shop: Shop) -> None:
    shop.bundle([])
    shop.run()
    assert rules(warned(shop, state(), now=NOW - 1)) == ["CLOCK-DOUBT"]
    assert rules(warned(shop, state(), now=NOW + 36 * DAY)) == ["CLOCK-DOUBT"]
    assert rules(warned(shop, state(), same_disk=True)) == ["MIRROR-SAME-DISK"]


def test_status_shows_what_the_last_run_saw(shop: Shop) -> None:
    shop.run()
    with shop.ledger() as ledger:
        seen = key_state.look(ledger, shop.keystore, hold_seconds=HOUR, now=NOW)
        key_state.note(ledger, seen, now=NOW)
        marks = ledger.row("SELECT number FROM commit_mark")
        key_state.note(ledger, seen, now=NOW + 1)  # nothing new: nothing is written
        assert ledger.row("SELECT number FROM commit_mark") == marks
        assert key_state.last_seen(ledger) == (NOW, seen)
    (node,) = seen.nodes
    assert (node.usable, node.unconfirmed, seen.epoch) == (30, [], 1)
