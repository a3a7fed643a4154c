"""ISO 8583 frames: written as by hand, read as written, refused without a word of them, and no card as text."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import iso8583
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline_processor.acquirers.iso8583 import codec, samples
from offline_processor.acquirers.iso8583.codec import Message
from offline_processor.acquirers.iso8583.profile import SHIPPED, Profile, load
from offline_processor.errors import ProcessorError

PROFILES = {name: load(name) for name in SHIPPED}
VECTORS = json.loads((Path(__file__).parent / "iso8583_vectors.json").read_text("utf-8"))
CASES = [(name, kind) for name, kinds in VECTORS.items() for kind in kinds]
ORDER = b"ab" * 16
ORDER_HEX = ORDER.hex()
PAN, CVV = "4242424242424242", "737"

# Put together by hand from the standard's table: each line is one element, in its order.
BY_HAND = {
    "ascii-1987": b"".join(
        (
            b"\x00\xaf",  # length: 175 bytes follow
            b"0100",
            # 2 3 4 7 | 11 12 13 14 | 22 | 25 32 | 37 | 41 42 | 49 | 60 63
            b"\x72\x3c\x04\x81\x08\xc0\x80\x12",
            b"16" + b"0" * 16,  # 2
            b"000000",  # 3
            b"000000002500",  # 4
            b"1123024500",  # 7
            b"000300",  # 11
            b"024500" + b"1123",  # 12, 13
            b"0000",  # 14
            b"812",  # 22
            b"59",  # 25
            b"11" + b"12345678901",  # 32
            b"000000000300",  # 37
            b"SHOP0001" + b"MERCHANT0000001",  # 41, 42
            b"978",  # 49
            b"003" + b"000",  # 60
            b"032" + ORDER,  # 63
        )
    ),
    "bcd-1987": bytes.fromhex(
        "0090"  # length: 144 bytes follow
        "6000010000"
        "0100"
        # 2 3 4 7 | 11 12 13 14 | 22 24 | 25 32 | 37 | 41 42 48 | 49 | 60 62
        "723c058108c18014"
        "16" + "00" * 8 +  # 2
        "000000"  # 3
        "000000002500"  # 4
        "1123024500"  # 7
        "000300"  # 11
        "024500"
        "1123"  # 12, 13
        "0000"  # 14
        "0812"  # 22: three digits, a zero before them
        "0001"  # 24
        "59"  # 25
        "11"
        "012345678901"  # 32: eleven digits
        + b"000000000300".hex()  # 37
        + b"SHOP0001MERCHANT0000001".hex()  # 41, 42
        + "0007"
        + b"9203000".hex()  # 48
        + "0978"  # 49
        "0002" + b"07".hex()  # 60
        + "0032" + ORDER_HEX  # 62
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHIPPED)
def test_authorisation_is_as_put_together_by_hand(name: str) -> None:
    profile = PROFILES[name]
    raw = codec.encode(profile, samples.every_kind(profile)["authorisation"])
    assert codec.prefix(profile, raw) + raw == BY_HAND[name]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_golden_vectors(name: str, kind: str) -> None:
    profile, vector = PROFILES[name], VECTORS[name][kind]
    message = samples.every_kind(profile)[kind]
    frame = bytes.fromhex(vector["frame"])
    raw = codec.encode(profile, message)
    assert codec.prefix(profile, raw) + raw == frame
    assert vector["fields"] == {str(number): text for number, text in sorted(message.fields.items())}
    (whole,) = codec.split(profile, bytearray(frame))
    back = codec.decode(profile, whole)
    shown = {number: text for number, text in message.fields.items() if number != profile.cvv_field}
    assert (back.mti, {number: back.fields[number] for number in shown}) == (vector["mti"], shown)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_kind_has_a_vector(name: str) -> None:
    assert samples.every_kind(PROFILES[name]).keys() == VECTORS[name].keys()


@pytest.mark.parametrize("name", SHIPPED)
def test_places_are_where_the_elements_are(name: str) -> None:
    profile = PROFILES[name]
    message = samples.every_kind(profile)["authorisation"]
    raw, places = codec.encode_with_layout(profile, message)
    assert (codec.encode(profile, message), codec.layout(profile, message)) == (raw, places)
    pan, code = places[2], codec.security_code_place(profile, places, 3)
    raw[pan] = PAN.encode() if profile.digits == "ascii" else bytes.fromhex(PAN)
    raw[code] = CVV.encode()
    raw[places[14]] = b"3112" if profile.digits == "ascii" else b"\x31\x12"
    (found, _) = iso8583.decode(raw, profile.spec)
    before = profile.cvv_before.replace("{length}", "03")
    assert (found["2"], found["14"], found[str(profile.cvv_field)]) == (PAN, "3112", before + CVV)


def with_card(profile: Profile, pan: str, **more: str) -> bytearray:
    message = samples.every_kind(profile)["authorisation"]
    fields = message.fields | {2: pan, 14: "3112", profile.cvv_field: profile.cvv_before + CVV}
    fields |= {int(number.removeprefix("de")): text for number, text in more.items()}
    return codec.encode(profile, Message(mti="0100", fields=fields))


@pytest.mark.parametrize("name", SHIPPED)
def test_what_may_hold_a_card_reads_as_zeros(name: str) -> None:
    profile = PROFILES[name]
    track = {"de35": PAN + "D3112" if profile.digits == "bcd" else PAN + "=3112", "de45": f"B{PAN}^A"}
    raw = with_card(profile, PAN, **track, de36="1" * 20, de102=PAN, de52="ab" * 8, de55="5a08" + PAN)
    found = codec.decode(profile, raw).fields
    hidden = {number: found[number] for number in codec.HIDDEN - {34, 103} | {profile.cvv_field}}
    assert {number: set(text) for number, text in hidden.items()} == {number: {"0"} for number in hidden}
    assert found[4] == "000000002500"
    (control, _) = iso8583.decode(raw, profile.spec)
    assert control["2"] == PAN
    assert PAN in control["45"]


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("size", range(12, 20))
def test_only_bin_and_last_four_are_left_for_an_acquirer(name: str, size: int) -> None:
    pan = "9876543219876543219"[:size]
    found = codec.decode(PROFILES[name], with_card(PROFILES[name], pan), keep_ends=True).fields[2]
    assert found == pan[:6] + "0" * (size - 10) + pan[-4:]


@pytest.mark.parametrize("name", SHIPPED)
def test_frame_to_decode_is_not_changed(name: str) -> None:
    raw = with_card(PROFILES[name], PAN)
    before = bytes(raw)
    codec.decode(PROFILES[name], memoryview(raw))
    assert raw == before


def refused(profile: Profile, raw: bytes | bytearray) -> ProcessorError | None:
    """The refusal, if it is one; any other exception is a fault."""
    try:
        codec.decode(profile, raw)
    except ProcessorError as error:
        return error
    return None


@given(name=st.sampled_from(SHIPPED), raw=st.binary(max_size=300))
def test_any_bytes_are_refused_by_the_rule_or_read(name: str, raw: bytes) -> None:
    error = refused(PROFILES[name], raw)
    assert error is None or error.rule == "ISO-FORM"


@settings(max_examples=300)
@given(
    case=st.sampled_from(CASES),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 400),
)
def test_damaged_frames_are_refused_by_the_rule_or_read(
    case: tuple[str, str], changes: list[tuple[int, int]], cut: int
) -> None:
    frame = bytearray.fromhex(VECTORS[case[0]][case[1]]["frame"])[2:]
    for at, value in changes:
        frame[at % len(frame)] = value
    error = refused(PROFILES[case[0]], frame[: max(1, len(frame) - cut)] if cut % 2 else frame)
    assert error is None or error.rule == "ISO-FORM"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_truncation_is_refused(name: str) -> None:
    raw = with_card(PROFILES[name], PAN)
    assert all(refused(PROFILES[name], raw[:size]) for size in range(len(raw)))
    assert refused(PROFILES[name], bytes(raw) + b"0")
    assert refused(PROFILES[name], b"0" * (codec.LARGEST + 1))


@pytest.mark.parametrize(
    ("at", "data"),
    [
        (0, b"01A0"),
        (4, b"\xf2\x3c\x04\x81\x08\xc0\x80\x12\x80"),
        (12, b"1 "),
        (12, b"-1"),
        (12, b"99"),
        (4 + 8 + 18 + 6, b"00000000250x"),
    ],
    ids=["type", "third bitmap", "length with a blank", "negative length", "length too large", "amount"],
)
def test_one_wrong_element_refuses_the_message(at: int, data: bytes) -> None:
    raw = with_card(PROFILES["ascii-1987"], PAN)
    assert refused(PROFILES["ascii-1987"], raw) is None
    raw[at : at + len(data)] = data
    assert refused(PROFILES["ascii-1987"], raw)


def test_amount_of_other_half_bytes_is_refused() -> None:
    profile = PROFILES["bcd-1987"]
    raw = with_card(profile, PAN)
    raw[codec.layout(profile, samples.every_kind(profile)["authorisation"])[4].start] = 0xAB
    assert refused(profile, raw)


def everything_of(error: BaseException) -> str:
    """All that an exception holds on to, the locals of our own functions with it."""
    told = [
        str(error),
        repr(error),
        repr(error.args),
        repr(vars(error)),
        repr(error.__cause__),
        repr(error.__context__),
    ]
    trace = error.__traceback__
    while trace is not None:
        frame: FrameType = trace.tb_frame
        if "offline_processor" in frame.f_code.co_filename.partition("tests")[0]:
            told += [f"through {frame.f_code.co_name}"]
            told += [repr(contents(one)) for one in frame.f_locals.values() if not isinstance(one, Profile)]
        trace = trace.tb_next
    return "\n".join(told)


def contents(value: Any) -> Any:
    if isinstance(value, memoryview):
        return bytes(value)
    return (value.mti, value.fields) if isinstance(value, Message) else value


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("whole", [True, False])
def test_refusals_hold_nothing_of_the_frame(name: str, whole: bool) -> None:
    profile = PROFILES[name]
    raw = with_card(profile, PAN)
    damaged = bytes(raw) + b"7" if whole else bytes(raw[:-1])
    error = refused(profile, damaged)
    assert error is not None
    assert error.__traceback__ is not None
    told = everything_of(error)
    assert "ISO-FORM" in told
    assert "through decode" in told  # our frames are looked at
    secrets = (PAN, bytes.fromhex(PAN).hex(), repr(bytes.fromhex(PAN))[2:-1], CVV, ORDER.decode(), "SHOP0001")
    assert [secret for secret in secrets if secret in told] == []
    with pytest.raises(iso8583.DecodeError) as caught:
        iso8583.decode(damaged, profile.spec)
    assert "SHOP0001" in repr(vars(caught.value))  # the library's own exception does hold it


@pytest.mark.parametrize("name", SHIPPED)
def test_message_that_does_not_fit_is_refused_without_its_contents(name: str) -> None:
    profile = PROFILES[name]
    fields = samples.every_kind(profile)["authorisation"].fields | {42: "MERCHANT-TOO-LONG"}
    for write in (codec.encode, codec.layout, codec.encode_with_layout):
        with pytest.raises(ProcessorError) as caught:
            write(profile, Message(mti="0100", fields=fields))
        assert caught.value.rule == "ISO-FORM"
        assert "MERCHANT" not in everything_of(caught.value)
        assert ORDER.decode() not in everything_of(caught.value)


def test_message_shows_no_element() -> None:
    assert ORDER.decode() not in repr(samples.every_kind(PROFILES["ascii-1987"])["authorisation"])


def digits(least: int, most: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=least, max_size=most)


@given(
    name=st.sampled_from(SHIPPED),
    fields=st.fixed_dictionaries(
        {11: digits(6, 6)},
        optional={
            3: digits(6, 6),
            4: digits(12, 12),
            32: digits(1, 11),
            37: st.text("ABC0123456789 ", min_size=12, max_size=12),
            39: digits(2, 2),
            49: digits(3, 3),
            63: st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=99),
            66: digits(1, 1),
            90: digits(42, 42),
        },
    ),
)
def test_what_is_written_is_read(name: str, fields: dict[int, str]) -> None:
    message = Message(mti="0110", fields=fields)
    assert codec.decode(PROFILES[name], codec.encode(PROFILES[name], message)) == message


@pytest.mark.parametrize("bitmaps", ["binary", "hex"])
def test_bitmaps_of_both_kinds(bitmaps: str) -> None:
    profile = msgspec.structs.replace(PROFILES["ascii-1987"], bitmaps=bitmaps)
    for name, message in samples.every_kind(profile).items():
        raw = codec.encode(profile, message)
        assert (b"723c048108c08012" in raw.lower()) is (
            bitmaps == "hex" and name == "authorisation, longest"
        ) or (name != "authorisation, longest")
        assert codec.decode(profile, raw).fields.keys() == message.fields.keys()


@pytest.mark.parametrize("mac_field", [64, 128])
def test_place_of_a_mac_is_left_zero(mac_field: int) -> None:
    protection = {"mac": True, "mac_algorithm": "retail", "mac_field": mac_field}
    profile = msgspec.structs.replace(PROFILES["bcd-1987"], **protection)
    for name, number in (
        ("authorisation", mac_field),
        ("reversal", 128),
    ):  # a reversal has elements beyond 64
        raw, places = codec.encode_with_layout(profile, samples.every_kind(profile)[name])
        assert places[number] == slice(len(raw) - 8, len(raw))
        assert raw[places[number]] == bytes(8)


@given(
    prefix=st.sampled_from(["binary2", "ascii4"]),
    frames=st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    rest=st.binary(max_size=1),
)
def test_frames_are_taken_off_the_front(prefix: str, frames: list[bytes], rest: bytes) -> None:
    profile = msgspec.structs.replace(PROFILES["ascii-1987"], length_prefix=prefix)
    received = bytearray(b"".join(codec.prefix(profile, frame) + frame for frame in frames) + rest)
    assert codec.split(profile, received) == frames
    assert received == rest


@given(prefix=st.sampled_from(["binary2", "ascii4"]), received=st.binary(max_size=100))
def test_any_bytes_are_split_or_refused_by_the_rule(prefix: str, received: bytes) -> None:
    profile = msgspec.structs.replace(PROFILES["ascii-1987"], length_prefix=prefix)
    with suppress(ProcessorError):
        codec.split(profile, bytearray(received))


@pytest.mark.parametrize(
    ("prefix", "wrong"),
    [
        ("binary2", b"\x00\x00"),
        ("binary2", b"\x20\x01"),
        ("binary2", b"\xff\xff"),
        ("ascii4", b"0000"),
        ("ascii4", b"8193"),
        ("ascii4", b"+012"),
    ],
)
def test_wrong_length_is_refused_after_the_whole_frames_before_it(prefix: str, wrong: bytes) -> None:
    profile = msgspec.structs.replace(PROFILES["ascii-1987"], length_prefix=prefix)
    received = bytearray(codec.prefix(profile, b"whole") + b"whole" + wrong + b"secret")
    assert codec.split(profile, received) == [b"whole"]
    with pytest.raises(ProcessorError, match="ISO-LENGTH") as caught:
        codec.split(profile, received)
    assert "secret" not in everything_of(caught.value)


@pytest.mark.parametrize("raw", [b"", bytes(codec.LARGEST + 1)])
def test_frame_that_no_length_may_say_is_not_sent(raw: bytes) -> None:
    with pytest.raises(ProcessorError, match="ISO-LENGTH"):
        codec.prefix(PROFILES["ascii-1987"], raw)
