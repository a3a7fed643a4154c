"""An acquirer that shares no code with us (Node, npm's iso_8583) reads what we write, and we read what it writes.

First message by message, then by the commands over the real link: authorise, reverse, capture, refund, totals.
"""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from offline_processor.acquirers.iso8583 import codec, messages, profile
from offline_processor.acquirers.protocol import BatchAnswer, BatchTotals, Capture, Refund, Reversal
from offline_processor.charging import Reference, SecurityCode
from tests.offline_processor.commands import configure, over_the_line, processor
from tests.offline_processor.outside_host import Exchange, OutsideHost, outside_host
from tests.offline_processor.shop import NOW, Shop, a_card, an_order, id_of, open_shop
from tests.tools.known import find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from offline_processor.acquirers.iso8583.codec import Message
    from offline_processor.acquirers.iso8583.mac import Algorithm

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


def at(seconds: int) -> dict[str, str]:
    when = datetime.fromtimestamp(seconds, UTC)
    return {
        "7": when.strftime("%m%d%H%M%S"),
        "12": when.strftime("%H%M%S"),
        "13": when.strftime("%m%d"),
    }


def expected_of(mti: str, order_id: str, stan: int, sent_at: int, rrn: str, amount: int) -> dict[str, str]:
    """What every message about an order must hold, put together from the ledger's row and the configuration."""
    return at(sent_at) | {
        "0": mti,
        "3": "000000",
        "4": f"{amount:012d}",
        "11": f"{stan:06d}",
        "22": "812",
        "25": "59",
        "32": "000001",
        "37": rrn,
        "41": "SHOP0001",
        "42": "RECORDSTORE0001",
        "49": "978",
        "63": order_id,
    }


AMOUNTS = (2_499, 1_700, 900, 1_300)
SILENT = 1_300
CARD = {"2": "4242424242424242", "14": "3112"}


def heard(host: OutsideHost, count: int) -> list[Exchange]:
    return [found for found in (host.exchange() for _ in range(count)) if found.read["0"] != "0800"]


def expected_messages(shop: Shop) -> list[dict[str, str]]:
    """Every message that the ledger says was sent, but for the attempt that was reversed and is over."""
    live = shop.rows(
        "SELECT o.order_id, l.stan, l.sent_at, l.rrn, l.amount FROM live_attempt AS l JOIN orders AS o USING (number)"
        " UNION SELECT order_id, original_stan, original_at, rrn, original_amount FROM operation JOIN orders"
        " USING (number)"
    )
    expected = [CARD | {"60": "737"} | expected_of("0100", *row) for row in live]
    for kind, own, stan_before, sent_before, approval, whole, *sent in shop.rows(
        "SELECT o.kind, o.id, o.original_stan, o.original_at, o.approval, o.original_amount,"
        " order_id, o.stan, o.sent_at, o.rrn, o.amount FROM operation AS o JOIN orders USING (number)"
    ):
        message = expected_of("0420" if kind == "void" else "0220", *sent)
        message["38"], message["62"] = approval, own
        message["90"] = f"0100{stan_before:06d}{at(sent_before)['7']}{'00000000001'}{'0' * 11}"
        if kind == "refund":
            message["3"] = "200000"
        if kind == "void":
            message |= CARD | {"4": f"{whole:012d}"}
            if kept := sent[-1]:
                message["95"] = f"{kept:012d}" + "0" * 12 + "C00000000" * 2
        expected.append(message)
    return expected


def charge_and_follow(shop: Shop, host: OutsideHost, mac: Algorithm | None) -> list[Exchange]:
    """Run, run again, dispatch, cancel, refund and close at this host; what it heard of it."""
    config = over_the_line(configure(shop), host.address, answer=1, mac=mac)
    config.write_text(config.read_text() + '[charging]\ncapture = "dispatch"\n')
    total = f"{len(AMOUNTS)} orders: EUR {sum(AMOUNTS) / 100:.2f}"
    ran = processor("run", config, "--confirm", total, "--json")
    assert (ran.code, ran.document["orders"]) == (3, {"authorised": 3, "held": 1}), ran.err
    said = heard(host, 5)
    again = processor("run", config, "--json")  # what got no answer is reversed, and tried afresh
    assert again.code == 0, again.out + again.err
    said += heard(host, 3)
    orders = [id_of(number) for number in range(len(AMOUNTS))]
    part = ("--amount", "EUR 10.00", "--shipment", "p-1", "--final")
    who = ("--who", "A. Keeper", "--why", "test")
    acts = [
        processor("dispatch", config, orders[0], "--json"),
        processor("dispatch", config, orders[1], *part, "--json"),
        processor("cancel", config, orders[2], *who, "--json"),
        processor("refund", config, orders[0], "--amount", "EUR 4.00", "--reference", "R-1", *who, "--json"),
        processor("approve", config, "R1", "--who", "B. Witness", "--json"),
        processor("close-day", config, "--who", "A. Keeper", "--json"),
    ]
    assert [act.code for act in acts] == [0, 0, 0, 3, 0, 0], [act.out + act.err for act in acts]
    return said + heard(host, 11)


@pytest.mark.needs_tool("node", "acquirer_js")
@pytest.mark.parametrize(
    "mac",
    [
        pytest.param(None, marks=pytest.mark.faults),
        pytest.param("aes-cmac", marks=pytest.mark.faults),
        "retail",
    ],
)
def test_commands_charge_capture_reverse_and_refund_at_a_host_of_another_make(
    tmp_path: Path, tool: Callable[[str], Path], mac: Algorithm | None
) -> None:
    shop = open_shop(tmp_path / "shop", now=int(time.time()))
    keys = shop.keys_for()
    envelopes = [
        shop.seal(number, keys=keys, order=an_order(number, amount=amount), card=a_card(cvv=b"737"))
        for number, amount in enumerate(AMOUNTS)
    ]
    shop.bundle(envelopes, batch_key_id=keys.batch_key_id)
    with outside_host(tool("node"), tmp_path, PROFILE.spec, silent_once=SILENT, mac=mac) as host:
        said = charge_and_follow(shop, host, mac)
        shop.reopen()
        expected = expected_messages(shop)
        approvals: dict[str, str] = dict(
            shop.rows("SELECT order_id, approval FROM live_attempt JOIN orders USING (number)")
        )
        shop.keystore.close()

    silent = next(one for one in said if not one.sent)
    undone = next(
        one for one in said if one.read["0"] in ("0420", "0421") and one.read["37"] == silent.read["37"]
    )
    assert undone.read["90"][4:20] == silent.read["11"] + silent.read["7"]
    assert undone.sent["39"] == "00"
    (totals,) = [one for one in said if one.read["0"] == "0500"]
    assert totals.sent["39"] == "00"
    expected.append(
        {name: totals.read[name] for name in ("7", "11", "15")}
        | {"0": "0500", "32": "000001", "41": "SHOP0001", "42": "RECORDSTORE0001", "49": "978", "50": "978"}
        | {"74": "0000000001", "76": "0000000002", "86": f"{400:016d}", "88": f"{3_499:016d}"}
        | {"97": f"D{3_099:016d}"}
    )
    compared = [dict(one.read) for one in said if one not in (silent, undone)]

    def place(message: dict[str, str]) -> tuple[str, str]:
        return message["0"], message["11"]

    assert sorted(compared, key=place) == sorted(expected, key=place)
    answered = {one.read["63"]: one.sent["38"] for one in said if one.read["0"] == "0100" and one.sent}
    assert approvals == {order_id: answered[order_id] for order_id in approvals}
    fields = sum(len(one) for one in compared)
    assert fields > 150
    print(f"commands at the outside host: {fields} fields of {len(compared)} messages, 0 differences")
