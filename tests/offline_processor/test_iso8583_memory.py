"""After a run over the line no card is left in the process or on its disk, even if the host repeats all of it."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING, Any

import iso8583
import msgspec
import pytest

from offline_processor.acquirers.iso8583 import codec
from offline_processor.acquirers.iso8583.messages import SIMULATOR, response_mti
from offline_processor.acquirers.iso8583.profile import load
from tests.offline_processor.certificates import Authority, authority
from tests.offline_processor.commands import Ran, configure, over_the_line, processor
from tests.offline_processor.mac_keys import KEYS, mac_key
from tests.offline_processor.scripted_host import Peer, scripted_host
from tests.offline_processor.test_memory import TOTAL, batch, cards, known
from tests.offline_processor.traces import files_under

if TYPE_CHECKING:
    from collections.abc import Iterable

    from offline_processor.acquirers.iso8583.mac import Algorithm
    from tests.offline_processor.shop import Shop
    from tests.offline_processor.traces import Cards

__all__ = ["batch", "cards", "known"]

# Element 60 with a security code, before element 63 with an order's number, as this profile writes them.
_CODE_IN_ITS_ELEMENT = re.compile(rb"00([34])([0-9]{3,4})032[0-9a-f]{32}")
# Element 13 is today's; then the expiry that every one of these cards has, and element 22.
_EXPIRY = time.strftime("%m%d", time.gmtime()).encode() + b"3112" + b"812"


def packed_pans_in(content: bytes, pans: Iterable[bytes]) -> list[bytes]:
    """Every PAN that stands there with two digits to a byte, as BCD has them."""
    return [pan for pan in pans if bytes.fromhex(pan.decode().zfill(len(pan) + len(pan) % 2)) in content]


def codes_in(content: bytes) -> list[bytes]:
    """Every security code in its element that is not all zeros."""
    found = [match[2][: int(match[1])] for match in _CODE_IN_ITS_ELEMENT.finditer(content)]
    return [code for code in found if code.strip(b"0")]


def key_in(content: bytes, mac: Algorithm) -> tuple[int, int]:
    """How often the line's key stands there, as bytes and as digits."""
    key = bytes.fromhex(KEYS[mac])
    digits = content.upper().count(KEYS[mac].upper().encode())
    return max(content.count(key[:8]), content.count(key[8:])), digits


def run_and_dump(
    shop: Shop, address: str, mode: str, *, profile: str, tls: Authority | None, mac: Algorithm
) -> tuple[Ran, bytes]:
    dumped = shop.root.parent / f"{shop.root.name}-memory"
    pem = None if tls is None else tls.pem
    config = over_the_line(configure(shop), address, answer=1, profile=profile, authority=pem, mac=mac)
    child = (sys.executable, "-m", "tests.offline_processor.memory_child", mode, str(dumped))
    ran = processor("run", config, "--confirm", TOTAL, "--json", program=child)
    content = dumped.read_bytes()
    dumped.unlink()
    return ran, content


class Parrot:
    """A host that sends every element of an authorisation back, the card and its code too.

    It cuts the connection in the middle of every 60th frame, and all that it says has its MAC.
    """

    def __init__(self, name: str, mac: Algorithm) -> None:
        self.dialect = msgspec.structs.replace(load(name), mac=True, mac_algorithm=mac)
        self.name, self.mac = name, mac
        self._key = mac_key(mac)
        self.heard = b""
        self.said = 0

    def __call__(self, peer: Peer) -> None:
        received = bytearray()
        while part := peer.socket.recv(65_536):
            self.heard += part
            received += part
            for raw in codec.split(self.dialect, received):
                answer = self._answer(raw)
                self.said += 1
                if self.said % 60 == 0:
                    peer.send(answer[: len(answer) // 2])
                    return
                peer.send(answer)

    def _answer(self, raw: bytes) -> bytes:
        said: dict[str, Any] = iso8583.decode(raw, self.dialect.spec)[0]
        said["t"] = response_mti(said["t"])
        for added in ("p", "1", "64", "128"):
            said.pop(added, None)
        said["39"] = "00"
        if said["t"] == "0810":
            said[str(self.dialect.simulator_field)] = SIMULATOR
        said["128" if any(name.isdecimal() and int(name) > 64 for name in said) else "64"] = "00" * 8
        answer, _ = iso8583.encode(said, self.dialect.spec)
        places = codec.mac_places(self.dialect, memoryview(answer))
        assert places is not None
        self._key.write(*places)
        return codec.prefix(self.dialect, answer) + bytes(answer)


def played(shop: Shop, parrot: Parrot, mode: str, *, tls: Authority | None = None) -> bytes:
    """The process's memory after the run, what it said and what it wrote."""
    context = None if tls is None else tls.host(shop.root.parent, "acquirer.example")
    with scripted_host(parrot.dialect, parrot, tls=context) as host:
        address = f"127.0.0.1:{host.port}"
        ran, memory = run_and_dump(shop, address, mode, profile=parrot.name, tls=tls, mac=parrot.mac)
    assert ran.code == 3, ran.err
    found = ran.document["orders"]
    assert sum(found.values()) == 200
    assert found["paid"] > 100
    assert found["held"] >= 3  # whose answers were cut
    assert len(memory) > 10_000_000
    return b"|".join((memory, ran.out.encode(), ran.err.encode(), *files_under(shop.root).values()))


def test_host_that_repeats_the_card_and_cuts_leaves_none_of_it_here(batch: Shop, known: Cards) -> None:
    parrot = Parrot("ascii-1987", "aes-cmac")
    content = played(batch, parrot, "run")
    assert known.pans_in(content) == []
    assert known.cvvs_in(content) == []
    assert codes_in(content) == []
    assert _EXPIRY not in content
    # What is looked for can be found: the other end has heard all of it.
    assert len(set(known.pans_in(parrot.heard))) > 150
    assert len(codes_in(parrot.heard)) > 150
    assert _EXPIRY in parrot.heard
    assert key_in(content, "aes-cmac") == (0, 1)  # the digits in their file, and nowhere else


def test_nor_does_one_that_speaks_bcd_and_tls_and_a_deliberate_leak_is_found(
    batch: Shop, known: Cards, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parrot = Parrot("bcd-1987", "retail")
    tls = authority(tmp_path_factory.mktemp("authority"), "authority")
    content = played(batch, parrot, "leak", tls=tls)
    assert len(set(known.pans_in(content))) == 1
    assert len(set(known.cvvs_in(content))) == 1
    some = list(known.cvv_of)[::8]
    assert packed_pans_in(content, some) == []
    assert len(packed_pans_in(parrot.heard, some)) > len(some) // 2
    leaked, digits = key_in(content, "retail")
    assert (leaked > 0, digits) == (True, 1)
