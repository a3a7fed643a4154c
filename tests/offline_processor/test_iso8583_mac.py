"""The MAC: as the standards have it, over the whole message, and nothing counts that has not the right one."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_processor.acquirers.iso8583 import codec, samples
from offline_processor.acquirers.iso8583.acquirer_side import answered
from offline_processor.acquirers.iso8583.codec import Message
from offline_processor.acquirers.iso8583.exchange import Exchange
from offline_processor.acquirers.iso8583.fields import Element
from offline_processor.acquirers.iso8583.frame import FRAME_MOST, is_authentic, write_frame
from offline_processor.acquirers.iso8583.profile import SHIPPED, Profile, load
from offline_processor.acquirers.iso8583.protection import read_mac_key
from offline_processor.acquirers.iso8583.samples import TOTALS
from offline_processor.acquirers.protocol import BatchAnswer
from offline_processor.errors import ProcessorError
from tests.offline_processor.mac_keys import CHECKS, KEYS, key_file, mac_key
from tests.offline_processor.scripted_host import Peer, polite, scripted_host, signed_on
from tests.offline_processor.test_iso8583_frame import a_view
from tests.offline_processor.test_iso8583_link import ASCII, PATIENT, caller, codes, opened, patient, request
from tests.tools.known import ACQUIRER_JS

if TYPE_CHECKING:
    from collections.abc import Callable

    from offline_processor.acquirers.iso8583.mac import Algorithm, MacKey

VECTORS = json.loads((Path(__file__).parent / "iso8583_mac_vectors.json").read_text("utf-8"))
PROFILES = {name: load(name) for name in SHIPPED}
ALGORITHMS: tuple[Algorithm, ...] = ("aes-cmac", "retail")
OTHER_KEY = "00112233445566778899AABBCCDDEEFF"
MESSAGE = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
both = pytest.mark.parametrize("algorithm", ALGORITHMS)


@cache
def known_key(algorithm: Algorithm) -> MacKey:
    return mac_key(algorithm)


def protected(profile: Profile, algorithm: Algorithm, **changes: Any) -> Profile:
    return msgspec.structs.replace(profile, mac=True, mac_algorithm=algorithm, **changes)


def code(key: MacKey, data: bytes) -> str:
    place = bytearray(8)
    key.write(memoryview(data), memoryview(place))
    assert key.holds(memoryview(data), memoryview(place))
    return place.hex()


@pytest.mark.parametrize(
    ("digits", "size", "expected"),
    [  # NIST SP 800-38B, appendix D.1 to D.3, cut to eight bytes
        ("2b7e151628aed2a6abf7158809cf4f3c", 0, "bb1d6929e9593728"),
        ("2b7e151628aed2a6abf7158809cf4f3c", 16, "070a16b46b4d4144"),
        ("2b7e151628aed2a6abf7158809cf4f3c", 40, "dfa66747de9ae630"),
        ("2b7e151628aed2a6abf7158809cf4f3c", 64, "51f0bebf7e3b9d92"),
        ("8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", 40, "8a1de5be2eb31aad"),
        ("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", 40, "aaf3d8f1de5640c2"),
        ("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", 64, "e1992190549f6ed5"),
    ],
)
def test_cmac_is_that_of_nist(digits: str, size: int, expected: str) -> None:
    assert code(mac_key("aes-cmac", digits), MESSAGE[:size]) == expected


@pytest.mark.parametrize(
    ("digits", "data", "expected"),
    [  # ISO/IEC 9797-1, annex B, algorithm 3 with padding 1 (ANSI X9.19); and Bouncy Castle's own
        ("0123456789ABCDEFFEDCBA9876543210", b"Now is the time for all ", "a1c72e74ea3fa9b6"),
        ("0123456789ABCDEFFEDCBA9876543210", b"Now is the time for it", "2e2b1428cc78254f"),
        ("7CA110454A1A6E570131D9619DC1376E", b"Hello World !!!!", "f09b856213bab83b"),
    ],
)
def test_retail_mac_is_that_of_the_standard(digits: str, data: bytes, expected: str) -> None:
    assert code(mac_key("retail", digits), data) == expected


@pytest.mark.parametrize(
    ("algorithm", "digits", "expected"),
    [
        ("retail", "0123456789ABCDEFFEDCBA9876543210", "08D7B4"),
        ("aes-cmac", "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", "1A0B2D"),
        *[(algorithm, KEYS[algorithm], CHECKS[algorithm]) for algorithm in ALGORITHMS],
    ],
)
def test_check_value_is_the_one_that_people_compare(algorithm: Algorithm, digits: str, expected: str) -> None:
    assert mac_key(algorithm, digits).check_value().hex().upper() == expected


def whole(profile: Profile, message: Message, key: MacKey) -> bytes:
    """The frame as it goes out, with a card where the message has room for one."""
    pan, security_code = message.fields.get(2, ""), message.fields.get(profile.cvv_field, "")
    card = None
    if pan:
        digits = (len(security_code) - (4 if profile.cvv_before else 0)) if security_code else 3
        card = a_view(pan="4242424242424242000"[: len(pan)], cvv="7377"[:digits])
    target = bytearray(FRAME_MOST)
    size = write_frame(profile, message, card, memoryview(target), mac=key)
    return bytes(target[:size])


CASES = [(name, algorithm) for name in SHIPPED for algorithm in ALGORITHMS]


@pytest.mark.parametrize(("name", "algorithm"), CASES)
def test_golden_vectors(name: str, algorithm: Algorithm) -> None:
    profile, key = protected(load(name), algorithm), mac_key(algorithm)
    vectors = VECTORS[name][algorithm]
    kinds = samples.every_kind(profile)
    assert vectors == {kind: whole(profile, message, key).hex() for kind, message in kinds.items()}
    for frame in vectors.values():
        (raw,) = codec.split(profile, bytearray.fromhex(frame))
        assert is_authentic(profile, memoryview(raw), key)
        assert not is_authentic(profile, memoryview(raw), None)


@pytest.mark.needs_tool("node", "acquirer_js")
def test_golden_vectors_hold_by_other_ciphers(tmp_path: Path, tool: Callable[[str], Path]) -> None:
    frames = [
        {
            "algorithm": algorithm,
            "key": KEYS[algorithm],
            "header": len(load(name).header) // 2,
            "typeSize": 2 if load(name).digits == "bcd" else 4,
            "frame": frame,
        }
        for name, algorithm in CASES
        for frame in VECTORS[name][algorithm].values()
    ]
    damaged = [one | {"frame": str(one["frame"])[:-2] + "00"} for one in frames[:2]]
    file = tmp_path / "frames.json"
    file.write_text(json.dumps(frames + damaged))
    told = subprocess.run(
        [tool("node"), ACQUIRER_JS / "mac.mjs", file], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout) == {"right": len(frames), "wrong": [len(frames), len(frames) + 1]}
    assert len(frames) == 64


KINDS = sorted(samples.every_kind(load("ascii-1987")))


@both
@given(name=st.sampled_from(SHIPPED), kind=st.sampled_from(KINDS), data=st.data())
def test_one_changed_bit_anywhere_from_the_type_on_is_noticed(
    algorithm: Algorithm, name: str, kind: str, data: st.DataObject
) -> None:
    profile, key = protected(PROFILES[name], algorithm), known_key(algorithm)
    raw = bytearray(whole(profile, samples.every_kind(profile)[kind], key)[2:])
    start = len(profile.header) // 2
    bit = data.draw(st.integers(start * 8, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert not is_authentic(profile, memoryview(raw), key)
    raw[bit // 8] ^= 1 << bit % 8
    raw[:start] = bytes(start)  # the header is the line's: a host exchanges its addresses
    assert is_authentic(profile, memoryview(raw), key)


@both
@given(
    name=st.sampled_from(SHIPPED),
    kind=st.sampled_from(KINDS),
    bitmaps=st.sampled_from(["binary", "hex"]),
    mac_field=st.sampled_from([64, 128]),
    as_digits=st.booleans(),
)
def test_every_message_of_every_dialect_has_its_mac_as_the_last_element(
    algorithm: Algorithm, name: str, kind: str, bitmaps: str, mac_field: int, as_digits: bool
) -> None:
    fields = dict.fromkeys(("64", "128"), Element(kind="text", size=16)) if as_digits else {}
    profile = protected(PROFILES[name], algorithm, bitmaps=bitmaps, mac_field=mac_field, fields=fields)
    message = samples.every_kind(profile)[kind]
    raw = whole(profile, message, known_key(algorithm))[2:]
    assert is_authentic(profile, memoryview(raw), known_key(algorithm))
    read = codec.decode(profile, raw)
    number = 128 if mac_field == 128 or max(message.fields) > 64 else 64
    code = raw[-16:].decode() if as_digits else raw[-8:].hex().upper()
    assert (max(read.fields), read.fields[number].upper()) == (number, code)
    if as_digits:
        assert is_authentic(profile, memoryview(raw[:-16] + code.lower().encode()), known_key(algorithm))
        assert not is_authentic(profile, memoryview(raw[:-16] + b"0" * 16), known_key(algorithm))


@both
@given(raw=st.binary(max_size=120), name=st.sampled_from(SHIPPED))
def test_any_bytes_are_not_authentic(algorithm: Algorithm, raw: bytes, name: str) -> None:
    for bitmaps in ("binary", "hex"):
        profile = protected(PROFILES[name], algorithm, bitmaps=bitmaps)
        assert not is_authentic(profile, memoryview(raw), known_key(algorithm))


def test_a_mac_is_believed_where_it_is_the_last_element_only() -> None:
    profile, key = protected(load("ascii-1987"), "retail"), mac_key("retail")
    frame = bytearray(whole(profile, samples.every_kind(profile)["authorisation"], key)[2:])
    always = replace_bitmap(frame, second=bytes(8))  # a host that always sends both bitmaps
    remake(profile, always, key)
    assert is_authentic(profile, memoryview(always), key)
    last_is_another = replace_bitmap(frame, second=bytes(7) + b"\x02")
    remake_blindly(last_is_another, key)
    assert not is_authentic(profile, memoryview(last_is_another), key)
    only_128 = protected(load("ascii-1987"), "retail", mac_field=128)
    assert not is_authentic(only_128, memoryview(frame), key)


def replace_bitmap(frame: bytearray, *, second: bytes) -> bytearray:
    changed = frame[:12] + second + frame[12:]
    changed[4] |= 0x80
    return changed


def remake(profile: Profile, frame: bytearray, key: MacKey) -> None:
    places = codec.mac_places(profile, memoryview(frame))
    assert places is not None
    key.write(*places)


def remake_blindly(frame: bytearray, key: MacKey) -> None:
    view = memoryview(frame)
    key.write(view[:-8], view[-8:])


@both
def test_key_is_neither_shown_nor_copied_nor_used_when_it_is_closed(algorithm: Algorithm) -> None:
    key = mac_key(algorithm)
    assert KEYS[algorithm].lower() not in repr(vars(key)).lower()
    with pytest.raises(TypeError):
        pickle.dumps(key)
    key.close()
    key.close()
    with pytest.raises(AssertionError, match="closed"):
        code(key, b"x")
    with pytest.raises(AssertionError, match="closed"):
        key.check_value()


def bad_files(folder: Path) -> dict[str, Path]:
    files = {name: folder / name for name in ("open", "short", "letters", "long", "empty", "lines", "halves")}
    content = {
        "open": KEYS["retail"],
        "short": KEYS["retail"][:-2],
        "letters": "x" + KEYS["retail"][1:],
        "long": KEYS["retail"] * 9,
        "empty": "",
        "lines": KEYS["retail"][:16] + "\n" + KEYS["retail"][16:],
        "halves": "0123456789ABCDEF" + "0022446688AACCEE",
    }
    for name, path in files.items():
        path.write_text(content[name], "ascii")
        path.chmod(0o640 if name == "open" else 0o600)
    os.mkfifo(folder / "pipe", 0o600)
    return files | {"pipe": folder / "pipe", "missing": folder / "missing", "folder": folder}


@pytest.mark.parametrize(
    "kind",
    ["open", "short", "letters", "long", "empty", "lines", "halves", "pipe", "missing", "folder"],
)
def test_key_file_that_is_not_one_is_refused_without_a_digit_of_it(tmp_path: Path, kind: str) -> None:
    path = bad_files(tmp_path)[kind]
    with pytest.raises(ProcessorError) as refused:
        read_mac_key(path, "retail")
    assert refused.value.rule == "CONFIG-MAC-KEY"
    assert not any(KEYS["retail"][at : at + 6] in str(refused.value) for at in range(26))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_key_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = key_file(tmp_path, "retail")
    os.chown(path, 12_345, -1)
    with pytest.raises(ProcessorError, match="owned") as refused:
        read_mac_key(path, "retail")
    assert refused.value.rule == "CONFIG-MAC-KEY"


@pytest.mark.parametrize("digits", [32, 48, 64])
def test_key_of_every_size_is_read(tmp_path: Path, digits: int) -> None:
    path = key_file(tmp_path, "aes-cmac")
    path.write_text(KEYS["aes-cmac"][:digits].upper() + "\r\n")
    expected = mac_key("aes-cmac", KEYS["aes-cmac"][:digits]).check_value()
    assert read_mac_key(path, "aes-cmac").check_value() == expected


def own_profile(folder: Path, *, mac: bool) -> str:
    own = folder / "own.toml"
    shipped = (Path(codec.__file__).parent / "profiles" / "ascii-1987.toml").read_text("utf-8")
    asked = 'mac = true\nmac_algorithm = "retail"' if mac else "mac = false"
    own.write_text(shipped.replace("mac = false", asked), "utf-8")
    return str(own)


@pytest.mark.parametrize(
    ("mac", "names", "check", "rule"),
    [
        (True, False, "", "CONFIG-MAC"),
        (True, True, "", "CONFIG-MAC"),
        (True, False, CHECKS["retail"], "CONFIG-MAC"),
        (False, True, CHECKS["retail"], "CONFIG-MAC"),
        (False, True, "", "CONFIG-MAC"),
        (False, False, CHECKS["retail"], "CONFIG-MAC"),
        (True, True, "08D7B5", "CONFIG-MAC-CHECK"),
    ],
)
def test_profile_and_configuration_must_both_ask_for_a_mac_and_the_key_be_the_right_one(
    tmp_path: Path, mac: bool, names: bool, check: str, rule: str
) -> None:
    with scripted_host(ASCII, polite) as host:
        with pytest.raises(ProcessorError) as refused:
            opened(
                address=f"127.0.0.1:{host.port}",
                terminal="T",
                merchant="M",
                profile=own_profile(tmp_path, mac=mac),
                mac_key=key_file(tmp_path, "retail") if names else None,
                mac_key_check=check,
            )()
        assert host.peers == []
    assert refused.value.rule == rule
    assert CHECKS["retail"] not in str(refused.value)


@pytest.mark.parametrize(("name", "algorithm"), CASES)
def test_every_request_has_its_mac_and_every_answer_is_believed_by_it(
    name: str, algorithm: Algorithm
) -> None:
    profile = protected(patient(name), algorithm)
    theirs = mac_key(algorithm)
    with (
        scripted_host(profile, polite, mac=theirs) as host,  # it takes no request without
        caller(host, profile, mac=mac_key(algorithm)) as ours,
    ):
        assert codes(ours.authorise(*range(1, 41))) == ["00"] * 40
        assert codes(ours.reverse(1, 2)) == ["00", "00"]
        assert ours.driver.close_batch(TOTALS) is BatchAnswer.IN_BALANCE
        assert ours.driver.echo()
    assert ours.link._settings.mac is not None
    with pytest.raises(AssertionError, match="closed"):
        ours.link._settings.mac.check_value()


def spoiled(peer: Peer, asked: Message, how: str) -> bytes:
    frame = bytearray(peer.framed(asked))
    match how:
        case "a bit of the MAC":
            frame[-1] ^= 1
        case "a bit of the message":  # the response code: an approval is made of a decline
            frame = bytearray(peer.framed(asked, code="05").replace(b"05SHOP", b"00SHOP"))
            assert frame != peer.framed(asked, code="05")
        case "another key":
            remake_blindly_framed(frame, mac_key("retail", OTHER_KEY))
        case "no MAC":
            del frame[-8:]
            frame[13] &= 0xFE
            frame[:2] = (len(frame) - 2).to_bytes(2, "big")
        case "an older answer's":
            frame[-8:] = peer.framed(replace(asked, fields=asked.fields | {4: "000000000001"}))[-8:]
    return bytes(frame)


def remake_blindly_framed(frame: bytearray, key: MacKey) -> None:
    view = memoryview(frame)
    key.write(view[2:-8], view[-8:])


@pytest.mark.parametrize(
    "how", ["a bit of the MAC", "a bit of the message", "another key", "no MAC", "an older answer's"]
)
def test_answer_without_the_right_mac_is_none_and_ends_the_connection(how: str) -> None:
    profile, theirs = protected(PATIENT, "retail"), mac_key("retail")

    def liar(peer: Peer) -> None:
        first, second = peer.requests(2)
        peer.answer(first)
        peer.send(spoiled(peer, second, how))
        peer.answer(second)  # the right one, behind it: nothing is believed any more
        peer.until_hung_up()

    with (
        scripted_host(profile, signed_on(liar), polite, mac=theirs) as host,
        caller(host, profile, in_flight=2, mac=mac_key("retail")) as ours,
    ):
        assert codes(ours.authorise(1, 2)) == ["00", None]
        assert codes(ours.reverse(2)) == ["00"]
        assert codes(ours.authorise(3)) == ["00"]
    assert len(host.peers) == 2
    assert max(Counter(host.seen("0100")).values()) == 1


@both
@given(hows=st.lists(st.sampled_from(["right", "a bit", "another key", "none", "a host's own"]), max_size=8))
def test_what_comes_behind_a_wrong_mac_is_not_read(algorithm: Algorithm, hows: list[str]) -> None:
    profile, key = protected(PROFILES["ascii-1987"], algorithm), known_key(algorithm)
    exchange, line = Exchange(profile=profile, mac=key), bytearray()
    for number, how in enumerate(hows):
        asked = request(number + 1).message
        exchange.asked(number, asked, deadline=1.0)
        said = answered(profile, asked, code="00")
        if how == "a host's own":
            said = Message(mti="0800", fields={11: "000001", 70: "301"})
        raw = bytearray(whole(profile, said, stranger(algorithm) if how == "another key" else key))
        if how == "a bit":
            raw[20] ^= 1
        if how == "none":
            plain = codec.encode(PROFILES["ascii-1987"], said)
            raw = bytearray(codec.prefix(profile, plain) + plain)
        line += raw
    replies, _ = exchange.receive(memoryview(line), now=0.0)
    wrong = [place for place, how in enumerate(hows) if how not in ("right", "a host's own")]
    read = hows[: wrong[0]] if wrong else hows
    assert [one.ticket for one in replies] == [place for place, how in enumerate(read) if how == "right"]
    assert len(exchange.to_answer) == read.count("a host's own")
    assert exchange.broken is bool(wrong)


@cache
def stranger(algorithm: Algorithm) -> MacKey:
    return mac_key(algorithm, OTHER_KEY)


@pytest.mark.parametrize("theirs", [None, OTHER_KEY])
def test_host_with_another_key_or_none_signs_nobody_on(theirs: str | None) -> None:
    profile = protected(ASCII, "retail")

    def host_without(peer: Peer) -> None:
        peer.socket.recv(4_096)
        asked = samples.every_kind(profile)["sign-on"]
        peer.answer(replace(asked, fields=asked.fields | {11: "000001"}))
        peer.until_hung_up()

    key = None if theirs is None else mac_key("retail", theirs)
    with scripted_host(profile, host_without, mac=key) as host:
        with (
            pytest.raises(ProcessorError, match="has not the MAC of our key") as refused,
            caller(host, profile, mac=mac_key("retail")),
        ):
            pass
        assert host.seen("0100") == []
    assert refused.value.rule == "ACQUIRER-SIGN-ON"
