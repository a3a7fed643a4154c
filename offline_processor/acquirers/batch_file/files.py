"""Finishing the open file, and writing finished ones to a medium: the same bytes however often.

Why here: from the moment of its digest and signature a file is what it is, in the ledger before on any medium.
Must not: finish an empty file, write over another file, or open a box.

A file is signed by the offline identity (detached, as `minisign -V` verifies it), because anybody who knows the
acquirer's public key could box records: the signature says whose orders to charge they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keys.durable import fsync_directory, write_new_file
from keys.private.sign import SigningKey, sign_file
from offline_processor.acquirers.batch_file import authorisations
from offline_processor.acquirers.batch_file.authorisations import BoxedRecord, FileFacts
from offline_processor.acquirers.batch_file.form import Counted, Kind, Mode, totals
from offline_processor.errors import ProcessorError
from offline_processor.ledger import batch_files
from offline_processor.ledger.batch_files import ANSWERED, WAITING, Kept
from offline_processor.ledger.ledger import Ledger

SUFFIX: Final = ".batch"
SIGNATURE_SUFFIX: Final = ".minisig"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterpart:
    """Who is named in every file: the acquirer's public key, our merchant and terminal there, and the mode."""

    public_key: bytes
    merchant: str
    terminal: str
    mode: Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file on the medium; ``was_there``: with these very bytes already."""

    file: int
    path: Path
    records: int
    totals: str
    sha256: str
    was_there: bool


def finish(ledger: Ledger, counterpart: Counterpart, signer: SigningKey, *, now: int) -> int | None:
    """Finish the open file if it has records; returns its number. Durable before anything is written outside."""
    file = batch_files.open_file(ledger)
    records = batch_files.in_file(ledger, file, WAITING)
    if not records:
        return None
    raw = _compose(file, records, counterpart, made_at=now)
    signature = sign_file(signer, raw, comment_of(authorisations.COMMENT, file))
    with ledger.atomic():
        batch_files.finish(
            ledger, file, made_at=now, sha256=hashlib.sha256(raw).hexdigest(), signature=signature
        )
    return file


def export(ledger: Ledger, counterpart: Counterpart, directory: Path) -> list[Exported]:
    """Write every finished file that waits for answers; ``BATCH-FILE-CHANGED``, ``BATCH-FILE-EXISTS``."""
    if not directory.is_dir():
        raise ProcessorError(
            "USAGE-BATCH-FILE", f"{directory} is no directory", "name the medium's directory"
        )
    made = []
    for file, made_at, sha256, signature, complete in batch_files.finished(ledger):
        if complete:
            continue
        records = batch_files.in_file(ledger, file, WAITING, ANSWERED)
        raw = _compose(file, records, counterpart, made_at=made_at)
        if hashlib.sha256(raw).hexdigest() != sha256:
            raise ProcessorError(
                "BATCH-FILE-CHANGED",
                f"file {file} would not be the one that was signed: key, merchant, terminal or keystore were changed",
                "set [acquirer] back to what it was until every file is answered, then change it",
            )
        path = directory / f"A{file:06d}{SUFFIX}"
        was_there = _put(path, raw)
        _put(path.with_name(path.name + SIGNATURE_SUFFIX), signature.encode("ascii"))
        fsync_directory(directory)
        count, sums, _ = totals([_counted(record) for record in records])
        made.append(
            Exported(
                file=file,
                path=path,
                records=int(count),
                totals=sums,
                sha256=sha256,
                was_there=was_there,
            )
        )
    return made


def comment_of(what: str, file: int) -> str:
    """The trusted comment of a signature: a file cannot be passed off under another number."""
    return f"{what} {file:06d}"


def _put(path: Path, raw: bytes) -> bool:
    """Write ``raw``; True when it was there. What a torn export left, a beginning of the same bytes, is replaced."""
    if path.exists():
        there = path.read_bytes()
        if there == raw:
            return True
        if not raw.startswith(there):
            raise ProcessorError(
                "BATCH-FILE-EXISTS", f"{path} is another file", "take an empty directory, or move it away"
            )
        path.unlink()
    write_new_file(path, [raw], 0o644)
    if path.read_bytes() != raw:
        raise OSError(f"{path} does not read back as it was written")
    return False


def _compose(file: int, records: Sequence[Kept], counterpart: Counterpart, *, made_at: int) -> bytes:
    facts = FileFacts(
        file=file,
        mode=counterpart.mode,
        merchant=counterpart.merchant,
        terminal=counterpart.terminal,
        made_at=made_at,
        key=counterpart.public_key,
    )
    boxed = [BoxedRecord(counted=_counted(record), box=record.box or b"") for record in records]
    return authorisations.write_file(facts, boxed)


def _counted(record: Kept) -> Counted:
    return Counted(kind=Kind(record.kind), currency=record.currency, amount=record.amount, rrn=record.rrn)
