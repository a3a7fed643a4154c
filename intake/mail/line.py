"""The way to the mail server: one message at a time, and the truth about what became of each.

Why here: whoever must never write twice has to know whether a message was taken, was not, or may have been.
Must not: send to more than one address at a time, go on without the TLS that was asked for, or show an address.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from types import TracebackType
from typing import Self

import email_validator

from intake.errors import IntakeError
from intake.mail.config import MailConfig, Tls, read_password
from intake.mail.message import Letter, message_bytes

_OK = frozenset({250, 251, 252})
_PERMANENT = 500
_MESSAGES_A_CONNECTION = 100


class Fate(StrEnum):
    """TAKEN: the server answers for it. LATER: surely not taken. REFUSED: surely, and for good. UNKNOWN: perhaps."""

    TAKEN = "taken"
    LATER = "later"
    REFUSED = "refused"
    UNKNOWN = "unknown"


_FATES = {2: Fate.TAKEN, 4: Fate.LATER, 5: Fate.REFUSED}
"""By the first digit of the answer to a message (RFC 5321, 4.2.1); any other says nothing."""


class MailLine:
    """One connection to the server of ``mail`` at a time, made when it is needed. ``name``: the sender's."""

    def __init__(self, mail: MailConfig, *, name: str) -> None:
        self._mail = mail
        self._name = name
        self._smtp: smtplib.SMTP | None = None
        self._sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Say goodbye, if there is somebody."""
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            try:
                smtp.quit()
            except (smtplib.SMTPException, OSError):
                smtp.close()

    def send(self, letter: Letter, *, now: int, before: Callable[[], bool] = lambda: True) -> Fate:
        """Give one letter to the server.

        ``before`` is called when the server has accepted sender and address, as the last thing before the message: what
        it makes durable is there before anything can have been sent. When it says no, nothing is sent (LATER).
        Raises ``MAIL-UNREACHABLE``, ``MAIL-TLS``, ``MAIL-LOGIN`` or ``MAIL-SENDER``: then nothing was sent either.
        """
        to, options = _on_the_wire(letter.to)
        message = message_bytes(
            replace(letter, to=to),
            sender=self._mail.sender,
            name=self._name,
            reply_to=self._mail.reply_to,
            now=now,
        )
        if self._smtp is not None and self._sent >= _MESSAGES_A_CONNECTION:
            self.close()
        fate = self._envelope(to, options)
        if fate is None:  # an idle connection may have been closed at the other end: once again on a new one
            self.close()
            fate = self._envelope(to, options)
        if fate is None:
            raise self._unreachable("it closed the connection")
        if fate is not Fate.TAKEN:
            return fate
        if not before():
            self._reset()
            return Fate.LATER
        return self._content(message)

    def _envelope(self, to: str, options: tuple[str, ...]) -> Fate | None:
        """TAKEN when sender and address are accepted; None when the connection broke."""
        smtp = self._connection()
        if options and not smtp.has_extn("smtputf8"):
            return Fate.REFUSED
        try:
            code, _ = smtp.mail(self._mail.sender, options)
            if code in _OK:
                code, _ = smtp.rcpt(to)
            elif code >= _PERMANENT:
                raise IntakeError(
                    "MAIL-SENDER", f"the mail server does not take mail from {self._mail.sender} ({code})"
                )
        except (smtplib.SMTPException, OSError):
            self._drop()
            return None
        if code in _OK:
            return Fate.TAKEN
        self._reset()
        return Fate.REFUSED if code >= _PERMANENT else Fate.LATER

    def _content(self, message: bytes) -> Fate:
        smtp = self._connection()
        try:
            code, _ = smtp.data(message)
        except smtplib.SMTPDataError as error:  # it did not want to see the message
            code = int(error.smtp_code)
        except (smtplib.SMTPException, OSError):
            # The line broke somewhere between the first byte of the message and the answer to the last.
            self._drop()
            return Fate.UNKNOWN
        self._sent += 1
        fate = _FATES.get(code // 100, Fate.UNKNOWN)
        if fate is Fate.UNKNOWN:
            self._drop()  # an answer that is none: the server may have the message, and nobody knows what comes next
        elif fate is not Fate.TAKEN:
            self._reset()
        return fate

    def _connection(self) -> smtplib.SMTP:
        if self._smtp is None:
            self._smtp, self._sent = self._connected(), 0
        return self._smtp

    def _connected(self) -> smtplib.SMTP:
        mail = self._mail
        password = read_password(mail.password_file) if mail.password_file else ""
        try:
            context = ssl.create_default_context(cafile=mail.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise IntakeError(
                "CONFIG-MAIL", f"[mail] ca_file: {mail.ca_file} holds no certificates"
            ) from error
        smtp: smtplib.SMTP | None = None
        try:
            if mail.tls is Tls.IMPLICIT:
                smtp = smtplib.SMTP_SSL(mail.host, mail.port, timeout=mail.timeout_seconds, context=context)
            else:
                smtp = smtplib.SMTP(mail.host, mail.port, timeout=mail.timeout_seconds)
            if mail.tls is Tls.STARTTLS:
                smtp.starttls(context=context)
            smtp.ehlo_or_helo_if_needed()
        except (ssl.SSLError, smtplib.SMTPNotSupportedError) as error:
            _hang_up(smtp)
            remedy = "check [mail] host, port, tls and ca_file; mail is never sent without the TLS that is configured"
            raise IntakeError("MAIL-TLS", f"no TLS with {mail.host} port {mail.port}", remedy) from error
        except (smtplib.SMTPException, OSError) as error:
            _hang_up(smtp)
            raise self._unreachable(_reason(error)) from error
        if mail.user:
            try:
                smtp.login(mail.user, password)
            except (smtplib.SMTPException, OSError) as error:
                _hang_up(smtp)
                remedy = "check [mail] user and what is in password_file"
                raise IntakeError("MAIL-LOGIN", f"{mail.host} does not let {mail.user} in", remedy) from error
        return smtp

    def _unreachable(self, reason: str) -> IntakeError:
        return IntakeError(
            "MAIL-UNREACHABLE",
            f"the mail server {self._mail.host} port {self._mail.port} cannot be used: {reason}",
            "see to it, and give the same command again: nobody is written to twice",
        )

    def _reset(self) -> None:
        if self._smtp is not None:
            try:
                self._smtp.rset()
            except (smtplib.SMTPException, OSError):
                self._drop()

    def _drop(self) -> None:
        smtp, self._smtp = self._smtp, None
        _hang_up(smtp)


def _hang_up(smtp: smtplib.SMTP | None) -> None:
    if smtp is not None:
        smtp.close()


def _on_the_wire(address: str) -> tuple[str, tuple[str, ...]]:
    """The address as SMTP has it, and the options that it needs; a domain outside ASCII has a form inside."""
    try:
        plain = email_validator.validate_email(address, check_deliverability=False).ascii_email
    except email_validator.EmailNotValidError:
        plain = address
    return (plain, ()) if plain and plain.isascii() else (address, ("SMTPUTF8",))


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it answered {error.smtp_code}"
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
