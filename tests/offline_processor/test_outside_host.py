"""An acquirer that shares no code with us (Node, npm's iso_8583) reads what we write, and we read what it writes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from offline_processor.acquirers.iso8583 import codec, messages, profile
from offline_processor.acquirers.protocol import BatchAnswer, BatchTotals, Capture, Refund, Reversal
from offline_processor.charging import Reference, SecurityCode
from tests.offline_processor.outside_host import OutsideHost, outside_host
from tests.offline_processor.shop import NOW
from tests.tools.known import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from offline_processor.acquirers.iso8583.codec import Message

PROFILE = profile.load("ascii-1987")
TERMS = messages.Terms(terminal="SHOP0001", merchant="RECORDSTORE0001", acquirer_id="000001")
PAN, EXPIRY, CVV = b"4242424242424242", b"3112", b"737"
SENT = Reference(
    number=1,
    order_id="ab" * 16,
    attempt=1,
    stan=300,
    rrn="010000000300",
    sent_at=NOW,
    amount=2_500,
    currency="EUR",
)
COMPARED = {"messages": 0, "fields": 0}


def reference(stan: int, amount: int) -> Reference:
    return Reference(
        number=1,
        order_id=SENT.order_id,
        attempt=1,
        stan=stan,
        rrn=SENT.rrn,
        sent_at=NOW + stan,
        amount=amount,
        currency="EUR",
    )


class Line:
    """One connection to the outside host; every message is compared field by field on both sides."""

    def __init__(self, host: OutsideHost) -> None:
        self._host = host
        name, _, port = host.address.rpartition(":")
        self._socket = socket.create_connection((name, int(port)), timeout=5)

    def ask(self, message: Message, **card: bytes) -> Message:
        raw, places = codec.encode_with_layout(PROFILE, message)
        expected = {str(number): text for number, text in message.fields.items()}
        for number, digits in ((2, card.get("pan")), (14, card.get("expiry")), (60, card.get("cvv"))):
            if digits:
                raw[places[number]] = digits
                expected[str(number)] = digits.decode()
        self._socket.sendall(codec.prefix(PROFILE, raw) + raw)
        received, frames = bytearray(), list[bytes]()
        while not frames:
            received += self._socket.recv(4096)
            frames = codec.split(PROFILE, received)
        answer = codec.decode(PROFILE, frames[0])
        exchange = self._host.exchange()
        assert exchange.read == {"0": message.mti, **expected}
        assert exchange.sent == {"0": answer.mti, **{str(n): text for n, text in answer.fields.items()}}
        COMPARED["messages"] += 2
        COMPARED["fields"] += len(exchange.read) + len(exchange.sent)
        return answer

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutsideHost]:
    node, there = find("node"), find("acquirer_js")
    if node is None or there is None:
        pytest.skip("missing tool: node and the packages of tests/acquirer_js")
    with outside_host(node, tmp_path_factory.mktemp("outside"), PROFILE.spec) as running:
        yield running


@pytest.fixture
def line(host: OutsideHost) -> Iterator[Line]:
    made = Line(host)
    yield made
    made.close()


@pytest.mark.needs_tool("node", "acquirer_js")
def test_every_verb_with_a_host_of_another_make(line: Line, tool: Callable[[str], Path]) -> None:
    signed = line.ask(messages.sign_on(PROFILE, TERMS, 1, NOW))
    assert messages.is_simulator(PROFILE, signed)

    asked = messages.authorisation(PROFILE, TERMS, SENT, pan_digits=len(PAN), cvv_digits=len(CVV))
    answer = messages.answer(PROFILE, asked, line.ask(asked, pan=PAN, expiry=EXPIRY, cvv=CVV), sent=SENT)
    assert (answer.code, answer.stan, answer.rrn, answer.amount) == ("00", 300, SENT.rrn, 2_500)
    assert (answer.approval.strip(), answer.security_code) == ("000300", SecurityCode.NOT_CHECKED)

    common: dict[str, Any] = {"original": SENT, "approval": "000300", "card": None}
    for repeat in (False, True):
        stan = 301 + repeat
        taken = Capture(
            operation="cd" * 16, reference=reference(stan, 1_250), repeat=repeat, final=repeat, **common
        )
        asked = messages.capture(PROFILE, TERMS, taken)
        assert messages.answer(PROFILE, asked, line.ask(asked)).code == "00"

    back = Refund(operation="ef" * 16, reference=reference(303, 100), repeat=False, **common)
    asked = messages.refund(PROFILE, TERMS, back)
    assert messages.answer(PROFILE, asked, line.ask(asked)).code == "00"

    right = BatchTotals(
        currency="EUR", captures=2, captured=2_500, refunds=1, refunded=100, stan=304, sent_at=NOW
    )
    asked = messages.totals(PROFILE, TERMS, right)
    assert messages.batch_answer(PROFILE, line.ask(asked)) is BatchAnswer.IN_BALANCE

    for repeat in (False, True):
        undone = Reversal(
            operation="01" * 16, reference=reference(305, 2_500), repeat=repeat, keep=1, **common
        )
        asked = messages.reversal(PROFILE, TERMS, undone, pan_digits=len(PAN))
        answer = messages.answer(PROFILE, asked, line.ask(asked, pan=PAN, expiry=EXPIRY))
        assert answer.code == "00"
    assert COMPARED["messages"] == 16
    assert COMPARED["fields"] > 150
    print(f"outside host: {COMPARED['fields']} fields of {COMPARED['messages']} messages, 0 differences")


@pytest.mark.needs_tool("node", "acquirer_js")
def test_totals_that_differ_are_said_to_differ(line: Line, tool: Callable[[str], Path]) -> None:
    wrong = BatchTotals(currency="EUR", captures=9, captured=9, refunds=9, refunded=9, stan=400, sent_at=NOW)
    asked = messages.totals(PROFILE, TERMS, wrong)
    assert messages.batch_answer(PROFILE, line.ask(asked)) is BatchAnswer.OUT_OF_BALANCE
