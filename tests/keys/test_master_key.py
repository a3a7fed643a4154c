"""Dual control: two people's passphrases open the keystore, neither alone, and which is wrong is said."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

import pytest

from keys import keyfile, master_key
from keys.errors import KeysError
from keys.keyfile import Cost
from keys.keystore import Keystore, claims_rehearsal
from tests.keys.conftest import NOW, PASSPHRASE, locked

if TYPE_CHECKING:
    from pathlib import Path

OTHER = b"another person's secret words"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfile, "INTERACTIVE", Cost(1, 8 * 1024 * 1024))
    monkeypatch.setattr(keyfile, "MODERATE", Cost(1, 8 * 1024 * 1024))


@pytest.fixture
def dual(tmp_path: Path, cheap: None) -> Path:
    path = tmp_path / "dual"
    with locked(PASSPHRASE) as first, locked(OTHER) as second:
        Keystore.create(path, [first, second], rehearsal=False, now=NOW).close()
    return path


def refusal_of(path: Path, *passphrases: bytes) -> KeysError:
    with contextlib.ExitStack() as stack:
        given = [stack.enter_context(locked(passphrase)) for passphrase in passphrases]
        with pytest.raises(KeysError) as refusal:
            Keystore.open(path, given).close()
    return refusal.value


def test_both_passphrases_together_open_it(dual: Path) -> None:
    assert master_key.wants(dual) == 2
    assert claims_rehearsal(dual) is False
    with locked(PASSPHRASE) as first, locked(OTHER) as second:
        with Keystore.open(dual, [first, second]) as keystore:
            assert keystore.rehearsal is False
        assert sorted(file.name for file in dual.iterdir()) == [
            "keys",
            "lock",
            "master.key",
            "master.second.key",
            "ring",
            "ring.secret",
        ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((b"not the right one", OTHER), "the first passphrase is not"),
        ((PASSPHRASE, b"not the right one"), "the second passphrase is not"),
        ((b"not the right one", b"nor this one is"), "neither passphrase is"),
        ((OTHER, PASSPHRASE), "neither passphrase is"),
    ],
)
def test_it_is_said_which_passphrase_is_wrong(dual: Path, given: tuple[bytes, bytes], message: str) -> None:
    error = refusal_of(dual, *given)
    assert error.rule == "KEY-PASSPHRASE"
    assert error.message.startswith(message)


def test_wrong_number_of_passphrases_is_refused(dual: Path, keystore_path: Path) -> None:
    for given in ((PASSPHRASE,), (PASSPHRASE, OTHER, OTHER), ()):
        assert refusal_of(dual, *given).rule == "KEYSTORE-PASSPHRASES"
    assert refusal_of(keystore_path, PASSPHRASE, OTHER).rule == "KEYSTORE-PASSPHRASES"


@pytest.mark.parametrize("name", ["master.key", "master.second.key"])
def test_damage_is_no_passphrase_s_fault(dual: Path, name: str) -> None:
    good = (dual / name).read_bytes()
    (dual / name).write_bytes(good[:200] + bytes([good[200] ^ 1]) + good[201:])
    assert refusal_of(dual, b"not the right one", OTHER).rule == "KEY-FILE-DAMAGED"
    assert refusal_of(dual, PASSPHRASE, OTHER).rule == "KEY-FILE-DAMAGED"
    assert name in refusal_of(dual, PASSPHRASE, OTHER).message
    (dual / name).unlink()
    missing = "KEYSTORE-MISSING" if name == "master.key" else "KEY-FILE-MISSING"
    assert refusal_of(dual, PASSPHRASE, OTHER).rule == missing


def test_one_half_says_nothing_about_the_master_key(dual: Path) -> None:
    with locked(PASSPHRASE) as first, locked(OTHER) as second:
        _, master = master_key.read(dual, [first, second])
        for name, kind, passphrase in (
            ("master.key", keyfile.Kind.KEYSTORE_FIRST, first),
            ("master.second.key", keyfile.Kind.KEYSTORE_SECOND, second),
        ):
            _, half = keyfile.read(dual / name, (kind,), passphrase)
            assert sum(one == other for one, other in zip(half.view, master.view, strict=True)) < 8


def test_halves_do_not_stand_in_for_each_other_or_for_the_whole(dual: Path, tmp_path: Path) -> None:
    shutil.copy(dual / "master.second.key", dual / "master.key")
    assert refusal_of(dual, OTHER).rule == "KEY-FILE-KIND"
    other = tmp_path / "other"
    with locked(PASSPHRASE) as first, locked(OTHER) as second:
        Keystore.create(other, [first, second], rehearsal=False, now=NOW).close()
        third = tmp_path / "third"
        Keystore.create(third, [first, second], rehearsal=False, now=NOW).close()
    shutil.copy(third / "master.second.key", other / "master.second.key")
    assert refusal_of(other, PASSPHRASE, OTHER).rule == "KEYSTORE-DAMAGED"


def test_rehearsal_can_practise_dual_control(tmp_path: Path) -> None:
    path = tmp_path / "keystore"
    with locked(PASSPHRASE) as first, locked(OTHER) as second:
        Keystore.create(path, [first, second], rehearsal=True, now=NOW).close()
        assert claims_rehearsal(path) is True
        with Keystore.open(path, [first, second]) as keystore:
            assert keystore.rehearsal is True


def test_no_keystore_is_made_with_three_passphrases_or_none(tmp_path: Path) -> None:
    for count in (0, 3):
        with pytest.raises(KeysError) as refusal:
            Keystore.create(
                tmp_path / "keystore", [locked(PASSPHRASE) for _ in range(count)], rehearsal=True, now=NOW
            )
        assert refusal.value.rule == "KEYSTORE-PASSPHRASES"
        assert list(tmp_path.iterdir()) == []
