"""The [mail] section of node.toml: the mail server, and who writes.

Why here: newsletter and enquiries are sent by the same way.
Must not: hold the password (a file of mode 0600 does), or let mail leave this machine unencrypted.
"""

from __future__ import annotations

import os
import stat
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from intake.errors import IntakeError
from intake.texts import email_address, is_harmful

_PASSWORD_LIMIT = 1024
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Tls(StrEnum):
    """``none`` is for a mail server on this very machine only."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    NONE = "none"


class MailConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``sender`` is the address that customers see and that bounces go to; ``reply_to`` where their answers go.

    ``shop_url``: how customers reach the shop (https://HOST), for links in messages. ``ca_file``: certificates of those
    who may vouch for the mail server, when it is not the system's.
    """

    sender: str
    shop_url: str
    host: Annotated[str, msgspec.Meta(min_length=1, max_length=253)] = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 25
    tls: Tls = Tls.NONE
    user: Annotated[str, msgspec.Meta(max_length=320)] = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    reply_to: str = ""
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=600)] = 60


def checked(mail: MailConfig) -> MailConfig:
    """The same settings, with its addresses in normal form; ``CONFIG-MAIL`` when they cannot be right together."""
    sender, reply_to = email_address(mail.sender), email_address(mail.reply_to or mail.sender)
    url = mail.shop_url.rstrip("/")
    is_web = url.startswith(("https://", "http://")) and not url.endswith(":")
    for faulty, text in (
        (sender is None or not sender.isascii(), "sender is not an email address in ASCII"),
        (reply_to is None or not reply_to.isascii(), "reply_to is not an email address in ASCII"),
        (not is_web or not url.isascii() or " " in url or is_harmful(url), "shop_url is not https://HOST"),
        (
            url.startswith("http://") and url[7:].rpartition(":")[0] not in _LOOPBACK,
            "shop_url must begin with https:// (RFC 8058 asks for it)",
        ),
        (
            mail.tls is Tls.NONE and mail.host not in _LOOPBACK,
            "tls = none is for a mail server on this machine; use starttls or implicit",
        ),
        (not mail.user.isascii() or is_harmful(mail.user), "user is not ASCII"),
        (bool(mail.user) != (mail.password_file is not None), "user and password_file belong together"),
    ):
        if faulty:
            raise IntakeError(
                "CONFIG-MAIL", f"[mail]: {text}", "correct it in the file, or MAIL_… in the environment"
            )
    return msgspec.structs.replace(mail, sender=sender, reply_to=reply_to, shop_url=url)


def read_password(path: Path) -> str:
    """The first line of a file that nobody else can read; ``CONFIG-MAIL-PASSWORD`` when it is anything else."""
    remedy = "a file with the password alone, of mode 0600, of the user that runs this"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise IntakeError("CONFIG-MAIL-PASSWORD", f"cannot read {path}: {error.strerror}", remedy) from error
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or stat.S_IMODE(facts.st_mode) & 0o077:
            raise IntakeError("CONFIG-MAIL-PASSWORD", f"{path} can be read by others", f"chmod 600 {path}")
        raw = file.read(_PASSWORD_LIMIT + 1)
    try:
        password = raw.decode("ascii").removesuffix("\n")  # SMTP's logins know no other letters
    except UnicodeDecodeError:
        password = ""
    if not password or len(raw) > _PASSWORD_LIMIT or not password.isprintable():
        raise IntakeError("CONFIG-MAIL-PASSWORD", f"{path} does not hold one line of ASCII text", remedy)
    return password
