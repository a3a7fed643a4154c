"""Opening: an order that cannot be opened, or is none by its form, waits for a person; the others are charged."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from keys.public.seal import seal
from tests.offline_processor.bad_order import (
    BAD,
    assert_ordered_again_at_once,
    assert_put_aside,
    assert_waits_for_a_person,
    run_among_good_orders,
)
from tests.offline_processor.forgery import forge, with_byte_changed, with_header_byte
from transfer.wire.envelope import CARD_BOX_SIZE, encode_envelope
from transfer.wire.header import HEADER_SIZE, Kind
from transfer.wire.sealing import SealingKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.offline_processor.shop import Shop


def test_damaged_order_box_waits_for_a_person(shop: Shop) -> None:
    rights = [shop.seal(number) for number in range(6)]
    run_among_good_orders(
        shop,
        *(
            dataclasses.replace(right, order_box=with_byte_changed(right.order_box, place))
            for right, place in zip(rights, (0, 31, 32, 47, 48, -1), strict=True)
        ),
    )
    assert_waits_for_a_person(shop, "ORDER-UNREADABLE", numbers=range(6))


def test_order_box_too_short_to_be_one_waits_for_a_person(shop: Shop) -> None:
    boxes = enumerate((b"", b"short", bytes(47), bytes(48)))
    run_among_good_orders(
        shop, *(dataclasses.replace(shop.seal(number), order_box=box) for number, box in boxes)
    )
    assert_waits_for_a_person(shop, "ORDER-UNREADABLE", numbers=range(4))


def test_order_box_sealed_to_another_key_waits_for_a_person(shop: Shop) -> None:
    keys = shop.keys_for()
    wrong = dataclasses.replace(keys, order_key=shop.keys_for(1).batch_key)
    run_among_good_orders(shop, shop.seal(BAD, keys=wrong))
    assert_waits_for_a_person(shop, "ORDER-UNREADABLE")


def test_unknown_order_key_waits_for_a_person(shop: Shop) -> None:
    keys = shop.keys_for()
    batch_key = shop.keystore.ring.unused("shop-a")[0]
    foreign = SealingKeys.of(shop.keys_for(1).batch_key, bytes.fromhex(batch_key.public_key))
    run_among_good_orders(shop, shop.seal(BAD, keys=foreign))
    assert keys.batch_key_id == foreign.batch_key_id
    assert_waits_for_a_person(shop, "ORDER-KEY")


def test_unknown_suite_waits_for_a_person(shop: Shop) -> None:
    run_among_good_orders(shop, forge(shop, BAD, header={"suite": 2}))
    assert_waits_for_a_person(shop, "ORDER-SUITE")


def test_subject_request_among_orders_waits_for_a_person(shop: Shop) -> None:
    run_among_good_orders(shop, forge(shop, BAD, header={"kind": Kind.SUBJECT_REQUEST}))
    assert_waits_for_a_person(shop, "ORDER-KIND")


def test_header_that_names_another_batch_key_waits_for_a_person(shop: Shop) -> None:
    other = shop.keys_for(1).batch_key_id
    run_among_good_orders(shop, forge(shop, BAD, header={"batch_key_id": other}))
    assert_waits_for_a_person(shop, "ORDER-BATCH-KEY")


def test_card_of_another_bundles_batch_key_cannot_be_kept(shop: Shop) -> None:
    run_among_good_orders(shop, shop.seal(BAD, keys=shop.keys_for(1)))
    assert_waits_for_a_person(shop, "ORDER-BATCH-KEY", card=False)


def test_order_whose_boxes_are_both_damaged_is_ordered_again_at_once(shop: Shop) -> None:
    right = shop.seal(BAD)
    order_box, card_box = (with_byte_changed(box, -1) for box in (right.order_box, right.card_box))
    run_among_good_orders(shop, dataclasses.replace(right, order_box=order_box, card_box=card_box))
    assert_ordered_again_at_once(shop, "CARD-UNREADABLE")


def test_order_of_more_than_20000_bytes_waits_for_a_person(shop: Shop) -> None:
    keys = shop.keys_for()
    large = dataclasses.replace(shop.seal(BAD), order_box=seal(bytes(20_000), keys.order_key))
    run_among_good_orders(shop, large)
    assert_waits_for_a_person(shop, "ORDER-SIZE")


def test_order_compartment_of_more_than_16384_bytes_waits_for_a_person(shop: Shop) -> None:
    run_among_good_orders(shop, forge(shop, BAD, padded=lambda right: right.ljust(16_896, b"\0")))
    assert_waits_for_a_person(shop, "ORDER-PADDING")


def test_wrong_padding_waits_for_a_person(shop: Shop) -> None:
    paddings: list[Callable[[bytes], bytes]] = [
        lambda right: right + bytes(512),
        lambda right: right[:-1] + b"\1",
        lambda right: right[:-1],
        lambda right: b"\xff\xff\xff\xff" + right[4:],
        lambda right: b"\0\0\0\0" + right[4:],
        lambda right: b"",
    ]
    run_among_good_orders(
        shop, *(forge(shop, number, padded=padded) for number, padded in enumerate(paddings))
    )
    assert_waits_for_a_person(shop, "ORDER-PADDING", numbers=range(len(paddings)))


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda document: document.pop(name)


def setting(*path: str | int, to: object) -> Callable[[dict[str, Any]], object]:
    def edit(document: Any) -> None:
        *outer, last = path
        for step in outer:
            document = document[step]
        document[last] = to

    return edit


WRONG_FORMS = [
    without("header"),
    without("delivery"),
    setting("card", to="4242424242424242"),
    setting("nonce", to="00"),
    setting("items", to=[]),
    setting("items", 0, "quantity", to=0),
    setting("items", 0, "quantity", to=1.0),
    setting("items", 0, "price", to=-1),
    setting("items", 0, "sku", to=""),
    setting("items", 0, "sku", to="LP-0000\n"),
    setting("total", "amount", to=0),
    setting("total", "amount", to=10**12 + 1),
    setting("total", "amount", to="2499"),
    setting("total", "currency", to="eur"),
    setting("delivery", "country", to="SWE"),
    setting("delivery", "lines", to=["x"] * 5),
    setting("customer", "name", to="n" * 201),
]


def test_wrong_form_waits_for_a_person(shop: Shop) -> None:
    run_among_good_orders(shop, *(forge(shop, number, edit=edit) for number, edit in enumerate(WRONG_FORMS)))
    assert_waits_for_a_person(shop, "ORDER-FORM", numbers=range(len(WRONG_FORMS)))


def test_text_that_is_no_json_waits_for_a_person(shop: Shop) -> None:
    texts = (b"", b"{", b"[" * 5000, b"\xff\xfe", b"null", b'{"header": 1, "header": 2}', b"1e400")
    run_among_good_orders(shop, *(forge(shop, number, text=text) for number, text in enumerate(texts)))
    assert_waits_for_a_person(shop, "ORDER-FORM", numbers=range(len(texts)))


def test_member_that_stands_twice_waits_for_a_person(shop: Shop) -> None:
    texts: list[str] = []
    forge(shop, BAD, edit=lambda document: texts.append(json.dumps(document)))
    whole = texts[0].replace('"total":', '"total": {"amount": 1, "currency": "EUR"}, "total":', 1)
    nested = texts[0].replace('"amount":', '"amount": 1, "amount":', 1)
    forged = (forge(shop, number, text=text.encode()) for number, text in enumerate((whole, nested)))
    run_among_good_orders(shop, *forged)
    assert_waits_for_a_person(shop, "ORDER-FORM", numbers=(0, 1))


def test_members_may_stand_in_any_order_and_spacing(shop: Shop) -> None:
    texts: list[str] = []
    forge(shop, BAD, edit=lambda document: texts.append(json.dumps(document, indent=1, sort_keys=True)))
    shop.bundle([forge(shop, BAD, text=texts[0].encode())])
    shop.run()
    assert shop.state(BAD) == ("paid", "none", "")


def test_control_character_waits_for_a_person(shop: Shop) -> None:
    places: list[tuple[str | int, ...]] = [
        *(("customer", "name"), ("customer", "email"), ("delivery", "lines", 0)),
        *(("delivery", "city"), ("delivery", "region"), ("delivery", "postcode")),
    ]
    texts = [f"abc{character}def" for character in ("\0", "\n", "\x1b", "\x7f", "\x85")]
    edits = [setting(*place, to=text) for place in places for text in texts]
    run_among_good_orders(shop, *(forge(shop, number, edit=edit) for number, edit in enumerate(edits)))
    assert_waits_for_a_person(shop, "ORDER-TEXT", numbers=range(len(edits)))


def test_names_of_all_scripts_are_no_fault(shop: Shop) -> None:
    run_order = forge(
        shop, BAD, edit=setting("customer", "name", to="Zoë Łukasiewicz 李小龍 Ελένη \u200d👩‍🚀")
    )
    shop.bundle([run_order])
    shop.run()
    assert shop.state(BAD) == ("paid", "none", "")


def test_malformed_header_is_put_aside(shop: Shop) -> None:
    # version 0 and 2, kind 0 and 3, the byte that must be zero
    changes = [(0, 0), (0, 2), (1, 0), (1, 3), (3, 1)]
    run_among_good_orders(
        shop,
        *(with_header_byte(shop.seal(number), place, value) for number, (place, value) in enumerate(changes)),
    )
    assert_put_aside(shop, "ENVELOPE-HEADER", strays=len(changes))


def test_malformed_envelope_is_put_aside(shop: Shop) -> None:
    right = encode_envelope(shop.seal(BAD))
    changed = [
        b"",
        b"short",
        right[:-1],
        right + b"\0",
        right[:HEADER_SIZE],
        right[:HEADER_SIZE] + b"\xff\xff\xff\xff" + right[HEADER_SIZE + 4 :],
        right[: -CARD_BOX_SIZE - 4] + b"\0\0\0\0" + right[-CARD_BOX_SIZE:],
    ]
    run_among_good_orders(shop, *changed)
    assert_put_aside(shop, "ENVELOPE-FORM", strays=len(changed))
