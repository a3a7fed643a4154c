"""Vectors of what is signed: key entries, key rolls, bundles, returns with records of every kind.

Why here: Ed25519 is deterministic, so these too can be made again and compared.
Must not: hold more than one fault in a vector.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from keys.private.sign import SigningKey, sign, sign_file
from keys.public import canonical
from keys.public.announcement import handover_message, revocation_message
from keys.public.roll import KeyEntry, KeyRoll, Role, encode_roll, roll_digest
from tests.vectors import cast
from tests.vectors.form import OK, Vector
from transfer.wire.envelope import Envelope, encode_envelope, frame
from transfer.wire.header import encode_header
from transfer.wire.manifest import (
    BUNDLE_COMMENT,
    RETURN_COMMENT,
    BundleManifest,
    ReturnManifest,
    SignedText,
    bundle_manifest_digest,
    encode_manifest,
    return_manifest_digest,
)
from transfer.wire.records import (
    Handover,
    Outcome,
    Reason,
    Receipt,
    Record,
    Refusal,
    RefusalRule,
    Revocation,
    StatusRecord,
    StatusState,
    SubjectAnswer,
    SubjectState,
    encode_record,
)

ORDER_ID = cast.HEADER.order_id.hex()
ENVELOPE = encode_envelope(
    Envelope(header=encode_header(cast.HEADER), order_box=b"\xaa" * 560, card_box=b"\xbb" * 176)
)
FRAMES = frame(ENVELOPE)
RECEIPT = Receipt(sequence=1, manifest="11" * 32, orders=1, outcome=Outcome.PROCESSED, settled_at=cast.NOW)
STATUS = StatusRecord(order=ORDER_ID, state=StatusState.PAID, reason=Reason.NONE, changed_at=cast.NOW)


def key_entries() -> list[Vector]:
    """Single entries."""

    def vector(name: str, what: str, entry: KeyEntry, expect: str = OK) -> Vector:
        return Vector(
            name=name,
            kind="key-entry",
            what=what,
            inputs={"entry": canonical.encode(entry).hex(), "identity": cast.OFFLINE.public_key.hex()},
            expect=expect,
            output={"key_id": entry.key_id.hex()} if expect == OK else {},
        )

    good = cast.entry()
    faults: dict[str, dict[str, Any]] = {
        "role": {"role": Role.ORDER},
        "node": {"node": "shop-b"},
        "epoch": {"epoch": 2},
        "number": {"number": 2},
        "public_key": {"public_key": "00" * 32},
        "seal_until": {"seal_until": good.seal_until + 1},
        "destroy_at": {"destroy_at": good.destroy_at + 1},
        "signature": {"signature": "00" * 64},
    }
    return [
        vector("entry-of-a-batch-key", "signed by the offline identity", good),
        vector("entry-of-an-order-key", "signed by the offline identity", cast.entry(Role.ORDER)),
        vector("entry-by-a-stranger", "signed by another key", cast.entry(by=cast.STRANGER), "ROLL-ENTRY"),
        *(
            vector(
                f"entry-with-another-{name}",
                f"{name} changed after it was signed",
                replace(good, **change),
                "ROLL-ENTRY",
            )
            for name, change in faults.items()
        ),
    ]


def key_rolls() -> list[Vector]:
    """Whole rolls."""

    def vector(name: str, what: str, raw: bytes, expect: str = OK) -> Vector:
        return Vector(
            name=name,
            kind="key-roll",
            what=what,
            inputs={"raw": raw.hex(), "node": cast.NODE, "identity": cast.OFFLINE.public_key.hex()},
            expect=expect,
            output={"digest": roll_digest(raw).hex()} if expect == OK else {},
        )

    def bad(name: str, what: str, roll: KeyRoll, expect: str = "ROLL-ENTRY") -> Vector:
        return vector(name, what, encode_roll(roll), expect)

    good = cast.roll()
    raw = encode_roll(good)
    batch = good.batch_keys[0]
    return [
        vector("roll", "one order key and one batch key", raw),
        bad("roll-for-another-node", "the roll's node", replace(good, node="shop-b"), "ROLL-NODE"),
        bad("roll-with-a-foreign-entry", "an entry for another node", _with(good, cast.entry(node="shop-b"))),
        bad("roll-with-a-later-entry", "an entry of a later epoch", _with(good, cast.entry(epoch=2))),
        bad("roll-with-a-key-twice", "the same key twice", _with(good, batch, cast.entry(number=2))),
        bad("roll-with-a-wrong-role", "an order key among batch keys", _with(good, cast.entry(Role.ORDER))),
        bad("roll-with-a-changed-entry", "a changed seal_until", _with(good, replace(batch, seal_until=0))),
        vector("roll-with-white-space", "a space behind a colon", raw.replace(b":", b": ", 1), "FORMAT-JSON"),
        vector("roll-with-a-member-more", "an unknown member", b'{"a":1,' + raw[1:], "FORMAT-JSON"),
        vector("roll-cut-short", "one byte is missing", raw[:-1], "FORMAT-JSON"),
        vector("roll-of-format-2", "format 2", raw.replace(b'"format":1', b'"format":2'), "FORMAT-JSON"),
    ]


def bundles() -> list[Vector]:
    """Bundles with their signatures."""
    back = return_manifest((), b"{}")
    newest = SignedText(
        manifest=encode_manifest(back).decode("ascii"),
        signature=sign_file(cast.OFFLINE, encode_manifest(back), RETURN_COMMENT),
    )
    good = BundleManifest(
        node=cast.NODE,
        sequence=1,
        prev="00" * 32,
        batch_key=cast.SEALING.batch_key_id.hex(),
        count=1,
        envelopes_sha256=hashlib.sha256(FRAMES).hexdigest(),
        envelopes_size=len(FRAMES),
        time=cast.NOW,
        newest_return=None,
    )
    empty = replace(
        good,
        sequence=2,
        prev=bundle_manifest_digest(encode_manifest(good)),
        batch_key=None,
        count=0,
        envelopes_sha256=hashlib.sha256(b"").hexdigest(),
        envelopes_size=0,
        newest_return=newest,
    )

    def vector(  # one argument for each part of a bundle
        name: str,
        what: str,
        manifest: BundleManifest | bytes,
        expect: str = OK,
        *,
        by: SigningKey = cast.NODE_KEY,
        comment: str = BUNDLE_COMMENT,
        envelopes: bytes = FRAMES,
        change: Callable[[str], str] = str,
    ) -> Vector:
        raw = manifest if isinstance(manifest, bytes) else encode_manifest(manifest)
        return Vector(
            name=name,
            kind="bundle",
            what=what,
            inputs={
                "manifest": raw.hex(),
                "signature": change(sign_file(by, raw, comment)).encode().hex(),
                "envelopes": envelopes.hex(),
                "signer": cast.NODE_KEY.public_key.hex(),
            },
            expect=expect,
            output={"digest": bundle_manifest_digest(raw)} if expect == OK else {},
        )

    raw = encode_manifest(good)
    signature, damaged, form = "BUNDLE-SIGNATURE", "BUNDLE-DAMAGED", "BUNDLE-FORMAT"
    return [
        vector("bundle", "one order, the first of its node", good),
        vector("bundle-without-orders", "confirms a return", empty, envelopes=b""),
        vector("bundle-by-a-stranger", "signed by another key", good, signature, by=cast.STRANGER),
        vector(
            "bundle-as-a-return", "signed with a return's comment", good, signature, comment=RETURN_COMMENT
        ),
        vector(
            "bundle-signature-relabelled",
            "a return's comment exchanged for a bundle's",
            good,
            signature,
            comment=RETURN_COMMENT,
            change=lambda text: text.replace(RETURN_COMMENT, BUNDLE_COMMENT),
        ),
        vector(
            "bundle-signature-without-its-end",
            "the last line feed is missing",
            good,
            signature,
            change=lambda text: text[:-1],
        ),
        vector(
            "bundle-signature-with-a-line-more",
            "an empty line behind",
            good,
            signature,
            change=lambda text: text + "\n",
        ),
        vector(
            "bundle-signature-not-prehashed",
            "a genuine signature in minisign's legacy form",
            good,
            signature,
            change=lambda text: _legacy(raw),
        ),
        vector(
            "bundle-envelopes-changed", "one bit of a box", good, damaged, envelopes=FRAMES[:-1] + b"\xba"
        ),
        vector("bundle-envelopes-cut-short", "one byte is missing", good, damaged, envelopes=FRAMES[:-1]),
        vector("bundle-envelopes-twice", "the same envelope again", good, damaged, envelopes=FRAMES * 2),
        vector("bundle-count-too-high", "two orders announced", replace(good, count=2), damaged),
        vector("bundle-with-white-space", "a line feed behind", raw + b"\n", form),
        vector("bundle-of-format-2", "format 2", raw.replace(b'"format":1', b'"format":2'), form),
        vector("bundle-sequence-0", "sequence 0", replace(good, sequence=0), form),
        vector("bundle-size-a-fraction", "a size with a point", raw.replace(b'"time":', b'"time":1.'), form),
        vector("bundle-member-missing", "no time", raw.replace(b',"time":%d' % cast.NOW, b""), form),
        vector(
            "bundle-orders-without-a-key", "one order, but no batch key", replace(good, batch_key=None), form
        ),
        vector(
            "bundle-key-without-orders",
            "a batch key, but no order",
            replace(empty, batch_key="11" * 16),
            form,
            envelopes=b"",
        ),
    ]


def return_manifest(lines: tuple[bytes, ...], roll: bytes, **changes: Any) -> ReturnManifest:
    """The manifest of a return with these lines and this roll."""
    records = b"".join(lines)
    manifest = ReturnManifest(
        node=cast.NODE,
        epoch=1,
        number=1,
        prev="00" * 32,
        accepted=0,
        keyroll_sha256=hashlib.sha256(roll).hexdigest(),
        records=len(lines),
        records_sha256=hashlib.sha256(records).hexdigest(),
        records_size=len(records),
        time=cast.NOW,
    )
    return replace(manifest, **changes)


def all_records() -> dict[str, Record]:
    """One record of every kind, signed where the kind is."""
    key = cast.SEALING.batch_key_id
    revoked = sign(cast.OFFLINE, revocation_message(role=Role.BATCH, epoch=1, key=key, revoked_at=cast.NOW))
    old, new = cast.OFFLINE, cast.signer("next offline identity")
    moved = handover_message(
        epoch=1, start=cast.NOW, old_identity=old.public_key, new_identity=new.public_key
    )
    return {
        "receipt": RECEIPT,
        "status": STATUS,
        "refusal": Refusal(rule=RefusalRule.SEQUENCE, expected=2, seen_at=cast.NOW),
        "revocation": Revocation(
            key=key.hex(), role=Role.BATCH, epoch=1, revoked_at=cast.NOW, signature=revoked.hex()
        ),
        "handover": Handover(
            epoch=1,
            start=cast.NOW,
            old_identity=old.public_key.hex(),
            new_identity=new.public_key.hex(),
            old_signature=sign(old, moved).hex(),
            new_signature=sign(new, moved).hex(),
        ),
        "subject": SubjectAnswer(request="22" * 16, state=SubjectState.DONE, changed_at=cast.NOW),
    }


def records() -> list[Vector]:
    """Single records."""

    def vector(name: str, what: str, line: bytes, expect: str = OK, kind: str = "") -> Vector:
        return Vector(
            name=name,
            kind="record",
            what=what,
            inputs={"line": line.hex(), "identity": cast.OFFLINE.public_key.hex()},
            expect=expect,
            output={"kind": kind} if expect == OK else {},
        )

    def bad(name: str, what: str, old: bytes, new: bytes) -> Vector:
        line = encode_record(STATUS)[:-1]
        assert old in line
        return vector(name, what, line.replace(old, new, 1), "FORMAT-JSON")

    every = [
        vector(f"record-{kind}", f"a {kind}", encode_record(record)[:-1], OK, kind)
        for kind, record in all_records().items()
    ]
    states = [
        vector(
            f"record-status-{state}",
            f"the state {state}",
            encode_record(replace(STATUS, state=state))[:-1],
            OK,
            "status",
        )
        for state in StatusState
    ]
    reasons = [
        vector(
            f"record-reason-{reason}",
            f"the reason {reason}",
            encode_record(replace(STATUS, reason=reason))[:-1],
            OK,
            "status",
        )
        for reason in Reason
    ]
    return [
        *every,
        *states,
        *reasons,
        bad("record-with-a-text", "a member that no record has", b"}", b',"text":"hello"}'),
        bad("record-of-an-unknown-kind", "kind note", b'"status"', b'"note"'),
        bad("record-of-an-unknown-state", "state refused", b'"paid"', b'"refused"'),
        bad("record-with-a-free-reason", "a reason that is a text", b'"none"', b'"see letter"'),
        bad("record-with-a-long-id", "an id of 33 digits", ORDER_ID.encode(), ORDER_ID.encode() + b"0"),
        bad("record-with-capitals", "an id in capitals", ORDER_ID.encode(), ORDER_ID.upper().encode()),
        bad("record-with-a-member-missing", "no reason", b'"reason":"none",', b""),
        bad("record-with-a-member-twice", "the state twice", b"}", b',"state":"paid"}'),
        bad("record-with-white-space", "a space behind a comma", b",", b", "),
        bad("record-with-another-escape", "a letter as an escape", b'"paid"', b'"\\u0070aid"'),
        bad("record-with-a-fraction", "a time with a point", b'"changed_at":', b'"changed_at":1.'),
        bad("record-before-the-epoch", "a time below zero", b'"changed_at":', b'"changed_at":-'),
    ]


def announcements() -> list[Vector]:
    """Revocations and handovers: what their signatures cover, and by whom."""
    every = all_records()
    revocation, handover = every["revocation"], every["handover"]
    assert isinstance(revocation, Revocation)
    assert isinstance(handover, Handover)
    old, new, stranger = cast.OFFLINE, cast.signer("next offline identity"), cast.STRANGER

    def vector(name: str, what: str, record: Record, expect: str = OK) -> Vector:
        return Vector(
            name=name,
            kind="record",
            what=what,
            inputs={"line": encode_record(record)[:-1].hex(), "identity": old.public_key.hex()},
            expect=expect,
            output={"kind": str(record.__struct_config__.tag)} if expect == OK else {},
        )

    def revoked(by: SigningKey = old, role: Role = Role.BATCH, covered: bytes = b"") -> Revocation:
        key = bytes.fromhex(revocation.key)
        message = covered or revocation_message(role=role, epoch=1, key=key, revoked_at=cast.NOW)
        return replace(revocation, role=role, signature=sign(by, message).hex())

    def handed(one: SigningKey, other: SigningKey) -> Handover:
        identities = one.public_key, other.public_key
        message = handover_message(
            epoch=1, start=cast.NOW, old_identity=identities[0], new_identity=identities[1]
        )
        return Handover(
            epoch=1,
            start=cast.NOW,
            old_identity=identities[0].hex(),
            new_identity=identities[1].hex(),
            old_signature=sign(one, message).hex(),
            new_signature=sign(other, message).hex(),
        )

    bare = revocation_message(
        role=Role.BATCH, epoch=1, key=bytes.fromhex(revocation.key), revoked_at=cast.NOW
    ).partition(b"\0")[2]
    unsigned, unhanded = "REVOCATION-SIGNATURE", "HANDOVER-SIGNATURE"
    fields: dict[str, Any] = {"key": "77" * 16, "role": Role.ORDER, "epoch": 2, "revoked_at": cast.NOW + 1}
    parts: dict[str, Any] = {
        "epoch": 2,
        "start": cast.NOW + 1,
        "old_identity": stranger.public_key.hex(),
        "new_identity": stranger.public_key.hex(),
        "old_signature": handover.new_signature,
        "new_signature": handover.old_signature,
    }
    exchanged = {"old_identity": handover.new_identity, "new_identity": handover.old_identity}
    return [
        vector("revocation-of-a-batch-key", "signed by the offline identity", revoked()),
        vector("revocation-of-an-order-key", "signed by the offline identity", revoked(role=Role.ORDER)),
        vector("revocation-by-a-stranger", "signed by another key", revoked(stranger), unsigned),
        vector("revocation-without-its-domain", "only the digest is signed", revoked(covered=bare), unsigned),
        *(
            vector(
                f"revocation-with-another-{name.replace('_', '-')}",
                f"{name} changed after it was signed",
                replace(revocation, **{name: value}),
                unsigned,
            )
            for name, value in fields.items()
        ),
        vector("handover-signed-by-both", "from the pinned identity to the next", handed(old, new)),
        vector(
            "handover-from-a-stranger",
            "a good one, from another identity",
            handed(stranger, new),
            "HANDOVER-FROM",
        ),
        vector(
            "handover-the-wrong-way", "a good one, from the new to the old", handed(new, old), "HANDOVER-FROM"
        ),
        vector("handover-to-itself", "old and new are the same", handed(old, old), unhanded),
        vector("handover-exchanged", "old and new exchanged", replace(handover, **exchanged), unhanded),
        *(
            vector(
                f"handover-with-another-{name.replace('_', '-')}",
                f"{name} changed after it was signed",
                replace(handover, **{name: value}),
                unhanded,
            )
            for name, value in parts.items()
        ),
    ]


def returns() -> list[Vector]:
    """Returns whole."""
    raw_roll = encode_roll(cast.roll())
    lines = tuple(encode_record(record) for record in all_records().values())

    def vector(
        name: str,
        what: str,
        expect: str = OK,
        *,
        by: SigningKey = cast.OFFLINE,
        comment: str = RETURN_COMMENT,
        content: tuple[bytes, ...] = lines,
        carried: tuple[bytes, ...] | None = None,
        roll: bytes = raw_roll,
        carried_roll: bytes | None = None,
        **changes: Any,
    ) -> Vector:
        raw = encode_manifest(return_manifest(content, roll, **changes))
        return Vector(
            name=name,
            kind="return",
            what=what,
            inputs={
                "manifest": raw.hex(),
                "signature": sign_file(by, raw, comment).encode().hex(),
                "keyroll": (roll if carried_roll is None else carried_roll).hex(),
                "records": b"".join(content if carried is None else carried).hex(),
                "identity": cast.OFFLINE.public_key.hex(),
                "node": cast.NODE,
            },
            expect=expect,
            output={"digest": return_manifest_digest(raw)} if expect == OK else {},
        )

    changed = (lines[0], lines[1].replace(b'"paid"', b'"held"'), *lines[2:])
    foreign = encode_roll(_with(cast.roll(), cast.entry(by=cast.STRANGER)))
    moved, revoked = all_records()["handover"], all_records()["revocation"]
    assert isinstance(moved, Handover)
    assert isinstance(revoked, Revocation)
    return [
        vector("return", "records of every kind"),
        vector("return-without-records", "only a key roll", content=()),
        vector("return-by-a-stranger", "signed by another key", "RETURN-SIGNATURE", by=cast.STRANGER),
        vector(
            "return-as-a-bundle", "signed with a bundle's comment", "RETURN-SIGNATURE", comment=BUNDLE_COMMENT
        ),
        vector("return-for-another-node", "for shop-b", "RETURN-NODE", node="shop-b"),
        vector("return-with-a-changed-record", "one state changed", "RETURN-DAMAGED", carried=changed),
        vector(
            "return-with-a-record-less", "the last record is missing", "RETURN-DAMAGED", carried=lines[:-1]
        ),
        vector(
            "return-with-another-roll",
            "a roll that was not signed for",
            "RETURN-DAMAGED",
            carried_roll=encode_roll(cast.roll(2)),
        ),
        vector("return-with-a-foreign-key", "a stranger's key entry in the roll", "ROLL-ENTRY", roll=foreign),
        vector(
            "return-with-a-text",
            "a record outside the schema",
            "RETURN-FORMAT",
            content=(b'{"kind":"note"}\n',),
        ),
        vector(
            "return-with-an-open-end",
            "no line feed behind the last record",
            "RETURN-FORMAT",
            content=(lines[0], lines[1][:-1]),
        ),
        vector(
            "return-with-a-forged-handover",
            "the new identity did not sign it",
            "HANDOVER-SIGNATURE",
            content=(encode_record(replace(moved, new_signature="00" * 64)),),
        ),
        vector(
            "return-with-a-later-handover",
            "a handover of the next epoch",
            "HANDOVER-EPOCH",
            content=(encode_record(_later(moved)),),
        ),
        vector(
            "return-with-two-handovers",
            "the same one twice",
            "HANDOVER-CONFLICT",
            content=(encode_record(moved), encode_record(moved)),
        ),
        vector(
            "return-with-a-forged-revocation",
            "a revocation that nobody signed is ignored, and the return stands",
            content=(lines[0], encode_record(replace(revoked, signature="00" * 64))),
        ),
        vector(
            "return-counted-wrong", "one record announced too many", "RETURN-FORMAT", records=len(lines) + 1
        ),
    ]


def _later(handover: Handover) -> Handover:
    """The same handover of the next epoch, signed by both."""
    old, new = cast.OFFLINE, cast.signer("next offline identity")
    message = handover_message(
        epoch=2, start=handover.start, old_identity=old.public_key, new_identity=new.public_key
    )
    return replace(
        handover, epoch=2, old_signature=sign(old, message).hex(), new_signature=sign(new, message).hex()
    )


def _legacy(message: bytes) -> str:
    """A signature as minisign made them before prehashing; genuine, and still to be refused."""
    signature = sign(cast.NODE_KEY, message)
    packed = base64.b64encode(b"Ed" + cast.NODE_KEY.minisign.number + signature).decode("ascii")
    whole = base64.b64encode(sign(cast.NODE_KEY, signature + BUNDLE_COMMENT.encode("ascii"))).decode("ascii")
    return f"untrusted comment: legacy\n{packed}\ntrusted comment: {BUNDLE_COMMENT}\n{whole}\n"


def _with(roll: KeyRoll, *batch_keys: KeyEntry) -> KeyRoll:
    return replace(roll, batch_keys=list(batch_keys))


FILES: dict[str, Callable[[], list[Vector]]] = {
    "key-entries.json": key_entries,
    "key-rolls.json": key_rolls,
    "bundles.json": bundles,
    "records.json": records,
    "announcements.json": announcements,
    "returns.json": returns,
}
