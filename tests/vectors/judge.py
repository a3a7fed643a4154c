"""Our code's verdict on a vector: "ok" or a rule, and what it read.

Why here: the vectors are for any implementation; this is where ours takes them.
Must not: look at what a vector expects.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from nacl.bindings import crypto_scalarmult_base

from keys.errors import RuleError
from keys.private.locked import LockedBuffer
from keys.private.unseal import SealingKey, open_box, sealing_key
from keys.public import canonical
from keys.public.digest import digest
from keys.public.fingerprint import fingerprint
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import KeyEntry, check_entry, decode_roll, roll_digest
from offline_processor.cards import CardTable
from offline_processor.opening import open_order
from offline_processor.screening import card_fault, screen
from offline_processor.stages import Quarantined, SubjectAsked
from tests.vectors.form import OK
from transfer.config import NodeConfig
from transfer.errors import TransferError
from transfer.sync.handover import Identities, check_handover, revocation_is_ours
from transfer.sync.inbound import Pull
from transfer.sync.node import Node
from transfer.sync.trust import TRUSTED_NAME
from transfer.wire.basket import basket_digest
from transfer.wire.card import decode_card
from transfer.wire.envelope import decode_envelope, iter_frames
from transfer.wire.header import decode_header, header_digest
from transfer.wire.ids import basket_nonce, order_id
from transfer.wire.manifest import (
    BUNDLE_COMMENT,
    KEYROLL_NAME,
    MANIFEST_NAME,
    RECORDS_NAME,
    SIGNATURE_NAME,
    bundle_manifest_digest,
    decode_bundle_manifest,
    decode_return_manifest,
    return_manifest_digest,
    return_name,
)
from transfer.wire.order import Item, Total, decode_order_compartment, decode_subject_request, unpad
from transfer.wire.records import Handover, Revocation, decode_record
from transfer.wire.sealing import order_box_digest

Inputs = dict[str, Any]
Output = dict[str, Any]


def judge(kind: str, inputs: Inputs) -> tuple[str, Output]:
    """The verdict and, for good inputs, what was read."""
    try:
        return OK, _KINDS[kind](inputs)
    except RuleError as error:
        return error.rule, {}


def _raw(inputs: Inputs, name: str = "raw") -> bytes:
    return bytes.fromhex(inputs[name])


def _digest(inputs: Inputs) -> Output:
    return {"digest": digest(inputs["domain"], _raw(inputs, "data"), size=inputs["size"]).hex()}


def _fingerprint(inputs: Inputs) -> Output:
    return {"fingerprint": fingerprint(_raw(inputs, "public_key"))}


def _idempotency_key(inputs: Inputs) -> Output:
    key = inputs["key"]
    return {"order_id": order_id(key).hex(), "nonce": basket_nonce(key).hex()}


def _basket(inputs: Inputs) -> Output:
    items = msgspec.convert(inputs["items"], list[Item])
    total = msgspec.convert(inputs["total"], Total)
    return {"digest": basket_digest(nonce=_raw(inputs, "nonce"), items=items, total=total).hex()}


def _header(inputs: Inputs) -> Output:
    raw = _raw(inputs)
    header = decode_header(raw)
    return {
        "kind": int(header.kind),
        "suite": header.suite,
        "order_id": header.order_id.hex(),
        "order_key_id": header.order_key_id.hex(),
        "batch_key_id": header.batch_key_id.hex(),
        "time": header.time,
        "basket_digest": header.basket_digest.hex(),
        "digest": header_digest(raw).hex(),
    }


def _envelope(inputs: Inputs) -> Output:
    envelope = decode_envelope(_raw(inputs))
    return {
        "header": envelope.header.hex(),
        "order_box": envelope.order_box.hex(),
        "card_box": envelope.card_box.hex(),
    }


def _frames(inputs: Inputs) -> Output:
    return {"envelopes": [raw.hex() for raw in iter_frames(io.BytesIO(_raw(inputs)))]}


def _order(inputs: Inputs) -> Output:
    raw = _raw(inputs)
    decode_order_compartment(raw)
    return {"json": unpad(raw).hex()}


def _request(inputs: Inputs) -> Output:
    raw = _raw(inputs)
    decode_subject_request(raw)
    return {"json": unpad(raw).hex()}


def _card(inputs: Inputs) -> Output:
    card = decode_card(memoryview(bytearray(_raw(inputs))))
    return {
        "header_digest": card.header_digest.hex(),
        "order_box_digest": card.order_box_digest.hex(),
        "amount": card.amount,
        "currency": card.currency,
        "pan": bytes(card.pan).decode(),
        "expiry_month": card.expiry_month,
        "expiry_year": card.expiry_year,
        "cvv": bytes(card.cvv).decode(),
    }


def _key_entry(inputs: Inputs) -> Output:
    entry = canonical.decode(_raw(inputs, "entry"), KeyEntry, limit=4096, what="key entry")
    check_entry(entry, _raw(inputs, "identity"))
    return {"key_id": entry.key_id.hex()}


def _key_roll(inputs: Inputs) -> Output:
    raw = _raw(inputs)
    decode_roll(raw, node=inputs["node"], identity=_raw(inputs, "identity"))
    return {"digest": roll_digest(raw).hex()}


def _bundle(inputs: Inputs) -> Output:
    """What FORMAT.md, section 10, asks of a bundle before its place in the chain is looked at."""
    raw, envelopes = _raw(inputs, "manifest"), _raw(inputs, "envelopes")
    signer = MinisignPublicKey(public_key=_raw(inputs, "signer"))
    if not signature_matches(signer, raw, _raw(inputs, "signature").decode(), BUNDLE_COMMENT):
        raise TransferError("BUNDLE-SIGNATURE", "not signed by the node")
    try:
        manifest = decode_bundle_manifest(raw)
    except RuleError as error:
        raise TransferError("BUNDLE-FORMAT", error.message) from error
    if (manifest.batch_key is None) != (manifest.count == 0):
        raise TransferError("BUNDLE-FORMAT", "the manifest contradicts itself")
    count = sum(1 for _ in iter_frames(io.BytesIO(envelopes))) if _is_whole(envelopes) else -1
    stated = (manifest.count, manifest.envelopes_size, manifest.envelopes_sha256)
    if stated != (count, len(envelopes), hashlib.sha256(envelopes).hexdigest()):
        raise TransferError("BUNDLE-DAMAGED", "not what was signed")
    return {"digest": bundle_manifest_digest(raw)}


def _is_whole(envelopes: bytes) -> bool:
    try:
        return all(True for _ in iter_frames(io.BytesIO(envelopes)))
    except RuleError:
        return False


def _record(inputs: Inputs) -> Output:
    record = decode_record(_raw(inputs, "line"))
    identity = _raw(inputs, "identity")
    if isinstance(record, Revocation) and not revocation_is_ours(Identities(pinned=identity), record):
        raise TransferError("REVOCATION-SIGNATURE", "not signed by the offline identity")
    if isinstance(record, Handover):
        check_handover(record, signer=identity)
    return {"kind": str(record.__struct_config__.tag)}


def _return(inputs: Inputs) -> Output:
    """Take the return in as spool-sync does."""
    raw = _raw(inputs, "manifest")
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        node = Node.of(NodeConfig(node=inputs["node"], state=root / "state"))
        manifest = decode_return_manifest(raw)
        unit = root / "out" / inputs["node"] / return_name(manifest.epoch, manifest.number)
        unit.mkdir(parents=True)
        (root / "state").mkdir()
        identity = MinisignPublicKey(public_key=_raw(inputs, "identity"))
        (root / "state" / TRUSTED_NAME).write_text(identity.encode())
        (unit / MANIFEST_NAME).write_bytes(raw)
        (unit / SIGNATURE_NAME).write_bytes(_raw(inputs, "signature"))
        (unit / KEYROLL_NAME).write_bytes(_raw(inputs, "keyroll"))
        (unit / RECORDS_NAME).write_bytes(_raw(inputs, "records"))
        with node.alone(), node.register() as register:
            pull = Pull(node=node, register=register, spool=node.spool())
            report = pull.run(root / "out")
        for error in report.refused:
            raise error
    return {"digest": return_manifest_digest(raw)}


def _sealed_order(inputs: Inputs) -> Output:
    """Open and judge an order as the offline side does."""
    raw = _raw(inputs, "envelope")
    order_key, batch_key = (_private(inputs, name) for name in ("order_private", "batch_private"))
    opened = open_order(
        raw, position=0, order_keys={order_key.key_id: order_key}, batch_key_id=batch_key.key_id
    )
    assert not isinstance(opened, SubjectAsked)
    screened = opened if isinstance(opened, Quarantined) else screen(opened)
    if isinstance(screened, Quarantined):
        raise TransferError(screened.rule, "quarantined")
    envelope = decode_envelope(raw)
    with CardTable(1) as table:
        card = table.open(0, envelope.card_box, batch_key)
        rule = (
            card
            if isinstance(card, str)
            else card_fault(
                card,
                header_digest=header_digest(envelope.header),
                order_box_digest=order_box_digest(envelope.order_box),
                amount=screened.amount,
                currency=screened.currency,
            )
        )
        if rule:
            raise TransferError(rule, "the card does not belong to the order")
    order = open_box(envelope.order_box, order_key.public_key, order_key.private)
    return {
        "order": order.hex(),
        "card": open_box(envelope.card_box, batch_key.public_key, batch_key.private).hex(),
    }


def _private(inputs: Inputs, name: str) -> SealingKey:
    private = _raw(inputs, name)
    return sealing_key(crypto_scalarmult_base(private), LockedBuffer(len(private)).copy_from(private))


_KINDS: dict[str, Callable[[Inputs], Output]] = {
    "digest": _digest,
    "fingerprint": _fingerprint,
    "idempotency-key": _idempotency_key,
    "basket": _basket,
    "header": _header,
    "envelope": _envelope,
    "frames": _frames,
    "order": _order,
    "request": _request,
    "card": _card,
    "key-entry": _key_entry,
    "key-roll": _key_roll,
    "bundle": _bundle,
    "record": _record,
    "return": _return,
    "sealed-order": _sealed_order,
}
