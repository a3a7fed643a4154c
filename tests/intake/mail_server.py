"""A real SMTP server in a thread, which keeps what came over the wire and misbehaves where a test tells it to.

Why here: newsletter and enquiries are tested against the same one.
Must not: repair anything: what it keeps is byte for byte what was sent.
"""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session


@dataclass(slots=True)
class Came:
    to: str
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=default)

    @property
    def text(self) -> str:
        return str(self.message.get_content())

    def link(self, path: str) -> str:
        """The path and query of the first link to ``path`` in the text."""
        found = next(word for word in self.text.split() if f"/newsletter/{path}?" in word)
        return found[found.index("/newsletter/") :]


@dataclass(slots=True)
class MailServer:
    """``rcpt`` and ``data``: an answer by address in place of 250; ``cut``: how the line breaks, by address.

    ``cut`` values: "before" the message is booked or "after", in both cases without an answer; "envelope": at RCPT.
    ``at_data``: called with the address before a message to it is answered.
    """

    inbox: list[Came] = field(default_factory=list)
    rcpt: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    cut: dict[str, str] = field(default_factory=dict)
    at_data: Callable[[str], None] = lambda _: None
    logins: list[tuple[str, str]] = field(default_factory=list)
    controller: Any = None

    @property
    def port(self) -> int:
        return int(self.controller.port)

    @property
    def counts(self) -> Counter[str]:
        return Counter(came.to for came in self.inbox)

    def start(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        is_implicit: bool = False,
        login: tuple[str, str] | None = None,
    ) -> MailServer:
        def authenticator(server: Any, session: Any, envelope: Any, kind: str, given: Any) -> AuthResult:
            assert isinstance(given, LoginPassword)
            self.logins.append((given.login.decode(), given.password.decode()))
            return AuthResult(success=self.logins[-1] == login)

        options: dict[str, Any] = {}
        if tls:
            options = {"ssl_context": tls} if is_implicit else {"tls_context": tls, "require_starttls": True}
        if login:
            options |= {"authenticator": authenticator, "auth_required": True, "auth_require_tls": bool(tls)}
        self.controller = _Controller(
            _Handler(self), hostname="127.0.0.1", port=0, enable_SMTPUTF8=True, **options
        )
        self.controller.start()
        return self

    def stop(self) -> None:
        if self.controller is not None:
            self.controller.stop()
            self.controller = None


class _Controller(Controller):
    def _trigger_server(self) -> None:
        listening: Any = self.server
        self.port = listening.sockets[0].getsockname()[1]  # 0 was asked for
        super()._trigger_server()  # type: ignore[no-untyped-call]


class _Handler:
    def __init__(self, server: MailServer) -> None:
        self.server = server
        self.lock = threading.Lock()

    async def handle_RCPT(  # noqa: N802  the name that aiosmtpd calls
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.server.cut.get(address) == "envelope":
            del self.server.cut[address]
            server.transport.abort()
            return "421 gone"
        if answer := self.server.rcpt.get(address):
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        [to] = envelope.rcpt_tos
        assert envelope.original_content is not None
        cut = self.server.cut.get(to)
        refused = self.server.data.get(to)
        if cut != "before" and refused is None:
            self.server.inbox.append(Came(to=to, raw=envelope.original_content))
        self.server.at_data(to)
        if cut is not None:
            server.transport.abort()
        return refused or "250 OK"
