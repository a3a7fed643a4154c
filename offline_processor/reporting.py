"""Returns: what goes back to one node, cumulative, signed, numbered, recorded before it leaves.

Why here: the only way out of the offline side, and it can carry nothing but the records of FORMAT.md.
Must not: let a return leave whose number and digest the ledger does not hold.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from keys.durable import fsync_directory, make_directory, write_durable
from keys.keystore import Keystore
from keys.private.sign import sign_file
from keys.public.roll import encode_roll
from offline_processor import announcing
from offline_processor.key_record import say_issued
from offline_processor.ledger.bundles import chain_of, save_chain
from offline_processor.ledger.ledger import Ledger
from offline_processor.stages import STATUS_OF, OrderState
from transfer.sync.drop import remove_older, write_unit
from transfer.wire.manifest import (
    KEYROLL_NAME,
    MANIFEST_NAME,
    NO_PREVIOUS,
    RECORDS_NAME,
    RETURN_COMMENT,
    SIGNATURE_NAME,
    ReturnManifest,
    decode_return_manifest,
    encode_manifest,
    return_manifest_digest,
    return_name,
)
from transfer.wire.records import (
    Outcome,
    Reason,
    Receipt,
    Record,
    Refusal,
    RefusalRule,
    StatusRecord,
    StatusState,
    SubjectAnswer,
    SubjectState,
    encode_record,
)

RETURN_FILES = (KEYROLL_NAME, RECORDS_NAME, MANIFEST_NAME, SIGNATURE_NAME)
BATCH_KEYS_KEPT = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnWritten:
    """One return on a drop: for which node, under which name, with how many records."""

    node: str
    name: str
    records: int


def is_due(ledger: Ledger, keystore: Keystore, node: str, *, now: int) -> bool:
    """True when something for this node is in no return yet, or it runs low on batch keys, or an epoch is new."""
    made = chain_of(ledger, node).return_number
    return (
        usable_keys(keystore, node, now) < BATCH_KEYS_KEPT // 2
        or any(
            ledger.row(f"SELECT 1 FROM {table} WHERE node = ? AND told > ? LIMIT 1", (node, made)) is not None  # noqa: S608
            for table in ("bundle", "orders", "refusal", "repeat", "stray", "subject_request")
        )
        or announcing.is_due(ledger, keystore, node)
        or (bool(made) and _epoch_of(ledger, node, made) != keystore.epoch)
    )


def is_lost(ledger: Ledger, outbox: Path, node: str) -> bool:
    """True when our own copy of the newest return is gone, with the disk it was on: a new one must be made."""
    number = chain_of(ledger, node).return_number
    return bool(number) and not (_unit(ledger, outbox, node, number) / SIGNATURE_NAME).is_file()


def is_unconfirmed(ledger: Ledger, node: str) -> bool:
    """True when the node has not confirmed its newest return: it may be on no medium yet."""
    chain = chain_of(ledger, node)
    return chain.return_number > chain.confirmed_return


def make_return(ledger: Ledger, keystore: Keystore, outbox: Path, node: str, *, now: int) -> None:
    """Build, sign and record the next return of a node in ``outbox``; it may then be written to any drop."""
    refill(ledger, keystore, node, now=now)
    before = chain_of(ledger, node)
    number = before.return_number + 1
    name = return_name(keystore.epoch, number)
    unit = outbox / node / name
    shutil.rmtree(unit, ignore_errors=True)  # a return that was built but never recorded never left
    make_directory(unit)
    signer = keystore.signer_of(node)
    roll = encode_roll(keystore.make_roll(node, now=now, signer=signer))
    write_durable(unit / KEYROLL_NAME, roll)
    announced = announcing.waiting(ledger, keystore, node)
    records = chain((record for _, record in announced), _records(ledger, node))
    count, size, sha256 = _write_records(unit / RECORDS_NAME, records)
    manifest = encode_manifest(
        ReturnManifest(
            node=node,
            epoch=keystore.epoch,
            number=number,
            prev=return_of(ledger, node, before.return_number) or NO_PREVIOUS,
            accepted=before.last_sequence,
            keyroll_sha256=hashlib.sha256(roll).hexdigest(),
            records=count,
            records_sha256=sha256,
            records_size=size,
            time=now,
        )
    )
    write_durable(unit / MANIFEST_NAME, manifest)
    write_durable(unit / SIGNATURE_NAME, sign_file(signer, manifest, RETURN_COMMENT).encode())
    fsync_directory(unit.parent)
    with ledger.atomic():
        digest = return_manifest_digest(manifest)
        ledger.execute(
            "INSERT INTO return_made (node, number, manifest, epoch) VALUES (?, ?, ?, ?)",
            (node, number, digest, keystore.epoch),
        )
        save_chain(ledger, replace(before, return_number=number))
        announcing.mark_told(ledger, node, announced, number=number, now=now)
        ledger.append("return-made", f"{node}/{number}", now, {"manifest": digest, "records": count})


def write_newest(ledger: Ledger, outbox: Path, drop: Path, node: str) -> ReturnWritten | None:
    """Write the newest return of a node to ``drop`` and delete older ones; None when it is there, or there is none."""
    number = chain_of(ledger, node).return_number
    if not number:
        return None
    unit = _unit(ledger, outbox, node, number)
    name = unit.name
    written = write_unit(drop, node, name, {file: unit / file for file in RETURN_FILES})
    remove_older(drop, node, name, RETURN_FILES)
    for older in (outbox / node).iterdir():
        if older.name < name:
            shutil.rmtree(older)
    if not written:
        return None
    records = decode_return_manifest((unit / MANIFEST_NAME).read_bytes()).records
    return ReturnWritten(node=node, name=name, records=records)


def return_of(ledger: Ledger, node: str, number: int) -> str | None:
    """The manifest digest of a return that was made, hex, or None."""
    row = ledger.row("SELECT manifest FROM return_made WHERE node = ? AND number = ?", (node, number))
    return str(row[0]) if row else None


def _unit(ledger: Ledger, outbox: Path, node: str, number: int) -> Path:
    return outbox / node / return_name(_epoch_of(ledger, node, number), number)


def _epoch_of(ledger: Ledger, node: str, number: int) -> int:
    row = ledger.row("SELECT epoch FROM return_made WHERE node = ? AND number = ?", (node, number))
    return int(row[0]) if row else 0


def refill(ledger: Ledger, keystore: Keystore, node: str, *, now: int) -> None:
    """Issue batch keys to a node until it has enough unused ones again."""
    missing = BATCH_KEYS_KEPT - usable_keys(keystore, node, now)
    if missing > 0:
        keystore.issue_batch_keys(node, missing, now=now)
        say_issued(ledger, keystore.ring, now=now)


def usable_keys(keystore: Keystore, node: str, now: int) -> int:
    """How many batch keys the node has that it may still seal to."""
    return sum(entry.seal_until > now for entry in keystore.ring.unused(node))


def _records(ledger: Ledger, node: str) -> Iterator[Record]:
    """Everything that the node has not confirmed yet: refusal, receipts, statuses, answers to subject requests."""
    unconfirmed = (node, chain_of(ledger, node).confirmed_return)
    for rule, expected, seen_at in ledger.rows(
        "SELECT rule, expected, seen_at FROM refusal WHERE node = ? AND told > ?", unconfirmed
    ):
        yield Refusal(rule=RefusalRule(rule), expected=expected, seen_at=seen_at)
    for sequence, manifest, orders, outcome, settled_at in ledger.rows(
        "SELECT sequence, manifest, orders, outcome, settled_at FROM bundle WHERE node = ? AND told > ?"
        " ORDER BY sequence",
        unconfirmed,
    ):
        yield Receipt(
            sequence=sequence,
            manifest=manifest,
            orders=orders,
            outcome=Outcome(outcome),
            settled_at=settled_at,
        )
    for order_id, state, reason, changed_at in ledger.rows(
        "SELECT order_id, state, reason, changed_at FROM orders WHERE node = ? AND told > ? UNION ALL"
        " SELECT o.order_id, o.state, o.reason, o.changed_at FROM repeat AS r JOIN orders AS o USING (order_id)"
        " WHERE r.node = ? AND r.told > ? AND o.node != r.node AND o.state != 'screened'",
        unconfirmed + unconfirmed,
    ):
        yield StatusRecord(
            order=order_id, state=STATUS_OF[OrderState(state)], reason=Reason(reason), changed_at=changed_at
        )
    for order_id, at in ledger.rows(
        "SELECT order_id, at FROM stray WHERE node = ? AND told > ?", unconfirmed
    ):
        # Its id is another node's order: of this one nothing can be charged, and its customer is told so.
        yield StatusRecord(
            order=order_id, state=StatusState.ORDER_AGAIN, reason=Reason.NOT_READABLE, changed_at=at
        )
    for request, state, at in ledger.rows(
        "SELECT request, state, changed_at FROM subject_request WHERE node = ? AND told > ?", unconfirmed
    ):
        yield SubjectAnswer(request=request, state=SubjectState(state), changed_at=at)


def _write_records(path: Path, records: Iterator[Record]) -> tuple[int, int, str]:
    """Write records as lines, durably; their number, size and SHA-256 (hex)."""
    count, size, sha256 = 0, 0, hashlib.sha256()
    with path.open("xb") as file:
        for record in records:
            line = encode_record(record)
            file.write(line)
            sha256.update(line)
            count, size = count + 1, size + len(line)
        file.flush()
        os.fsync(file.fileno())
    return count, size, sha256.hexdigest()
