"""A card meets its message in the caller's memory only: every digit in its place, and nothing beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import iso8583
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_processor.acquirers.iso8583 import codec, messages
from offline_processor.acquirers.iso8583.frame import FRAME_MOST, next_frame, write_frame
from offline_processor.acquirers.iso8583.profile import SHIPPED, load
from offline_processor.acquirers.iso8583.samples import AT, ORIGINAL, REVERSAL, TERMS
from offline_processor.errors import ProcessorError
from tests.offline_processor.test_iso8583_codec import BY_HAND
from transfer.wire.card import Card, CardView, decode_card, encode_card

if TYPE_CHECKING:
    from offline_processor.acquirers.iso8583.codec import Message
    from offline_processor.acquirers.iso8583.profile import Profile

PROFILES = {name: load(name) for name in SHIPPED}
WIDE = msgspec.structs.replace(PROFILES["ascii-1987"], cvv_before="CV", cvv_width=6)
DIGITS = "0123456789"
names = pytest.mark.parametrize("name", SHIPPED)
cards = st.fixed_dictionaries(
    {
        "pan": st.text(DIGITS, min_size=12, max_size=19),
        "cvv": st.text(DIGITS, min_size=3, max_size=4),
        "month": st.integers(1, 12),
        "year": st.integers(2000, 2099),
    }
)


def a_view(*, pan: str = "4242424242424242", cvv: str = "737", month: int = 12, year: int = 2031) -> CardView:
    card = Card(pan=pan.encode(), cvv=cvv.encode(), expiry_month=month, expiry_year=year)
    raw = encode_card(card, header_digest=bytes(32), order_box_digest=bytes(32), amount=2_500, currency="EUR")
    return decode_card(memoryview(raw))


def authorisation(profile: Profile, card: CardView, *, with_code: bool = True) -> Message:
    digits = len(card.cvv) if with_code else 0
    return messages.authorisation(profile, TERMS, ORIGINAL, pan_digits=len(card.pan), cvv_digits=digits)


def written(profile: Profile, message: Message, card: CardView | None) -> bytes:
    """Into memory that was not clean; what is behind the frame must stay as it was."""
    target = bytearray(b"\xa5" * FRAME_MOST)
    size = write_frame(profile, message, card, memoryview(target))
    assert target[size:] == b"\xa5" * (FRAME_MOST - size)
    return bytes(target[:size])


def read_back(profile: Profile, line: bytes) -> dict[str, str]:
    """By the library itself, which hides nothing."""
    frame, taken = next_frame(profile, memoryview(line))
    assert frame is not None
    assert taken == len(line)
    return dict(iso8583.decode(bytes(frame), profile.spec)[0])


def test_frame_as_by_hand_in_ascii() -> None:
    line = written(PROFILES["ascii-1987"], authorisation(PROFILES["ascii-1987"], a_view()), a_view())
    expected = BY_HAND["ascii-1987"]
    expected = expected.replace(b"16" + b"0" * 16, b"164242424242424242")
    expected = expected.replace(b"1123" + b"0000" + b"812", b"1123" + b"3112" + b"812")
    assert line == expected.replace(b"003000032", b"003737032")


def test_frame_as_by_hand_in_bcd_with_an_odd_number_of_digits() -> None:
    profile = PROFILES["bcd-1987"]
    card = a_view(pan="378282246310005", cvv="1234", month=1, year=2030)
    line = written(profile, authorisation(profile, card), card)
    # 15 digits: the length counts digits, and a zero stands before them. Expiry 3001. 92, its length, four digits.
    assert bytes.fromhex("15" + "0378282246310005") in line
    assert bytes.fromhex("1123" + "3001" + "0812") in line
    assert bytes.fromhex("0008") + b"92041234" in line
    assert line[:7] == (len(line) - 2).to_bytes(2, "big") + bytes.fromhex("6000010000")


@pytest.mark.parametrize("profile", [*PROFILES.values(), WIDE], ids=[*SHIPPED, "wide"])
@given(given_card=cards)
def test_every_card_stands_in_its_places_and_changes_nothing_else(
    profile: Profile, given_card: dict[str, Any]
) -> None:
    card = a_view(**given_card)
    message = authorisation(profile, card)
    bare = read_back(profile, codec.prefix(profile, raw := codec.encode(profile, message)) + bytes(raw))
    found = read_back(profile, written(profile, message, card))
    code = str(profile.cvv_field)
    assert found.pop("2") == given_card["pan"]
    assert found.pop("14") == f"{given_card['year'] % 100:02d}{given_card['month']:02d}"
    assert found.pop(code) == bare[code][: -len(given_card["cvv"])] + given_card["cvv"]
    assert found == {name: text for name, text in bare.items() if name not in ("2", "14", code)}


@names
@given(given_card=cards)
def test_a_reversal_carries_number_and_expiry_and_no_code(name: str, given_card: dict[str, Any]) -> None:
    profile, card = PROFILES[name], a_view(**given_card)
    message = messages.reversal(profile, TERMS, REVERSAL, pan_digits=len(card.pan))
    found = read_back(profile, written(profile, message, card))
    assert found["2"] == given_card["pan"]
    assert str(profile.cvv_field) not in found


@names
def test_card_that_does_not_fit_its_message_is_refused_before_a_digit_is_written(name: str) -> None:
    profile = PROFILES[name]
    card = a_view()
    without_code = a_view()
    object.__setattr__(without_code, "cvv", memoryview(b""))
    wrong = [
        (authorisation(profile, card), None),
        (messages.sign_on(profile, TERMS, 1, AT), card),
        (authorisation(profile, card), a_view(pan="424242424242424242")),
        (authorisation(profile, card), a_view(pan="42424242424242")),
        (authorisation(profile, card), a_view(cvv="7371")),
        (authorisation(profile, a_view(cvv="7371")), card),
        (authorisation(profile, card), without_code),
    ]
    for message, other in wrong:
        target = bytearray(FRAME_MOST)
        with pytest.raises(ProcessorError) as refused:
            write_frame(profile, message, other, memoryview(target))
        assert refused.value.rule == "ISO-FORM"
        assert target == bytes(FRAME_MOST)


@names
def test_answer_that_repeats_the_card_is_read_as_zeros(name: str) -> None:
    profile, card = PROFILES[name], a_view()
    frame, _ = next_frame(profile, memoryview(written(profile, authorisation(profile, card), card)))
    assert frame is not None
    read = codec.decode(profile, frame)
    assert (read.fields[2], read.fields[14]) == ("0" * 16, "0000")
    assert set(read.fields[profile.cvv_field]) == {"0"}
