"""Judged twice: JavaScript, written from FORMAT.md alone, reads and refuses what we sign and every golden vector.

Why here: the rules of the page must be as plain as its bytes.
Must not: seal; test_second_implementation does.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from keys.errors import RuleError
from keys.private.sign import generate_signing_key, sign
from keys.public.announcement import handover_message, revocation_message
from keys.public.fingerprint import fingerprint
from keys.public.roll import Role
from keys.public.seal import key_id
from tests.offline_processor.shop import Shop, open_shop
from tests.transfer.house import NODE, NOW, House
from tests.transfer.javascript import (
    ORDERS,
    Json,
    flipped,
    javascript,
    key_text,
    verify,
)
from tests.vectors.form import OK, names, read
from transfer.wire.manifest import NO_PREVIOUS, bundle_manifest_digest
from transfer.wire.records import (
    Handover,
    Outcome,
    Reason,
    Receipt,
    Refusal,
    RefusalRule,
    Revocation,
    StatusRecord,
    StatusState,
    SubjectAnswer,
    SubjectState,
    decode_record,
    encode_record,
)

pytestmark = pytest.mark.needs_tool("node", "wire_js")


def test_orders_sealed_in_javascript_are_charged_and_the_return_is_read_there(tmp_path: Path) -> None:
    shop = open_shop(tmp_path)
    try:
        signer = shop.keystore.ring.nodes()[0].public_key
        identity = shop.keystore.identity.public_key.hex()
        unit = shop.bundle(sealed_for(shop))
        read = verify("bundle", directory=str(unit), signer=signer, identity=identity, last=None)
        assert read["ok"], read
        assert [envelope["ok"] for envelope in read["envelopes"]] == [True, True, True]

        report = shop.run()
        assert len(report.received) == 1
        assert {state[0] for state in shop.states().values()} == {"paid"}
        back = verify(
            "return", directory=str(shop.newest_return()), identity=identity, node="shop-a", last=None
        )
        assert back["ok"], back
        assert back["manifest"]["accepted"] == 1
        statuses = [record for record in back["records"] if record["kind"] == "status"]
        assert {record["order"] for record in statuses} == {item["order_id"] for item in read["envelopes"]}
        assert {record["state"] for record in statuses} == {"paid"}
        receipts = [record for record in back["records"] if record["kind"] == "receipt"]
        assert [receipt["manifest"] for receipt in receipts] == [read["digest"]]
        assert back["roll"]["batch_keys"]

        shop.now += 60
        confirming = shop.bundle([], newest_return=shop.confirmation())
        chain = {"sequence": 1, "prev": read["digest"]}
        read = verify("bundle", directory=str(confirming), signer=signer, identity=identity, last=chain)
        assert read["ok"], read
        assert read["confirmed"] == {"epoch": back["manifest"]["epoch"], "number": back["manifest"]["number"]}
    finally:
        shop.keystore.close()


def sealed_for(shop: Shop) -> list[bytes]:
    keys = shop.keys_for()
    questions = [
        {
            "idempotency_key": key_text(name),
            "order_key": keys.order_key.hex(),
            "batch_key": keys.batch_key.hex(),
            "time": shop.now,
            "order": ORDERS[name][0],
            "card": ORDERS[name][1],
        }
        for name in ("plain", "amex", "dinars")
    ]
    return [bytes.fromhex(answer["frame"])[4:] for answer in javascript("seal.mjs", questions)]


def test_first_roll_and_its_entries_are_judged_alike(house: House) -> None:
    spoken = fingerprint(house.identity.public_key)
    read = verify("enrolment", directory=str(house.enrolment()), node=NODE, fingerprint=spoken)
    assert read["ok"], read
    assert read["identity"] == house.identity.public_key.hex()
    assert len(read["roll"]["batch_keys"]) == house.keys
    assert (
        verify("enrolment", directory=str(house.enrolment()), node="shop-b", fingerprint=spoken)["rule"]
        == "ROLL-NODE"
    )


def test_key_entry_is_covered_in_every_field(house: House) -> None:
    entry = house.entry(Role.BATCH, 3)
    changes: list[Json] = [
        {},
        {"role": "order"},
        {"node": "shop-b"},
        {"epoch": 2},
        {"number": 4},
        {"public_key": "11" * 32},
        {"seal_until": entry.seal_until + 1},
        {"destroy_at": entry.destroy_at + 1},
        {"signature": "00" * 64},
    ]
    identity = house.identity.public_key.hex()
    given: Json = msgspec.to_builtins(entry)
    answers = javascript(
        "verify.mjs",
        [{"check": "key-entry", "entry": given | change, "identity": identity} for change in changes],
    )
    assert [answer["ok"] for answer in answers] == [True] + [False] * (len(changes) - 1)
    assert answers[0]["key_id"] == key_id(bytes.fromhex(entry.public_key)).hex()
    assert {answer["rule"] for answer in answers[1:]} == {"ROLL-ENTRY"}


def bundle_of(house: House) -> tuple[Path, Json]:
    """A pushed bundle of two orders, and the question whether it is good."""
    house.take([1, 2])
    house.push()
    unit = house.unit(1)
    last = {"sequence": 0, "prev": NO_PREVIOUS}
    question = {
        "signer": house.node_key.public_key.hex(),
        "identity": house.identity.public_key.hex(),
        "last": last,
    }
    return unit, {"directory": str(unit), **question}


def test_bundle_that_spool_sync_wrote_is_read_whole(house: House) -> None:
    unit, question = bundle_of(house)
    read = verify("bundle", **question)
    assert read["ok"], read
    assert read["manifest"] == json.loads((unit / "manifest.json").read_bytes())
    assert read["digest"] == bundle_manifest_digest((unit / "manifest.json").read_bytes())
    assert [envelope["order_id"] for envelope in read["envelopes"]] == house.carried(1)


def append(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda unit: (unit / name).write_bytes((unit / name).read_bytes() + data)


def flip(name: str, place: int) -> Callable[[Path], object]:
    return lambda unit: (unit / name).write_bytes(flipped((unit / name).read_bytes(), place))


BUNDLE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped byte of an envelope": (flip("envelopes.bin", 200), "BUNDLE-DAMAGED"),
    "byte behind the envelopes": (append("envelopes.bin", b"\0"), "BUNDLE-DAMAGED"),
    "no envelopes": (lambda unit: (unit / "envelopes.bin").write_bytes(b""), "BUNDLE-DAMAGED"),
    "flipped byte of the manifest": (flip("manifest.json", 20), "BUNDLE-SIGNATURE"),
    "line feed behind the manifest": (append("manifest.json", b"\n"), "BUNDLE-SIGNATURE"),
    "line behind the signature": (append("manifest.json.minisig", b"x\n"), "BUNDLE-SIGNATURE"),
    "stranger in the directory": (lambda unit: (unit / "note.txt").write_text("x"), "BUNDLE-FORMAT"),
    "missing envelopes": (lambda unit: (unit / "envelopes.bin").unlink(), "BUNDLE-FORMAT"),
}


@pytest.mark.parametrize("name", BUNDLE_FAULTS)
def test_faulty_bundle_is_refused_by_rule(house: House, name: str) -> None:
    unit, question = bundle_of(house)
    fault, rule = BUNDLE_FAULTS[name]
    fault(unit)
    assert verify("bundle", **question)["rule"] == rule


def test_bundle_of_another_signer_or_place_in_the_chain_is_refused_by_rule(house: House) -> None:
    unit, question = bundle_of(house)
    known = bundle_manifest_digest((unit / "manifest.json").read_bytes())
    stranger = generate_signing_key().public_key.hex()
    assert verify("bundle", **question | {"signer": stranger})["rule"] == "BUNDLE-SIGNATURE"
    chains = [(1, "11" * 32, "BUNDLE-FORK"), (3, known, "BUNDLE-FORK"), (0, "11" * 32, "BUNDLE-SEQUENCE")]
    for sequence, prev, rule in chains:
        last = {"sequence": sequence, "prev": prev}
        assert verify("bundle", **question | {"last": last})["rule"] == rule
    assert verify("bundle", **question | {"last": {"sequence": 1, "prev": known}})["message"] == "known"


def test_return_inside_a_bundle_must_be_genuine(tmp_path: Path) -> None:
    shop = open_shop(tmp_path)
    try:
        shop.bundle([shop.seal(1)])
        shop.run()
        genuine = shop.confirmation()
        identity = shop.keystore.identity.public_key.hex()
        signer = shop.node_key.public_key.hex()
        altered = replace(genuine, manifest=genuine.manifest.replace('"accepted":1', '"accepted":2'))
        rules = [
            verify(
                "bundle",
                directory=str(shop.bundle([], newest_return=carried)),
                signer=signer,
                identity=identity,
            )
            for carried in (genuine, altered)
        ]
        assert rules[0]["ok"], rules[0]
        assert rules[1]["rule"] == "BUNDLE-RETURN"
    finally:
        shop.keystore.close()


def test_faulty_return_is_refused_and_the_good_one_read(house: House) -> None:
    identity = house.identity.public_key.hex()
    question = {"identity": identity, "node": NODE, "last": None}
    good = house.give_return(all_records(house))
    read = verify("return", directory=str(good), **question)
    assert read["ok"], read
    assert [record["kind"] for record in read["records"]] == [
        "receipt",
        "status",
        "refusal",
        "revocation",
        "handover",
        "subject",
    ]
    old = {"epoch": 1, "number": 1}
    assert not verify("return", directory=str(good), **question | {"last": old})["ok"]
    faulty = [
        house.give_return(node="shop-b"),
        house.give_return(comment="sealed-orders v1 bundle"),
        house.give_return(signer=generate_signing_key()),
        house.give_return(records=1),
        house.give_return(records_size=1),
        house.give_return(keyroll_sha256="11" * 32),
        house.give_return(name="r0001-00000099"),
        house.give_return([b'{"kind":"note"}\n']),
        house.give_return([replace(all_records(house)[4], start=NOW + 1)]),
    ]
    answers = javascript(
        "verify.mjs", [{"check": "return", "directory": str(unit), **question} for unit in faulty]
    )
    assert [answer["ok"] for answer in answers] == [False] * len(faulty)
    unsigned = house.give_return([replace(all_records(house)[3], revoked_at=NOW + 1)])
    ignored = verify("return", directory=str(unsigned), **question)
    assert (ignored["ok"], ignored["records"]) == (True, [{"kind": "revocation", "ignored": True}])


def all_records(house: House) -> list[Any]:
    """One record of each kind, the signed ones signed."""
    identity, successor = house.identity, generate_signing_key()
    revoked = {"role": Role.BATCH, "epoch": 1, "key": bytes(range(16)), "revoked_at": NOW}
    handed = {
        "epoch": 1,
        "start": NOW,
        "old_identity": identity.public_key,
        "new_identity": successor.public_key,
    }
    handover = handover_message(**handed)  # type: ignore[arg-type]
    return [
        Receipt(sequence=1, manifest="22" * 32, orders=3, outcome=Outcome.PROCESSED, settled_at=NOW),
        StatusRecord(order="33" * 16, state=StatusState.DECLINED, reason=Reason.TRY_LATER, changed_at=NOW),
        Refusal(rule=RefusalRule.SEQUENCE, expected=2, seen_at=NOW),
        Revocation(
            role=Role.BATCH,
            epoch=1,
            key=bytes(range(16)).hex(),
            revoked_at=NOW,
            signature=sign(identity, revocation_message(**revoked)).hex(),  # type: ignore[arg-type]
        ),
        Handover(
            epoch=1,
            start=NOW,
            old_identity=identity.public_key.hex(),
            new_identity=successor.public_key.hex(),
            old_signature=sign(identity, handover).hex(),
            new_signature=sign(successor, handover).hex(),
        ),
        SubjectAnswer(request="44" * 16, state=SubjectState.DONE, changed_at=NOW),
    ]


def test_both_sides_judge_damaged_records_alike(house: House) -> None:
    lines = [
        encode_record(record)
        for record in all_records(house)
        if record.__class__ not in (Revocation, Handover)
    ]
    source = random.Random(2)
    pieces = [
        b" ",
        b"0",
        b"-",
        b".0",
        b'"',
        b"\\",
        b"\\u0041",
        b"1e2",
        b",",
        b"null",
        b"A",
        b"\xc3\xa9",
        b"\t",
    ]
    damaged = []
    for _ in range(400):
        line = bytearray(source.choice(lines)[:-1])
        place = source.randrange(len(line))
        match source.randrange(3):
            case 0:
                line[place:place] = source.choice(pieces)
            case 1:
                del line[place : place + source.randrange(1, 4)]
            case _:
                line[place] ^= 1 << source.randrange(7)
        damaged.append(bytes(line))
    # A changed byte may be a line feed, which makes two lines of one.
    damaged = [line for line in damaged if b"\n" not in line]
    identity = house.identity.public_key.hex()
    answers = javascript(
        "verify.mjs",
        [{"check": "records", "data": (line + b"\n").hex(), "identity": identity} for line in damaged],
    )
    disagreed = [
        line for line, answer in zip(damaged, answers, strict=True) if answer["ok"] != accepted_by_us(line)
    ]
    assert disagreed == []
    assert {answer["ok"] for answer in answers} == {True, False}


def accepted_by_us(line: bytes) -> bool:
    try:
        decode_record(line)
    except RuleError:
        return False
    return True


@pytest.mark.parametrize("file", names())
def test_golden_vectors_are_judged_and_read_alike(file: str) -> None:
    vectors = read(file)
    answers = javascript("vectors.mjs", [{"kind": item.kind, "inputs": item.inputs} for item in vectors])
    for vector, answer in zip(vectors, answers, strict=True):
        verdict = OK if answer["ok"] else answer["rule"]
        assert verdict == vector.expect, (vector.name, answer)
        if verdict == OK:
            assert exact(answer["output"]) == exact(vector.output), vector.name


def exact(output: Json) -> Json:
    """JavaScript gives an integer above 2^53 - 1 as text."""
    return {
        name: str(value) if isinstance(value, int) and value >= 2**53 else value
        for name, value in output.items()
    }
