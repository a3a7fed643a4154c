"""`key-ceremony` as a person or a script uses it: init, enrol-node, status, and what it refuses."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keys.ceremony import enrol_node, read_node_key
from keys.errors import KeysError
from keys.keystore import Keystore
from keys.private.sign import generate_signing_key
from keys.public.fingerprint import fingerprint, words
from keys.public.minisign import MinisignPublicKey, signature_matches
from keys.public.roll import ROLL_COMMENT, decode_roll
from tests.keys.conftest import NOW, PASSPHRASE

ROOT = Path(__file__).parents[2]
REHEARSAL = "REHEARSAL"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "offline.toml"
    path.write_text('[keystore]\npath = "keystore"\npassphrase_file = "passphrase"\n', encoding="ascii")
    (tmp_path / "passphrase").write_bytes(PASSPHRASE + b"\n")
    (tmp_path / "passphrase").chmod(0o600)
    return path


@pytest.fixture
def node(tmp_path: Path) -> MinisignPublicKey:
    key = generate_signing_key().minisign
    (tmp_path / "identity.pub").write_text(key.encode(), encoding="ascii")
    return key


def ceremony(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keys", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # no terminal to ask on
        **options,
    )


def enrol(config: Path, node: MinisignPublicKey, *more: object) -> subprocess.CompletedProcess[str]:
    return ceremony(
        *("enrol-node", "--config", config, "--node", "shop-a"),
        *("--public-key", config.parent / "identity.pub", "--fingerprint", fingerprint(node.public_key)),
        *("--out", config.parent / "out", *more),
    )


def test_rehearsal_from_nothing_to_a_signed_roll(
    config: Path, node: MinisignPublicKey, tmp_path: Path
) -> None:
    made = ceremony("init", "--config", config, "--rehearsal")
    assert made.returncode == 0, made.stderr
    assert REHEARSAL in made.stdout
    enrolled = enrol(config, node, "--batch-keys", 3)
    assert enrolled.returncode == 0, enrolled.stderr
    assert REHEARSAL in enrolled.stdout
    out = tmp_path / "out"
    identity = MinisignPublicKey.decode((out / "identity.pub").read_text(encoding="ascii"))
    assert fingerprint(identity.public_key) in made.stdout
    assert fingerprint(identity.public_key) in enrolled.stdout
    raw = (out / "keyroll.json").read_bytes()
    signature = (out / "keyroll.json.minisig").read_text(encoding="utf-8")
    assert signature_matches(identity, raw, signature, ROLL_COMMENT)
    roll = decode_roll(raw, node="shop-a", identity=identity.public_key)
    assert [key.number for key in roll.batch_keys] == [1, 2, 3]
    shown = ceremony("status", "--config", config)
    assert REHEARSAL in shown.stdout
    assert "shop-a" in shown.stdout
    document = json.loads(ceremony("status", "--config", config, "--json").stdout)
    assert document["rehearsal"] is True
    assert document["nodes"][0]["unused"] == 3
    assert document["identity_fingerprint"] == fingerprint(identity.public_key)
    assert document["identity_words"] == words(identity.public_key)
    assert document["nodes"][0]["words"] == words(node.public_key)
    assert document["custody"] is None
    for screen in (made.stdout, enrolled.stdout, shown.stdout):
        assert words(identity.public_key) in screen


def test_passphrase_comes_from_a_descriptor_too(config: Path, tmp_path: Path) -> None:
    config.write_text('[keystore]\npath = "keystore"\n', encoding="ascii")
    for command in (("init", "--rehearsal"), ("status",)):
        with (tmp_path / "passphrase").open("rb") as file:
            done = ceremony(
                *command, "--config", config, "--passphrase-fd", file.fileno(), pass_fds=(file.fileno(),)
            )
        assert done.returncode == 0, done.stderr
    refused = ceremony("status", "--config", config, "--json")
    assert refused.returncode == 2
    assert json.loads(refused.stdout)["rule"] == "KEY-PASSPHRASE-SOURCE"
    assert REHEARSAL in refused.stderr


def test_existing_keystore_is_refused_before_a_passphrase_is_asked(config: Path, tmp_path: Path) -> None:
    (tmp_path / "keystore").mkdir()
    (tmp_path / "passphrase").unlink()
    refused = ceremony("init", "--config", config, "--rehearsal", "--json")
    assert refused.returncode == 2
    assert json.loads(refused.stdout)["rule"] == "KEYSTORE-EXISTS"


def test_real_keys_come_from_a_ceremony_only(config: Path, tmp_path: Path) -> None:
    refused = ceremony("init", "--config", config, "--json")
    assert refused.returncode == 2
    assert json.loads(refused.stdout)["rule"] == "CEREMONY-NEEDED"
    assert "key-ceremony run" in json.loads(refused.stdout)["remedy"]
    assert not (tmp_path / "keystore").exists()


def test_short_new_passphrase_is_refused_and_nothing_made(config: Path, tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_bytes(b"too short\n")
    refused = ceremony("init", "--config", config, "--rehearsal")
    assert refused.returncode == 2
    assert "KEY-PASSPHRASE-SHORT" in refused.stderr
    assert not (tmp_path / "keystore").exists()


def test_help_has_examples() -> None:
    assert "key-ceremony run CEREMONY.toml --check" in ceremony("--help").stdout
    assert "key-ceremony init --config offline.toml --rehearsal" in ceremony("--help").stdout
    assert "key-ceremony enrol-node --config offline.toml" in ceremony("enrol-node", "--help").stdout


def test_fingerprint_is_typed_on_a_terminal_and_not_shown_before(
    config: Path, node: MinisignPublicKey, tmp_path: Path
) -> None:
    ceremony("init", "--config", config, "--rehearsal")
    arguments = ["enrol-node", "--config", str(config), "--node", "shop-a"]
    arguments += ["--public-key", str(tmp_path / "identity.pub"), "--out", str(tmp_path / "out")]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-m", "keys", *arguments])  # noqa: S606  a terminal's child
    shown, typed = b"", False
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            break
        if not typed and shown.endswith(b": "):
            assert fingerprint(node.public_key).encode() not in shown
            os.write(terminal, fingerprint(node.public_key).upper().replace("-", " ").encode() + b"\n")
            typed = True
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    os.close(terminal)
    assert b"is enrolled" in shown


def test_wrong_fingerprint_enrols_nobody(keystore: Keystore, tmp_path: Path) -> None:
    spoken = fingerprint(b"\x01" * 32)
    with pytest.raises(KeysError) as refusal:
        enrol_node(
            keystore,
            node="shop-a",
            public_key=b"\x02" * 32,
            spoken=spoken,
            out=tmp_path / "out",
            batch_keys=1,
            now=NOW,
        )
    assert refusal.value.rule == "KEY-FINGERPRINT"
    assert fingerprint(b"\x02" * 32) not in refusal.value.message
    assert keystore.ring.nodes() == []
    assert not (tmp_path / "out").exists()


def test_second_enrolment_of_the_same_key_tops_up_and_rolls_on(keystore: Keystore, tmp_path: Path) -> None:
    rolls = []
    for number in range(2):
        done = enrol_node(
            keystore,
            node="shop-a",
            public_key=b"\x02" * 32,
            spoken=fingerprint(b"\x02" * 32),
            out=tmp_path / str(number),
            batch_keys=2 + number,
            now=NOW,
        )
        rolls.append((done.roll_number, done.batch_keys))
    assert rolls == [(1, 2), (2, 3)]


def test_existing_output_is_refused_before_anything_is_issued(keystore: Keystore, tmp_path: Path) -> None:
    (tmp_path / "keyroll.json").touch()
    with pytest.raises(KeysError) as refusal:
        enrol_node(
            keystore,
            node="shop-a",
            public_key=b"\x02" * 32,
            spoken=fingerprint(b"\x02" * 32),
            out=tmp_path,
            batch_keys=1,
            now=NOW,
        )
    assert refusal.value.rule == "CEREMONY-EXISTS"
    assert keystore.ring.nodes() == []


@pytest.mark.parametrize("content", [b"", b"untrusted comment: x\nAAAA\n", b"\xff\xfe", b"x" * 5000])
def test_what_is_no_public_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "identity.pub").write_bytes(content)
    with pytest.raises(KeysError) as refusal:
        read_node_key(tmp_path / "identity.pub")
    assert refusal.value.rule == "KEY-PUBLIC"
    with pytest.raises(KeysError) as refusal:
        read_node_key(tmp_path / "none.pub")
    assert refusal.value.rule == "KEY-PUBLIC"
