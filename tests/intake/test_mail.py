"""Mail: what a message may hold, TLS and the password, and settings that cannot be right."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from intake.errors import IntakeError
from intake.mail.config import MailConfig, Tls, checked, read_password
from intake.mail.line import Fate, MailLine
from intake.mail.message import Letter, message_bytes
from tests.intake.mail_server import MailServer

LETTER = Letter(to="reader@example.org", subject="s", text="t\n", identity="one")
SETTINGS = MailConfig(sender="news@shop.example", shop_url="https://shop.example")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "mail.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server() -> Iterator[MailServer]:
    made = MailServer()
    yield made
    made.stop()


def tls_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def send(server: MailServer, letter: Letter = LETTER, **settings: Any) -> Fate:
    mail = MailConfig(
        sender="news@shop.example",
        shop_url="https://shop.example",
        port=server.port,
        timeout_seconds=2,
        **settings,
    )
    with MailLine(checked(mail), name="Shop") as line:
        return line.send(letter, now=1)


def refused(server: MailServer, **settings: Any) -> str:
    with pytest.raises(IntakeError) as refusal:
        send(server, **settings)
    assert server.inbox == []
    return refusal.value.rule


def test_mail_goes_out_under_tls_and_with_the_password_of_the_file(
    server: MailServer, certificate: Path, tmp_path: Path
) -> None:
    server.start(tls=tls_of(certificate), login=("news", "geheim 1"))
    password = tmp_path / "password"
    password.write_text("geheim 1\n")
    password.chmod(0o600)
    login: dict[str, Any] = {"user": "news", "password_file": password}
    assert send(server, tls=Tls.STARTTLS, ca_file=certificate, **login) is Fate.TAKEN
    assert server.logins == [("news", "geheim 1")]
    server.inbox.clear()
    # A server that nobody vouches for gets neither the password nor a message.
    assert refused(server, tls=Tls.STARTTLS, **login) == "MAIL-TLS"
    assert len(server.logins) == 1
    password.write_text("wrong")
    assert refused(server, tls=Tls.STARTTLS, ca_file=certificate, **login) == "MAIL-LOGIN"


def test_tls_from_the_first_byte_works_too(server: MailServer, certificate: Path) -> None:
    server.start(tls=tls_of(certificate), is_implicit=True)
    assert send(server, tls=Tls.IMPLICIT, ca_file=certificate) is Fate.TAKEN
    server.inbox.clear()
    assert refused(server, tls=Tls.IMPLICIT) == "MAIL-TLS"


def test_a_server_without_tls_gets_nothing_when_tls_is_configured(
    server: MailServer, certificate: Path
) -> None:
    server.start()
    for tls in (Tls.STARTTLS, Tls.IMPLICIT):
        assert refused(server, tls=tls, ca_file=certificate) in {"MAIL-TLS", "MAIL-UNREACHABLE"}


def test_a_file_of_no_certificates_is_a_wrong_setting(server: MailServer, tmp_path: Path) -> None:
    server.start()
    (tmp_path / "empty.pem").touch()
    for name in ("empty.pem", "nothing.pem"):
        assert refused(server, tls=Tls.STARTTLS, ca_file=tmp_path / name) == "CONFIG-MAIL"


@pytest.mark.parametrize("content", ["", "two\nlines", "a" * 2000, "\x00", "ü"])
def test_a_password_file_holds_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "password"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(IntakeError) as refusal:
        read_password(path)
    assert refusal.value.rule == "CONFIG-MAIL-PASSWORD"


def test_a_password_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("secret\n")
    for mode, good in ((0o600, True), (0o400, True), (0o640, False), (0o604, False)):
        path.chmod(mode)
        if good:
            assert read_password(path) == "secret"
            continue
        with pytest.raises(IntakeError) as refusal:
            read_password(path)
        assert refusal.value.rule == "CONFIG-MAIL-PASSWORD"
    (tmp_path / "link").symlink_to(path)
    path.chmod(0o600)
    with pytest.raises(IntakeError):
        read_password(tmp_path / "link")
    with pytest.raises(IntakeError):
        read_password(tmp_path / "nothing")


@pytest.mark.parametrize(
    "settings",
    [
        {"sender": "nobody"},
        {"sender": "ü@shop.example"},
        {"reply_to": "a b"},
        {"shop_url": "shop.example"},
        {"shop_url": "http://shop.example"},
        {"shop_url": "https://shop.example/ x"},
        {"shop_url": "https://shöp.example"},
        {"host": "mail.shop.example"},
        {"host": "10.0.0.1", "tls": Tls.NONE},
        {"user": "news"},
        {"user": "ü", "password_file": Path("x")},
        {"password_file": Path("x")},
    ],
)
def test_settings_that_cannot_be_right_are_refused(settings: dict[str, Any]) -> None:
    given_: dict[str, Any] = {"sender": "news@shop.example", "shop_url": "https://shop.example", **settings}
    with pytest.raises(IntakeError) as refusal:
        checked(MailConfig(**given_))
    assert refusal.value.rule == "CONFIG-MAIL"


def test_addresses_outside_ascii_arrive(server: MailServer) -> None:
    server.start()
    for written, wire in (
        ("åsa@exempel.example.org", "åsa@exempel.example.org"),
        ("asa@ärlig.example.org", "asa@xn--rlig-koa.example.org"),
    ):
        letter = Letter(to=written, subject="Ö", text="å\n", identity="x")
        assert send(server, letter) is Fate.TAKEN
        came = server.inbox[-1]
        assert came.to == wire
        assert came.raw.decode().startswith(f"To: <{wire}>\r\n")


def test_a_long_address_stays_on_one_line() -> None:
    to = "a" * 60 + "@" + ".".join(["b" * 60] * 3) + ".example"
    raw = message_bytes(
        Letter(to=to, subject="s", text="t", identity="i"),
        sender="news@shop.example",
        name="Shop",
        reply_to="ask@shop.example",
        now=1,
    )
    assert f"To: <{to}>\r\n".encode() in raw
    message = message_from_bytes(raw, policy=default)
    assert message["To"].addresses[0].addr_spec == to
    assert message["Reply-To"] == "ask@shop.example"


@pytest.mark.parametrize(
    "to", ["a@b.example\r\nBcc: x@example.org", "a@b.example\nX: y", "a" * 1000, "a\x00@b"]
)
def test_no_address_adds_a_header(to: str) -> None:
    with pytest.raises(IntakeError) as refusal:
        message_bytes(
            Letter(to=to, subject="s", text="t", identity="i"),
            sender=SETTINGS.sender,
            name="Shop",
            reply_to=SETTINGS.sender,
            now=1,
        )
    assert refusal.value.rule == "MAIL-HEADER"


_PLAIN = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=150).map(str.strip)


@given(subject=_PLAIN, name=_PLAIN, text=st.lists(_PLAIN, max_size=5).map("\n".join))
def test_what_was_written_arrives_and_nothing_else_in_the_head(subject: str, name: str, text: str) -> None:
    raw = message_bytes(
        Letter(to="a@example.org", subject=subject, text=f"{text}\n", identity="i", unsubscribe="https://x"),
        sender="news@shop.example",
        name=name,
        reply_to="news@shop.example",
        now=1,
    )
    message = message_from_bytes(raw, policy=default)
    assert {header.lower() for header in message} == {
        *("to", "list-unsubscribe", "list-unsubscribe-post", "from", "subject", "date", "message-id"),
        *("auto-submitted", "content-type", "content-transfer-encoding", "mime-version"),
    }
    assert message.get_content().replace("\r\n", "\n") == f"{text}\n"
    assert " ".join(message["Subject"].split()) == " ".join(subject.split())
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    assert raw.isascii()
