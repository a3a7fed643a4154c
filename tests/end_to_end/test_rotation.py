"""Identities rotate and keys are revoked while the shop goes on: both sides' commands, nothing else.

Why here: each side has tests of its own; that they mean the same by an announcement shows only between them.
Must not: carry anything but what the commands write.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intake.money import control_total
from keys.console import ExitCode
from offline_processor.acquirers.simulator.books import unreversed_approvals
from tests.end_to_end import orders, story
from tests.end_to_end.conftest import System
from tests.end_to_end.orders import SETTLED, Receipt
from tests.end_to_end.places import NODE

_ANY_END = (ExitCode.DONE, ExitCode.NEEDS_PERSON, ExitCode.NOTHING_TO_DO)


def _node(system: System, *words: str | Path) -> dict[str, Any]:
    config = ("--config", str(system.places.node_toml), "--json")
    return system.shell.run(*words, *config, expect=_ANY_END).document


def _offline(system: System, *words: str | Path) -> dict[str, Any]:
    config = ("--config", str(system.places.offline_toml), "--json")
    return system.shell.offline(*words, *config, expect=_ANY_END).document


def _take(system: System, count: int = 3) -> list[Receipt]:
    story.take_orders(system.shell, system.places, system.url, count=count)
    return orders.read_receipts(system.places.receipts)


def _charge(system: System, taken: Sequence[Receipt] = ()) -> dict[str, Any]:
    total = control_total((receipt.amount, receipt.currency) for receipt in taken)
    return _offline(system, "offline-processor", "run", *(("--confirm", total) if taken else ()))


def _day(system: System, taken: Sequence[Receipt] = ()) -> dict[str, Any]:
    """Out, charged and back. The bundle must be accepted whatever was rotated."""
    _node(system, "spool-sync", "push")
    report = _charge(system, taken)
    assert report["refused"] == []
    pulled = _node(system, "spool-sync", "pull")
    assert pulled["refused"] == []
    return pulled


def _states(system: System, taken: Sequence[Receipt]) -> set[str]:
    return {status.state for status in orders.statuses(system.url, taken).values()}


def test_node_signs_with_its_new_identity_and_bundles_of_the_old_one_still_count(system: System) -> None:
    with story.open_shop(system.shell, system.places, system.url):
        first = _take(system)
        _node(system, "spool-sync", "push")  # signed by the old identity, charged after the rotation
        made = _node(system, "spool-sync", "rotate-identity")
        key = system.places.node_state / "identity.next.pub"
        node = ("--node", NODE, "--public-key", key, "--fingerprint", made["fingerprint"])
        _offline(system, "key-ceremony", "rotate", "node", *node)
        second = _take(system)
        _node(system, "spool-sync", "push")
        _node(system, "spool-sync", "rotate-identity", "--activate")
        third = _take(system)
        taken = [*first, *second, *third]
        _day(system, taken)
        for _ in range(2):  # repeats of bundles that the old identity signed lie on the medium all the time
            _day(system)
        assert _states(system, taken) <= SETTLED
    assert all(count == 1 for count in unreversed_approvals(system.places.books).values())


def test_handover_reaches_the_node_and_ends_the_old_identity(system: System) -> None:
    with story.open_shop(system.shell, system.places, system.url):
        _day(system, _take(system))
        before = _node(system, "spool-sync", "status")["trusted"]["fingerprint"]
        rotated = _offline(system, "key-ceremony", "rotate", "identity", "--fingerprint", before)
        taken = _take(system)
        _day(system, taken)  # brings the handover, signed by the old identity
        announced = _node(system, "spool-sync", "status")
        assert "HANDOVER-PENDING" in [notice["rule"] for notice in announced["notices"]]
        _day(system, more := _take(system))  # confirms it; the answer is signed by the new identity
        completed = _node(system, "spool-sync", "status")
        assert completed["trusted"]["fingerprint"] == rotated["fingerprint"] != before
        assert completed["notices"] == []
        _day(system, last := _take(system))
        _day(system)
        assert _states(system, [*taken, *more, *last]) <= SETTLED


def test_after_a_compromise_only_the_identity_that_was_typed_anew_is_trusted(
    system: System, tmp_path: Path
) -> None:
    with story.open_shop(system.shell, system.places, system.url):
        _day(system, _take(system))
        old = _node(system, "spool-sync", "status")["trusted"]["fingerprint"]
        compromised = ("--compromised", "--fingerprint", old)
        new = _offline(system, "key-ceremony", "rotate", "identity", *compromised)["fingerprint"]
        taken = _take(system)
        _node(system, "spool-sync", "push")
        assert _charge(system, taken)["refused"] == []
        # The node still trusts the old identity: what the new one signs is not believed.
        config = ("--config", system.places.node_toml)
        refused = system.shell.run("spool-sync", "pull", *config, expect=(ExitCode.REFUSED,))
        assert "RETURN-SIGNATURE" in refused.output
        spoken = _node(system, "spool-sync", "status")["fingerprint"]
        node = ("--node", NODE, "--public-key", system.places.node_identity, "--fingerprint", spoken)
        _offline(system, "key-ceremony", "enrol-node", *node, "--out", tmp_path / "again")
        trust = ("intake", "trust", tmp_path / "again", *config, "--fingerprint", new)
        system.shell.run(*trust, expect=(ExitCode.REFUSED,))
        system.shell.run(*trust, "--replace")
        _day(system)
        _day(system, more := _take(system))
        _day(system)
        assert _states(system, [*taken, *more]) <= SETTLED


def test_revoked_batch_keys_are_never_used_again_and_their_orders_are_to_be_ordered_again(
    system: System,
) -> None:
    with story.open_shop(system.shell, system.places, system.url):
        sealed_before = _take(system)
        spoken = _node(system, "spool-sync", "status")["fingerprint"]
        _offline(system, "key-ceremony", "revoke", "batch-keys", "--node", NODE, "--fingerprint", spoken)
        _day(system)
        assert _states(system, sealed_before) == {"order-again"}
        _day(system, after := _take(system))
        _day(system)
        assert _states(system, after) <= SETTLED
    assert set(unreversed_approvals(system.places.books)) <= {receipt.order_id for receipt in after}


def test_after_its_order_key_was_revoked_the_shop_seals_to_another(system: System) -> None:
    with story.open_shop(system.shell, system.places, system.url):
        sealed_before = _take(system)
        doomed = _offline(system, "key-ceremony", "status")["order_keys"][0]
        word = ("revoke", "order-key", str(doomed["number"]), "--key-id", doomed["key_id"][:8])
        _offline(system, "key-ceremony", *word)
        _day(system, sealed_before)  # what was sealed before still opens: revoked means sealed to no more
        code, offered = orders.get(system.url, "/keys")
        assert (code, offered["order_key"]["number"]) == (200, doomed["number"] + 1)
        _day(system, after := _take(system))
        _day(system)
        assert _states(system, [*sealed_before, *after]) <= SETTLED
