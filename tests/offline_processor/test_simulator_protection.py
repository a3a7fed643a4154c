"""The simulator with all that a real acquirer may ask for: TLS, the caller's certificate, a MAC; and its faults."""

from __future__ import annotations

import signal
import socket
import struct
import time
from collections import Counter
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from offline_processor.acquirers.iso8583.driver import Iso8583Acquirer, open_iso8583
from offline_processor.acquirers.simulator.books import standings
from offline_processor.config import AcquirerConfig
from offline_processor.errors import ProcessorError
from tests.faults.acquirer_judge import read_books
from tests.offline_processor.certificates import Authority, authority
from tests.offline_processor.commands import here, profile_with
from tests.offline_processor.line import Line, simulator
from tests.offline_processor.mac_keys import CHECKS, KEYS, key_file, mac_key
from tests.offline_processor.test_iso8583_link import answers_of, codes, reversal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "acquirer.example"


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """A simulator that asks for everything, and what we need to be taken."""

    line: Line
    profile: Path
    authority: Authority
    certificate: tuple[Path, Path]
    key: Path

    @contextmanager
    def opened(self, **changes: Any) -> Iterator[Iso8583Acquirer]:
        settings: dict[str, Any] = {
            "profile": str(self.profile),
            "address": self.line.address,
            "terminal": "SHOP0001",
            "merchant": "RECORDSTORE0001",
            "tls_authority": self.authority.pem,
            "tls_name": NAME,
            "tls_certificate": self.certificate[0],
            "tls_key": self.certificate[1],
            "mac_key": self.key,
            "mac_key_check": CHECKS["retail"],
        }
        config = AcquirerConfig(driver="iso8583", **(settings | changes))
        acquirer = open_iso8583(
            config, now=lambda: int(time.time()), clock=time.monotonic, sleep=lambda seconds: None
        )
        with closing(acquirer):
            yield acquirer


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    folder = tmp_path_factory.mktemp("rehearsal")
    hosts, clients = authority(folder, "hosts"), authority(folder, "clients")
    own = profile_with(folder, answer=0.5, name="bcd-1987", tls=True, mac="retail")
    certificate, private = hosts.certify(folder, NAME)
    key = key_file(folder, "retail")
    with simulator(
        folder / "books.db",
        *("--profile", str(own), "--mac-key", str(key), "--late", "0.8"),
        *(
            "--tls-certificate",
            str(certificate),
            "--tls-key",
            str(private),
            "--tls-authority",
            str(clients.pem),
        ),
    ) as line:
        yield Rehearsal(
            line=line,
            profile=own,
            authority=hosts,
            certificate=clients.certify(folder, "shop.example", client=True),
            key=key,
        )


def test_the_whole_protection_is_rehearsed(rehearsal: Rehearsal) -> None:
    rehearsal.line.faults()
    with rehearsal.opened(connections=2) as acquirer:
        assert acquirer.is_simulator
        assert codes(answers_of(acquirer, range(1, 101))) == ["00"] * 100
        assert codes(acquirer.reverse([reversal(number) for number in range(1, 51)])) == ["00"] * 50
        assert acquirer.echo()
    asked = [one for one in read_books(rehearsal.line.books) if one.kind == "authorisation"]
    assert len(asked) == 100


def test_wrong_mac_is_no_answer_and_is_reversed(rehearsal: Rehearsal) -> None:
    rehearsal.line.faults("wrong-mac@authorisation/2:1", "wrong-mac@reversal:1")
    with rehearsal.opened() as acquirer:
        answers = codes(answers_of(acquirer, (201, 202)))
        assert answers == ["00", None]
        undone = replace(reversal(202), keep=0)
        assert codes(acquirer.reverse([undone])) == [None]
        assert codes(acquirer.reverse([replace(undone, repeat=True)])) == ["00"]
    booked = Counter(one.stan for one in read_books(rehearsal.line.books) if one.kind == "authorisation")
    assert booked[202] == 1
    (of_it,) = [one for one in standings(rehearsal.line.books) if one.approval == "000202"]
    assert of_it.reserved == 0


def test_echo_of_the_hosts_own_disturbs_nothing(rehearsal: Rehearsal) -> None:
    rehearsal.line.faults("host-echo@authorisation", "host-echo@reversal")
    with rehearsal.opened() as acquirer:
        assert codes(answers_of(acquirer, range(301, 361))) == ["00"] * 60
        assert codes(acquirer.reverse([reversal(number) for number in range(301, 311)])) == ["00"] * 10
        exchange = acquirer._link._connections[0].exchange
        assert (exchange.strangers, exchange.duplicates) == (0, 0)
    rehearsal.line.faults()


def test_callers_without_tls_or_manners_do_not_stop_it(rehearsal: Rehearsal) -> None:
    rehearsal.line.faults()
    name, _, port = rehearsal.line.address.rpartition(":")
    for said in (b"", b"\x16\x03\x01", b"\x00\x10" + b"0" * 16, bytes(range(256)) * 40):
        with suppress(ConnectionError), socket.create_connection((name, int(port)), timeout=5) as stranger:
            stranger.sendall(said)
            if len(said) > 10:
                stranger.recv(100)
    for _ in range(20):  # hung up before it is accepted, with something to read
        stranger = socket.create_connection((name, int(port)), timeout=5)
        stranger.sendall(b"\x16\x03\x01")
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stranger.close()
    with rehearsal.opened() as acquirer:
        assert codes(answers_of(acquirer, [401])) == ["00"]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"tls_certificate": None, "tls_key": None}, "ACQUIRER-TLS"),
        ({"tls_name": "other.example"}, "ACQUIRER-TLS"),
        ({"mac_key_check": "000000"}, "CONFIG-MAC-CHECK"),
        ({"mac_key": None, "mac_key_check": ""}, "CONFIG-MAC"),
    ],
)
def test_what_is_missing_is_told_before_an_order_is_sent(
    rehearsal: Rehearsal, changes: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ProcessorError) as refused, rehearsal.opened(**changes):
        pass
    assert refused.value.rule == rule


def test_another_key_signs_nobody_on(rehearsal: Rehearsal, tmp_path: Path) -> None:
    other = key_file(tmp_path, "retail")
    digits = KEYS["retail"][16:] + KEYS["retail"][:16]
    other.write_text(digits)
    check = mac_key("retail", digits).check_value().hex()
    with (
        pytest.raises(ProcessorError, match="another MAC") as refused,
        rehearsal.opened(mac_key=other, mac_key_check=check),
    ):
        pass
    assert refused.value.rule == "ACQUIRER-SIGN-ON"


def test_simulator_protects_its_line_as_its_profile_says(tmp_path: Path) -> None:
    own = profile_with(tmp_path, answer=1, mac="retail")
    (tmp_path / "tls").mkdir()
    tls = profile_with(tmp_path / "tls", answer=1, tls=True)
    key = key_file(tmp_path, "retail")
    certificate, private = authority(tmp_path, "hosts").certify(tmp_path, NAME)
    both = ("--tls-certificate", certificate, "--tls-key", private)
    cases: list[tuple[tuple[object, ...], str]] = [
        (("--profile", own), "SIMULATOR-PROTECTION"),
        (("--mac-key", key), "SIMULATOR-PROTECTION"),
        (("--profile", tls), "SIMULATOR-PROTECTION"),
        (both, "SIMULATOR-PROTECTION"),
        (("--tls-authority", certificate), "SIMULATOR-PROTECTION"),
        (("--profile", tls, *both[:2]), "CONFIG-TLS"),
        (("--fault", "wrong-mac"), "SIMULATOR-FAULT"),
    ]
    before = signal.getsignal(signal.SIGTERM)
    for options, rule in cases:
        ended = here("simulate-acquirer", "--books", str(tmp_path / "b.db"), *map(str, options))
        assert (ended.code in (2, 4), rule in ended.err) == (True, True), (options, ended.err)
    signal.signal(signal.SIGTERM, before)
