"""The anchor: how far the ledger went when the offline identity last signed its tip, so that a cut end shows.

Why here: a chain proves its entries, not that there were no more; a signature of its tip does, up to that tip.
Must not: be renewed before the one that is there was checked, or commit by itself.

It lies in the ledger's own file, so that mirror and backup have the one that fits them. Who cuts entries off can delete
it, which shows as well: every command that opens the keys leaves an entry, and the entry an anchor. Against the whole
file's exchange for an older one stand the key ring, the nodes' bundles, and signed reports that were carried out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from keys.errors import RuleError
from keys.keystore import Keystore
from keys.private.sign import sign_file
from keys.public import canonical
from keys.public.digest import equal
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import Count, Hex32, Number
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger

COMMENT: Final = "sealed-orders v1 ledger-tip"
_LIMIT: Final = 4096
_KEEP: Final = (
    "stop work and keep this machine as it is; compare the mirror (offline-processor mirror) and the newest signed"
    " report, then go on with the mirror or restore the last good backup"
)


class LedgerTip(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="ledger-tip"
):
    """What is signed: the newest entry's number and chain value, by whom and when (Unix seconds)."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    epoch: Number
    entries: Number
    chain: Hex32
    signed_at: Count
    identity: Hex32


def renew(ledger: Ledger, keystore: Keystore, *, now: int) -> None:
    """Sign the tip as it will be when the caller's transaction, whose entries are all appended, is done."""
    document = canonical.encode(
        LedgerTip(
            epoch=keystore.epoch,
            entries=ledger.entries,
            chain=ledger.chain.hex(),
            signed_at=now,
            identity=keystore.identity.public_key.hex(),
        )
    )
    signature = sign_file(keystore.identity, document, COMMENT)
    ledger.execute(
        "INSERT OR REPLACE INTO anchor (one, document, signature) VALUES (1, ?, ?)", (document, signature)
    )


def check(ledger: Ledger, identities: Iterable[MinisignPublicKey] | None = None) -> LedgerTip | None:
    """The tip that was signed, once the ledger is found to reach it; None where none was ever signed.

    ``identities``: who may have signed; without them whoever the anchor names, which a person then has to compare.
    Raises ``LEDGER-ANCHOR`` (missing, damaged, a stranger's) or ``LEDGER-CUT``.
    """
    row = ledger.row("SELECT document, signature FROM anchor")
    if row is None:
        if ledger.row("SELECT 1 FROM entry WHERE kind = 'command-begun' LIMIT 1") is not None:
            raise _bad("the signature of the ledger's tip is gone")
        return None
    tip = _signed(row[0], row[1], identities)
    check_reached(ledger, entries=tip.entries, chain=tip.chain)
    return tip


def check_reached(ledger: Ledger, *, entries: int, chain: str) -> None:
    """Refuse (``LEDGER-CUT``) a ledger that has not, or no longer, this entry with this chain value (hex)."""
    row = ledger.row("SELECT chain FROM entry WHERE id = ?", (entries,))
    if row is None or not equal(bytes(row[0]), bytes.fromhex(chain)):
        raise ProcessorError(
            "LEDGER-CUT",
            f"the ledger went to entry {entries} and was signed for; now it ends at entry {ledger.entries}"
            if row is None
            else f"entry {entries} of this ledger is not the one that was signed for",
            _KEEP,
        )


def _signed(document: bytes, signature: str, identities: Iterable[MinisignPublicKey] | None) -> LedgerTip:
    try:
        tip = canonical.decode(document, LedgerTip, limit=_LIMIT, what="ledger's tip")
    except RuleError as error:
        raise _bad("the signed tip of the ledger cannot be read") from error
    signers = identities or (MinisignPublicKey(public_key=bytes.fromhex(tip.identity)),)
    if not any(
        signer.public_key.hex() == tip.identity and signature_matches(signer, document, signature, COMMENT)
        for signer in signers
    ):
        raise _bad("the ledger's tip is not signed by the offline identity")
    return tip


def _bad(what: str) -> ProcessorError:
    return ProcessorError("LEDGER-ANCHOR", what, _KEEP)
