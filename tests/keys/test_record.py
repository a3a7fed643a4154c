"""A ceremony record: a wrong identity, an altered record, altered files and altered software are told apart."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keys.errors import KeysError
from keys.keystore import Keystore
from keys.private.sign import generate_signing_key, sign_file
from keys.public import canonical
from keys.public.fingerprint import fingerprint
from keys.record import RECORD_COMMENT, RECORD_NAME, SIGNATURE_NAME, record_files, verify_record, write_record
from keys.record_facts import record_act
from keys.record_form import Act, NamedKey, Record, decode_record
from keys.ring_index import RingBackend
from keys.software import ROOMS, VERSION, Software, installed
from tests.keys.conftest import NOW
from tests.source import ROOT

if TYPE_CHECKING:
    from keys.private.sign import SigningKey

SOFTWARE = Software(version="0.1.0", digest="ab" * 32)


def rule_of(directory: Path, spoken: str | None = None, software: Software = SOFTWARE) -> str | None:
    try:
        verify_record(directory, spoken=spoken, software=software)
    except KeysError as error:
        return error.rule
    return None


def write_identity(directory: Path, key: SigningKey) -> None:
    (directory / "identity.pub").write_text(key.minisign.encode(), encoding="ascii")


@pytest.fixture
def recorded(keystore: Keystore, tmp_path: Path) -> Path:
    directory = tmp_path / "record"
    directory.mkdir()
    (directory / "custody.copy").write_bytes(b"sealed")
    record_act(
        keystore,
        directory,
        act=Act.CHECK_SHARES,
        title="Zoë's check",
        files=["custody.copy"],
        software=SOFTWARE,
        passphrases=1,
        now=NOW,
    )
    return directory


def forge(directory: Path, key: SigningKey, record: Record) -> None:
    raw = canonical.encode(record)
    (directory / RECORD_NAME).write_bytes(raw)
    (directory / SIGNATURE_NAME).write_text(sign_file(key, raw, RECORD_COMMENT), encoding="utf-8")


def test_good_record_verifies_by_either_form_of_the_fingerprint(recorded: Path, keystore: Keystore) -> None:
    named = NamedKey.of(keystore.identity.public_key)
    for spoken in (None, named.fingerprint, named.words):
        checked = verify_record(recorded, spoken=spoken, software=SOFTWARE)
        assert checked.same_version
        assert checked.record.title == "Zoë's check"


def test_wrong_identity_is_told_apart(recorded: Path, keystore: Keystore) -> None:
    assert rule_of(recorded, fingerprint(b"\x01" * 32)) == "RECORD-IDENTITY"
    other = generate_signing_key()
    genuine = decode_record((recorded / RECORD_NAME).read_bytes())
    write_identity(recorded, other)  # only the key beside the record was exchanged
    assert rule_of(recorded) == "RECORD-IDENTITY"
    forge(recorded, other, genuine)  # and the record signed anew
    assert rule_of(recorded) == "RECORD-IDENTITY"
    (recorded / "identity.pub").write_text("no key", encoding="ascii")
    assert rule_of(recorded) == "RECORD-IDENTITY"


def test_altered_record_or_signature_is_told_apart(recorded: Path) -> None:
    raw = (recorded / RECORD_NAME).read_bytes()
    (recorded / RECORD_NAME).write_bytes(raw.replace(b"check-shares", b"rotation-now"))
    assert rule_of(recorded) == "RECORD-SIGNATURE"
    (recorded / RECORD_NAME).write_bytes(raw.replace(b'"epoch":1', b'"epoch":2'))
    assert rule_of(recorded) == "RECORD-SIGNATURE"
    (recorded / RECORD_NAME).write_bytes(raw)
    assert rule_of(recorded) is None
    (recorded / SIGNATURE_NAME).write_text("untrusted comment: x\n", encoding="ascii")
    assert rule_of(recorded) == "RECORD-SIGNATURE"
    (recorded / SIGNATURE_NAME).unlink()
    assert rule_of(recorded) == "RECORD-MISSING"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.data())
def test_no_byte_of_a_record_can_change(recorded: Path, data: st.DataObject) -> None:
    raw = (recorded / RECORD_NAME).read_bytes()
    place = data.draw(st.integers(0, len(raw) - 1))
    (recorded / RECORD_NAME).write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    try:
        assert rule_of(recorded) in {"RECORD-SIGNATURE", "RECORD-IDENTITY"}
    finally:
        (recorded / RECORD_NAME).write_bytes(raw)


def test_fields_are_checked_though_the_signature_is_good(recorded: Path, keystore: Keystore) -> None:
    record = json.loads((recorded / RECORD_NAME).read_bytes())
    record["identity"]["words"] = NamedKey.of(b"\x01" * 32).words
    raw = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    for content in (raw, raw + b"\n", b"{}", b"\xff"):
        (recorded / RECORD_NAME).write_bytes(content)
        signature = sign_file(keystore.identity, content, RECORD_COMMENT)
        (recorded / SIGNATURE_NAME).write_text(signature, encoding="utf-8")
        assert rule_of(recorded) == "RECORD-FORM"


def test_other_file_beside_the_record_is_told_apart(recorded: Path) -> None:
    (recorded / "custody.copy").write_bytes(b"sealee")
    assert rule_of(recorded) == "RECORD-FILE"
    (recorded / "custody.copy").unlink()
    assert rule_of(recorded) == "RECORD-FILE"


def test_record_names_no_file_elsewhere(recorded: Path, keystore: Keystore) -> None:
    raw = (recorded / RECORD_NAME).read_bytes()
    for name in (b"../custody.cop", b"/custody.copyx", b".custody.copyx", b"a/b/c.copy"):
        with pytest.raises(KeysError) as refusal:
            decode_record(raw.replace(b"custody.copy", name, 1))
        assert refusal.value.rule == "RECORD-FORM"


def test_other_software_is_told_apart_from_another_version(recorded: Path) -> None:
    assert rule_of(recorded, software=Software(version="0.1.0", digest="cd" * 32)) == "RECORD-SOFTWARE"
    newer = Software(version="0.2.0", digest="cd" * 32)
    assert not verify_record(recorded, spoken=None, software=newer).same_version


def test_record_is_never_written_over(recorded: Path, keystore: Keystore) -> None:
    record = decode_record((recorded / RECORD_NAME).read_bytes())
    with pytest.raises(KeysError) as refusal:
        write_record(recorded, record, lambda raw, comment: sign_file(keystore.identity, raw, comment))
    assert refusal.value.rule == "CEREMONY-EXISTS"


def test_rehearsal_is_written_into_the_record(recorded: Path) -> None:
    record = decode_record((recorded / RECORD_NAME).read_bytes())
    assert record.rehearsal
    assert record.ring_secret is RingBackend.FILE
    assert record.files == record_files(recorded, ["custody.copy", "identity.pub"])


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    """The source files somewhere else, so that one can be altered."""
    home = tmp_path / "installation"
    for room in ROOMS:
        shutil.copytree(ROOT / room, home / room, ignore=shutil.ignore_patterns("__pycache__"))
    return home


def test_digest_of_the_software_can_be_had_with_coreutils(installation: Path) -> None:
    (installation / "keys/__pycache__").mkdir()
    (installation / "keys/__pycache__/x.pyc").write_bytes(b"left by a run")
    pipeline = (
        "find keys transfer offline_processor -type f -not -path '*/__pycache__/*' | LC_ALL=C sort | "
        "xargs b2sum -l 256 | b2sum -l 256"
    )
    theirs = subprocess.run(["/bin/sh", "-c", pipeline], cwd=installation, capture_output=True, check=True)
    assert installed(installation) == Software(version=VERSION, digest=theirs.stdout.split()[0].decode())


def test_one_altered_source_file_shows(installation: Path, recorded: Path) -> None:
    command = [sys.executable, "-m", "keys", "software", "--json"]

    def shown() -> Software:
        done = subprocess.run(command, cwd=installation, capture_output=True, check=True)
        return Software(**json.loads(done.stdout))

    before = shown()
    assert before == installed(installation) == shown()  # a run leaves nothing that counts
    with (installation / "transfer/spool.py").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert shown().digest != before.digest
    verify = [sys.executable, "-m", "keys", "verify-record", str(recorded), "--json"]
    done = subprocess.run(verify, cwd=installation, capture_output=True, check=False)
    assert json.loads(done.stdout)["rule"] == "RECORD-SOFTWARE"
    assert done.returncode == 4


def test_version_is_the_projects() -> None:
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
