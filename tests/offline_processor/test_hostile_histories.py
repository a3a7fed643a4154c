"""Old copies put under new ones, forged backups, reports that cover too little: nothing of it goes unnoticed."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from keys import sealed_file
from keys.private.sign import generate_signing_key, sign
from keys.public import canonical
from offline_processor.acquirers.report import ReportKind
from offline_processor.backup import CONTENTS_LIMIT, PURPOSE, Contents, signed_message
from offline_processor.errors import ProcessorError
from offline_processor.retirement import retire
from tests.offline_processor.disaster import (
    acquirers_report,
    back_up,
    bring_in_report,
    lose,
    put_old_keystore_back,
    rebuild,
    recover_keystore,
    restore_ledger,
    wronged,
)
from tests.offline_processor.shop import HOUR, Shop, next_bundle, open_shop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keys.private.sign import SigningKey


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = open_shop(tmp_path, custodians=(2, 3))
    yield made
    made.keystore.close()
    if made.custody_key is not None:
        made.custody_key.close()


# Old copies of the keystore


def test_older_copy_of_the_keystore_of_the_same_epoch_is_refused(shop: Shop, tmp_path: Path) -> None:
    """Its ring has keys alive that the ledger calls destroyed, and would issue the same numbers again."""
    next_bundle(shop, 0)
    shop.run()
    shutil.copytree(shop.root / "keystore", tmp_path / "old-disk")
    next_bundle(shop, 1)
    shop.run_later()
    put_old_keystore_back(shop, tmp_path / "old-disk")
    with pytest.raises(ProcessorError, match="LEDGER-EPOCH"):
        shop.run_later()


def test_second_recovery_from_one_copy_under_the_surviving_ledger_needs_a_higher_epoch(shop: Shop) -> None:
    copy = shop.keystore.custody_copy(shop.now)
    next_bundle(shop, 0)
    shop.run()

    def recover(epoch_above: int) -> None:
        shop.keystore.close()
        shutil.rmtree(shop.root / "keystore")
        recover_keystore(shop, copy, epoch_above=epoch_above)

    recover(0)
    bring_in_report(shop)
    shop.run_later()
    assert shop.newest_return().name.startswith("r0002")
    recover(0)
    with pytest.raises(ProcessorError, match="LEDGER-EPOCH") as refused:
        shop.run_later()
    assert "--epoch-above 2" in refused.value.remedy
    recover(2)
    bring_in_report(shop)
    shop.run_later()
    assert shop.newest_return().name.startswith("r0003")


# Reports


def test_second_charge_of_an_order_that_was_paid_before_the_report_begins_is_named(shop: Shop) -> None:
    next_bundle(shop, 0)
    shop.run()
    shop.now += 3 * HOUR
    next_bundle(shop, 1)
    shop.run()
    backup = back_up(shop).path
    shop.now += HOUR
    lose(shop)
    rebuild(shop, backup)
    report = acquirers_report(shop)
    first, second = [line for line in report.lines if line.kind is ReportKind.AUTHORISATION]
    again = replace(first, rrn="77ZZ00000001", at=second.at + 60)
    done = bring_in_report(shop, replace(report, lines=(second, again)), start=second.at - 2 * HOUR)
    assert done.twice == [first.order_id]
    assert done.needs_person()


def test_report_must_begin_early_enough_for_an_acquirer_whose_clock_is_behind(shop: Shop) -> None:
    """Charged a minute after the backup's newest entry by our clock, and minutes before it by the acquirer's."""
    next_bundle(shop, 0)
    shop.run()
    backup = back_up(shop).path
    newest = shop.rows("SELECT max(at) FROM entry WHERE kind != 'backup-made'")[0][0]
    lose(shop)
    shop.now += 2 * HOUR
    rebuild(shop, backup)
    with pytest.raises(ProcessorError, match="REPORT-PERIOD"):
        bring_in_report(shop, replace(acquirers_report(shop), lines=()), start=newest)
    bring_in_report(shop, replace(acquirers_report(shop), lines=()), start=newest - HOUR)


# Ledgers


def test_old_ledger_under_a_recovered_keystore_answers_nothing_before_the_report_is_in(shop: Shop) -> None:
    """A plain copy of the file, or a mirror that was unplugged for a while: no ring is left that knows better."""
    next_bundle(shop, 0)
    shop.run()
    shutil.copy(shop.root / "state" / "ledger.db", shop.root / "old.db")
    copy = shop.keystore.custody_copy(shop.now)
    next_bundle(shop, 1)
    shop.run_later()
    lose(shop)
    (shop.root / "state").mkdir()
    shutil.copy(shop.root / "old.db", shop.root / "state" / "ledger.db")
    recover_keystore(shop, copy)
    with pytest.raises(ProcessorError, match="LEDGER-UNRECONCILED"):
        shop.run_later()
    bring_in_report(shop)
    shop.run_later()
    assert shop.state(1) == ("paid", "none", "")
    assert wronged(shop) == []


# Forged backups


def resealed(shop: Shop, backup: Path, signer: SigningKey | None) -> Path:
    """The backup with another ledger beside the genuine custody copy, sealed by who has only public keys."""
    assert shop.custody_key is not None
    with backup.open("rb") as file:
        header, line = sealed_file.read_header(file, PURPOSE)
        with sealed_file.stream_key_of(header, shop.custody_key) as key:
            content = b"".join(sealed_file.unseal(file, header, line, key))
    first, signature, rest = content.split(b"\n", 2)
    contents = canonical.decode(first, Contents, limit=CONTENTS_LIMIT, what="backup")
    copy, ledger = rest[: contents.custody_size], shop.root / "forged.db"
    ledger.write_bytes(rest[contents.custody_size :])
    with closing(sqlite3.connect(ledger)) as database, database:
        database.execute("UPDATE orders SET state = 'declined'")
    raw = ledger.read_bytes()
    changed = msgspec.structs.replace(
        contents, ledger_size=len(raw), ledger_sha256=hashlib.sha256(raw).hexdigest()
    )
    first = canonical.encode(changed)
    if signer is not None:
        signature = sign(signer, signed_message(first)).hex().encode()
    forged = shop.root / "forged.sealed"
    with forged.open("wb") as target:
        parts = [first + b"\n" + signature + b"\n", copy, raw]
        custody = bytes.fromhex(header.public_key)
        sealed_file.seal(parts, target, custody, purpose=PURPOSE, notes=header.notes, limit=1 << 30).close()
    return forged


@pytest.mark.parametrize("signer", ["nobody", "a node", "the identity"])
def test_backup_whose_ledger_the_offline_identity_has_not_signed_restores_nothing(
    shop: Shop, signer: str
) -> None:
    next_bundle(shop, 0)
    shop.run()
    key = {"nobody": None, "a node": shop.node_key, "the identity": shop.keystore.identity}[signer]
    forged = resealed(shop, back_up(shop).path, key)
    refused = signer != "the identity"
    shop.now += HOUR
    shutil.rmtree(shop.root / "state")
    if refused:
        with pytest.raises(ProcessorError, match=r"BACKUP-DAMAGED.*not signed"):
            restore_ledger(shop, forged)
        assert not (shop.root / "state" / "ledger.db").exists()
    else:
        restore_ledger(shop, forged)  # so that it was the signature that refused the others
        assert (shop.root / "state" / "ledger.db").exists()


# Custody copies that are older than the ledger


def recovered_from(shop: Shop, copy: bytes) -> None:
    shop.keystore.close()
    shutil.rmtree(shop.root / "keystore")
    recover_keystore(shop, copy)
    shop.now += 60
    bring_in_report(shop)


def test_order_key_that_was_revoked_after_the_copy_is_not_issued_again(shop: Shop) -> None:
    copy = shop.keystore.custody_copy(shop.now)
    shop.keystore.revoke_order_key(1, shop.now)
    shop.run()
    recovered_from(shop, copy)
    assert [(key.number, key.revoked_at is None) for key in shop.keystore.order_keys] == [
        (1, False),
        (2, True),
    ]


def test_node_that_was_retired_after_the_copy_is_not_heard_again(shop: Shop) -> None:
    copy = shop.keystore.custody_copy(shop.now)
    shop.run()
    with shop.ledger() as ledger:
        retire(ledger, shop.keystore, shop.node, now=shop.now)
    recovered_from(shop, copy)
    shop.bundle([], batch_key_id=bytes(16))
    report = shop.run_later()
    assert report.received == []
    assert [error.rule for error in report.refused] == ["BUNDLE-RETIRED"]


def test_identity_that_a_node_gave_up_after_the_copy_signs_nothing_again(shop: Shop) -> None:
    copy = shop.keystore.custody_copy(shop.now)
    stolen, shop.node_key = shop.node_key, generate_signing_key()
    shop.keystore.ring.rotate_node(shop.node, shop.node_key.public_key, shop.now)
    next_bundle(shop, 0)
    shop.run()
    recovered_from(shop, copy)
    honest, shop.node_key = shop.node_key, stolen
    sequence, previous = shop.sequence, shop.previous
    shop.bundle([], batch_key_id=bytes(16))
    assert [error.rule for error in shop.run_later().refused] == ["BUNDLE-SIGNATURE"]
    shop.node_key, shop.sequence, shop.previous = honest, sequence, previous
    shop.bundle([], batch_key_id=bytes(16))
    assert shop.run_later().refused == []
