"""The form of a message: plain text, no picture, no link that counts, and headers that nobody can add to.

Why here: what goes to a customer is made in one place, without I/O, so that every byte of it can be tested.
Must not: read the clock, or take a header's value with a line break in it.
"""

from __future__ import annotations

import email.utils
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP

from intake.errors import IntakeError

_LINE_LIMIT = 998  # RFC 5322, 2.1.1
_POLICY = SMTP.clone(max_line_length=76)  # quoted-printable lines and encoded words must not be longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """``identity`` is the left half of the Message-ID; ``unsubscribe`` the one-click address, empty for none.

    ``list_id``: of mailing lists (RFC 2919), empty for a letter to one person.
    """

    to: str = field(repr=False)
    subject: str
    text: str = field(repr=False)
    identity: str
    unsubscribe: str = field(default="", repr=False)
    list_id: str = ""


def message_bytes(letter: Letter, *, sender: str, name: str, reply_to: str, now: int) -> bytes:
    """The message as it goes to the mail server, with CRLF line ends. ``name``: the sender's, as people read it."""
    message = EmailMessage(policy=_POLICY)
    user, _, domain = sender.rpartition("@")
    message["From"] = Address(display_name=name, username=user, domain=domain)
    message["Subject"] = letter.subject
    message["Date"] = email.utils.formatdate(now)
    message["Message-ID"] = f"<{letter.identity}@{domain}>"
    if reply_to != sender:
        message["Reply-To"] = reply_to
    if letter.list_id:
        message["List-Id"] = letter.list_id
        message["Precedence"] = "bulk"
    # Not what a person typed just now: no holiday answer is wanted (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(letter.text, cte="quoted-printable")
    return _long_lines(letter) + message.as_bytes()


def _long_lines(letter: Letter) -> bytes:
    """Headers that must stay on one line: Python's policies break a long address or URI into encoded words."""
    lines = [f"To: <{letter.to}>"]
    if letter.unsubscribe:
        lines += [
            f"List-Unsubscribe: <{letter.unsubscribe}>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        ]
    for line in lines:
        if len(line.encode("utf-8")) > _LINE_LIMIT or not line.isprintable():
            raise IntakeError("MAIL-HEADER", "an address or a link does not fit into one line of a message")
    # An address outside ASCII is written as it is, which only a mail server with SMTPUTF8 gets to see (RFC 6532).
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8")
