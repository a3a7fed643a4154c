"""Requests of people about their data: in a bundle of their own, sent until recorded, answered by a return."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from keys.public.seal import key_id
from tests.transfer.house import NOW, House, batch_key_id, order_id, public_key
from transfer.errors import TransferError
from transfer.spool import read_group
from transfer.subject_outbox import COUNT_LIMIT, SIZE_LIMIT
from transfer.wire.envelope import encode_envelope
from transfer.wire.header import Kind, decode_header
from transfer.wire.manifest import ENVELOPES_NAME, bundle_name, decode_bundle_manifest
from transfer.wire.records import SubjectAnswer, SubjectState
from transfer.wire.sealing import seal_request

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(root=tmp_path)


def asked(house: House, number: int = 1) -> str:
    request = order_id(1000 + number)
    envelope = seal_request(
        kind="erase",
        email="asa@example.org",
        orders=[],
        request_id=bytes.fromhex(request),
        order_key=public_key(0),
        now=NOW,
    )
    house.register.note_request(request, "erase", now=NOW)
    house.node.subjects.add(request, encode_envelope(envelope))
    return request


def in_bundle(house: House, sequence: int) -> list[str]:
    return [entry.order_id for entry in read_group(house.node.bundle(sequence) / ENVELOPES_NAME)]


def test_request_goes_in_a_bundle_of_its_own_without_a_batch_key(house: House) -> None:
    house.take(range(3))
    request = asked(house)
    report = house.push()
    assert [cut.batch_key for cut in report.cut] == [batch_key_id(1).hex(), None]
    manifest = decode_bundle_manifest((house.node.bundle(2) / "manifest.json").read_bytes())
    assert (manifest.count, manifest.batch_key) == (1, None)
    (entry,) = read_group(house.drop_in / "shop-a" / bundle_name(2) / ENVELOPES_NAME)
    header = decode_header(entry.envelope[:92])
    assert (header.kind, header.order_id.hex()) == (Kind.SUBJECT_REQUEST, request)
    assert header.order_key_id == key_id(public_key(0))
    assert b"asa@example.org" not in entry.envelope
    assert house.register.lookup(request) is None  # it is no order
    assert house.push().cut == []


def test_request_whose_push_died_before_it_was_noted_is_sent_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(house)
    with monkeypatch.context() as patch:
        patch.setattr("transfer.subject_outbox.SubjectOutbox.mark_sent", _dies)
        with pytest.raises(KeyboardInterrupt):
            house.push()
    house.push()
    assert in_bundle(house, 1) == in_bundle(house, 2) == [request]
    assert house.node.subjects.waiting() == []


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_answer_is_kept_with_its_request(house: House) -> None:
    request, other = asked(house, 1), asked(house, 2)
    house.push()
    house.give_return(
        [
            house.receipt(1, orders=2),
            SubjectAnswer(request=request, state=SubjectState.DONE, changed_at=NOW),
            SubjectAnswer(request=order_id(7), state=SubjectState.REFUSED, changed_at=NOW),
        ],
        accepted=1,
    )
    report = house.pull()
    assert (report.subject_answers, report.receipts) == (2, [1])
    rows = {row.request: row.state for row in house.register.subject_requests()}
    assert rows == {request: "done", other: ""}


def test_request_is_kept_for_a_restore_and_sent_again_then(house: House) -> None:
    request = asked(house)
    house.push()
    assert house.node.subjects.send_again({request, "ab" * 16}) == [request]
    house.push()
    assert in_bundle(house, 2) == [request]
    assert house.node.subjects.forget({request}) == 1
    assert house.node.subjects.send_again({request}) == []


def test_too_much_is_not_taken(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TransferError, match="SUBJECT-CROWD"):
        house.node.subjects.add("ab" * 16, bytes(SIZE_LIMIT + 1))
    monkeypatch.setattr("transfer.subject_outbox.COUNT_LIMIT", 1)
    asked(house)
    with pytest.raises(TransferError, match="SUBJECT-CROWD"):
        house.node.subjects.add("ab" * 16, b"x")
    assert COUNT_LIMIT > 1
