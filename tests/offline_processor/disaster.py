"""The offline machine is lost and rebuilt: backup, loss, restore, reconciliation, as the commands do them.

Why here: several tests go through the same days, and one judge looks at the acquirer's books after each.
Must not: know what the offline processor thinks of an order; the books and the returns are what counts.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

from keys.keystore import Keystore
from offline_processor import restore
from offline_processor.acquirers.report import Report, parse_report, write_report
from offline_processor.acquirers.simulator.books import report as simulated_report
from offline_processor.backup import BackupMade, make_backup
from offline_processor.capturing import Capture
from offline_processor.epochs import begin_epoch
from offline_processor.ledger.ledger import Ledger
from offline_processor.reconciliation import Reconciled, reconcile
from tests.offline_processor.shop import Shop, passphrase
from transfer.wire.manifest import RECORDS_NAME
from transfer.wire.records import StatusRecord, StatusState, decode_record

NOT_CHARGED = (StatusState.ORDER_AGAIN, StatusState.DECLINED)


def no_progress(what: str, done: int, total: int) -> None:
    """Nobody watches."""


def back_up(shop: Shop, name: str = "backup.sealed") -> BackupMade:
    with shop.ledger() as ledger:
        return make_backup(
            ledger, shop.keystore, shop.root / "state", shop.root / name, now=shop.now, progress=no_progress
        )


def lose(shop: Shop) -> None:
    """The machine is gone: its state, its keystore, its mirror."""
    shop.keystore.close()
    shutil.rmtree(shop.root / "state")
    shutil.rmtree(shop.root / "keystore")
    if shop.mirror is not None:
        for file in shop.mirror.parent.glob(f"{shop.mirror.stem}*"):
            file.unlink()


def put_old_keystore_back(shop: Shop, old: Path) -> None:
    """An older copy of the keystore takes the place of the one that is open."""
    shop.keystore.close()
    shutil.rmtree(shop.root / "keystore")
    shutil.copytree(old, shop.root / "keystore")
    shop.reopen()


def restore_ledger(shop: Shop, backup: Path) -> bytes:
    """The first half of a restore; the custody copy."""
    assert shop.custody_key is not None
    opened = restore.put_ledger(
        backup,
        shop.custody_key,
        shop.root / "state",
        approve=lambda contents: None,
        now=shop.now,
        progress=no_progress,
    )
    return opened.custody_copy


def recover_keystore(shop: Shop, copy: bytes, *, epoch_above: int = 0) -> None:
    """The second half."""
    assert shop.custody_key is not None
    with passphrase() as secret:
        shop.keystore = Keystore.recover(
            shop.root / "keystore",
            [secret],
            copy,
            shop.custody_key,
            now=shop.now,
            epoch_above=epoch_above,
        )


def rebuild(shop: Shop, backup: Path, *, epoch_above: int = 0) -> None:
    restore.check_place(shop.root / "keystore", shop.root / "state", shop.mirror)
    recover_keystore(shop, restore_ledger(shop, backup), epoch_above=epoch_above)


def acquirers_report(shop: Shop) -> Report:
    """What the acquirer would send, through the bytes of its file."""
    return parse_report(write_report(simulated_report(shop.books) if shop.books.exists() else []))


def bring_in_report(
    shop: Shop,
    report: Report | None = None,
    *,
    start: int = 0,
    ahead: int = 0,
    capture: Capture = "sale",
) -> Reconciled:
    with closing(Ledger(shop.root / "state" / "ledger.db", mirror=shop.mirror)) as ledger:
        begin_epoch(ledger, shop.keystore, now=shop.now)
        return reconcile(
            ledger,
            report or acquirers_report(shop),
            start=start,
            until=shop.now + ahead,
            who="A. Keeper",
            epoch=shop.keystore.epoch,
            capture=capture,
            now=shop.now,
        )


def wronged(shop: Shop) -> list[str]:
    """Who was charged twice, or charged and told that they were not, by the books and the newest return of the drop."""
    charges = shop.charges()
    found = [f"{order} was charged {times} times" for order, times in charges.items() if times > 1]
    returns = shop.drop_out / shop.node
    newest = max(returns.iterdir(), default=None) if returns.is_dir() else None
    lines = (newest / RECORDS_NAME).read_bytes().splitlines() if newest else []
    found += [
        f"{record.order} was charged and told {record.state}"
        for record in map(decode_record, lines)
        if isinstance(record, StatusRecord) and record.state in NOT_CHARGED and record.order in charges
    ]
    return found
