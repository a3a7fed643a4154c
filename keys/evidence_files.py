"""The evidence as files: the signed document, a table for people that follows from it, and the signer's public key.

Why here: what an auditor is handed, and what checks it again later on any machine.
Must not: let the table say what the signed document does not.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from keys.durable import create_durable, make_directory
from keys.errors import KeysError
from keys.evidence import COMMENT, SIZE_LIMIT, Erasure, Evidence
from keys.private.sign import sign_file
from keys.public import canonical
from keys.public.fingerprint import fingerprint, matches
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.ring_index import RingBackend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from keys.private.sign import SigningKey

DOCUMENT: Final = "evidence.json"
SIGNATURE: Final = "evidence.json.minisig"
TABLE: Final = "evidence.txt"
IDENTITY: Final = "identity.pub"
NAMES: Final = (DOCUMENT, SIGNATURE, TABLE, IDENTITY)
_SIGNATURE_LIMIT: Final = 4096
_ASSURANCE: Final = {
    RingBackend.TPM: "The ring secret is in this machine's TPM: an older copy of the disk opens no destroyed key.",
    RingBackend.FILE: "The ring secret is in a file: ERASURE NOT ASSURED BY HARDWARE. It is overwritten at every\n"
    "destruction, but an older copy of the disk, with the passphrase, still opens what was alive then.",
}


def write(evidence: Evidence, identity: SigningKey, out: Path) -> None:
    """Sign the evidence and write its files into ``out``; ``EVIDENCE-EXISTS`` when one of them is there already."""
    for name in NAMES:
        if (out / name).exists():
            raise KeysError("EVIDENCE-EXISTS", f"{out / name} exists already", "choose another --out")
    make_directory(out)
    document = canonical.encode(evidence)
    signature = sign_file(identity, document, COMMENT)
    create_durable(out / IDENTITY, identity.minisign.encode().encode(), 0o644)
    create_durable(out / TABLE, as_text(evidence).encode(), 0o644)
    create_durable(out / DOCUMENT, document, 0o644)
    create_durable(out / SIGNATURE, signature.encode(), 0o644)


def verify(directory: Path, spoken: str | None = None) -> Evidence:
    """The evidence in ``directory``, once its signature, its signer and its table are found to be right.

    ``spoken`` is the offline identity's fingerprint as the one who asks knows it; without it the signer is only
    who identity.pub says. Raises ``EVIDENCE-SIGNATURE``, ``KEY-FINGERPRINT``, ``KEY-PUBLIC`` or ``FORMAT-JSON``.
    """
    identity = MinisignPublicKey.decode(
        _read(directory / IDENTITY, _SIGNATURE_LIMIT).decode("utf-8", "replace")
    )
    if spoken is not None and not matches(identity.public_key, spoken):
        raise KeysError(
            "KEY-FINGERPRINT",
            "this evidence is signed by another identity than the one with that fingerprint",
            "compare with the ceremony record; do not rely on this evidence",
        )
    document = _read(directory / DOCUMENT, SIZE_LIMIT)
    signature = _read(directory / SIGNATURE, _SIGNATURE_LIMIT).decode("utf-8", "replace")
    if not signature_matches(identity, document, signature, COMMENT):
        raise _bad("the signature does not belong to the document")
    evidence = canonical.decode(document, Evidence, limit=SIZE_LIMIT, what="evidence")
    if evidence.identity != identity.public_key.hex():
        raise _bad("the document names another signer")
    if _read(directory / TABLE, 2 * SIZE_LIMIT) != as_text(evidence).encode():
        raise _bad(f"{TABLE} does not say what the signed document says")
    return evidence


def as_text(evidence: Evidence) -> str:
    """The evidence for people; the same text for the same document."""
    return "".join(f"{line}\n" for line in _lines(evidence))


def _lines(evidence: Evidence) -> Iterator[str]:
    if evidence.rehearsal:
        yield "*** REHEARSAL: throwaway keys ***"
    yield f"Evidence of batch and hold keys, {_when(evidence.made_at)}, epoch {evidence.epoch}"
    yield f"Signed by the offline identity {fingerprint(bytes.fromhex(evidence.identity))}"
    yield f"From {evidence.ledger_entries} ledger entries, the newest of {_when(evidence.ledger_newest)},"
    yield f"chain intact to {evidence.ledger_tip}"
    yield _ASSURANCE[evidence.backend]
    yield ""
    counts = Counter(
        f"{key.role} keys {key.state}" + (f", {key.reason}" if key.reason else "") for key in evidence.keys
    )
    for what in sorted(counts):
        yield f"{counts[what]:8} {what}"
    weak = sum(key.erasure is Erasure.NOT_ASSURED for key in evidence.keys)
    if weak:
        yield f"{weak:8} of the destructions not assured by hardware"
    if evidence.not_yet_recorded:
        later = "changes newer than the ledger; the next `offline-processor run` records them"
        yield f"{evidence.not_yet_recorded:8} {later}"
    yield ""
    yield f"Findings: {len(evidence.findings) or 'none'}"
    for finding in evidence.findings:
        yield f"  {finding.rule} {finding.key_id}: {finding.what}"
    yield f"Overdue: {len(evidence.overdue) or 'none'}"
    for key in evidence.overdue:
        yield (
            f"  {key.role} key {key.key_id}, due {_when(key.due_at)}:"
            f" the next `offline-processor run` destroys it, reason {key.reason}"
        )
    yield ""
    columns = ("issued", "used", "emptied", "destroyed")
    yield f"{'key id':32}  {'of':36}" + "".join(f"  {name:19}" for name in columns) + "  reason, erasure"
    for life in evidence.keys:
        owner = f"order {life.order}" if life.order else f"{life.node or '?'} {life.number or ''}"
        times = (life.issued_at, life.used_at, life.emptied_at, life.destroyed_at)
        shown = "".join(f"  {_when(time) if time is not None else '-':19}" for time in times)
        end = f"{life.reason or life.state}" + (f", {life.erasure}" if life.erasure else "")
        yield f"{life.key_id}  {owner:36}{shown}  {end}"


def _when(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (
        ValueError,
        OverflowError,
        OSError,
    ):  # what is chained may still say a time that is in no calendar
        return f"second {seconds}"


def _bad(what: str) -> KeysError:
    return KeysError("EVIDENCE-SIGNATURE", what, "do not rely on it; make the evidence anew from the ledger")


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise _bad(f"{path.name} cannot be read") from error
    if len(raw) > limit:
        raise _bad(f"{path.name} is too large")
    return raw
