"""The pages' scripts outside a page: built from the lock, and of one mind with the server about every rule."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from base64 import b64decode
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey, SealedBox

from intake import words
from intake.cards import brand_of, number_fault, security_code_fault, without_spacing
from intake.page.address import rules
from intake.page.script_data import country_document, rules_document
from intake.sample_people import CARDS, PEOPLE, TROUBLED_CARDS
from keys.public.digest import digest
from tests.browser.address_rules import TARGET, made
from tests.browser.conftest import Ask
from tests.intake.node import NODE, OfflineSide
from tests.source import ROOT
from tests.tools.known import PAGE_JS
from transfer.wire import ids
from transfer.wire.basket import basket_digest
from transfer.wire.card import Card, encode_card
from transfer.wire.header import decode_header, header_digest
from transfer.wire.order import decode_order_compartment

RULES = json.loads(rules_document(year=2026, month=11))
VECTORS = ROOT / "tests" / "vectors"
KEY = "Zm9yIHRlc3RzIG9ubHkhIQ"


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    return found


@pytest.mark.needs_tool("node", "page_js")
def test_the_shipped_scripts_are_built_again_byte_for_byte(
    tool: Callable[[str], Path], tmp_path: Path
) -> None:
    subprocess.run([tool("node"), PAGE_JS / "build.mjs", tmp_path], check=True, timeout=60)
    shipped = ROOT / "intake" / "page" / "static"
    for built in ("checkout.js", "recent.js", "status.js"):
        assert (tmp_path / built).read_bytes() == (shipped / built).read_bytes(), (
            f"run: node tests/browser/build.mjs ({built})"
        )


def test_the_shipped_address_rules_are_those_of_the_library() -> None:
    assert TARGET.read_bytes() == made(), "run: python -m tests.browser.address_rules"


def test_ids_and_baskets_are_the_vectors(ask: Ask) -> None:
    keys = [vector for vector in vectors("idempotency-keys") if vector["expect"] == "ok"]
    baskets = [vector for vector in vectors("baskets") if vector["expect"] == "ok"]
    answers = ask(
        [{"ask": "names", "key": vector["inputs"]["key"]} for vector in keys]
        + [{"ask": "basket", **vector["inputs"]} for vector in baskets]
    )
    wanted = [{"id": vector["output"]["order_id"], "nonce": vector["output"]["nonce"]} for vector in keys]
    assert answers == wanted + [vector["output"]["digest"] for vector in baskets]


def test_only_keys_that_the_offline_identity_signed_for_this_node_are_sealed_to(ask: Ask) -> None:
    side, other = OfflineSide(), OfflineSide()
    order, batch = keys_of(side, seal_until=100)
    strange_order, strange_batch = keys_of(other, seal_until=100)
    identity, stranger = side.public.public_key.hex(), other.public.public_key.hex()
    known = {"node": NODE, "identities": [identity], "now": 99}
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "ok"),
        ({"identities": [stranger, identity]}, "ok"),  # while a handover is under way there are two
        ({"identities": [stranger]}, "ROLL-ENTRY"),
        ({"identities": []}, "ROLL-ENTRY"),
        ({"now": 100}, "PAGE-KEY-ENDED"),
        ({"node": "shop-b"}, "ROLL-NODE"),
        ({"order": order | {"node": "shop-b"}}, "ROLL-NODE"),
        ({"order": strange_order}, "ROLL-ENTRY"),
        ({"entry": strange_batch}, "ROLL-ENTRY"),
        ({"order": batch}, "ROLL-ENTRY"),
        ({"entry": order}, "ROLL-ENTRY"),
        ({"entry": order | {"role": "batch"}}, "ROLL-ENTRY"),
        ({"entry": batch | {"number": 2}}, "ROLL-ENTRY"),
        ({"entry": batch | {"seal_until": 1000}}, "ROLL-ENTRY"),
        ({"entry": batch | {"destroy_at": 0}}, "ROLL-ENTRY"),
        ({"entry": batch | {"epoch": 2}}, "ROLL-ENTRY"),
        ({"entry": batch | {"public_key": order["public_key"]}}, "ROLL-ENTRY"),
        ({"entry": batch | {"public_key": "00"}}, "malformed"),
        ({"entry": batch | {"signature": batch["signature"].upper()}}, "malformed"),
        ({"entry": batch | {"number": -1}}, "malformed"),
    ]
    answers = ask(
        [{"ask": "entry", "entry": batch, "order": order, **known, **change} for change, _ in cases]
    )
    assert answers == [wanted for _, wanted in cases]


def keys_of(side: OfflineSide, *, seal_until: int) -> tuple[dict[str, Any], dict[str, Any]]:
    roll = json.loads(side.roll(1, seal_until=seal_until, order_until=seal_until))
    return roll["order_keys"][0], roll["batch_keys"][0]


def test_a_sealed_order_opens_as_it_was_typed(ask: Ask) -> None:
    order_key, batch_key = PrivateKey.generate(), PrivateKey.generate()
    questions = []
    for person in PEOPLE:
        order = {
            "items": [{"sku": "LP-0001", "quantity": 2, "price": 2499}],
            "total": {"amount": 4998, "currency": "EUR"},
            "customer": {"name": person.name, "email": person.email},
            "delivery": {
                "lines": person.lines.split("|"),
                "city": person.city,
                "region": person.region,
                "postcode": person.postcode,
                "country": person.country,
            },
        }
        card = {"number": "4242424242424242", "month": 12, "year": 2030, "code": "737"}
        keys = {
            "order_key": order_key.public_key.encode().hex(),
            "batch_key": batch_key.public_key.encode().hex(),
        }
        questions.append({"ask": "seal", "key": KEY, "order": order, "card": card, "time": 7, **keys})
    for question, sealed in zip(questions, ask(questions), strict=True):
        header = b64decode(sealed["header"])
        read = decode_header(header)
        assert (read.order_id, read.time) == (ids.order_id(KEY), 7)
        order_box, card_box = (b64decode(sealed[name]) for name in ("order", "card"))
        contents = decode_order_compartment(SealedBox(order_key).decrypt(order_box))
        asked = question["order"]
        assert isinstance(asked, dict)
        written = msgspec.to_builtins(contents)
        assert {name: written[name] for name in asked} == asked
        assert written["header"] == header_digest(header).hex()
        assert written["nonce"] == ids.basket_nonce(KEY).hex()
        assert read.basket_digest == basket_digest(
            nonce=ids.basket_nonce(KEY), items=contents.items, total=contents.total
        )
        assert SealedBox(batch_key).decrypt(card_box) == encode_card(
            Card(pan=b"4242424242424242", cvv=b"737", expiry_month=12, expiry_year=2030),
            header_digest=header_digest(header),
            order_box_digest=digest("order-box", order_box),
            amount=4998,
            currency="EUR",
        )


def test_card_numbers_are_judged_as_the_server_does(ask: Ask) -> None:
    numbers = [
        *CARDS,
        *TROUBLED_CARDS,
        "",
        "4242",
        "4242 4242 4242 4241",
        "x",
        "6200 0000 0000 0004",
        "1" * 19,
    ]
    numbers += [card[:-1] for card in CARDS] + [card.replace(" ", "-") for card in CARDS]
    numbers += [f"{first}{'0' * 14}" for first in range(10, 100)]
    faults = ask([{"ask": "number", "typed": number, "rules": RULES} for number in numbers])
    for number, fault in zip(numbers, faults, strict=True):
        digits = without_spacing(number)
        wanted = number_fault(digits, brand_of(digits or "")) if number else words.MISSING
        assert (RULES["faults"][fault] if fault else None) == wanted, number
    brands = ask([{"ask": "brand", "digits": without_spacing(card) or "", "rules": RULES} for card in CARDS])
    assert brands == [brand_of(without_spacing(card) or "").name for card in CARDS]


def test_security_codes_are_judged_as_the_server_does(ask: Ask) -> None:
    cases = [
        (code, card) for code in ("123", "1234", "12", "12345", "12a") for card in ("4242", "3782", "9999")
    ]
    faults = ask([{"ask": "code", "typed": code, "digits": card, "rules": RULES} for code, card in cases])
    for (code, card), fault in zip(cases, faults, strict=True):
        wanted = security_code_fault(code, brand_of(card))
        assert (RULES["faults"][fault] if fault else None) == wanted, (code, card)


def test_expiry_dates_hold_to_the_end_of_their_month(ask: Ask) -> None:
    cases = {
        **dict.fromkeys(("11/26", "11 / 2026", "1126", "11-26", "112026", "11.26", "11 26", "1/27"), None),
        **dict.fromkeys(("10/26", "12/2025", "01/26"), "expired"),
        **dict.fromkeys(("13/30", "0/30", "2030", "12/203", "ab", "12/30/30"), "expiry"),
        "12/2051": None,
        "01/2052": "far",
        "": "missing",
    }
    answers = ask([{"ask": "expiry", "typed": typed, "rules": RULES} for typed in cases])
    assert dict(zip(cases, answers, strict=True)) == cases


def test_every_postcode_example_fits_its_own_country_and_nonsense_none(ask: Ask) -> None:
    known = {code: country for code, country in rules().items() if country.postcode and country.example}
    asked = [
        {"ask": "postcode", "typed": typed, "country": {"postcode": country.postcode}}
        for country in known.values()
        for typed in (country.example, country.example.lower(), "?")
    ]
    assert len(known) > 150
    assert ask(asked) == [True, True, False] * len(known)


def test_digits_of_every_script_are_digits(ask: Ask) -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Nd"]
    assert len(every) > 600
    answers = ask(
        [
            {"ask": "digits", "typed": "".join(every)},
            {"ask": "digits", "typed": "\u0664\u0662 \u06f4 \uff14\uff12/x"},
        ]
    )
    assert answers == ["".join(str(unicodedata.decimal(digit)) for digit in every), "42 4 42/x"]


def test_people_of_the_whole_world_are_taken_as_they_write_themselves(ask: Ask) -> None:
    questions = []
    for person in PEOPLE:
        first, second, *_ = [*person.lines.split("|"), ""]
        form = {"name": person.name, "email": person.email, "country": person.country, "district": ""}
        form |= {"line1": first, "line2": second, "city": person.city, "region": person.region}
        form |= {"postcode": person.postcode, "number": CARDS[0], "expiry": "12/30", "code": "737"}
        country = json.loads(country_document(person.country) or b"")
        questions.append({"form": form, "country": country, "rules": RULES})
    faults = ask([{"ask": "judge", **question} for question in questions])
    assert {person.name: found for person, found in zip(PEOPLE, faults, strict=True) if found} == {}
    contents = ask([{"ask": "contents", **question} for question in questions])
    for person, question, found in zip(PEOPLE, questions, contents, strict=True):
        shown = {field["id"] for field in question["country"]["fields"]}
        assert found["customer"] == {"name": person.name, "email": person.email}
        delivery = found["delivery"]
        assert delivery["lines"] == person.lines.split("|")
        assert delivery["city"] == (person.city if "city" in shown else question["country"]["city"])
        assert delivery["region"] == (person.region if "region" in shown else "")
        assert delivery["country"] == person.country


def test_the_caret_stays_behind_the_digit_that_was_typed(ask: Ask) -> None:
    cases = [
        ("42424", 5, "4242 4", 6),
        ("4242", 4, "4242", 4),
        ("4942 42", 2, "4942 42", 2),  # a digit put in near the front
        ("378282246310005", 15, "3782 822463 10005", 17),
        ("4242 4242 4242 4242 123", 23, "4242 4242 4242 4242 123", 23),
        ("42x", 3, "42x", 3),  # what is not a number stays as it is
        ("", 0, "", 0),
    ]
    answers = ask(
        [{"ask": "grouped", "typed": typed, "caret": caret, "rules": RULES} for typed, caret, _, _ in cases]
    )
    assert [(one["text"], one["caret"]) for one in answers] == [(text, caret) for _, _, text, caret in cases]


def test_harmful_and_long_texts_are_refused_in_the_browser(ask: Ask) -> None:
    cases = [
        ("a", None),
        ("", "missing"),
        ("a" * 201, "long"),
        ("😀" * 200, None),
        ("a\u202eb", "control"),
        ("a\tb", "control"),
    ]
    answers = ask([{"ask": "text", "typed": typed, "limit": 200} for typed, _ in cases])
    assert answers == [fault for _, fault in cases]


TAKEN = {"status": 202, "document": {"order_id": "00", "access_token": "t"}}
RESEAL = {"status": 409, "document": {"rule": "INTAKE-RESEAL"}}
CLOSED = {"status": 503, "document": {"rule": "INTAKE-KEYS-OUT", "title": "", "detail": ""}}
FIELDS = {"status": 422, "document": {"rule": "INTAKE-FIELDS"}}
DIFFERS = {"status": 422, "document": {"rule": "INTAKE-IDEMPOTENCY-CONFLICT"}}
REFUSING = [RESEAL, CLOSED, FIELDS, DIFFERS]
LIMITED = {"status": 429, "document": {"rule": "INTAKE-ANY"}}
# None of these says what became of an order: an overload, a proxy's pages, a portal that takes everything.
SILENT = [
    None,
    {"status": 503, "document": {"rule": "INTAKE-BUSY"}},
    {"status": 408, "document": {"rule": "INTAKE-TOO-SLOW"}},
    {"status": 403, "document": {}},
    {"status": 502, "document": {}},
    {"status": 200, "document": {}},
    {"status": 202, "document": {}},
]


def test_the_course_of_an_order_is_safe_whatever_the_network_does(ask: Ask) -> None:
    scripts: list[tuple[list[Any], str | None, str | None]] = []

    @given(
        st.lists(st.sampled_from([TAKEN, *REFUSING, LIMITED, *SILENT]), max_size=12),
        st.sampled_from([None, "text 0"]),
        st.sampled_from([None, "probe"]),
    )
    def collect(answers: list[Any], unanswered: str | None, probe: str | None) -> None:
        scripts.append((answers, unanswered, probe))

    collect()
    # One start of Node for all of them.
    outcomes = ask(
        [
            {"ask": "place", "answers": answers, "unanswered": before, "probe": probe}
            for answers, before, probe in scripts
        ]
    )
    seen = set()
    for (_, before, probe), result in zip(scripts, outcomes, strict=True):
        outcome, posted = result["outcome"], result["posted"]
        kind, last = outcome["kind"], posted[-1][1]
        seen.add(kind)
        assert (kind == "taken") == (last == TAKEN)
        if before:
            assert posted[0][0] == (probe or before), "what has no answer comes first"
        for (earlier, answer), (later, _) in pairwise(posted):
            if earlier != later:
                assert answer in REFUSING, "sealed anew before an answer"
        if kind in ("refused", "closed", "differs"):
            assert last in REFUSING, "said to be refused without a word of the shop"
        asked = [text for text, _ in posted]
        waiting = before if asked[-1] == probe else asked[-1]
        may_stand = asked[-1] in (probe, before) or any(
            answer in SILENT for text, answer in posted if text == asked[-1]
        )
        if kind == "unanswered":
            assert outcome["text"] == waiting
        elif kind == "limited":
            assert outcome["text"] == (waiting if may_stand else None)
        else:
            assert last not in SILENT
    assert {"taken", "unanswered", "limited", "closed", "refused", "differs"} <= seen


def test_idempotency_keys_have_the_form_and_never_repeat(ask: Ask) -> None:
    keys = ask([{"ask": "key"}] * 200)
    assert len(set(keys)) == 200
    assert {len(ids.check_idempotency_key(key)) for key in keys} == {22}
