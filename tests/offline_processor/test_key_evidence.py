"""`key-ceremony evidence` over real runs: what it tells of each key, and how ledger and ring can differ."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys import evidence, evidence_files, evidence_ledger
from keys.errors import KeysError
from keys.evidence import Erasure, Evidence, LedgerKeys, State
from keys.keystore import Keystore
from keys.private.sign import generate_signing_key
from keys.public.fingerprint import fingerprint, words
from keys.ring_index import DestroyReason, KeyRole, RingBackend
from offline_processor.key_record import say_destroyed, say_emptied
from tests.keys import tpm
from tests.offline_processor.acquirers import BadLine, silent
from tests.offline_processor.commands import ROOT, configure
from tests.offline_processor.disaster import back_up, bring_in_report, lose, rebuild
from tests.offline_processor.forgery import forge
from tests.offline_processor.shop import (
    HOLD_HOURS,
    HOUR,
    LOST_ANSWER_CARD,
    NOW,
    Shop,
    a_card,
    id_of,
    open_shop,
    passphrase,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from offline_processor.ledger.ledger import Ledger

LIMIT = HOLD_HOURS * HOUR


def ledger_file(shop: Shop) -> Path:
    return shop.root / "state" / "ledger.db"


def made(shop: Shop, *, now: int | None = None) -> Evidence:
    """The evidence as the command makes it, from the open keystore."""
    return evidence.make(
        evidence_ledger.read(ledger_file(shop)),
        shop.keystore.ring.index(),
        backend=shop.keystore.ring_backend,
        identity=shop.keystore.identity.public_key,
        rehearsal=True,
        hold_limit=LIMIT,
        now=now or shop.now,
    )


def rules(found: Evidence) -> set[str]:
    return {finding.rule for finding in found.findings}


def refused(work: Callable[[], object]) -> str:
    with pytest.raises(KeysError) as refusal:
        work()
    return refusal.value.rule


def ceremony(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keys", "evidence", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


@pytest.fixture
def worked(shop: Shop) -> Shop:
    return work(shop)


@pytest.fixture
def worked_lately(tmp_path: Path) -> Iterator[Shop]:
    """The same, as of now: the command reads the real clock."""
    shop = open_shop(tmp_path, now=int(time.time()) - LIMIT - 2 * HOUR)
    yield work(shop)
    shop.keystore.close()


def work(shop: Shop) -> Shop:
    """Three runs: a bundle done, one order held and answered, one quarantined and at its limit."""
    shop.bundle(
        [shop.seal(0), shop.seal(1, card=a_card(LOST_ANSWER_CARD)), forge(shop, 2, card={"amount": 1})]
    )
    shop.run()
    shop.run_later(HOUR)
    shop.run_later(LIMIT)
    return shop


def test_every_key_has_its_whole_life_in_the_ledgers_words(worked: Shop) -> None:
    found = made(worked)
    assert (found.findings, found.overdue, found.not_yet_recorded) == ([], [], 0)
    keys = {key.key_id: key for key in found.keys}
    ring = worked.keystore.ring
    assert set(keys) == {
        *(record.entry.key_id.hex() for record in ring.batch_records()),
        *(record.key_id for record in ring.destroyed_records()),
    }
    used = [key for key in found.keys if key.role is KeyRole.BATCH and key.used_at is not None]
    assert len(used) == 1
    batch = used[0]
    assert (batch.node, batch.number, batch.state) == ("shop-a", 1, State.DESTROYED)
    assert (batch.issued_at, batch.used_at, batch.emptied_at) == (NOW - 1000, NOW, NOW)
    assert (batch.destroyed_at, batch.reason, batch.erasure) == (
        NOW,
        DestroyReason.BATCH_DONE,
        Erasure.NOT_ASSURED,
    )
    held = {key.order: key for key in found.keys if key.role is KeyRole.HOLD}
    assert set(held) == {id_of(1), id_of(2)}
    answered, limit = held[id_of(1)], held[id_of(2)]
    assert (answered.issued_at, answered.destroyed_at, answered.reason) == (
        NOW,
        NOW + HOUR,
        DestroyReason.ANSWERED,
    )
    assert answered.emptied_at == NOW + HOUR
    assert (limit.issued_at, limit.reason, limit.emptied_at) == (NOW, DestroyReason.LIMIT, None)
    assert limit.destroyed_at == NOW + HOUR + LIMIT
    live = [key for key in found.keys if key.state is State.LIVE]
    assert len(live) == len(ring.batch_records())
    assert all(key.issued_at is not None and key.erasure is None for key in live)


def test_command_signs_what_it_found_and_checks_it_again(
    worked_lately: Shop, tool: Callable[[str], Path]
) -> None:
    worked = worked_lately
    identity = worked.keystore.identity.public_key
    config, out = configure(worked), worked.root / "evidence"
    done = ceremony("--config", config, "--ledger", ledger_file(worked), "--out", out)
    assert done.returncode == 0, done.stderr
    assert "ERASURE NOT ASSURED BY HARDWARE" in done.stdout
    assert "REHEARSAL" in done.stdout
    text = (out / evidence_files.TABLE).read_text()
    assert id_of(1) in text
    assert "answered" in text
    for spoken in (fingerprint(identity), words(identity)):
        checked = ceremony("--verify", out, "--fingerprint", spoken, "--json")
        assert checked.returncode == 0, checked.stderr
        assert json.loads(checked.stdout)["destroyed"] == 3
    assert words(identity) in ceremony("--verify", out).stdout
    plain = [
        str(tool("minisign")),
        "-V",
        "-q",
        "-p",
        str(out / "identity.pub"),
        "-m",
        str(out / "evidence.json"),
    ]
    subprocess.run(plain, check=True)
    stranger = ceremony("--verify", out, "--fingerprint", fingerprint(bytes(32)), "--json")
    assert (stranger.returncode, json.loads(stranger.stdout)["rule"]) == (2, "KEY-FINGERPRINT")
    again = ceremony("--config", config, "--ledger", ledger_file(worked), "--out", out, "--json")
    assert (again.returncode, json.loads(again.stdout)["rule"]) == (2, "EVIDENCE-EXISTS")
    assert json.loads(ceremony("--ledger", ledger_file(worked), "--json").stdout)["rule"] == "USAGE-EVIDENCE"


@pytest.mark.parametrize("name", evidence_files.NAMES)
@pytest.mark.parametrize("change", ["altered", "removed"])
def test_evidence_that_was_touched_is_refused(shop: Shop, name: str, change: str) -> None:
    shop.bundle([shop.seal(0)])
    shop.run()
    out = shop.root / "evidence"
    evidence_files.write(made(shop), shop.keystore.identity, out)
    assert evidence_files.verify(out, fingerprint(shop.keystore.identity.public_key)).findings == []
    file = out / name
    if change == "removed":
        file.unlink()
    else:
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
    assert refused(lambda: evidence_files.verify(out)) in {"EVIDENCE-SIGNATURE", "KEY-PUBLIC"}


# What differs


def test_key_of_an_old_ring_that_the_ledger_calls_dead_is_found(shop: Shop) -> None:
    shop.bundle([shop.seal(0)])
    shop.keystore.close()
    shutil.copytree(shop.root / "keystore", shop.root / "image")
    shop.reopen()
    shop.run()
    assert rules(made(shop)) == set()
    shop.keystore.close()
    shutil.rmtree(shop.root / "keystore")
    (shop.root / "image").rename(shop.root / "keystore")
    shop.reopen()
    found = made(shop)
    assert "EVIDENCE-ALIVE" in rules(found)
    assert "EVIDENCE-VANISHED" in rules(found)  # what was issued since


def test_destruction_that_the_ledger_was_not_told_of_is_found_once_the_ledger_is_newer(shop: Shop) -> None:
    shop.run()
    key_id = shop.keystore.ring.unused("shop-a")[0].key_id
    shop.now += 60
    shop.keystore.ring.destroy([key_id], reason=DestroyReason.REVOKED, now=shop.now)
    found = made(shop)
    assert (rules(found), found.not_yet_recorded) == (
        set(),
        1,
    )  # done by key-ceremony, say; the next run records it
    with shop.ledger() as ledger, ledger.atomic():
        ledger.append("noted", "something", shop.now + 1, {})
    found = made(shop)
    assert (rules(found), found.not_yet_recorded) == ({"EVIDENCE-UNRECORDED"}, 0)
    shop.run_later()
    assert rules(made(shop)) == set()


def test_keys_issued_by_the_ceremony_are_recorded_by_the_next_run(shop: Shop) -> None:
    shop.run()
    shop.now += 60
    shop.keystore.issue_batch_keys("shop-a", 3, now=shop.now)
    shop.enrol("shop-b", batch_keys=2)
    found = made(shop)
    assert (rules(found), found.not_yet_recorded) == (set(), 5)
    shop.run_later()
    found = made(shop)
    assert (rules(found), found.not_yet_recorded) == (set(), 0)
    assert [key.number for key in found.keys if key.node == "shop-b"][:2] == [1, 2]


def append(shop: Shop, kind: str, subject: str, facts: dict[str, Any]) -> None:
    with shop.ledger() as ledger, ledger.atomic():
        ledger.append(kind, subject, shop.now, facts)


def test_what_the_ledger_alone_knows_is_found(shop: Shop) -> None:
    shop.run()
    append(shop, "key-emptied", "ab" * 16, {})
    found = made(shop)
    assert rules(found) == {"EVIDENCE-VANISHED"}
    assert found.findings[0].key_id == "ab" * 16


def test_lives_that_cannot_be_are_found(shop: Shop) -> None:
    shop.run()
    key = shop.keystore.ring.unused("shop-a")[0]
    append(shop, "bundle-accepted", "shop-a/1", {"batch_key": key.key_id.hex()})
    with shop.ledger() as ledger:
        shop.keystore.ring.destroy([key.key_id], reason=DestroyReason.EXPIRED, now=NOW - 500)
        say_destroyed(ledger, shop.keystore.ring, now=shop.now)
    assert rules(made(shop)) == {"EVIDENCE-ORDER"}
    other = shop.keystore.ring.unused("shop-a")[0]
    facts = {"role": "batch", "reason": "expired", "destroyed_at": NOW, "epoch": 1, "backend": "file"}
    append(shop, "key-destroyed", other.key_id.hex(), facts)
    with shop.ledger() as ledger, ledger.atomic():
        ledger.set_counter("keys-destroyed", 2)
    shop.keystore.ring.destroy([other.key_id], reason=DestroyReason.REVOKED, now=NOW)
    assert "EVIDENCE-DIFFERS" in rules(made(shop))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET facts = replace(facts, 'batch-done', 'answered') WHERE kind = 'key-destroyed'",
        "DELETE FROM entry WHERE kind = 'key-issued'",
        "UPDATE entry SET at = at + 1 WHERE id = 3",
    ],
)
def test_ledger_that_was_altered_is_refused(worked: Shop, statement: str) -> None:
    database = sqlite3.connect(ledger_file(worked))
    for trigger in ("entry_is_never_changed", "entry_is_never_deleted"):
        database.execute(f"DROP TRIGGER {trigger}")
    database.execute(statement)
    database.commit()
    database.close()
    assert refused(lambda: made(worked)) == "LEDGER-CHAIN"
    done = ceremony(
        "--config", configure(worked), "--ledger", ledger_file(worked), "--out", worked.root / "evidence"
    )
    assert done.returncode == 4
    assert not (worked.root / "evidence").exists()


def test_chained_entry_of_another_form_is_refused(shop: Shop) -> None:
    shop.run()
    append(shop, "key-destroyed", "ab" * 16, {"role": "batch", "reason": "bored", "destroyed_at": 1})
    assert refused(lambda: made(shop)) == "EVIDENCE-ENTRY"


# Overdue


def test_overdue_keys_are_listed_with_the_rule_that_settles_them(shop: Shop) -> None:
    opened = shop.keys_for().batch_key_id
    shop.bundle([shop.seal(0, card=a_card(LOST_ANSWER_CARD))])
    shop.bundle([shop.seal(1)], batch_key_id=shop.keys_for(1).batch_key_id)
    shop.window = 1
    shop.run(BadLine(path=shop.books, authorising=silent))  # stops: the second bundle's key stays open
    ring = shop.keystore.ring
    later = shop.now + LIMIT
    due = {key.key_id: key for key in made(shop, now=later).overdue}
    assert set(due) == {key_id.hex() for key_id in ring.overdue(later, hold_limit=LIMIT)}
    assert due[opened.hex()].reason is DestroyReason.LIMIT
    assert due[opened.hex()].due_at == later
    much_later = shop.now + 40 * 86_400
    due = {key.key_id: key for key in made(shop, now=much_later).overdue}
    assert {key.reason for key in due.values()} == {DestroyReason.LIMIT, DestroyReason.EXPIRED}
    predicted = {key_id: key.reason for key_id, key in due.items()}
    shop.now = much_later
    with shop.ledger() as ledger:
        ledger.confirm_clock(much_later)
    shop.run()
    assert {key.key_id: key.reason for key in ring.destroyed_records() if key.key_id in due} == predicted
    assert made(shop).overdue == []


def test_overdue_key_ends_the_command_with_three(shop: Shop) -> None:
    shop.now = NOW - 40 * 86_400
    shop.keystore.issue_batch_keys("shop-a", 1, now=shop.now)
    shop.run()
    done = ceremony(
        "--config", configure(shop), "--ledger", ledger_file(shop), "--out", shop.root / "e", "--json"
    )
    assert done.returncode == 3, done.stderr
    assert {reason for *_, reason in json.loads(done.stdout)["overdue"]} == {"expired"}


# Any life at all


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_whatever_happens_to_keys_the_evidence_agrees_and_any_difference_is_found(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(seed)
    shop = open_shop(tmp_path_factory.mktemp("life"), batch_keys=2)
    ring = shop.keystore.ring
    with shop.ledger() as ledger:
        for _ in range(12):
            shop.now += chance.choice((0, 5, 3600))
            step(chance, shop, ledger)
        say_destroyed(ledger, ring, now=shop.now)
    found = made(shop)
    assert (found.findings, found.not_yet_recorded) == ([], 0)
    assert {key.key_id for key in found.keys if key.state is State.DESTROYED} == {
        key.key_id for key in ring.destroyed_records()
    }
    index = ring.index()
    kind = chance.choice([name for name in ("batch_keys", "hold_keys", "destroyed") if getattr(index, name)])
    getattr(index, kind).pop(chance.randrange(len(getattr(index, kind))))
    assert evidence.make(
        evidence_ledger.read(ledger_file(shop)),
        index,
        backend=RingBackend.FILE,
        identity=bytes(32),
        rehearsal=True,
        hold_limit=LIMIT,
        now=shop.now,
    ).findings
    shop.keystore.close()


def step(chance: random.Random, shop: Shop, ledger: Ledger) -> None:
    """One thing that happens to keys, and what a run writes of it; sometimes a crash keeps it from writing."""
    ring, now = shop.keystore.ring, shop.now
    match chance.randrange(5):
        case 0:
            shop.keystore.issue_batch_keys("shop-a", chance.randrange(1, 4), now=now)
        case 1 if ring.unused("shop-a"):
            key = chance.choice(ring.unused("shop-a"))
            ring.mark_opened(key.key_id, now)
            with ledger.atomic():
                ledger.append("bundle-accepted", "shop-a/1", now, {"batch_key": key.key_id.hex()})
        case 2:
            order = chance.randbytes(16)
            (hold,) = ring.new_hold_keys([order], now=now, destroy_at=now + 100)
            with ledger.atomic():
                ledger.append(
                    "card-held", order.hex(), now, {"key": hold.key_id.hex(), "destroy_at": now + 100}
                )
        case 3:
            live = [record.entry.key_id for record in ring.batch_records()]
            live += [bytes.fromhex(record.key_id) for record in ring.hold_records()]
            doomed = chance.sample(live, min(len(live), chance.randrange(3)))
            if chance.random() < 0.5:
                say_emptied(ledger, [(key_id, {}) for key_id in doomed], now=now)
            ring.destroy(doomed, reason=chance.choice(list(DestroyReason)), now=now)
        case _:
            say_destroyed(ledger, ring, now=now)


@pytest.mark.needs_tool("swtpm", "tpm2_nvwrite")
def test_with_a_tpm_the_evidence_says_what_hardware_assures(
    tmp_path: Path, tool: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = tpm.start(tmp_path / "tpm", tool("swtpm"))
    try:
        monkeypatch.setenv("TPM2TOOLS_TCTI", machine.address)
        with passphrase() as secret:
            keystore = Keystore.create(
                tmp_path / "keystore", [secret], rehearsal=True, now=NOW - 9, ring_backend=RingBackend.TPM
            )
        shop = Shop(root=tmp_path, keystore=keystore, node_key=generate_signing_key())
        keystore.ring.enrol_node("shop-a", shop.node_key.public_key, NOW - 9)
        keystore.issue_batch_keys("shop-a", 2, now=NOW - 9)
        shop.bundle([shop.seal(0)])
        shop.run()
        found = made(shop)
        assert found.findings == []
        assert [key.erasure for key in found.keys if key.state is State.DESTROYED] == [Erasure.HARDWARE]
        text = evidence_files.as_text(found)
        assert "an older copy of the disk opens no destroyed key" in text
        assert "NOT ASSURED" not in text
        keystore.close()
    finally:
        machine.stop()


def test_keys_that_were_lost_with_a_machine_are_told_as_lost(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, custodians=(2, 3))
    shop.bundle([shop.seal(0)])
    shop.run()
    backup = back_up(shop)
    lose(shop)
    rebuild(shop, backup.path)
    shop.now += 60
    bring_in_report(shop)
    shop.run_later()
    found = made(shop)
    assert (found.findings, found.epoch) == ([], 2)
    ended = {key.reason: key.erasure for key in found.keys if key.state is State.DESTROYED}
    assert ended[DestroyReason.LOST] is Erasure.UNKNOWN
    assert ended[DestroyReason.BATCH_DONE] is Erasure.NOT_ASSURED
    assert {key.epoch for key in found.keys if key.state is State.LIVE} == {2}
    # An older copy knew nothing of the keys that were issued after it; the ledger does.
    told = LedgerKeys()
    told.issued("cd" * 16, epoch=1, node="shop-a", number=99, issued_at=NOW)
    index = shop.keystore.ring.index()
    lost = evidence.make(
        told,
        index,
        backend=RingBackend.FILE,
        identity=bytes(32),
        rehearsal=True,
        hold_limit=LIMIT,
        now=shop.now,
    )
    assert [(key.state, key.erasure) for key in lost.keys] == [(State.LOST, Erasure.UNKNOWN)]
    shop.keystore.close()
