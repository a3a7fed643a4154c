"""Every act on the keys leaves a signed record of who did what, beside the keystore and beside the copy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from keys.private.sign import generate_signing_key
from keys.public.fingerprint import fingerprint
from keys.record import verify_record
from keys.record_form import Act, Change, Record, Subject, decode_record
from keys.software import file_digest, installed
from tests.keys.terminal import Terminal
from tests.keys.test_ceremony import ceremony
from tests.keys.test_cli_rotation import config as with_custodians
from tests.keys.test_cli_rotation import custody, done, identity_of, node_fingerprint, opened

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["custody", "with_custodians"]


@pytest.fixture
def config(with_custodians: Path) -> Path:
    return with_custodians


def verified(directory: Path, identity: bytes) -> Record:
    made_with = decode_record((directory / "record.json").read_bytes()).software
    return verify_record(directory, spoken=fingerprint(identity), software=made_with).record


def records(config: Path) -> list[Path]:
    place = config.parent / "keystore.records"
    return sorted(place.iterdir()) if place.exists() else []


def changed(record: Record) -> list[tuple[Subject, Change, int | None]]:
    return [(key.subject, key.change, key.number) for key in record.changed]


def test_rotation_says_who_did_it_which_key_and_which_copy_holds_it(config: Path) -> None:
    copy = config.parent / "two.copy"
    said = done(config, "rotate", "order-key", "--custody-copy", copy, "--who", "Ben")
    assert said["record"] == str(copy) + ".record"
    [beside] = records(config)
    for place in (config.parent / "two.copy.record", beside):
        record = verified(place, identity_of(config))
        assert record.act is Act.ROTATION
        assert [person.name for person in record.people] == ["Ben", "Ada"]
        assert changed(record) == [(Subject.ORDER_KEY, Change.MADE, 2)]
        assert record.changed[0].key == said["key_id"]
        assert {each.name: each.digest for each in record.custody_copies} == {
            "two.copy": file_digest(copy),
            "keystore.custody": file_digest(config.parent / "keystore.custody"),
        }
        assert record.software == installed()
    shown = ceremony("verify-record", beside, "--fingerprint", fingerprint(identity_of(config)))
    assert shown.returncode == 0, shown.stderr
    for text in ("operator: Ben", f"made: order-key 2 ({said['key_id']})", "custody copy two.copy"):
        assert text in shown.stdout


def test_every_other_act_leaves_its_record_too(config: Path) -> None:
    key = generate_signing_key().minisign
    public = config.parent / "next.pub"
    public.write_text(key.encode(), encoding="ascii")
    with opened(config) as keystore:
        order_id = keystore.order_keys[0].key.key_id.hex()
    old, node = identity_of(config), node_fingerprint(config)
    new_node = fingerprint(key.public_key)
    copies = (("--custody-copy", config.parent / f"{number}.copy") for number in range(9))
    made: list[tuple[Record, list[str]]] = []
    for act in (
        ("revoke", "batch-keys", "--node", "shop-a", "--number", 2, "--fingerprint", node),
        ("rotate", "node", "--node", "shop-a", "--public-key", public, "--fingerprint", new_node),
        ("revoke", "order-key", 1, "--key-id", order_id[:8]),
        ("rotate", "identity", "--fingerprint", fingerprint(old)),
        ("custody-copy",),
    ):
        _, place = copy = next(copies)
        given = (place,) if act == ("custody-copy",) else copy
        said = done(config, *act, *given)
        record = verified(place.with_name(f"{place.name}.record"), identity_of(config))
        made.append((record, [each.key for each in record.changed]))
        assert len(records(config)) == len(made), said
    acts = [Act.REVOCATION, Act.ROTATION, Act.REVOCATION, Act.ROTATION, Act.CUSTODY_COPY]
    assert [record.act for record, _ in made] == acts
    assert changed(made[0][0]) == [(Subject.BATCH_KEY, Change.REVOKED, 2)]
    assert made[1][1] == [node, new_node]
    assert changed(made[2][0]) == [
        (Subject.ORDER_KEY, Change.REVOKED, 1),
        (Subject.ORDER_KEY, Change.MADE, 2),
    ]
    assert made[3][1] == [fingerprint(old), fingerprint(identity_of(config))]
    assert changed(made[3][0])[0] == (Subject.IDENTITY, Change.REPLACED, None)


def test_later_enrolment_leaves_its_record_beside_the_copy_on_this_machine(config: Path) -> None:
    key = generate_signing_key().minisign
    public = config.parent / "identity.pub"
    public.write_text(key.encode(), encoding="ascii")
    spoken = fingerprint(key.public_key)
    node = ("--node", "shop-b", "--public-key", public, "--fingerprint", spoken)
    done(config, "enrol-node", *node, "--out", config.parent / "for-b")
    [beside] = records(config)
    record = verified(beside, identity_of(config))
    assert record.act is Act.ENROLMENT
    assert [(each.node, each.key) for each in record.changed] == [("shop-b", spoken)]
    assert [each.name for each in record.custody_copies] == ["keystore.custody"]


def test_who_acts_is_asked_on_a_terminal(config: Path) -> None:
    copy = config.parent / "t.copy"
    with Terminal("rotate", "order-key", "--config", config, "--custody-copy", copy) as terminal:
        terminal.answer("Who does this", " Ada,Cléo Müller ")
        assert terminal.end() == 0, terminal.shown
    record = verified(config.parent / "t.copy.record", identity_of(config))
    assert [person.name for person in record.people] == ["Ada", "Cléo Müller"]


@pytest.mark.parametrize("who", [[], ["--who", ""], ["--who", "x" * 121], ["--who", "Ada\x1b[2J"]])
def test_nothing_changes_while_nobody_stands_for_it(config: Path, who: list[str]) -> None:
    before = (config.parent / "keystore" / "keys").read_bytes()
    copy = ("--custody-copy", config.parent / "x.copy")
    ended = ceremony("rotate", "order-key", "--config", config, *copy, *who, "--json")
    assert ended.returncode == 2
    assert json.loads(ended.stdout)["rule"] == "CEREMONY-WHO"
    assert (config.parent / "keystore" / "keys").read_bytes() == before
    assert not (config.parent / "x.copy").exists()
    assert records(config) == []


def test_record_that_is_there_is_never_written_over_and_nothing_changes(config: Path) -> None:
    (config.parent / "x.copy.record").mkdir()
    said = done(config, "rotate", "order-key", "--custody-copy", config.parent / "x.copy", code=2)
    assert said["rule"] == "CUSTODY-EXISTS"
    with opened(config) as keystore:
        assert len(keystore.order_keys) == 1


def test_record_that_cannot_be_written_is_said_and_the_change_stays(config: Path) -> None:
    (config.parent / "keystore.records").write_text("in the way", encoding="ascii")
    said = done(config, "rotate", "order-key", "--custody-copy", config.parent / "x.copy", code=4)
    assert said["rule"] == "RECORD-UNWRITTEN"
    with opened(config) as keystore:
        assert len(keystore.order_keys) == 2


def test_keystore_without_custodians_needs_no_name_and_takes_one(tmp_path: Path) -> None:
    config = tmp_path / "offline.toml"
    config.write_text('[keystore]\npath = "keystore"\npassphrase_file = "passphrase"\n', encoding="ascii")
    (tmp_path / "passphrase").write_bytes(b"correct horse battery staple\n")
    (tmp_path / "passphrase").chmod(0o600)
    assert ceremony("init", "--config", config, "--rehearsal").returncode == 0
    assert ceremony("rotate", "order-key", "--config", config).returncode == 0
    assert records(config) == []
    done(config, "rotate", "order-key")
    [beside] = records(config)
    assert verified(beside, identity_of(config)).rehearsal
