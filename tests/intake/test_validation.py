"""The form's judge names every faulty field at once, accepts what is right, and never shows what it was sent."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from intake.problems import encode_problem, faulty_fields
from intake.sample import sample_orders
from intake.sealed_form import SealedParts
from intake.validation import CheckedForm, PlainContents, check_form
from tests.intake.orders import CATALOGUE, CVV, MONTH, PAN, YEAR, good_order

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    ("items",), ("items", 0), ("items", 0, "sku"), ("items", 1, "quantity"),
    ("total",), ("total", "amount"), ("total", "currency"),
    ("customer",), ("customer", "name"), ("customer", "email"),
    ("delivery",), ("delivery", "lines"), ("delivery", "lines", 0), ("delivery", "city"), ("delivery", "region"),
    ("delivery", "postcode"), ("delivery", "country"),
    ("card",), ("card", "number"), ("card", "expiry_month"), ("card", "expiry_year"), ("card", "security_code"),
]  # fmt: skip


def check(document: object) -> CheckedForm:
    return check_form(document, catalogue=CATALOGUE, year=YEAR, month=MONTH)


def pointers(document: object) -> set[str]:
    return {fault.pointer for fault in check(document).faults}


def put(document: Any, path: tuple[Any, ...], value: object) -> Any:
    holder = document
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    return document


def test_a_good_order_becomes_an_order_and_a_card() -> None:
    form = check(good_order())
    assert not form.faults
    assert isinstance(form.contents, PlainContents)
    assert form.contents.order.total.amount == 5097
    assert [item.price for item in form.contents.order.items] == [2499, 1299]
    assert bytes(form.contents.card.pan) == PAN.encode()


def test_a_judged_form_never_shows_its_order_or_card() -> None:
    shown = repr(check(good_order()))
    assert "PlainContents()" in shown
    for secret in (PAN, CVV, "Zoë", "Köln"):
        assert secret not in shown


def test_every_faulty_field_is_named_at_once() -> None:
    document = good_order()
    for path, value in [
        (("items", 0, "sku"), "LP-9999"),
        (("items", 1, "quantity"), 0),
        (("total", "currency"), "XAU"),
        (("customer", "email"), "zoe"),
        (("customer", "name"), "  "),
        (("delivery", "country"), "Germany"),
        (("delivery", "lines"), []),
        (("card", "number"), "4242424242424241"),
        (("card", "expiry_month"), 13),
        (("card", "security_code"), "12"),
    ]:
        put(document, path, value)
    assert pointers(document) == {
        "/items/0/sku", "/items/1/quantity", "/total/currency", "/customer/email", "/customer/name",
        "/delivery/country", "/delivery/lines", "/card/number", "/card/expiry_month", "/card/security_code",
    }  # fmt: skip


def test_missing_fields_are_named_each() -> None:
    assert pointers({}) == {
        "/items", "/total/amount", "/total/currency", "/customer/name", "/customer/email", "/delivery/lines",
        "/delivery/city", "/delivery/country", "/card/number", "/card/expiry_month", "/card/expiry_year",
        "/card/security_code",
    }  # fmt: skip


def test_region_and_postcode_may_be_left_out() -> None:
    document = good_order()
    del document["delivery"]["region"], document["delivery"]["postcode"]
    assert not check(document).faults


@pytest.mark.parametrize("amount", [5096, 5098, 1])
def test_a_total_that_is_not_the_catalogues_is_refused(amount: int) -> None:
    document = put(good_order(), ("total", "amount"), amount)
    assert pointers(document) == {"/total/amount"}


def test_a_price_in_the_request_is_refused() -> None:
    document = good_order()
    document["items"][0]["price"] = 1
    assert pointers(document) == {"/items/0"}


def test_the_name_of_an_unknown_member_is_not_shown() -> None:
    document = good_order()
    document["card"][PAN] = CVV
    form = check(document)
    assert {fault.pointer for fault in form.faults} == {"/card"}
    assert PAN not in str(form.faults)


@pytest.mark.parametrize(
    ("month", "year", "pointer"),
    [
        (11, 2026, None),
        (10, 2026, "/card/expiry_month"),
        (12, 2025, "/card/expiry_year"),
        (12, 2051, None),
        (1, 2052, "/card/expiry_year"),
        (True, 2030, "/card/expiry_month"),
        ("12", 2030, "/card/expiry_month"),
        (12.0, 2030, "/card/expiry_month"),
        (12, 30, "/card/expiry_year"),
    ],
)
def test_a_card_holds_to_the_end_of_its_printed_month(
    month: object, year: object, pointer: str | None
) -> None:
    document = put(put(good_order(), ("card", "expiry_month"), month), ("card", "expiry_year"), year)
    assert pointers(document) == ({pointer} if pointer else set())


@pytest.mark.parametrize("field", [("customer", "name"), ("delivery", "city"), ("delivery", "lines", 0)])
def test_control_characters_in_texts_are_refused(field: tuple[Any, ...]) -> None:
    for character in "\0\n\r\x1b\u2028\u202e":
        assert pointers(put(good_order(), field, f"a{character}b")) == {"/" + "/".join(map(str, field))}


def test_texts_are_sealed_in_normal_form_without_spaces_around() -> None:
    form = check(put(good_order(), ("customer", "name"), " Zoe\u0308 "))
    assert isinstance(form.contents, PlainContents)
    assert form.contents.order.customer.name == "Zo\u00eb"


@given(st.sampled_from(FIELDS), JSON)
def test_any_value_in_any_field_is_judged_without_a_crash(field: tuple[Any, ...], value: object) -> None:
    form = check(put(good_order(), field, value))
    assert bool(form.faults) == (form.contents is None)


@given(JSON)
def test_any_document_is_judged_without_a_crash(document: object) -> None:
    form = check(document)
    assert form.faults
    assert form.contents is None


def test_sample_orders_are_right() -> None:
    for order in sample_orders(CATALOGUE, count=60, seed=1, year=YEAR):
        assert not check(msgspec.json.decode(order.body)).faults


_BROKEN = st.sampled_from(
    [("items",), ("total", "amount"), ("customer",), ("delivery", "country"), ("card", "expiry_year")]
)
_DIGITS = "0123456789"


@given(
    st.text(_DIGITS + " -x", min_size=6, max_size=24),
    st.text(_DIGITS + "x", min_size=3, max_size=6),
    st.lists(_BROKEN, max_size=3),
)
def test_the_answer_does_not_depend_on_card_data_that_is_wrong_in_the_same_way(
    number: str, code: str, broken: list[tuple[Any, ...]]
) -> None:
    """Two cards of one kind of fault get byte for byte the same answer, so nothing of either can be in it."""
    answers = set()
    for swap in (str.maketrans(_DIGITS, _DIGITS), str.maketrans("12357890", "95318270")):
        document = good_order()
        for path in broken:
            put(document, path, None)
        # A letter keeps both in the same kind of fault, whatever the digits are.
        put(document, ("card", "number"), "x" + number.translate(swap))
        put(document, ("card", "security_code"), "x" + code.translate(swap))
        answers.add(encode_problem(faulty_fields(check(document).faults)))
    assert len(answers) == 1


@example(("total", "amount"), "000000000000")
@given(st.sampled_from(FIELDS), st.text(_DIGITS, min_size=12, max_size=19))
def test_a_card_number_in_any_field_is_never_in_the_answer(field: tuple[Any, ...], number: str) -> None:
    document = put(put(good_order(), ("total", "amount"), 1), field, number)
    answer = encode_problem(faulty_fields(check(document).faults))
    assert number.encode() not in answer
    assert PAN.encode() not in answer


def sealed_order(**parts: object) -> dict[str, Any]:
    document = good_order()
    good: dict[str, object] = {
        "header": bytes([1, 1, 1, 0]) + bytes(88),
        "order": bytes(1072),
        "card": bytes(176),
    }
    texts = {
        name: base64.b64encode(part).decode() if isinstance(part, bytes) else part
        for name, part in (good | parts).items()
    }
    return {"items": document["items"], "total": document["total"], "sealed": texts}


def test_a_sealed_order_with_possible_sizes_is_read() -> None:
    form = check(sealed_order())
    assert isinstance(form.contents, SealedParts)


@pytest.mark.parametrize("size", [0, 47, 48, 559, 561, 48 + 33 * 512])
def test_a_sealed_order_box_of_another_size_is_refused(size: int) -> None:
    assert pointers(sealed_order(order=bytes(size))) == {"/sealed/order"}


@pytest.mark.parametrize("size", [0, 175, 177, 128])
def test_a_sealed_card_box_of_another_size_is_refused(size: int) -> None:
    assert pointers(sealed_order(card=bytes(size))) == {"/sealed/card"}


@pytest.mark.parametrize("part", [None, 7, "####", "AAA", "é", ["AAAA"]])
def test_what_is_not_base64_is_refused(part: object) -> None:
    assert pointers(sealed_order(header=part, order=part, card=part)) == {
        "/sealed/header",
        "/sealed/order",
        "/sealed/card",
    }


@pytest.mark.parametrize(
    "header", [bytes(92), bytes([2, 1, 1, 0]) + bytes(88), bytes([1, 1, 1, 1]) + bytes(88), bytes(91)]
)
def test_a_header_of_another_form_is_refused(header: bytes) -> None:
    assert pointers(sealed_order(header=header)) == {"/sealed/header"}


def test_card_data_beside_a_sealed_order_is_refused() -> None:
    document = sealed_order()
    document["card"] = good_order()["card"]
    assert pointers(document) == {""}
