"""The simulated acquirer speaks every shipped profile, by the messages that the link sends."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from offline_processor.acquirers.iso8583 import codec, messages, profile
from offline_processor.acquirers.protocol import Capture, Reversal
from offline_processor.acquirers.simulator.books import standings
from offline_processor.charging import Answer, Reference, SecurityCode
from tests.offline_processor.line import simulator
from tests.offline_processor.shop import NOW

if TYPE_CHECKING:
    from pathlib import Path

    from offline_processor.acquirers.iso8583.codec import Message

TERMS = messages.Terms(terminal="SHOP0001", merchant="RECORDSTORE0001", acquirer_id="000001")
SENT = Reference(
    number=1,
    order_id="ab" * 16,
    attempt=1,
    stan=300,
    rrn="010000000300",
    sent_at=NOW,
    amount=2_500,
    currency="JPY",
)


def ask(line: socket.socket, dialect: profile.Profile, message: Message) -> Message:
    raw = codec.encode(dialect, message)
    line.sendall(codec.prefix(dialect, raw) + raw)
    received, frames = bytearray(), list[bytes]()
    while not frames:
        received += line.recv(4096)
        frames = codec.split(dialect, received)
    return codec.decode(dialect, frames[0])


@pytest.mark.parametrize("name", profile.SHIPPED)
def test_every_shipped_profile_is_spoken(tmp_path: Path, name: str) -> None:
    dialect = profile.load(name)
    with simulator(tmp_path / "books.db", "--profile", name) as running:
        host, _, port = running.address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5) as line:

            def answered(message: Message) -> Answer:
                return messages.answer(dialect, message, ask(line, dialect, message))

            assert messages.is_simulator(
                dialect, ask(line, dialect, messages.sign_on(dialect, TERMS, 1, NOW))
            )
            asked = messages.authorisation(dialect, TERMS, SENT, pan_digits=16, cvv_digits=3)
            found = answered(asked)
            assert (found.code, found.stan, found.rrn) == ("00", 300, SENT.rrn)
            assert (found.amount, found.currency) == (2_500, "JPY")
            assert (found.approval.strip(), found.security_code) == ("000300", SecurityCode.MATCH)
            part = Capture(
                operation="cd" * 16,
                reference=replace(SENT, stan=301, amount=1_000),
                original=SENT,
                approval="000300",
                repeat=False,
                card=None,
                final=True,
            )
            assert answered(messages.capture(dialect, TERMS, part)).code == "00"
            rest = Reversal(
                operation="ef" * 16,
                reference=replace(SENT, stan=302),
                original=SENT,
                approval="000300",
                repeat=True,
                card=None,
                keep=1_000,
            )
            assert answered(messages.reversal(dialect, TERMS, rest, pan_digits=16)).code == "00"
        (one,) = standings(running.books)
        assert (one.reference, one.reserved, one.captured) == (SENT.order_id, 1_000, 1_000)
