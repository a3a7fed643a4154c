"""`key-ceremony rotate`, `revoke` and `custody-copy` as an operator or a script uses them."""

from __future__ import annotations

import json
import os
import pty
import sys
from pathlib import Path
from typing import Any

import pytest

from keys import custody_copy
from keys.custody import Custody, split
from keys.keystore import Keystore
from keys.private.sign import generate_signing_key
from keys.private.unseal import SealingKey
from keys.public.fingerprint import fingerprint, words
from keys.ring_index import RingBackend
from tests.keys.conftest import NOW, PASSPHRASE, locked
from tests.keys.test_ceremony import REHEARSAL, ROOT, ceremony

Made = tuple[Custody, SealingKey, list[str]]


@pytest.fixture(scope="module")
def custody() -> Made:
    return split(2, 3)


@pytest.fixture
def config(tmp_path: Path, custody: Made) -> Path:
    """A rehearsal keystore with custodians and a node, as a rehearsed ceremony leaves it."""
    path = tmp_path / "offline.toml"
    path.write_text('[keystore]\npath = "keystore"\npassphrase_file = "passphrase"\n', encoding="ascii")
    (tmp_path / "passphrase").write_bytes(PASSPHRASE + b"\n")
    (tmp_path / "passphrase").chmod(0o600)
    with (
        locked(PASSPHRASE) as passphrase,
        Keystore.create(
            tmp_path / "keystore", [passphrase], rehearsal=True, now=NOW, custody=custody[0]
        ) as keystore,
    ):
        keystore.ring.enrol_node("shop-a", generate_signing_key().public_key, NOW)
        keystore.issue_batch_keys("shop-a", 3, now=NOW)
    return path


def opened(config: Path) -> Keystore:
    with locked(PASSPHRASE) as passphrase:
        return Keystore.open(config.parent / "keystore", [passphrase])


def done(config: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    """Run a verb with --json in Ada's name, and give its one document."""
    ended = ceremony(*arguments, "--config", config, "--json", "--who", "Ada")
    assert ended.returncode == code, ended.stderr + ended.stdout
    assert REHEARSAL in ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout)
    return document


def identity_of(config: Path) -> bytes:
    with opened(config) as keystore:
        return keystore.identity.public_key


def node_fingerprint(config: Path) -> str:
    with opened(config) as keystore:
        node = keystore.ring.node("shop-a")
        assert node is not None
        return fingerprint(bytes.fromhex(node.public_key))


def numbers_in(copy: Path, custody: Made) -> list[int]:
    """The order keys that a recovery from this copy would bring back."""
    kept, _ = custody_copy.opened(
        copy.read_bytes(), custody[1], now=NOW, epoch_above=0, ring_backend=RingBackend.FILE
    )
    kept.close()
    return [key.number for key in kept.order_keys]


def test_order_key_rotates_with_a_custody_copy_that_has_the_new_one(config: Path, custody: Made) -> None:
    copy = config.parent / "two.copy"
    said = done(config, "rotate", "order-key", "--custody-copy", copy, "--overlap-days", 3)
    assert said["order_key"] == 2
    assert numbers_in(copy, custody) == [1, 2]
    assert numbers_in(Path(said["custody_copy_beside"]), custody) == [1, 2]
    with opened(config) as keystore:
        first, second = keystore.order_keys
        assert first.seal_until - second.made_at <= 3 * 24 * 3600
        assert second.key.key_id.hex() == said["key_id"]
    named = ("--custody-copy", config.parent / "three.copy", "--who", "Ada")
    shown = ceremony("rotate", "order-key", "--config", config, *named)
    assert "Order key 3" in shown.stdout
    assert "Next: `offline-processor run`" in shown.stdout


def test_nothing_changes_without_a_place_for_the_custody_copy(config: Path) -> None:
    taken = config.parent / "taken.copy"
    taken.write_text("an older copy", encoding="ascii")
    before = (config.parent / "keystore" / "keys").read_bytes()
    for arguments, rule in (
        ((), "CUSTODY-COPY"),
        (("--custody-copy", taken), "CUSTODY-EXISTS"),
        (("--custody-copy", config.parent / "no-such-medium" / "x.copy"), "CUSTODY-COPY"),
    ):
        assert done(config, "rotate", "order-key", *arguments, code=2)["rule"] == rule
    assert (config.parent / "keystore" / "keys").read_bytes() == before
    assert taken.read_text(encoding="ascii") == "an older copy"


def test_keystore_without_custodians_rotates_without_a_copy(tmp_path: Path) -> None:
    config = tmp_path / "offline.toml"
    config.write_text('[keystore]\npath = "keystore"\npassphrase_file = "passphrase"\n', encoding="ascii")
    (tmp_path / "passphrase").write_bytes(PASSPHRASE + b"\n")
    (tmp_path / "passphrase").chmod(0o600)
    assert ceremony("init", "--config", config, "--rehearsal").returncode == 0
    assert done(config, "rotate", "order-key")["order_key"] == 2
    refused = done(config, "rotate", "order-key", "--custody-copy", tmp_path / "x.copy", code=2)
    assert refused["rule"] == "CUSTODY-NONE"


def test_identity_rotates_after_its_fingerprint_was_given_from_paper(config: Path) -> None:
    old = identity_of(config)
    arguments = ["rotate", "identity", "--custody-copy", config.parent / "i.copy"]
    wrong = done(config, *arguments, "--fingerprint", fingerprint(b"?" * 32), code=2)
    assert wrong["rule"] == "KEY-FINGERPRINT"
    assert identity_of(config) == old
    said = done(config, *arguments, "--fingerprint", words(old))
    new = identity_of(config)
    assert new != old
    assert (said["fingerprint"], said["words"]) == (fingerprint(new), words(new))
    assert said["handover_waits_for"] == ["shop-a"]


def test_compromised_identity_is_replaced_without_a_handover(config: Path) -> None:
    shown = ceremony(
        *("rotate", "identity", "--config", config, "--custody-copy", config.parent / "i.copy"),
        *("--compromised", "--fingerprint", fingerprint(identity_of(config)), "--who", "Ada"),
    )
    assert shown.returncode == 0, shown.stderr
    assert "intake trust DIR --fingerprint F --replace" in shown.stdout
    with opened(config) as keystore:
        assert keystore.handover is None
        assert keystore.former_identities[0].compromised


def test_node_identity_is_taken_in_by_its_fingerprint(config: Path) -> None:
    key = generate_signing_key().minisign
    file = config.parent / "identity.next.pub"
    file.write_text(key.encode(), encoding="ascii")
    arguments = ["rotate", "node", "--node", "shop-a", "--public-key", file]
    arguments += ["--custody-copy", config.parent / "n.copy"]
    refused = done(config, *arguments, "--fingerprint", fingerprint(b"?" * 32), code=2)
    assert refused["rule"] == "KEY-FINGERPRINT"
    assert fingerprint(key.public_key) not in refused["message"] + refused["remedy"]
    done(config, *arguments, "--fingerprint", words(key.public_key))
    with opened(config) as keystore:
        node = keystore.ring.node("shop-a")
        assert node is not None
        assert node.public_key == key.public_key.hex()
        assert len(node.former_keys) == 1


def test_order_key_is_revoked_by_number_and_id(config: Path, custody: Made) -> None:
    with opened(config) as keystore:
        key_id = keystore.order_keys[0].key.key_id.hex()
    arguments = ["revoke", "order-key", 1, "--custody-copy", config.parent / "r.copy"]
    assert done(config, *arguments, "--key-id", "00000000", code=2)["rule"] == "KEY-FINGERPRINT"
    said = done(config, *arguments, "--key-id", key_id[:8])
    assert (said["revoked"], said["new_order_key"]) == (1, 2)
    assert numbers_in(config.parent / "r.copy", custody) == [1, 2]
    with opened(config) as keystore:
        assert [each.key for each in keystore.revocations] == [key_id]


def test_batch_keys_are_revoked_by_number_then_all(config: Path) -> None:
    spoken = node_fingerprint(config)
    for at, (more, gone) in enumerate(((("--number", 2), [2]), ((), [1, 3]))):
        copy = config.parent / f"{at}.copy"
        said = done(
            config,
            *("revoke", "batch-keys", "--node", "shop-a", "--fingerprint", spoken, "--custody-copy", copy),
            *more,
        )
        assert said["revoked"] == gone
    last = ("--fingerprint", spoken, "--custody-copy", config.parent / "last.copy")
    assert done(config, "revoke", "batch-keys", "--node", "shop-a", *last, code=5)["revoked"] == []


def test_custody_copy_is_written_at_any_time_and_never_over_another(config: Path, custody: Made) -> None:
    copy = config.parent / "again.copy"
    done(config, "custody-copy", copy)
    assert numbers_in(copy, custody) == [1]
    assert done(config, "custody-copy", copy, code=2)["rule"] == "CUSTODY-EXISTS"


def test_fingerprint_is_asked_for_on_a_terminal_and_not_shown_before(config: Path) -> None:
    old = identity_of(config)
    command = [sys.executable, "-m", "keys", "rotate", "identity", "--config", str(config)]
    command += ["--custody-copy", str(config.parent / "i.copy"), "--who", "Ada"]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, command)  # noqa: S606  a terminal's child
    shown, typed = b"", False
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            break
        if not typed and shown.endswith(b": "):
            assert fingerprint(old).encode() not in shown
            assert words(old).encode() not in shown
            os.write(terminal, words(old).upper().encode() + b"\n")
            typed = True
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    os.close(terminal)
    assert identity_of(config) != old


def test_without_a_terminal_a_fingerprint_must_be_given(config: Path) -> None:
    for arguments in (
        ("rotate", "identity"),
        ("revoke", "order-key", 1),
        ("revoke", "batch-keys", "--node", "shop-a"),
    ):
        copy = ("--custody-copy", config.parent / "x.copy")
        ended = ceremony(*arguments, "--config", config, *copy, "--json")
        assert ended.returncode == 2
        assert json.loads(ended.stdout)["rule"] == "KEY-FINGERPRINT"
    assert not (config.parent / "x.copy").exists()


@pytest.mark.parametrize("group", ["rotate", "revoke", "custody-copy"])
def test_help_has_examples(group: str) -> None:
    assert f"key-ceremony {group} " in ceremony(group, "--help").stdout
