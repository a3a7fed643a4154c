"""What the ledger says of batch and hold keys: issued, emptied, destroyed; `key-ceremony evidence` is made of it.

Why here: keys change in the ring, which cannot write to the ledger; here the ledger catches up, also after a crash.
Must not: change a key, or say anything that the ring does not hold.

Entries, with a key's id (16 bytes, hex) as subject and times in Unix seconds:
``key-issued`` (epoch, node, number, issued_at, seal_until, destroy_at); ``key-emptied``: nothing needs the key now;
``key-destroyed`` (role, epoch, issued_at, opened_at, destroyed_at, reason, backend).
A batch key's first use is its ``bundle-accepted``, a hold key's issue its ``card-held``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from keys.ring import KeyRing
from keys.ring_index import Destroyed, KeyRole
from offline_processor.ledger.ledger import Ledger


def say_issued(ledger: Ledger, ring: KeyRing, *, now: int) -> None:
    """Record the batch keys that were issued since the last time, here or by `key-ceremony`."""
    for node in ring.nodes():
        counter = _issued_counter(ring, node.node)
        said = ledger.counter(counter)
        if node.next_number - 1 <= said:
            continue
        unsaid = _issued(ring, node.node, above=said)
        with ledger.atomic():
            for _, key_id, facts in unsaid:
                ledger.append("key-issued", key_id, now, facts)
            ledger.set_counter(counter, node.next_number - 1)


def say_emptied(ledger: Ledger, keys: Iterable[tuple[bytes, dict[str, Any]]], *, now: int) -> None:
    """Record that nothing needs these keys (16-byte ids, with facts) any more; they are destroyed next."""
    with ledger.atomic():
        for key_id, facts in keys:
            ledger.append("key-emptied", key_id.hex(), now, facts)


def say_destroyed(ledger: Ledger, ring: KeyRing, *, now: int) -> list[Destroyed]:
    """Record what the ring has destroyed and the ledger does not have yet, their issue first."""
    say_issued(ledger, ring, now=now)
    said = ledger.counter("keys-destroyed")
    unsaid = ring.destroyed_records()[said:]
    if unsaid:
        with ledger.atomic():
            for record in unsaid:
                ledger.append("key-destroyed", record.key_id, now, destruction(record, ring))
            ledger.set_counter("keys-destroyed", said + len(unsaid))
    return unsaid


def is_older(ring: KeyRing, ledger: Ledger) -> bool:
    """True for a ring that lacks keys, or destructions, of which the ledger has told: it is written after the ring."""
    return len(ring.destroyed_records()) < ledger.counter("keys-destroyed") or any(
        node.next_number - 1 < ledger.counter(_issued_counter(ring, node.node)) for node in ring.nodes()
    )


def destruction(record: Destroyed, ring: KeyRing) -> dict[str, Any]:
    """The facts of a ``key-destroyed`` entry."""
    facts: dict[str, Any] = {
        "role": record.role.value,
        "epoch": record.epoch,
        "reason": record.reason.value,
        "issued_at": record.issued_at,
        "destroyed_at": record.destroyed_at,
        "backend": ring.backend.value,
    }
    if record.opened_at is not None:
        facts["opened_at"] = record.opened_at
    if record.role is KeyRole.BATCH:
        facts |= {"node": record.node, "number": record.number}
    else:
        facts["order"] = record.order_id
    return facts


def _issued_counter(ring: KeyRing, node: str) -> str:
    return f"keys-issued/{ring.epoch}/{node}"


def _issued(ring: KeyRing, node: str, *, above: int) -> list[tuple[int, str, dict[str, Any]]]:
    """Number, key id and facts of the node's batch keys of this epoch with a higher number, live or destroyed."""
    found: list[tuple[int, str, dict[str, Any]]] = []
    for key in ring.batch_records():
        entry = key.entry
        if (entry.node, entry.epoch) == (node, ring.epoch) and entry.number > above:
            facts = _issue(node, entry.epoch, entry.number, key.issued_at)
            facts |= {"seal_until": entry.seal_until, "destroy_at": entry.destroy_at}
            found.append((entry.number, entry.key_id.hex(), facts))
    found += [
        (gone.number, gone.key_id, _issue(node, gone.epoch, gone.number, gone.issued_at))
        for gone in ring.destroyed_records()
        if (gone.node, gone.epoch) == (node, ring.epoch) and gone.number is not None and gone.number > above
    ]
    return sorted(found, key=lambda one: one[0])


def _issue(node: str, epoch: int, number: int, issued_at: int) -> dict[str, Any]:
    return {"node": node, "epoch": epoch, "number": number, "issued_at": issued_at}
