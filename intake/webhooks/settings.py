"""The [webhooks] section, and what must be right about it before anything is sent.

Why here: a wrong address or a secret that others can read is refused at the start, not at the first message.
Must not: hold a secret, or let one lie in a file that others can read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from intake.clients import Network, networks
from intake.errors import IntakeError
from intake.webhooks.message import read_secret

_SECRETS_MAXIMUM = 3
_FILE_LIMIT = 4096
_HTTPS = 443


class WebhooksConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[webhooks]``: where changes of status are told.

    ``url``: an https address. ``secret_file``: one ``whsec_…`` a line, the newest first, mode 0600. ``ca_file``: the
    certificate authority of a receiver that has its own. ``allow_addresses``: networks that are not public and may be
    called all the same.
    """

    url: str = ""
    secret_file: Path | None = None
    ca_file: Path | None = None
    allow_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where messages go. ``target``: path and query. ``secrets`` sign, all of them."""

    host: str
    port: int
    target: str
    secrets: Sequence[bytes] = field(repr=False)
    ca_file: Path | None
    allowed: Sequence[Network]


def endpoint_of(config: WebhooksConfig) -> Endpoint:
    """The endpoint of the settings; ``CONFIG-VALUE`` or ``CONFIG-WEBHOOK-SECRET`` when they are not right."""
    parts = urlsplit(config.url)
    try:
        port = parts.port or _HTTPS
    except ValueError:
        port = 0
    if (
        parts.scheme != "https"
        or not parts.hostname
        or not port
        or "@" in parts.netloc
        or parts.fragment
        or not (config.url.isascii() and config.url.isprintable() and " " not in config.url)
    ):
        raise IntakeError(
            "CONFIG-VALUE",
            "[webhooks] url is not an https address that can be called",
            "for example https://shop.example/hooks/orders; no name or password in it",
        )
    if config.secret_file is None:
        raise IntakeError(
            "CONFIG-VALUE", "[webhooks] secret_file is missing", "make one: intake webhooks new-secret FILE"
        )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(
        host=parts.hostname,
        port=port,
        target=target,
        secrets=_secrets(config.secret_file),
        ca_file=config.ca_file,
        allowed=networks("[webhooks] allow_addresses", config.allow_addresses),
    )


def _secrets(path: Path) -> list[bytes]:
    remedy = "make one: intake webhooks new-secret FILE"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise IntakeError("CONFIG-WEBHOOK-SECRET", f"cannot read {path}: {error.strerror}", remedy) from error
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_mode & 0o077 or facts.st_uid != os.geteuid():
            raise IntakeError(
                "CONFIG-WEBHOOK-SECRET",
                f"{path} can be read by others",
                f"chmod 600 {path}, as the user that sends",
            )
        lines = file.read(_FILE_LIMIT).decode("ascii", "replace").split()
    keys = [read_secret(line) for line in lines[:_SECRETS_MAXIMUM]]
    if not keys or None in keys or len(lines) > _SECRETS_MAXIMUM:
        raise IntakeError(
            "CONFIG-WEBHOOK-SECRET", f"{path} does not hold one to three secrets of the form whsec_…", remedy
        )
    return [key for key in keys if key is not None]
