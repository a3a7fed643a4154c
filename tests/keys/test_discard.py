"""A keystore that is discarded is gone for good, on the disk and in the TPM, and a record says so."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from keys import console, discard
from keys.cli import commands
from keys.keystore import Keystore
from keys.private import tpm as chip
from keys.private.sign import generate_signing_key
from keys.public.fingerprint import fingerprint, words
from keys.record import verify_record
from keys.record_form import Act, Change, decode_record
from keys.recovery import refresh_copy
from keys.ring_index import RingBackend
from tests.keys.conftest import NOW, PASSPHRASE, locked
from tests.keys.terminal import Terminal
from tests.keys.test_ceremony import ceremony
from tests.keys.test_cli_rotation import config as with_custodians
from tests.keys.test_cli_rotation import custody, done, identity_of, opened
from tests.keys.test_crash import DONE, KILLED, Kill
from tests.keys.test_ring_tpm import machine, one_machine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.keys import tpm

__all__ = ["custody", "machine", "one_machine", "with_custodians"]


@pytest.fixture
def config(with_custodians: Path) -> Path:
    with opened(with_custodians) as keystore:
        refresh_copy(keystore, NOW)
    return with_custodians


def files(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


def test_keystore_is_destroyed_once_its_fingerprint_is_typed_and_the_risk_named(config: Path) -> None:
    identity = identity_of(config)
    out = config.parent / "discard"
    # Open files outlive their names: what is overwritten shows in them.
    handles = [path.open("rb") for path in (config.parent / "keystore").iterdir() if path.name != "lock"]
    handles.append((config.parent / "keystore.custody").open("rb"))
    before = [handle.read() for handle in handles]
    arguments = ("discard", "--config", config, "--out", out, "--lost-orders")
    with Terminal(*arguments) as terminal:
        terminal.answer("Who does this", "Ada, Ben")
        shown = terminal.answer("as on paper", words(identity))
        assert fingerprint(identity) not in shown
        assert terminal.end() == 0, terminal.shown
        assert "Custody copies and backups elsewhere" in terminal.main_screen()
    assert files(config.parent) == ["discard", "keystore.records", "offline.toml", "passphrase"]
    for handle, content in zip(handles, before, strict=True):
        handle.seek(0)
        now = handle.read()
        assert not any(line[:16] in now for line in content.split(b"\n") if len(line) >= 16)
        handle.close()
    made_with = decode_record((out / "record.json").read_bytes()).software
    record = verify_record(out, spoken=fingerprint(identity), software=made_with).record
    assert record.act is Act.DISCARD
    assert [person.name for person in record.people] == ["Ada", "Ben"]
    assert {key.change for key in record.changed} == {Change.DESTROYED}
    kinds = [str(key.subject) for key in record.changed]
    assert kinds == ["offline-identity", "order-key", *["batch-key"] * 3]


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ((), "KEYSTORE-LIVE-KEYS"),
        (("--lost-orders", "--fingerprint", fingerprint(b"?" * 32)), "KEY-FINGERPRINT"),
        (("--lost-orders",), "KEY-FINGERPRINT"),  # nobody is there to type it
    ],
)
def test_refused_discarding_leaves_every_byte(config: Path, more: tuple[str, ...], rule: str) -> None:
    place = config.parent / "keystore"
    before = {path: path.read_bytes() for path in place.iterdir()}
    assert done(config, "discard", "--out", config.parent / "discard", *more, code=2)["rule"] == rule
    assert {path: path.read_bytes() for path in place.iterdir()} == before
    assert not (config.parent / "discard").exists()


def test_without_live_keys_no_risk_needs_a_name(config: Path) -> None:
    with opened(config) as keystore:
        keystore.ring.retire_node("shop-a", NOW)
    given = ("--out", config.parent / "discard", "--fingerprint", fingerprint(identity_of(config)))
    assert done(config, "discard", *given)["record"] == str(config.parent / "discard")
    assert not (config.parent / "keystore").exists()


def test_without_its_record_nothing_is_destroyed(config: Path) -> None:
    (config.parent / "keystore.records").write_text("in the way", encoding="ascii")
    spoken = fingerprint(identity_of(config))
    given = ("discard", "--out", config.parent / "discard", "--lost-orders", "--fingerprint", spoken)
    said = done(config, *given, code=4)
    assert said["rule"] == "RECORD-UNWRITTEN"
    assert "nothing was destroyed" in said["message"]
    opened(config).close()


def test_keystore_in_use_is_not_taken_away(config: Path) -> None:
    with opened(config):
        given = ("--out", config.parent / "discard", "--lost-orders", "--fingerprint", "x")
        assert done(config, "discard", *given, code=2)["rule"] == "KEYSTORE-BUSY"
    opened(config).close()


def test_discarding_that_is_killed_anywhere_is_ended_by_the_next(config: Path) -> None:
    spare = config.parent / "spare"
    shutil.copytree(config.parent / "keystore", spare)
    killed, ended = 0, KILLED
    for at in range(100):
        home = config.parent / str(at)
        home.mkdir()
        path = home / "keystore"
        shutil.copytree(spare, path)
        child = os.fork()
        if child == 0:
            try:
                Kill(at)
                discard.put_aside(path)
                discard.finish(path)
                os._exit(DONE)
            finally:
                os._exit(1)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ended in {DONE, KILLED}
        if path.exists():
            with locked(PASSPHRASE) as passphrase:
                Keystore.open(path, [passphrase]).close()  # nothing had begun
            continue
        if discard.is_unfinished(path):
            killed += 1
            text = config.read_text("ascii")
            (home / "offline.toml").write_text(text, encoding="ascii")
            ended_by = ceremony("discard", "--config", home / "offline.toml", "--out", home / "o", "--json")
            assert ended_by.returncode == 0, ended_by.stdout
            assert json.loads(ended_by.stdout)["record"] is None
            (home / "offline.toml").unlink()
        assert files(home) == []
        if ended == DONE:
            break
    assert ended == DONE
    assert killed > 5


def test_what_an_earlier_discarding_left_is_ended_and_a_newer_keystore_keeps_its_copy(config: Path) -> None:
    place = config.parent / "keystore"
    shutil.copytree(place, config.parent / "newer")
    discard.put_aside(place)
    (config.parent / "newer").rename(place)
    given = ("discard", "--out", config.parent / "discard")
    assert done(config, *given, code=2)["rule"] == "KEYSTORE-LIVE-KEYS"
    assert not (config.parent / ".keystore.discarded").exists()
    assert (config.parent / "keystore.custody").exists()
    opened(config).close()


@pytest.mark.needs_tool("swtpm", "tpm2_nvwrite")
def test_index_in_the_tpm_is_given_back(
    config: Path, machine: tpm.Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(config.parent / "keystore")
    before = chip.indices()
    with (
        locked(PASSPHRASE) as passphrase,
        Keystore.create(
            config.parent / "keystore",
            [passphrase],
            rehearsal=True,
            now=NOW,
            ring_backend=RingBackend.TPM,
        ) as keystore,
    ):
        keystore.ring.enrol_node("shop-a", generate_signing_key().public_key, NOW)
        identity = keystore.identity.public_key
    assert len(chip.indices() - before) == 1
    given: tuple[Any, ...] = ("discard", "--config", config, "--fingerprint", fingerprint(identity), "--json")
    machine.fall_silent()
    with monkeypatch.context() as impatient:
        impatient.setattr(
            chip, "TIMEOUT", 0.5
        )  # not half a minute for a chip that is mute; so in this process
        with pytest.raises(SystemExit) as silent:
            console.run(commands, [*map(str, given), "--out", str(config.parent / "one")])
    machine.answer_again()
    assert silent.value.code == console.ExitCode.USAGE  # the keystore does not even open
    assert (config.parent / "keystore").exists()
    ended = ceremony(*given, "--out", config.parent / "two")
    assert ended.returncode == 0, ended.stdout
    assert chip.indices() == before
    assert not (config.parent / "keystore").exists()


@pytest.mark.needs_tool("swtpm", "tpm2_nvwrite")
def test_chip_that_fails_keeps_no_secret_on_the_disk_and_the_next_try_gives_the_index_back(
    tmp_path: Path, machine: tpm.Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = chip.indices()
    path = tmp_path / "keystore"
    with locked(PASSPHRASE) as passphrase:
        Keystore.create(path, [passphrase], rehearsal=True, now=NOW, ring_backend=RingBackend.TPM).close()
    discard.put_aside(path)
    monkeypatch.setattr(chip, "TIMEOUT", 0.5)
    machine.fall_silent()
    with pytest.raises(Exception, match="RING-TPM"):
        discard.finish(path)
    machine.answer_again()
    assert files(tmp_path / ".keystore.discarded") == ["lock", "ring.tpm"]
    monkeypatch.undo()
    monkeypatch.setenv("TPM2TOOLS_TCTI", machine.address)
    discard.finish(path)
    assert files(tmp_path) == []
    assert chip.indices() == before
