"""TLS on the line: only a host that one authority certified under one name is spoken to, and no order is lost by it."""

from __future__ import annotations

import datetime as dt
import select
import socket
import ssl
import struct
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization

from offline_processor.acquirers.iso8583.tls import Certificate, TlsError, pinned, shaken
from offline_processor.errors import ProcessorError
from tests.offline_processor.certificates import Authority, authority
from tests.offline_processor.commands import PROFILES
from tests.offline_processor.scripted_host import Peer, polite, scripted_host, signed_on
from tests.offline_processor.test_iso8583_link import (
    ASCII,
    PATIENT,
    SOON,
    answers_of,
    caller,
    codes,
    opened,
    stans,
)

if TYPE_CHECKING:
    from pathlib import Path

NAME = "acquirer.example"


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("trusted"), "authority")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_everything_goes_through_tls(tmp_path: Path, trusted: Authority, version: ssl.TLSVersion) -> None:
    context = trusted.host(tmp_path, NAME)
    context.minimum_version = context.maximum_version = version

    def backwards(peer: Peer) -> None:
        for _ in range(4):
            # Many answers in one record: what TLS has decrypted already is read without waiting for more.
            peer.send(b"".join(peer.framed(asked) for asked in reversed(peer.requests(50))))
        peer.serve()

    with (
        scripted_host(ASCII, signed_on(backwards), tls=context) as host,
        caller(host, PATIENT, in_flight=50, connections=1, tls=pinned(trusted.pem, NAME)) as ours,
    ):
        assert stans(ours.authorise(*range(1, 201))) == list(range(1, 201))
        assert ours.link._connections[0].socket.version() == version.name.replace("_", ".")  # type: ignore[attr-defined]
        assert ours.driver.echo()


def test_faults_of_the_line_are_the_same(tmp_path: Path, trusted: Authority) -> None:
    def cut(peer: Peer) -> None:
        asked = peer.requests(2)
        peer.answer(asked[0])
        peer.send(peer.framed(asked[1])[:30])

    def silent(peer: Peer) -> None:
        peer.request()
        peer.until_hung_up()

    context = trusted.host(tmp_path, NAME)
    with (
        scripted_host(ASCII, signed_on(cut), signed_on(silent), polite, tls=context) as host,
        caller(host, in_flight=2, tls=pinned(trusted.pem, NAME)) as ours,
    ):
        answers = codes(ours.authorise(1, 2))
        assert answers == ["00", None]
        assert codes(ours.authorise(3)) == [None]
        assert codes(ours.authorise(4)) == ["00"]
        assert max(Counter(host.seen("0100")).values()) == 1


def test_what_waits_in_a_full_line_is_taken_back_only_when_no_byte_of_it_left(
    tmp_path: Path, trusted: Authority
) -> None:
    def deaf(peer: Peer) -> None:
        peer.sign_on()
        time.sleep(SOON * 4)

    context = trusted.host(tmp_path, NAME)
    with (
        scripted_host(ASCII, deaf, polite, tls=context) as host,
        caller(host, in_flight=256, tls=pinned(trusted.pem, NAME)) as ours,
    ):
        ours.link._connections[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        answers = codes(ours.authorise(*range(1, 401)))
        assert set(answers) == {None, "00"}
        answered = {f"{number:06d}" for number, code in enumerate(answers, 1) if code}
        second = {message.fields[11] for message in host.peers[1].seen if message.mti == "0100"}
        assert second == answered
    assert max(Counter(host.seen("0100")).values()) == 1


def bad_hosts(folder: Path, trusted: Authority) -> dict[str, ssl.SSLContext]:
    old = trusted.host(folder, NAME)
    old.minimum_version = ssl.TLSVersion.TLSv1_1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    return {
        "another authority": authority(folder, "authority").host(folder, NAME),
        "another name": trusted.host(folder, "other.example"),
        "over": trusted.host(folder, NAME, age=dt.timedelta(days=3)),
        "TLS 1.1": old,
    }


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
@pytest.mark.parametrize("kind", ["another authority", "another name", "over", "TLS 1.1"])
def test_whoever_is_not_the_acquirer_is_told_nothing(tmp_path: Path, trusted: Authority, kind: str) -> None:
    context = bad_hosts(tmp_path, trusted)[kind]
    with scripted_host(ASCII, polite, tls=context) as host:
        with (
            pytest.raises(ProcessorError) as refused,
            caller(host, PATIENT, tls=pinned(trusted.pem, NAME)),
        ):
            pass
        assert host.seen("0800") == []
    assert refused.value.rule == "ACQUIRER-TLS"


def test_host_without_tls_is_told_nothing(trusted: Authority) -> None:
    with (
        scripted_host(ASCII, lambda peer: peer.send(b"\x00\x10" + b"0" * 16)) as host,
        pytest.raises(ProcessorError) as refused,
        caller(host, tls=pinned(trusted.pem, NAME)),
    ):
        pass
    assert refused.value.rule == "ACQUIRER-TLS"


def test_host_that_hangs_up_before_tls_begins_is_told_as_any_other(trusted: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        ours.setblocking(False)
        assert select.select([ours], [], [], 5)[0]  # the reset is here
        with pytest.raises(TlsError):
            shaken(pinned(trusted.pem, NAME), ours, deadline=time.monotonic() + 5, clock=time.monotonic)
        assert ours.fileno() == -1


@pytest.mark.parametrize("name", [".example", "acquirer..example", "a" * 64 + ".example"])
def test_name_that_no_certificate_has_is_refused(trusted: Authority, name: str) -> None:
    with pytest.raises(ProcessorError) as refused:
        pinned(trusted.pem, name)
    assert refused.value.rule == "CONFIG-TLS"


def test_host_that_is_silent_in_the_handshake_is_not_waited_for(trusted: Authority) -> None:
    started, tls = time.monotonic(), pinned(trusted.pem, NAME)
    with scripted_host(ASCII, lambda peer: time.sleep(2)) as host:
        with pytest.raises(ProcessorError, match="in time") as refused, caller(host, tls=tls):
            pass
        assert time.monotonic() - started < 1.9
    assert refused.value.rule == "ACQUIRER-TLS"


def profile_of(folder: Path, *, tls: bool) -> str:
    own = folder / "own.toml"
    shipped = (PROFILES / "ascii-1987.toml").read_text("utf-8")
    own.write_text(shipped.replace("tls = false", f"tls = {str(tls).lower()}"), "utf-8")
    return str(own)


@pytest.mark.parametrize(
    ("tls", "settings"),
    [
        (True, {}),
        (True, {"tls_name": NAME}),
        (True, {"tls_authority": True}),
        (False, {"tls_name": NAME}),
        (False, {"tls_authority": True, "tls_name": NAME}),
        (False, {"tls_certificate": True, "tls_key": True}),
        (True, {"tls_authority": True, "tls_name": NAME, "tls_certificate": True}),
        (True, {"tls_authority": True, "tls_name": NAME, "tls_key": True}),
    ],
)
def test_profile_and_configuration_must_both_ask_for_tls(
    tmp_path: Path, trusted: Authority, tls: bool, settings: dict[str, Any]
) -> None:
    given = {name: trusted.pem if value is True else value for name, value in settings.items()}
    profile = profile_of(tmp_path, tls=tls)
    with pytest.raises(ProcessorError) as refused:
        opened(address="127.0.0.1:5000", terminal="T", merchant="M", profile=profile, **given)()
    assert refused.value.rule == "CONFIG-TLS"


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff" * 300_000])
def test_authority_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    pem = tmp_path / "authority.pem"
    if content is not None:
        pem.write_bytes(content)
    with pytest.raises(ProcessorError) as refused:
        pinned(pem, NAME)
    assert refused.value.rule == "CONFIG-TLS"


def test_driver_speaks_tls_by_its_configuration(tmp_path: Path, trusted: Authority) -> None:
    profile = profile_of(tmp_path, tls=True)
    with scripted_host(ASCII, polite, tls=trusted.host(tmp_path, NAME)) as host:
        acquirer = opened(
            address=f"127.0.0.1:{host.port}",
            terminal="SHOP0001",
            merchant="RECORDSTORE0001",
            profile=profile,
            tls_authority=trusted.pem,
            tls_name=NAME,
        )()
        assert codes(answers_of(acquirer, [1])) == ["00"]
        acquirer.close()


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The one whose certificates the acquirer accepts."""
    return authority(tmp_path_factory.mktemp("clients"), "clients")


def ours(by: Authority, folder: Path) -> Certificate:
    certificate, key = by.certify(folder, "shop.example", client=True)
    return Certificate(certificate=certificate, key=key)


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@VERSIONS
def test_host_that_asks_who_we_are_is_shown_our_certificate(
    tmp_path: Path, trusted: Authority, clients: Authority, version: ssl.TLSVersion
) -> None:
    context = trusted.host(tmp_path, NAME, asks=clients)
    context.minimum_version = context.maximum_version = version
    tls = pinned(trusted.pem, NAME, ours(clients, tmp_path))
    with scripted_host(ASCII, polite, tls=context) as host, caller(host, PATIENT, tls=tls) as calling:
        assert codes(calling.authorise(1, 2)) == ["00", "00"]
        shown: Any = host.peers[0].socket
        assert "shop.example" in str(shown.getpeercert()["subject"])


@VERSIONS
@pytest.mark.parametrize("shown", ["none", "of another authority"])
def test_host_that_does_not_accept_our_certificate_is_told_nothing_and_the_operator_is(
    tmp_path: Path, trusted: Authority, clients: Authority, version: ssl.TLSVersion, shown: str
) -> None:
    context = trusted.host(tmp_path, NAME, asks=clients)
    context.minimum_version = context.maximum_version = version
    certificate = None if shown == "none" else ours(trusted, tmp_path)
    with scripted_host(ASCII, polite, tls=context) as host:
        with (
            pytest.raises(ProcessorError, match="does not accept us") as refused,
            caller(host, PATIENT, tls=pinned(trusted.pem, NAME, certificate)),
        ):
            pass
        assert host.seen("0800") == []
    assert refused.value.rule == "ACQUIRER-TLS"
    assert "tls_certificate" in (refused.value.remedy or "")


def encrypted(key: Path) -> None:
    pem = serialization.load_pem_private_key(key.read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"a passphrase")
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(pem.private_bytes(*form, secret))


@pytest.mark.parametrize("fault", ["open", "encrypted", "of another", "no key", "no certificate", "large"])
def test_certificate_of_ours_that_cannot_be_used_is_refused(
    tmp_path: Path, trusted: Authority, fault: str
) -> None:
    mine = ours(trusted, tmp_path)
    match fault:
        case "open":
            mine.key.chmod(0o644)
        case "encrypted":
            encrypted(mine.key)
        case "of another":
            mine = Certificate(certificate=mine.certificate, key=ours(trusted, tmp_path).key)
        case "no key":
            mine.key.unlink()
        case "no certificate":
            mine.certificate.write_bytes(b"none")
        case "large":
            mine.certificate.write_bytes(mine.certificate.read_bytes() * 800)
    with pytest.raises(ProcessorError) as refused:
        pinned(trusted.pem, NAME, mine)
    assert refused.value.rule == "CONFIG-TLS"
