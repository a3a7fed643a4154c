"""Realistic sample orders, posted over HTTP like a shop's own software would.

Why here: rehearsals, benchmarks and newcomers need orders of every kind without a shop.
Must not: write card data anywhere but into the request, nor import anything of the server's inside.
"""

from __future__ import annotations

import http.client
import random
import secrets
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from intake.cards import AMEX_CVV_LENGTH, CVV_LENGTH, brand_of, without_spacing
from intake.catalogue import Catalogue
from intake.errors import IntakeError
from intake.sample_people import CARDS, PEOPLE, TROUBLED_CARDS

_TROUBLED_EVERY = 6
_ITEMS_AT_MOST = 3
_TIMEOUT = 30
_ANSWER_LIMIT = 64 * 1024
_ACCEPTED = 202
# Amounts that end so mean something to the offline side's simulator; the sample's surprises come from its cards only.
_MEANINGFUL_ENDINGS = frozenset(range(9_900, 10_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOrder:
    """One order ready to be posted. ``body`` is the JSON document."""

    idempotency_key: str = field(repr=False)
    body: bytes = field(repr=False)
    amount: int
    currency: str


class SampleReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a posted order: never a name, an address or a card."""

    order_id: str
    access_token: str
    amount: int
    currency: str
    url: str


def sample_orders(catalogue: Catalogue, *, count: int, seed: int, year: int) -> Iterator[SampleOrder]:
    """``count`` orders, the same for the same ``seed`` but for their Idempotency-Keys. ``year`` is of now."""
    chance = random.Random(seed)  # noqa: S311  a repeatable play, not a secret
    people = list(PEOPLE)
    chance.shuffle(people)
    for number in range(count):
        person = people[number % len(people)]
        currency = person.currency if person.currency in catalogue.prices else next(iter(catalogue.prices))
        items, amount = _basket(chance, catalogue, currency)
        turn, place = divmod(number, _TROUBLED_EVERY)
        if place == _TROUBLED_EVERY - 1:
            card = TROUBLED_CARDS[turn % len(TROUBLED_CARDS)]
        else:
            card = CARDS[(number - turn) % len(CARDS)]
        document = {
            "items": items,
            "total": {"amount": amount, "currency": currency},
            "customer": {"name": person.name, "email": person.email},
            "delivery": {
                "lines": person.lines.split("|"),
                "city": person.city,
                "region": person.region,
                "postcode": person.postcode,
                "country": person.country,
            },
            "card": _card(chance, card, year),
        }
        yield SampleOrder(
            idempotency_key=secrets.token_urlsafe(24),
            body=msgspec.json.encode(document),
            amount=amount,
            currency=currency,
        )


def post_orders(
    url: str, orders: Iterator[SampleOrder], *, progress: Callable[[SampleReceipt], None]
) -> list[SampleReceipt]:
    """Post ``orders`` to the intake at ``url`` one after another; ``SAMPLE-SERVER`` when it does not take one."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise IntakeError("USAGE-URL", f"{url} is not an address of an intake", "give http://HOST:PORT")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT)
    base = f"{parts.scheme}://{parts.netloc}"
    receipts = []
    try:
        for order in orders:
            answer = _post(connection, parts.path.rstrip("/"), order)
            receipt = SampleReceipt(
                order_id=str(answer["order_id"]),
                access_token=str(answer["access_token"]),
                amount=order.amount,
                currency=order.currency,
                url=f"{base}/orders/{answer['order_id']}",
            )
            receipts.append(receipt)
            progress(receipt)
    except (OSError, http.client.HTTPException) as error:
        remedy = "start it with: intake serve --config FILE"
        raise IntakeError(
            "SAMPLE-SERVER", f"the intake at {base} does not answer: {error}", remedy
        ) from error
    finally:
        connection.close()
    return receipts


def _post(connection: http.client.HTTPConnection, path: str, order: SampleOrder) -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Idempotency-Key": order.idempotency_key}
    connection.request("POST", f"{path}/orders", body=order.body, headers=headers)
    response = connection.getresponse()
    raw = response.read(_ANSWER_LIMIT)
    try:
        answer = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise IntakeError(
            "SAMPLE-SERVER", f"the server's answer ({response.status}) is not from an intake"
        ) from error
    if response.status != _ACCEPTED:
        faults = ", ".join(str(fault.get("pointer")) for fault in answer.get("errors", ()))
        words = " ".join(filter(None, (str(answer.get("detail", "")), faults)))
        raise IntakeError("SAMPLE-REFUSED", f"the intake refused an order ({answer.get('rule')}): {words}")
    return answer


def _basket(chance: random.Random, catalogue: Catalogue, currency: str) -> tuple[list[dict[str, Any]], int]:
    prices = catalogue.prices[currency]
    while True:
        count = chance.randint(1, min(_ITEMS_AT_MOST, len(prices)))
        chosen = [(sku, chance.choice((1, 1, 1, 2))) for sku in chance.sample(sorted(prices), count)]
        amount = sum(quantity * prices[sku] for sku, quantity in chosen)
        if amount % 10_000 not in _MEANINGFUL_ENDINGS:
            return [{"sku": sku, "quantity": quantity} for sku, quantity in chosen], amount


def _card(chance: random.Random, number: str, year: int) -> dict[str, Any]:
    brand = brand_of(without_spacing(number) or "")
    size = AMEX_CVV_LENGTH if AMEX_CVV_LENGTH in brand.cvv_lengths else CVV_LENGTH
    return {
        "number": number,
        "expiry_month": chance.randint(1, 12),
        "expiry_year": year + chance.randint(1, 4),
        "security_code": "".join(chance.choice("0123456789") for _ in range(size)),
    }
