"""Certificates for an acquirer's host in a test: an authority, and what it certifies.

Why here: who is trusted on the line can be shown only with certificates that are good, and others that are not.
Must not: be good for longer than a test.
"""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Authority:
    """One that certifies; ``pem`` is its own certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    pem: Path

    def host(
        self, folder: Path, name: str, *, age: dt.timedelta = _DAY, asks: Authority | None = None
    ) -> ssl.SSLContext:
        """TLS for a host that was certified under this name so long ago, for two days.

        ``asks``: it wants a certificate of that authority from whoever calls.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certify(folder, name, age=age))
        if asks is not None:
            context.load_verify_locations(asks.pem)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def certify(
        self, folder: Path, name: str, *, age: dt.timedelta = _DAY, client: bool = False
    ) -> tuple[Path, Path]:
        """The files of a certificate and of its key, which only we can read."""
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        key = ec.generate_private_key(ec.SECP256R1())
        began = dt.datetime.now(dt.UTC) - age
        made = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(began)
            .not_valid_after(began + 2 * _DAY)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        certificate = folder / f"{name}-{made.serial_number:x}.pem"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        private = certificate.with_suffix(".key")
        private.touch(0o600)
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, private


def authority(folder: Path, name: str) -> Authority:
    """A new one."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 5 * _DAY)
        .not_valid_after(now + 2 * _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{name}.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return Authority(key=key, certificate=made, pem=pem)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
