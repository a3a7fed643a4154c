"""What the ceremony does: make the keystore, enrol a node, report.

Why here: the steps without their screens, so that tests and later commands run the very same ones.
Must not: read the clock, the environment or the terminal, or overwrite anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from keys.durable import create_durable, make_directory
from keys.errors import KeysError
from keys.private.sign import sign_file
from keys.private.swap import OnSwap, check_swap
from keys.public.fingerprint import fingerprint, matches, words
from keys.public.minisign import MinisignPublicKey, not_a_key
from keys.public.roll import ROLL_COMMENT, encode_roll
from keys.ring_index import RingBackend

if TYPE_CHECKING:
    from pathlib import Path

    from keys.custody import Custody
    from keys.keystore import Keystore

DEFAULT_BATCH_KEYS: Final = 30
IDENTITY_NAME: Final = "identity.pub"
ROLL_NAME: Final = "keyroll.json"
SIGNATURE_NAME: Final = "keyroll.json.minisig"
RING_SECRETS: Final = {
    RingBackend.FILE: "in a file: erasure not assured by hardware",
    RingBackend.TPM: "in the TPM: an older copy of the disk opens nothing",
}
_PUBLIC_MODE: Final = 0o644
_TEXT_LIMIT: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What an enrolment gave: both fingerprints, and the files for the node (in ``out``)."""

    rehearsal: bool
    node: str
    node_fingerprint: str
    node_words: str
    identity_fingerprint: str
    identity_words: str
    roll_number: int
    batch_keys: int
    out: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderKeyStatus:
    """One order key; times are Unix seconds."""

    number: int
    key_id: str
    seal_until: int
    destroy_at: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """One enrolled node and its batch keys."""

    node: str
    fingerprint: str
    words: str
    roll_number: int
    unused: int
    opened: int
    destroyed: int
    enrolled_at: int
    retired_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodyStatus:
    """Who could rebuild the keys: any ``threshold`` of ``shares`` custodians."""

    fingerprint: str
    words: str
    threshold: int
    shares: int
    set_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeystoreStatus:
    """The whole keystore at one moment. ``overdue`` counts batch and hold keys that the next run destroys.

    ``swap`` marks a machine that may write memory to disk in clear, where that was accepted.
    """

    rehearsal: bool
    epoch: int
    made_at: int
    identity_fingerprint: str
    identity_words: str
    custody: CustodyStatus | None
    order_keys: list[OrderKeyStatus]
    nodes: list[NodeStatus]
    hold_keys: int
    overdue: int
    destroyed: int
    ring_secret: str
    swap: str | None


def read_node_key(path: Path) -> bytes:
    """The Ed25519 key in a node's ``identity.pub``. Raises ``KEY-PUBLIC``."""
    try:
        with path.open("rb") as file:
            text = file.read(_TEXT_LIMIT + 1).decode("ascii")
    except OSError as error:
        remedy = "name the identity.pub that the node's `spool-sync init-node` made"
        raise KeysError("KEY-PUBLIC", f"cannot read {path}: {error.strerror}", remedy) from error
    except UnicodeDecodeError as error:
        raise not_a_key(f"{path} is not the text of a minisign public key") from error
    return MinisignPublicKey.decode(text).public_key


def enrol_node(
    keystore: Keystore, *, node: str, public_key: bytes, spoken: str, out: Path, batch_keys: int, now: int
) -> Enrolment:
    """Take a node in and write its first key roll to ``out``: identity, roll and, last, the roll's signature.

    ``spoken`` is the fingerprint that the node's administrator gave by another way than the file came.
    Enrolling the same node with the same key again fills its unused batch keys up to ``batch_keys``, in a new
    roll. Raises ``KEY-FINGERPRINT``, ``CEREMONY-EXISTS`` or what ``KeyRing.enrol_node`` raises.
    """
    if not matches(public_key, spoken):
        raise KeysError(
            "KEY-FINGERPRINT",
            "the key in the file does not have the fingerprint that was given",
            "have it read out again; if it still differs, the file was exchanged: do not enrol it",
        )
    for name in (IDENTITY_NAME, ROLL_NAME, SIGNATURE_NAME):
        if (out / name).exists():
            remedy = "choose an empty directory with --out"
            raise KeysError("CEREMONY-EXISTS", f"{out / name} exists already", remedy)
    keystore.ring.enrol_node(node, public_key, now)
    missing = batch_keys - len(keystore.ring.unused(node))
    if missing > 0:
        keystore.issue_batch_keys(node, missing, now=now)
    roll = keystore.make_roll(node, now=now)
    raw = encode_roll(roll)
    signer = keystore.signer_of(
        node
    )  # during a handover a node that was enrolled before trusts the former identity
    signature = sign_file(signer, raw, ROLL_COMMENT)
    make_directory(out, 0o755)
    create_durable(out / IDENTITY_NAME, signer.minisign.encode().encode("ascii"), _PUBLIC_MODE)
    create_durable(out / ROLL_NAME, raw, _PUBLIC_MODE)
    create_durable(out / SIGNATURE_NAME, signature.encode("utf-8"), _PUBLIC_MODE)
    return Enrolment(
        rehearsal=keystore.rehearsal,
        node=node,
        node_fingerprint=fingerprint(public_key),
        node_words=words(public_key),
        identity_fingerprint=fingerprint(signer.public_key),
        identity_words=words(signer.public_key),
        roll_number=roll.number,
        batch_keys=len(roll.batch_keys),
        out=out,
    )


def status(keystore: Keystore, now: int) -> KeystoreStatus:
    """Everything that may be shown of a keystore."""
    ring = keystore.ring
    return KeystoreStatus(
        rehearsal=keystore.rehearsal,
        epoch=keystore.epoch,
        made_at=keystore.made_at,
        identity_fingerprint=fingerprint(keystore.identity.public_key),
        identity_words=words(keystore.identity.public_key),
        custody=_custody(keystore.custody),
        order_keys=[
            OrderKeyStatus(
                number=order.number,
                key_id=order.key.key_id.hex(),
                seal_until=order.seal_until,
                destroy_at=order.destroy_at,
                state=_order_state(now, order.seal_until, order.destroy_at),
            )
            for order in keystore.order_keys
        ],
        nodes=_nodes(keystore),
        hold_keys=len(ring.hold_records()),
        overdue=len(ring.overdue(now)),
        destroyed=len(ring.destroyed_records()),
        ring_secret=RING_SECRETS[keystore.ring_backend],
        swap=check_swap(OnSwap.ACCEPT),
    )


def _custody(custody: Custody | None) -> CustodyStatus | None:
    if custody is None:
        return None
    return CustodyStatus(
        fingerprint=fingerprint(custody.public_key),
        words=words(custody.public_key),
        threshold=custody.threshold,
        shares=custody.shares,
        set_id=custody.set_id,
    )


def _nodes(keystore: Keystore) -> list[NodeStatus]:
    ring = keystore.ring
    return [
        NodeStatus(
            node=node.node,
            fingerprint=fingerprint(bytes.fromhex(node.public_key)),
            words=words(bytes.fromhex(node.public_key)),
            roll_number=node.roll_number,
            unused=len(ring.unused(node.node)),
            opened=sum(
                1 for key in ring.batch_records() if key.entry.node == node.node and key.opened_at is not None
            ),
            destroyed=sum(1 for key in ring.destroyed_records() if key.node == node.node),
            enrolled_at=node.enrolled_at,
            retired_at=node.retired_at,
        )
        for node in ring.nodes()
    ]


def _order_state(now: int, seal_until: int, destroy_at: int) -> str:
    if now < seal_until:
        return "in use"
    return "opens only" if now < destroy_at else "overdue"
