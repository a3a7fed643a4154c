"""How old a custody copy is: whether a recovery from it would bring back the keys of now, and no destroyed ones.

Why here: a copy outlives what changes after it; both what it lacks and what it should have forgotten is a danger.
Must not: need a share, or take a copy of another keystore for one of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from keys.custody_copy import look
from keys.errors import KeysError
from keys.recovery import copy_beside, read_copy

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from keys.keystore import Keystore
    from keys.keystore_index import KeystoreIndex
    from keys.ring_index import RingNode


OLD: Final = "CUSTODY-COPY-OLD"


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyState:
    """One copy. ``copied_at`` (Unix seconds) is None where there is none; ``reason`` says why it is ``old``.

    ``rule`` is CUSTODY-COPY-OLD for an old one: a notice, not a refusal.
    """

    path: Path
    copied_at: int | None
    old: bool
    rule: str | None
    reason: str


def states(keystore: Keystore, others: Iterable[Path] = ()) -> list[CopyState]:
    """The copy beside the keystore, then the ``others``; none for a keystore without custodians.

    Raises ``CUSTODY-MISSING``, ``CUSTODY-DAMAGED`` or ``CUSTODY-OTHER`` (of another keystore) for the others.
    """
    if keystore.custody is None:
        return []
    beside = copy_beside(keystore.path)
    if not beside.exists():
        reason = "no custody copy was written on this machine since its keys were made"
        return [
            CopyState(path=beside, copied_at=None, old=True, rule=OLD, reason=reason),
            *(state(keystore, path) for path in others),
        ]
    return [state(keystore, path) for path in (beside, *others)]


def state(keystore: Keystore, path: Path) -> CopyState:
    """How old this copy is."""
    copy = look(read_copy(path))
    ours = {key.public_key.hex() for key in keystore.identities}
    if copy.keystore.identity not in ours:
        remedy = "label it, and keep it with the keystore that it belongs to"
        raise KeysError("CUSTODY-OTHER", f"{path} is a custody copy of another keystore", remedy)
    reason = ""
    live = {key.public_key for key in keystore.index.order_keys}
    kept = [key.number for key in copy.keystore.order_keys if key.public_key not in live]
    if kept:
        reason = f"it still holds destroyed order keys ({', '.join(map(str, kept))}): destroy this copy"
    elif _facts(copy.keystore, copy.ring.nodes) != _facts(keystore.index, keystore.ring.nodes()):
        reason = "keys or nodes were changed after it was written"
    rule = OLD if reason else None
    return CopyState(path=path, copied_at=copy.copied_at, old=bool(reason), rule=rule, reason=reason)


def _facts(index: KeystoreIndex, nodes: Iterable[RingNode]) -> object:
    # Numbers of batch keys and rolls, and which node has confirmed a handover, move on every day.
    enrolled = [
        (node.node, node.public_key, [key.public_key for key in node.former_keys], node.retired_at)
        for node in nodes
    ]
    former, handed = index.former_identities, index.handover is not None
    return (
        *(index.epoch, index.identity, former, handed, index.order_keys, index.destroyed_order_keys),
        *(index.custody, enrolled),
    )
