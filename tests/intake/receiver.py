"""A webhook receiver on loopback, with a certificate of its own; the official library judges messages."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from standardwebhooks import Webhook


def make_certificate(directory: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A self-signed certificate for ``name`` and 127.0.0.1, and its key with it; as authority and as server's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    authority, both = directory / "authority.pem", directory / "receiver.pem"
    public = certificate.public_bytes(serialization.Encoding.PEM)
    authority.write_bytes(public)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(private + public)
    return authority, both


@dataclass(slots=True)
class Receiver:
    """Takes messages; ``behave`` answers the next ones: a status, or something done to the connection."""

    secret: str
    url: str
    authority: Path
    taken: list[tuple[str, Any]] = field(default_factory=list)
    asked: int = 0
    behave: Callable[[BaseHTTPRequestHandler], int] = lambda _: 204
    server: ThreadingHTTPServer | None = None

    @property
    def ids(self) -> list[str]:
        return [message_id for message_id, _ in self.taken]

    def wait_for(self, count: int, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while len(set(self.ids)) < count and time.monotonic() < end:
            time.sleep(0.02)
        assert len(set(self.ids)) >= count, f"only {len(set(self.ids))} of {count} messages came"


def start_receiver(directory: Path, secret: str) -> Receiver:
    """A receiver at https://localhost:PORT/hook; stop it with ``receiver.server.shutdown()``."""
    authority, both = make_certificate(directory)
    receiver = Receiver(secret=secret, url="", authority=authority)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.asked += 1
            document = Webhook(receiver.secret).verify(body, dict(self.headers))
            status = receiver.behave(self)
            if status == 0:
                return
            if 200 <= status < 300:
                receiver.taken.append((self.headers["webhook-id"], document))
            self.send_response(status)
            self.send_header("content-length", "0")
            if status in (429, 503):
                self.send_header("retry-after", "7200")
            if 300 <= status < 400:
                self.send_header("location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.daemon_threads = True
    receiver.url = f"https://localhost:{server.server_address[1]}/hook"
    receiver.server = server
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return receiver
