"""The report of a ledger that was verified, signed, to be carried out: what a later ledger must still contain.

Why here: whoever holds such a report can tell, on any machine, whether history was shortened or told anew since.
Must not: hold a name that is not an operator's, or be written over an earlier report.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from keys.durable import create_durable
from keys.errors import RuleError
from keys.keystore import Keystore
from keys.private.sign import sign_file
from keys.public import canonical
from keys.public.fingerprint import fingerprint, matches
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import Count, Hex32, Number
from offline_processor.acquirers.report import in_words
from offline_processor.errors import ProcessorError
from offline_processor.ledger import anchor
from offline_processor.ledger.ledger import Ledger
from offline_processor.trail import unended

COMMENT: Final = "sealed-orders v1 ledger-report"
SIGNATURE_SUFFIX: Final = ".minisig"
SIZE_LIMIT: Final = 64 * 1024


class LedgerReport(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="ledger-report",
):
    """The tip of a whole chain, how many entries of each kind it has, who had it verified and when (Unix seconds)."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    epoch: Number
    entries: Number
    chain: Hex32
    newest: Count
    kinds: dict[str, Number]
    account: str
    who: str
    made_at: Count
    rehearsal: bool
    identity: Hex32


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A ledger whose chain holds. ``signed``: its signed tip; ``unended``: the newest command, where it has no end."""

    entries: int
    signed: anchor.LedgerTip | None
    unended: tuple[int, int, str] | None

    def at_work(self) -> Verified:
        """The same, found by the very command whose end is still to come."""
        return replace(self, unended=None)

    def as_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"entries": self.entries, "chain": "intact"}
        if self.signed is not None:
            identity = bytes.fromhex(self.signed.identity)
            document |= {
                "signed_to": self.signed.entries,
                "signed_at": in_words(self.signed.signed_at),
                "identity_fingerprint": fingerprint(identity),
            }
        if self.unended is not None:
            entry, at, command = self.unended
            document["without_end"] = {"entry": entry, "command": command, "begun": in_words(at)}
        return document

    def in_words(self) -> list[str]:
        lines = [f"{self.entries} entries, chain intact"]
        if self.signed is not None:
            lines.append(
                f"signed up to entry {self.signed.entries} on {in_words(self.signed.signed_at)} by the offline identity"
                f" {fingerprint(bytes.fromhex(self.signed.identity))}: compare it with the ceremony record"
            )
            if newer := self.entries - self.signed.entries:
                lines.append(
                    f"{newer} newer entries are chained; the next command that opens the keys signs them"
                )
        if self.unended is not None:
            entry, at, command = self.unended
            lines.append(
                f"LOOK: the newest command ({command}, begun {in_words(at)}, entry {entry}) has no end: it was killed,"
                " or its last entry was cut off. The next command makes the ledger go on"
            )
        return lines


def verify(ledger: Ledger, identities: tuple[MinisignPublicKey, ...] | None = None) -> Verified:
    """Check the whole chain and its anchor. ``LEDGER-CHAIN``, ``LEDGER-CUT``, ``LEDGER-ANCHOR``."""
    entries = ledger.verify_chain()
    return Verified(entries=entries, signed=anchor.check(ledger, identities), unended=unended(ledger))


def write(
    ledger: Ledger, keystore: Keystore, path: Path, *, account: str, who: str, now: int
) -> LedgerReport:
    """Sign what a verified ledger holds; ``path`` and its ``.minisig`` are new files (``REPORT-EXISTS``)."""
    for taken in (path, _signature_of(path)):
        if os.path.lexists(taken):
            raise ProcessorError("REPORT-EXISTS", f"{taken} exists", "choose another name")
    kinds = Counter[str](dict(ledger.rows("SELECT kind, count(*) FROM entry GROUP BY kind")))
    report = LedgerReport(
        epoch=keystore.epoch,
        entries=ledger.entries,
        chain=ledger.chain.hex(),
        newest=ledger.newest,
        kinds=dict(kinds),
        account=account,
        who=who,
        made_at=now,
        rehearsal=keystore.rehearsal,
        identity=keystore.identity.public_key.hex(),
    )
    document = canonical.encode(report)
    signature = sign_file(keystore.identity, document, COMMENT)
    create_durable(_signature_of(path), signature.encode(), 0o644)
    create_durable(path, document, 0o644)
    return report


def check(ledger: Ledger, path: Path, spoken: str | None) -> LedgerReport:
    """An earlier report of this ledger, once its signature is right and the ledger still contains all that it had.

    ``spoken``: the fingerprint of the offline identity that must have signed, hex or words; without it the signer is
    only who the report says. Raises ``REPORT-SIGNATURE``, ``LEDGER-CUT``.
    """
    try:
        document, signature = _read(path), _read(_signature_of(path)).decode("ascii", "replace")
        report = canonical.decode(document, LedgerReport, limit=SIZE_LIMIT, what="ledger report")
    except (OSError, RuleError) as error:
        raise _bad(f"{path} and its {SIGNATURE_SUFFIX} cannot be read as a report") from error
    identity = bytes.fromhex(report.identity)
    if not signature_matches(MinisignPublicKey(public_key=identity), document, signature, COMMENT):
        raise _bad(f"{path} was altered after it was signed")
    if spoken is not None and not matches(identity, spoken):
        raise _bad(
            f"{path} is signed by {fingerprint(identity)}, another identity than the one that was named"
        )
    anchor.check_reached(ledger, entries=report.entries, chain=report.chain)
    return report


def _signature_of(path: Path) -> Path:
    return path.with_name(path.name + SIGNATURE_SUFFIX)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SIZE_LIMIT + 1)


def _bad(what: str) -> ProcessorError:
    return ProcessorError("REPORT-SIGNATURE", what, "do not rely on it; compare with another signed report")
