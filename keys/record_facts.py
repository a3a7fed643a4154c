"""What a record says of an open keystore.

Why here: a ceremony, a recovery and every later act state the same facts in the same words.
Must not: change the keystore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keys.ceremony import IDENTITY_NAME
from keys.durable import create_durable
from keys.private.sign import sign_file
from keys.record import PUBLIC_MODE, record_files, write_record
from keys.record_form import (
    Act,
    ChangedKey,
    LostKeys,
    NamedKey,
    Record,
    RecordedCopy,
    RecordedCustody,
    RecordedNode,
    RecordedOrderKey,
)
from keys.ring_index import DestroyReason, KeyRole

if TYPE_CHECKING:
    from pathlib import Path

    from keys.ceremony_file import Person
    from keys.custody import Custody
    from keys.keystore import Keystore
    from keys.record_form import RecordedStep
    from keys.software import Software


def record_act(
    keystore: Keystore,
    directory: Path,
    *,
    act: Act,
    title: str,
    files: list[str],
    software: Software,
    passphrases: int,
    now: int,
    place: str | None = None,
    people: tuple[Person, ...] = (),
    custodians: tuple[str, ...] = (),
    steps: tuple[RecordedStep, ...] = (),
    input_digest: str | None = None,
    changed: tuple[ChangedKey, ...] = (),
    custody_copies: tuple[RecordedCopy, ...] = (),
) -> Record:
    """Write the record of an act on ``keystore`` and the identity that signs it into ``directory``.

    ``files`` are there already: the record names them, and the identity beside it.
    """
    identity = keystore.identity.minisign.encode().encode("ascii")
    create_durable(directory / IDENTITY_NAME, identity, PUBLIC_MODE)
    record = Record(
        act=act,
        title=title,
        place=place,
        rehearsal=keystore.rehearsal,
        people=people,
        identity=NamedKey.of(keystore.identity.public_key),
        order_keys=tuple(
            RecordedOrderKey(
                number=order.number,
                key_id=order.key.key_id.hex(),
                seal_until=order.seal_until,
                destroy_at=order.destroy_at,
            )
            for order in keystore.order_keys
        ),
        custody=_custody(keystore.custody, custodians),
        epoch=keystore.epoch,
        ring_secret=keystore.ring_backend,
        passphrases=passphrases,
        nodes=tuple(
            RecordedNode(
                node=node.node,
                key=NamedKey.of(bytes.fromhex(node.public_key)),
                roll_number=node.roll_number,
            )
            for node in keystore.ring.nodes()
        ),
        lost=lost_keys(keystore),
        software=software,
        input_digest=input_digest,
        changed=changed,
        custody_copies=custody_copies,
        files=record_files(directory, [*files, IDENTITY_NAME]),
        steps=steps,
        made_at=now,
    )
    write_record(directory, record, lambda raw, comment: sign_file(keystore.identity, raw, comment))
    return record


def lost_keys(keystore: Keystore) -> tuple[LostKeys, ...]:
    """The batch keys that went down with an earlier machine or medium, by node."""
    numbers: dict[str, list[int]] = {}
    for key in keystore.ring.destroyed_records():
        if key.role is KeyRole.BATCH and key.reason is DestroyReason.LOST:
            if key.node is None or key.number is None:
                raise AssertionError("a batch key has a node and a number")
            numbers.setdefault(key.node, []).append(key.number)
    return tuple(LostKeys(node=node, numbers=tuple(sorted(numbers[node]))) for node in sorted(numbers))


def _custody(custody: Custody | None, custodians: tuple[str, ...]) -> RecordedCustody | None:
    if custody is None:
        return None
    return RecordedCustody(
        key=NamedKey.of(custody.public_key),
        set_id=custody.set_id,
        threshold=custody.threshold,
        shares=custody.shares,
        custodians=custodians,
    )
