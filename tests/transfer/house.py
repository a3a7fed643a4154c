"""A node and its offline side for the tests: real keys, real files, no process around them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from keys.durable import make_directory
from keys.entries import sign_entry
from keys.private.sign import SigningKey, generate_signing_key, sign, sign_file, signing_key
from keys.public.announcement import handover_message, revocation_message
from keys.public.digest import digest
from keys.public.fingerprint import fingerprint
from keys.public.roll import ROLL_COMMENT, KeyEntry, KeyRoll, Role, encode_roll, roll_digest
from keys.public.seal import key_id
from transfer.config import NodeConfig
from transfer.register import Committed, NewOrder, Register
from transfer.spool import read_group
from transfer.sync import trust
from transfer.sync.inbound import Pull, PullReport
from transfer.sync.node import Node
from transfer.sync.outbound import Push
from transfer.sync.push_report import PushReport
from transfer.wire.envelope import Envelope, encode_envelope
from transfer.wire.header import Header, encode_header
from transfer.wire.manifest import (
    BUNDLE_COMMENT,
    ENVELOPES_NAME,
    KEYROLL_NAME,
    MANIFEST_NAME,
    NO_PREVIOUS,
    RECORDS_NAME,
    RETURN_COMMENT,
    SIGNATURE_NAME,
    BundleManifest,
    ReturnManifest,
    bundle_manifest_digest,
    bundle_name,
    decode_bundle_manifest,
    encode_manifest,
    return_name,
)
from transfer.wire.records import Handover, Outcome, Receipt, Record, Revocation, encode_record

NOW = int(time.time()) // 86_400 * 86_400  # the commands of the tests look at this machine's clock
NODE = "shop-a"
FAR = 4_000_000_000  # whatever the clock of the machine says


def order_id(number: int) -> str:
    return digest("order-id", b"%d" % number, size=16).hex()


def basket(number: int) -> bytes:
    return digest("basket", b"%d" % number)


def public_key(number: int) -> bytes:
    """A sealing key's public half; nobody opens anything here."""
    return digest("key-id", b"batch %d" % number)


def batch_key_id(number: int) -> bytes:
    return key_id(public_key(number))


def envelope(number: int, key: int = 1, *, basket_of: int | None = None) -> bytes:
    """The sealed order of this number, sealed to the batch key of that number; its boxes are noise."""
    header = Header(
        order_id=bytes.fromhex(order_id(number)),
        order_key_id=key_id(public_key(0)),
        batch_key_id=batch_key_id(key),
        time=NOW,
        basket_digest=basket(number if basket_of is None else basket_of),
    )
    noise = hashlib.shake_256(b"%d" % number).digest(560 + 176)
    return encode_envelope(
        Envelope(header=encode_header(header), order_box=noise[:560], card_box=noise[560:])
    )


@dataclass(kw_only=True)
class House:
    """A node with a pinned identity, a roll of ``keys`` batch keys, and two drops."""

    root: Path
    keys: int = 5
    identity: SigningKey = field(default_factory=generate_signing_key)
    node_key: SigningKey = field(default_factory=generate_signing_key)
    return_number: int = 0
    roll_number: int = 0
    rolls: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.root.joinpath("state").is_dir():
            self.open()  # made by an earlier house or by init-node
            return
        for place in (self.drop_in, self.drop_out):
            place.mkdir(parents=True)
        make_directory(self.node.state)
        (self.node.state / trust.NODE_IDENTITY_NAME).write_text(self.node_key.minisign.encode())
        trust.pin(self.node.state, self.enrolment(), node=NODE, spoken=fingerprint(self.identity.public_key))
        self.open()

    def open(self) -> None:
        self.spool = self.node.spool()
        self.register = Register(self.node.state / "register.db")

    @property
    def node(self) -> Node:
        return Node.of(NodeConfig(node=NODE, state=self.root / "state"))

    @property
    def drop_in(self) -> Path:
        return self.root / "in"

    @property
    def drop_out(self) -> Path:
        return self.root / "out"

    def close(self) -> None:
        self.register.close()

    def entry(self, role: Role, number: int, **changes: Any) -> KeyEntry:
        facts: dict[str, Any] = {
            "role": role,
            "node": NODE,
            "epoch": 1,
            "number": number,
            "public_key": public_key(0 if role is Role.ORDER else number),
            "seal_until": FAR,
            "destroy_at": FAR + 1,
        }
        signer = changes.pop("by", self.identity)
        return sign_entry(signer, **facts | changes)

    def roll(
        self, number: int | None = None, *, first: int = 1, by: SigningKey | None = None, **changes: Any
    ) -> KeyRoll:
        """The roll of that number, chained to the one before if this house has made it."""
        number = number or self.roll_number
        signer = by or self.identity
        before = self.rolls.get(number - 1)
        roll = KeyRoll(
            node=NODE,
            epoch=1,
            number=number,
            prev=roll_digest(before).hex() if before else NO_PREVIOUS,
            issued_at=NOW,
            order_keys=[self.entry(Role.ORDER, 1, by=signer)],
            batch_keys=[
                self.entry(Role.BATCH, place, by=signer) for place in range(first, first + self.keys)
            ],
        )
        roll = replace(roll, **changes)
        self.rolls[roll.number] = encode_roll(roll)
        return roll

    def next_roll(self, **changes: Any) -> KeyRoll:
        self.roll_number += 1
        return self.roll(**changes)

    def enrolment(self, roll: KeyRoll | None = None) -> Path:
        place = self.root / "enrolment"
        place.mkdir(exist_ok=True)
        raw = encode_roll(roll or self.next_roll())
        (place / "identity.pub").write_text(self.identity.minisign.encode())
        (place / KEYROLL_NAME).write_bytes(raw)
        (place / f"{KEYROLL_NAME}.minisig").write_text(sign_file(self.identity, raw, ROLL_COMMENT))
        return place

    def take(self, numbers: Iterable[int], *, key: int | None = None, now: int = NOW) -> list[Committed]:
        """Take orders as an intake worker does: one group on the current key."""
        roll = trust.load_roll(self.node.state, node=NODE)
        spool = self.spool
        group = spool.open_current(roll, NOW) if key is None else spool.open_group(batch_key_id(key))
        assert group is not None
        place = next(entry.number for entry in roll.batch_keys if entry.key_id == group.batch_key_id)
        orders = []
        for number in numbers:
            group.append(envelope(number, place))
            orders.append(NewOrder(order_id=order_id(number), basket_digest=basket(number)))
        return self.register.commit_group(group, orders, now)

    def push(self, *, empty: bool = False, now: int = NOW) -> PushReport:
        with self.node.alone():
            return Push(
                node=self.node,
                register=self.register,
                spool=self.spool,
                roll=trust.load_roll(self.node.state, node=NODE),
                sign=lambda manifest: sign_file(self.node_key, manifest, BUNDLE_COMMENT),
                now=now,
            ).run(self.drop_in, empty=empty)

    def pull(self) -> PullReport:
        with self.node.alone():
            return Pull(node=self.node, register=self.register, spool=self.spool).run(self.drop_out)

    def unit(self, sequence: int) -> Path:
        return self.drop_in / NODE / bundle_name(sequence)

    def manifest(self, sequence: int) -> BundleManifest:
        return decode_bundle_manifest((self.node.bundle(sequence) / MANIFEST_NAME).read_bytes())

    def receipt(self, sequence: int, /, **changes: Any) -> Receipt:
        """The receipt that the offline side gives for a bundle of the outbox."""
        manifest = self.manifest(sequence)
        receipt = Receipt(
            sequence=sequence,
            manifest=bundle_manifest_digest((self.node.bundle(sequence) / MANIFEST_NAME).read_bytes()),
            orders=manifest.count,
            outcome=Outcome.PROCESSED if manifest.count else Outcome.EMPTY,
            settled_at=NOW,
        )
        return replace(receipt, **changes)

    def give_return(
        self,
        records: Sequence[Record | bytes] = (),
        /,
        *,
        name: str | None = None,
        signer: SigningKey | None = None,
        by: SigningKey | None = None,
        roll: KeyRoll | bytes | None = None,
        comment: str = RETURN_COMMENT,
        **changes: Any,
    ) -> Path:
        """Write the next return into the drop; ``changes`` falsify its manifest before it is signed.

        ``by`` signs both the return and its roll, ``signer`` the return alone.
        """
        self.return_number += 1
        lines = b"".join(item if isinstance(item, bytes) else encode_record(item) for item in records)
        raw_roll = roll if isinstance(roll, bytes) else encode_roll(roll or self.next_roll(by=by))
        manifest = ReturnManifest(
            node=NODE,
            epoch=1,
            number=self.return_number,
            prev=NO_PREVIOUS,
            accepted=0,
            keyroll_sha256=hashlib.sha256(raw_roll).hexdigest(),
            records=len(records),
            records_sha256=hashlib.sha256(lines).hexdigest(),
            records_size=len(lines),
            time=NOW,
        )
        manifest = replace(manifest, **changes)
        raw = encode_manifest(manifest)
        unit = self.drop_out / NODE / (name or return_name(manifest.epoch, manifest.number))
        unit.mkdir(parents=True)
        (unit / KEYROLL_NAME).write_bytes(raw_roll)
        (unit / RECORDS_NAME).write_bytes(lines)
        (unit / MANIFEST_NAME).write_bytes(raw)
        (unit / SIGNATURE_NAME).write_text(sign_file(signer or by or self.identity, raw, comment))
        return unit

    def handover(self, new: SigningKey, *, old: SigningKey | None = None, **changes: Any) -> Handover:
        """The record of a handover to ``new``, signed by both; ``changes`` are made before they sign."""
        old = old or self.identity
        facts: dict[str, Any] = {"epoch": 1, "start": NOW} | changes
        message = handover_message(old_identity=old.public_key, new_identity=new.public_key, **facts)
        return Handover(
            old_identity=old.public_key.hex(),
            new_identity=new.public_key.hex(),
            old_signature=sign(old, message).hex(),
            new_signature=sign(new, message).hex(),
            **facts,
        )

    def revocation(self, role: Role, key: bytes, *, by: SigningKey | None = None) -> Revocation:
        """The record that revokes a key (its 16-byte id)."""
        message = revocation_message(role=role, epoch=1, key=key, revoked_at=NOW)
        return Revocation(
            key=key.hex(),
            role=role,
            epoch=1,
            revoked_at=NOW,
            signature=sign(by or self.identity, message).hex(),
        )

    def carried(self, sequence: int) -> list[str]:
        """The order ids in a bundle on the drop."""
        return [entry.order_id for entry in read_group(self.unit(sequence) / ENVELOPES_NAME)]


def fixed_key(seed: int) -> SigningKey:
    return signing_key(memoryview(hashlib.sha256(b"%d" % seed).digest()))
