"""The intake nodes of the key ring: taken in, given a new identity, retired. Functions of a table, no I/O.

Why here: who is enrolled with which key is one question; the ring (keys/ring.py) only makes the answer durable.
Must not: let one key stand for two nodes, or one name for two machines.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from keys.errors import KeysError
from keys.public.roll import NODE_PATTERN
from keys.ring_index import FormerKey, RingNode

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_ROLL: Final = "00" * 32

Nodes = dict[str, RingNode]


def enrol(nodes: Mapping[str, RingNode], node: str, public_key: bytes, now: int) -> Nodes | None:
    """The table with ``node`` in it; None when nothing changes. Raises as ``KeyRing.enrol_node``."""
    if re.search(NODE_PATTERN, node) is None:
        raise KeysError(
            "KEY-NODE-NAME", "this is not a node id", "1 to 32 of a-z, 0-9 and '-', not '-' first"
        )
    found = nodes.get(node)
    if found is not None and found.public_key == public_key.hex() and found.retired_at is None:
        return None
    if found is not None:
        remedy = "a restored or lost node never goes on: enrol it under a new node id"
        raise KeysError("KEY-NODE-EXISTS", f"node {node} is enrolled with another key", remedy)
    _refuse_known_key(nodes, public_key)
    enrolled = RingNode(
        node=node,
        public_key=public_key.hex(),
        next_number=1,
        roll_number=0,
        roll_prev=NO_ROLL,
        enrolled_at=now,
    )
    return {**nodes, node: enrolled}


def rotate(nodes: Mapping[str, RingNode], node: str, public_key: bytes, now: int) -> Nodes | None:
    """The table with a new identity of ``node``; None when it has that already."""
    before = known(nodes, node)
    if before.public_key == public_key.hex():
        return None
    _refuse_known_key(nodes, public_key)
    former = FormerKey(public_key=before.public_key, replaced_at=now)
    rotated = replace(before, public_key=public_key.hex(), former_keys=(*before.former_keys, former))
    return {**nodes, node: rotated}


def settle(nodes: Mapping[str, RingNode], node: str, sequence: int, signer: bytes | None) -> Nodes | None:
    """The table after ``signer`` (None: the node's key of now) signed the accepted bundle ``sequence``."""
    before = known(nodes, node)
    newer = [key.public_key for key in before.former_keys] + [before.public_key]
    place = len(newer) - 1 if signer is None else newer.index(signer.hex())
    settled = tuple(
        replace(key, until=sequence - 1) if at < place and key.until is None else key
        for at, key in enumerate(before.former_keys)
    )
    if settled == before.former_keys:
        return None
    return {**nodes, node: replace(before, former_keys=settled)}


def known(nodes: Mapping[str, RingNode], node: str) -> RingNode:
    """The node of this name; ``KEY-NODE-UNKNOWN`` when it is not enrolled or is retired."""
    found = nodes.get(node)
    if found is None or found.retired_at is not None:
        remedy = "enrol it first: `key-ceremony enrol-node`"
        raise KeysError("KEY-NODE-UNKNOWN", f"node {node} is not enrolled", remedy)
    return found


def _refuse_known_key(nodes: Mapping[str, RingNode], public_key: bytes) -> None:
    for other in nodes.values():
        if public_key.hex() in (other.public_key, *(key.public_key for key in other.former_keys)):
            remedy = "make a new key on the node: every node has a key of its own, and no key comes back"
            raise KeysError("KEY-NODE-KEY", f"this key belongs to node {other.node}", remedy)
