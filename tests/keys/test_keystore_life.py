"""The golden test of the keystore: any life that an operator can give it keeps what may never be broken.

A destroyed key never comes back; every roll verifies under the one identity that its node trusts; no revoked or
expired key is in any roll; no number is given twice within an epoch; what must outlive a loss does.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from keys import keyfile
from keys.custody import split
from keys.errors import KeysError
from keys.keyfile import Cost
from keys.keystore import Keystore
from keys.keystore_index import Cryptoperiods
from keys.private.sign import generate_signing_key
from keys.private.unseal import open_box
from keys.public.announcement import handover_is_good, revocation_is_good
from keys.public.roll import KeyRoll, Role, decode_roll, encode_roll, roll_digest
from keys.public.seal import seal
from keys.ring_index import DestroyReason
from tests.keys.conftest import NOW, PASSPHRASE, locked

CUSTODY, CUSTODY_KEY, _ = split(2, 3)
CHEAP = Cost(1, 8 * 1024 * 1024)
PERIODS = Cryptoperiods(order_seal=1000, order_destroy=2000, batch_seal=300, batch_destroy=600)
NODES: Final = ("shop-a", "shop-b")
BOX_TEXT: Final = b"an address"


@dataclass
class Node:
    """What a node knows: whom it trusts, and what it was given."""

    trusts: bytes
    confirmed: bool = True
    key: bytes = b""
    last_roll: KeyRoll | None = None
    numbers: dict[tuple[int, Role, int], str] = field(default_factory=dict)
    retired: bool = False


@dataclass
class Copy:
    """A custody copy, and what was true when it was made."""

    raw: bytes
    dead_order_keys: set[bytes]
    boxes: dict[bytes, bytes]
    identity: bytes
    trust: dict[str, tuple[bytes, bool]]
    nodes: set[str]
    retired: set[str]
    keys: dict[str, bytes]
    rolls: dict[str, KeyRoll | None]
    revoked: set[bytes]
    known: set[bytes]


class Life(RuleBasedStateMachine):
    """The keystore under test, and beside it a plain account of what happened to it."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="keystore-life-"))
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(keyfile, "INTERACTIVE", CHEAP)
        self.now = NOW
        self.places = 0
        self.highest = 1
        self.nodes: dict[str, Node] = {}
        self.dead: set[bytes] = set()  # batch and hold keys
        self.remembered: set[bytes] = (
            set()
        )  # of the dead those that no recovery from an old copy made forgotten
        self.dead_order_keys: set[bytes] = set()
        self.revoked: set[bytes] = set()
        self.boxes: dict[bytes, bytes] = {}  # order key id -> something sealed to it
        self.copies: list[Copy] = []
        self.numbers: dict[tuple[int, int], bytes] = {}  # order keys: (epoch, number) -> key id

    @initialize()
    def begin(self) -> None:
        with locked(PASSPHRASE) as passphrase:
            self.keystore = Keystore.create(
                self.place(), [passphrase], rehearsal=True, now=self.now, custody=CUSTODY, periods=PERIODS
            )
        self.vault = bytes(self.keystore.vault_key.view)
        self.note_order_keys()
        self.enrol("shop-a")
        self.keystore.issue_batch_keys("shop-a", 2, now=self.now)

    def place(self) -> Path:
        self.places += 1
        self.path = self.root / str(self.places)
        return self.path

    def note_order_keys(self) -> None:
        for order in self.keystore.order_keys:
            key_id = order.key.key_id
            self.boxes.setdefault(key_id, seal(BOX_TEXT, order.key.public_key))
            assert self.numbers.setdefault((self.keystore.epoch, order.number), key_id) == key_id

    def bury(self, *key_ids: bytes) -> None:
        self.dead.update(key_ids)
        self.remembered.update(key_ids)

    def active(self) -> list[str]:
        return [name for name, node in self.nodes.items() if not node.retired]

    # Time, and the machine

    @rule(seconds=st.sampled_from([1, 50, 301, 1000, 2500]))
    def time_goes_by(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def reopen(self) -> None:
        self.keystore.close()
        with locked(PASSPHRASE) as passphrase:
            self.keystore = Keystore.open(self.path, [passphrase])

    # Nodes

    @rule(name=st.sampled_from(NODES))
    def enrol(self, name: str) -> None:
        if name in self.nodes:
            return
        key = generate_signing_key().public_key
        self.keystore.ring.enrol_node(name, key, self.now)
        self.nodes[name] = Node(trusts=self.keystore.identity.public_key, key=key)

    @precondition(lambda self: self.active())
    @rule(data=st.data())
    def rotate_node(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.active()))
        self.nodes[name].key = generate_signing_key().public_key
        self.keystore.ring.rotate_node(name, self.nodes[name].key, self.now)

    @precondition(lambda self: len(self.active()) > 1)
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.active()))
        self.nodes[name].retired = True
        for record in self.keystore.ring.retire_node(name, self.now):
            self.bury(bytes.fromhex(record.key_id))

    # Batch and hold keys

    @precondition(lambda self: self.active())
    @rule(data=st.data(), count=st.integers(1, 3))
    def issue(self, data: st.DataObject, count: int) -> None:
        self.keystore.issue_batch_keys(data.draw(st.sampled_from(self.active())), count, now=self.now)

    @rule(data=st.data())
    def open_batch_key(self, data: st.DataObject) -> None:
        live = [key.entry.key_id for key in self.keystore.ring.batch_records()]
        if live:
            self.keystore.ring.mark_opened(data.draw(st.sampled_from(live)), self.now)

    @rule()
    def hold(self) -> None:
        self.keystore.ring.new_hold_keys([b"o" * 16], now=self.now, destroy_at=self.now + 72)

    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        ring = self.keystore.ring
        live = [key.entry.key_id for key in ring.batch_records()]
        live += [bytes.fromhex(key.key_id) for key in ring.hold_records()]
        if live:
            doomed = data.draw(st.lists(st.sampled_from(live), min_size=1, max_size=3, unique=True))
            ring.destroy(doomed, reason=DestroyReason.BATCH_DONE, now=self.now)
            self.bury(*doomed)

    @precondition(lambda self: self.active())
    @rule(data=st.data())
    def revoke_batch_keys(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.active()))
        unused = [entry.number for entry in self.keystore.ring.unused(name)]
        numbers = data.draw(st.none() | st.lists(st.sampled_from(unused))) if unused else None
        for record in self.keystore.ring.revoke_batch_keys(name, numbers, self.now):
            self.bury(bytes.fromhex(record.key_id))
            self.revoked.add(bytes.fromhex(record.key_id))

    # Long-lived keys

    @rule(overlap=st.sampled_from([0, 100, 5000]))
    def rotate_order_key(self, overlap: int) -> None:
        self.keystore.rotate_order_key(self.now, overlap)
        self.note_order_keys()

    @rule(data=st.data())
    def revoke_order_key(self, data: st.DataObject) -> None:
        live = [order.number for order in self.keystore.order_keys]
        if live:
            number = data.draw(st.sampled_from(live))
            self.keystore.revoke_order_key(number, self.now)
            self.note_order_keys()
            self.revoked.add(self.numbers[self.keystore.epoch, number])

    @rule()
    def destroy_due(self) -> None:
        due = {order.key.key_id for order in self.keystore.order_keys if self.now >= order.destroy_at}
        dead = self.keystore.destroy_due_order_keys(self.now)
        assert {bytes.fromhex(record.key_id) for record in dead} == due
        self.dead_order_keys.update(due)

    @rule(compromised=st.booleans())
    def rotate_identity(self, compromised: bool) -> None:
        waits = self.keystore.handover is not None
        if waits and not compromised:
            with pytest.raises(KeysError) as refusal:
                self.keystore.rotate_identity(self.now)
            assert refusal.value.rule == "KEY-HANDOVER"
            return
        handover = self.keystore.rotate_identity(self.now, compromised=compromised)
        assert (handover is None) == (compromised or not self.active())
        assert handover is None or handover_is_good(handover)
        for node in self.nodes.values():
            if handover is None:  # every node has to be trusted anew, by people
                node.trusts = self.keystore.identity.public_key
            node.confirmed = handover is None

    @precondition(lambda self: self.active())
    @rule(data=st.data())
    def node_confirms(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.active()))
        self.keystore.confirm_handover(name)
        node = self.nodes[name]
        node.trusts, node.confirmed = self.keystore.identity.public_key, True

    # What may never be broken

    @invariant()
    def every_roll_is_believed_and_names_only_keys_that_may_be_used(self) -> None:
        if hasattr(self, "keystore"):
            for name in self.active():
                self.roll(name)

    def roll(self, name: str) -> None:
        node = self.nodes[name]
        roll = self.keystore.make_roll(name, now=self.now)
        # Believed by the node as it is: under the identity that it trusts, and no other.
        assert decode_roll(encode_roll(roll), node=name, identity=node.trusts) == roll
        before = node.last_roll
        assert roll.prev == ("00" * 32 if before is None else roll_digest(encode_roll(before)).hex())
        assert (roll.epoch, roll.number) > ((0, 0) if before is None else (before.epoch, before.number))
        for entry in (*roll.order_keys, *roll.batch_keys):
            assert entry.key_id not in self.revoked | self.dead | self.dead_order_keys
            assert self.now < entry.seal_until
            numbered = (entry.epoch, entry.role, entry.number)
            assert node.numbers.setdefault(numbered, entry.public_key) == entry.public_key
        unused = [key for key in self.keystore.ring.unused(name) if self.now < key.seal_until]
        assert [key.key_id for key in roll.batch_keys] == [key.key_id for key in unused], "complete in itself"
        node.last_roll = roll

    # The loss of the machine

    @rule()
    def copy(self) -> None:
        copy = Copy(
            raw=self.keystore.custody_copy(self.now),
            dead_order_keys=set(self.dead_order_keys),
            boxes=dict(self.boxes),
            identity=self.keystore.identity.public_key,
            trust={name: (node.trusts, node.confirmed) for name, node in self.nodes.items()},
            nodes=set(self.nodes),
            retired={name for name, node in self.nodes.items() if node.retired},
            keys={name: node.key for name, node in self.nodes.items()},
            rolls={name: node.last_roll for name, node in self.nodes.items()},
            revoked=set(self.revoked),
            known=self.remembered | set(self.keystore.ring._content.keys),
        )
        self.copies.append(copy)

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def lose_the_machine_and_recover(self, data: st.DataObject) -> None:
        copy = data.draw(st.sampled_from(self.copies))
        ring = self.keystore.ring
        self.dead.update(ring._content.keys)
        self.remembered = set(copy.known)
        self.keystore.close()
        with locked(PASSPHRASE) as passphrase:
            self.keystore = Keystore.recover(
                self.place(), [passphrase], copy.raw, CUSTODY_KEY, now=self.now, epoch_above=self.highest
            )
        assert self.keystore.epoch == max(self.highest + 1, 2)
        self.highest = self.keystore.epoch
        assert self.keystore.identity.public_key == copy.identity
        assert self.keystore.ring._content.keys == {}
        # An older copy knows nothing of what came after it; whom a node trusts by then, people set right.
        self.dead_order_keys, self.boxes, self.revoked = (
            set(copy.dead_order_keys),
            dict(copy.boxes),
            set(copy.revoked),
        )
        self.nodes = {name: node for name, node in self.nodes.items() if name in copy.nodes}
        for name, node in self.nodes.items():
            node.trusts, node.confirmed = copy.trust[name]
            node.retired, node.key = name in copy.retired, copy.keys[name]
            node.last_roll = copy.rolls[name]
        self.note_order_keys()

    @invariant()
    def destroyed_keys_do_not_come_back(self) -> None:
        if not hasattr(self, "keystore"):
            return
        ring = self.keystore.ring
        for key_id in self.dead:
            assert ring.batch_key(key_id) is None
            assert ring.hold_key(key_id) is None
        for key_id in self.remembered:
            assert ring.find_destroyed(key_id) is not None
        for key_id in self.dead_order_keys:
            assert self.keystore.order_key(key_id) is None

    @invariant()
    def live_order_keys_open_what_was_sealed_to_them(self) -> None:
        if not hasattr(self, "keystore"):
            return
        assert bytes(self.keystore.vault_key.view) == self.vault
        for key_id in self.boxes.keys() - self.dead_order_keys:
            key = self.keystore.order_key(key_id)
            assert key is not None
            assert open_box(self.boxes[key_id], key.public_key, key.private) == BOX_TEXT

    @invariant()
    def every_revocation_is_announced_under_either_identity(self) -> None:
        if not hasattr(self, "keystore"):
            return
        for signer in (self.keystore.signer_for(True), self.keystore.signer_for(False)):
            announced = self.keystore.revocations_by(signer)
            assert all(revocation_is_good(each, signer.public_key) for each in announced)
            assert self.revoked <= {bytes.fromhex(each.key) for each in announced}

    @invariant()
    def each_node_is_spoken_to_by_the_identity_that_it_trusts(self) -> None:
        if not hasattr(self, "keystore"):
            return
        for name in self.active():
            node = self.nodes[name]
            assert self.keystore.signer_of(name).public_key == node.trusts
            assert (name in self.keystore.handover_waits_for) == (not node.confirmed)
            known = self.keystore.ring.node(name)
            assert known is not None
            assert known.public_key == node.key.hex()

    def teardown(self) -> None:
        with contextlib.suppress(AttributeError):
            self.keystore.close()
        self.patch.undo()
        shutil.rmtree(self.root)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
