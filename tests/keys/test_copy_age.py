"""`key-ceremony status` says how old the custody copies are, and which of them a recovery must not use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from keys.keystore import Keystore
from keys.recovery import refresh_copy
from tests.keys.conftest import NOW, PASSPHRASE, locked
from tests.keys.test_ceremony import ceremony
from tests.keys.test_cli_rotation import config as with_custodians
from tests.keys.test_cli_rotation import custody, done, opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.keys.test_cli_rotation import Made

__all__ = ["custody", "with_custodians"]


@pytest.fixture
def config(with_custodians: Path) -> Path:
    with opened(with_custodians) as keystore:
        refresh_copy(keystore, NOW)
    return with_custodians


def copies(config: Path, *more: object) -> list[dict[str, Any]]:
    ended = ceremony("status", "--config", config, "--json", *more)
    assert ended.returncode == 0, ended.stdout
    listed: list[dict[str, Any]] = json.loads(ended.stdout)["custody_copies"]
    return listed


def test_copy_of_now_is_shown_with_its_time_and_without_a_warning(config: Path) -> None:
    [copy] = copies(config)
    assert (copy["copied_at"], copy["old"]) == (NOW, False)
    shown = ceremony("status", "--config", config)
    assert "keystore.custody was written at 2027-01-15 08:00 UTC" in shown.stdout
    assert "CUSTODY-COPY-OLD" not in shown.stdout


def test_what_moves_on_every_day_makes_no_copy_old(config: Path) -> None:
    with opened(config) as keystore:
        keystore.issue_batch_keys("shop-a", 2, now=NOW + 5)
        keystore.make_roll("shop-a", now=NOW + 5)
        keystore.ring.mark_opened(keystore.ring.unused("shop-a")[0].key_id, NOW + 6)
    assert [copy["old"] for copy in copies(config)] == [False]


@pytest.mark.parametrize("change", ["order key", "revocation", "identity", "node", "node key", "retired"])
def test_copy_is_old_once_keys_changed_after_it(config: Path, change: str) -> None:
    with opened(config) as keystore:
        match change:
            case "order key":
                keystore.rotate_order_key(NOW + 5)
            case "revocation":
                keystore.revoke_order_key(1, NOW + 5)
            case "identity":
                keystore.rotate_identity(NOW + 5)
            case "node":
                keystore.ring.enrol_node("shop-b", b"b" * 32, NOW + 5)
            case "node key":
                keystore.ring.rotate_node("shop-a", b"c" * 32, NOW + 5)
            case _:
                keystore.ring.retire_node("shop-a", NOW + 5)
    [copy] = copies(config)
    assert copy["old"]
    assert copy["rule"] == "CUSTODY-COPY-OLD"
    assert "changed after it" in copy["reason"]
    assert "CUSTODY-COPY-OLD" in ceremony("status", "--config", config).stdout
    done(config, "custody-copy", config.parent / "new.copy")
    assert [copy["old"] for copy in copies(config, "--custody-copy", config.parent / "new.copy")] == [
        False,
        False,
    ]


def test_copy_that_still_holds_a_destroyed_order_key_is_named(config: Path) -> None:
    drawer = config.parent / "drawer.copy"
    drawer.write_bytes((config.parent / "keystore.custody").read_bytes())
    with opened(config) as keystore:
        end = keystore.order_keys[0].destroy_at
        keystore.rotate_order_key(NOW)
        keystore.destroy_due_order_keys(end)
        refresh_copy(keystore, end)
    beside, other = copies(config, "--custody-copy", drawer)
    assert not beside["old"]
    assert other["old"]
    assert "still holds destroyed order keys (1): destroy this copy" in other["reason"]


def test_missing_copy_is_old_and_a_foreign_or_damaged_one_is_refused(config: Path, custody: Made) -> None:
    (config.parent / "keystore.custody").unlink()
    [copy] = copies(config)
    assert (copy["old"], copy["copied_at"]) == (True, None)
    with (
        locked(PASSPHRASE) as passphrase,
        Keystore.create(
            config.parent / "other", [passphrase], rehearsal=True, now=NOW, custody=custody[0]
        ) as other,
    ):
        foreign = other.custody_copy(NOW)
    for content, rule in ((foreign, "CUSTODY-OTHER"), (foreign[:-9], "CUSTODY-DAMAGED")):
        (config.parent / "given.copy").write_bytes(content)
        ended = ceremony(
            "status", "--config", config, "--custody-copy", config.parent / "given.copy", "--json"
        )
        assert ended.returncode == 2
        assert rule in ended.stdout
