"""The simulated acquirer on its line: a process of its own, spoken to in bare ISO 8583 by a client that is not ours."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import iso8583
import iso8583.specs
import pytest

from offline_processor.acquirers.simulator.books import standings, unreversed_approvals
from tests.offline_processor.line import ROOT, Line, simulator
from tests.offline_processor.traces import Cards, files_under

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPEC = iso8583.specs.default_ascii | {
    name: iso8583.specs.default_ascii[name] | {"data_enc": "b"} for name in ("p", "1")
}
PAN, CVV = "4242424242424242", "737"
ORDER = "ab" * 16
CLOSED = b""


class Client:
    """One connection; frames have a length of two bytes."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=2)

    def send(self, **fields: str) -> None:
        self.send_raw(encoded(**fields))

    def send_raw(self, raw: bytes) -> None:
        self._socket.sendall(len(raw).to_bytes(2, "big") + raw)

    def exactly(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            part = self._socket.recv(size - len(got))
            if not part:
                break
            got += part
        return got

    def raw(self) -> bytes:
        return self.exactly(int.from_bytes(self.exactly(2), "big"))

    def answer(self) -> dict[str, str]:
        return iso8583.decode(self.raw(), SPEC)[0]

    def is_silent(self) -> bool:
        self._socket.settimeout(0.15)
        try:
            return self._socket.recv(1) is None
        except TimeoutError:
            return True
        finally:
            self._socket.settimeout(2)

    def close(self) -> None:
        self._socket.close()


def encoded(**fields: str) -> bytes:
    named = {name.removeprefix("de"): value for name, value in fields.items()}
    return bytes(iso8583.encode(named, SPEC)[0])


def authorisation(number: int, **changes: str) -> dict[str, str]:
    fields = {
        "t": "0100",
        "de2": PAN,
        "de3": "000000",
        "de4": "000000002500",
        "de7": "1123024500",
        "de11": f"{number:06d}",
        "de14": "3112",
        "de37": f"{number:012d}",
        "de41": "SHOP0001",
        "de49": "978",
        "de60": CVV,
        "de63": ORDER,
    }
    return fields | changes


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    with simulator(tmp_path_factory.mktemp("line") / "books.db", "--late", "0.3") as running:
        yield running


@pytest.fixture
def client(line: Line) -> Iterator[Client]:
    made = Client(line.address)
    yield made
    made.close()
    line.faults()


def test_it_says_that_it_is_a_simulator(client: Client) -> None:
    client.send(t="0800", de7="1123024500", de11="000001", de70="001")
    answer = client.answer()
    assert (answer["t"], answer["39"], answer["11"], answer["63"]) == ("0810", "00", "000001", "SIMULATOR")


def test_answers_come_in_their_order_on_a_full_line(client: Client) -> None:
    for number in range(100, 200):
        client.send(**authorisation(number))
    answers = [client.answer() for _ in range(100)]
    assert [int(answer["11"]) for answer in answers] == list(range(100, 200))
    assert {(answer["t"], answer["39"], answer["44"]) for answer in answers} == {("0110", "00", "M")}
    assert not {"2", "14", "60"} & set(answers[0])


def test_taken_and_reversed_over_the_line(client: Client, line: Line) -> None:
    original = "0100" + "000300" + "1123024500" + "0" * 22
    client.send(**authorisation(300))
    assert client.answer()["38"] == "000300"
    follow = {"de3": "000000", "de7": "1123024501", "de37": f"{300:012d}", "de49": "978", "de90": original}
    client.send(t="0220", de4="000000001500", de11="000301", **follow)
    assert client.answer()["39"] == "00"
    client.send(t="0421", de4="000000002500", de11="000302", de95="000000001500" + "0" * 30, **follow)
    answer = client.answer()
    assert (answer["t"], answer["39"]) == ("0430", "00")
    (one,) = [one for one in standings(line.books) if one.approval == "000300"]
    assert (one.reserved, one.captured) == (1_500, 1_500)


@pytest.mark.parametrize("fault", ["lost-before", "lost-after"])
def test_no_answer(client: Client, line: Line, fault: str) -> None:
    line.faults(f"{fault}:1")
    client.send(**authorisation(400))
    assert client.is_silent()
    client.send(**authorisation(401))
    assert client.answer()["11"] == "000401"


def test_late_answer_comes_late(client: Client, line: Line) -> None:
    line.faults("late:1")
    client.send(**authorisation(410))
    client.send(**authorisation(411))
    assert [client.answer()["11"] for _ in range(2)] == ["000411", "000410"]


@pytest.mark.parametrize("fault", ["cut", "hang-up"])
def test_connection_ends(client: Client, line: Line, fault: str) -> None:
    line.faults(f"{fault}:1")
    client.send(**authorisation(420))
    head = client.exactly(2)
    assert (len(head) == 2) is (fault == "cut")
    if head:
        assert 0 < len(client.exactly(65_535)) < int.from_bytes(head, "big")
    assert client.exactly(1) == CLOSED


def test_answer_comes_twice(client: Client, line: Line) -> None:
    line.faults("duplicate:1")
    client.send(**authorisation(430))
    assert client.raw() == client.raw()


def test_answer_to_another_trace_number_comes_first(client: Client, line: Line) -> None:
    line.faults("other-stan:1")
    client.send(**authorisation(440))
    assert [client.answer()["11"] for _ in range(2)] == ["000441", "000440"]


@pytest.mark.parametrize("fault", ["garbage", "truncated"])
def test_answer_that_is_no_message(client: Client, line: Line, fault: str) -> None:
    line.faults(f"{fault}:1")
    client.send(**authorisation(450))
    with pytest.raises(iso8583.DecodeError):
        client.answer()


def test_length_that_is_too_large(client: Client, line: Line) -> None:
    line.faults("oversize:1")
    client.send(**authorisation(460))
    assert client.exactly(2) == b"\xff\xff"


def test_in_progress_first_and_done_after_it(client: Client, line: Line) -> None:
    line.faults("in-progress:1")
    client.send(**authorisation(470))
    assert [client.answer()["39"] for _ in range(2)] == ["09", "00"]


def test_what_is_no_message_ends_the_connection_and_no_other(client: Client, line: Line) -> None:
    other = Client(line.address)
    client.send_raw(b"\x00" * 40)
    assert client.exactly(1) == CLOSED
    other.send(**authorisation(480))
    assert other.answer()["11"] == "000480"
    other.close()


def test_killed_it_has_booked_all_that_it_answered_and_no_card(tmp_path: Path) -> None:
    with simulator(tmp_path / "books.db") as running:
        client = Client(running.address)
        client.send(**authorisation(1))
        assert client.answer()["39"] == "00"
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        client.close()
        assert unreversed_approvals(running.books) == {ORDER: 1}
    known = Cards(cvv_of={PAN.encode(): CVV.encode()})
    assert known.pans_in(encoded(**authorisation(1))) == [PAN.encode()]
    for path, content in files_under(tmp_path).items():
        assert known.pans_in(content) == [], path


@pytest.mark.parametrize(
    "where", ["0.0.0.0:0", "localhost:0", "127.0.0.1", "192.0.2.1:4000", "127.0.0.1:99999"]
)
def test_it_listens_on_loopback_only(tmp_path: Path, where: str) -> None:
    words = ("simulate-acquirer", "--books", str(tmp_path / "books.db"), "--listen", where)
    command = [sys.executable, "-m", "offline_processor", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, cwd=ROOT)
    assert ended.returncode == 4
    assert "SIMULATOR-LISTEN" in ended.stderr
