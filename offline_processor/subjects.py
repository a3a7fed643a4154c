"""People's rights over the data that lies here: a copy of it, its erasure, its restriction.

Why here: what a person is given and what becomes of their data is the same, whoever brought the wish.
Must not: decide who may ask (a person does), send anything anywhere, or touch a card or a ledger entry.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from keys.durable import fsync_directory, write_new_file
from offline_processor.acquirers.report import in_words
from offline_processor.control_total import money
from offline_processor.errors import ProcessorError
from offline_processor.ledger import disclosures, erasure, subject_requests
from offline_processor.ledger.erasure import Against
from offline_processor.ledger.ledger import Ledger, Row
from offline_processor.ledger.restrictions import ALL, Restrictions, lift, restrict
from offline_processor.ledger.subject_requests import Request
from transfer.retention import SCHEDULE
from transfer.wire.order import Customer, Delivery, Item
from transfer.wire.records import SubjectState

DATA: Final = "data.json"
TEXT: Final = "data.txt"
_COLUMNS: Final = (
    "o.number, o.order_id, o.node, o.state, o.reason, o.amount, o.currency, o.card, o.changed_at, p.person"
)
_STAFF: Final = frozenset({"who", "second", "account"})
_BOUND: Final = 500
_decoder = msgspec.json.Decoder(tuple[list[Item], Customer, Delivery], strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """An order of a person. ``against``: what stands against erasing its data; ``erased``: it was erased before."""

    number: int
    order_id: str
    node: str
    state: str
    reason: str
    amount: int
    currency: str
    card: str
    changed_at: int
    against: Against
    items: list[Item] = field(default_factory=list)
    customer: Customer | None = field(default=None, repr=False)
    delivery: Delivery | None = field(default=None, repr=False)

    @property
    def erased(self) -> bool:
        return self.customer is None

    def is_erasable(self, *, undelivered: bool) -> bool:
        """True when nothing stands against erasing it now; ``undelivered``: goods that are owed do not."""
        allowed = {Against.NOTHING, Against.GOODS_OWED} if undelivered else {Against.NOTHING}
        return not self.erased and self.against in allowed

    def as_line(self) -> dict[str, Any]:
        """For the operator: ids and states, nobody's name."""
        return {
            "order": self.order_id,
            "state": self.state,
            "changed_at": in_words(self.changed_at),
            "erased": self.erased,
            "against_erasure": self.against.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Whose orders they are. ``others``: ids that were named and are not this person's, or not known at all."""

    orders: list[Matched]
    others: list[str]


@dataclass(slots=True, kw_only=True)
class Erased:
    """What an erasure did: orders whose person is gone, and those that wait, with what stands against them."""

    erased: list[str] = field(default_factory=list)
    gone_before: list[str] = field(default_factory=list)
    waiting: dict[str, Against] = field(default_factory=dict)


def of_request(ledger: Ledger, request: Request) -> Found:
    """The orders of the address that a request names: all of them, or those of the ids in it that are theirs."""
    return of_requests(ledger, [request])[0]


def of_requests(ledger: Ledger, requests: Sequence[Request]) -> list[Found]:
    """The same for many requests, in one walk over all people."""
    orders = _of_addresses(ledger, {_normal(request.email) for request in requests})
    found = []
    for request in requests:
        mine, wanted = orders[_normal(request.email)], set(request.orders)
        theirs = [order for order in mine if not wanted or order.order_id in wanted]
        found.append(Found(orders=theirs, others=sorted(wanted - {order.order_id for order in theirs})))
    return found


def of_orders(ledger: Ledger, order_ids: Sequence[str], *, whole_person: bool) -> Found:
    """The orders of these ids; ``whole_person``: and all others with the same addresses of email."""
    found = _of_ids(ledger, order_ids)
    others = sorted(set(order_ids) - {order.order_id for order in found})
    if whole_person:
        addresses = {_normal(order.customer.email) for order in found if order.customer is not None}
        known = {order.number for order in found}
        more = [order for orders in _of_addresses(ledger, addresses).values() for order in orders]
        found += [order for order in more if order.number not in known]
        found.sort(key=lambda order: order.number)
    return Found(orders=found, others=others)


def export(
    ledger: Ledger, found: Found, out: Path, *, name: str, request: Request | None, who: str, now: int
) -> Path:
    """Write a copy of all that is kept of these orders into the new directory ``out / name``; it is logged before.

    Two files: data.json for programs, data.txt for reading. ``USAGE-OUT`` when the name is taken.
    """
    place = out / name
    document = _document(ledger, found.orders, now=now)
    data = (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()
    text = "".join(f"{line}\n" for line in _lines(document)).encode()
    try:
        place.mkdir(0o700)
    except OSError as error:
        raise ProcessorError(
            "USAGE-OUT", f"{place} cannot be made: {error.strerror}", "name an existing directory without it"
        ) from error
    with ledger.atomic():
        sha256 = hashlib.sha256(data).hexdigest()
        for order in found.orders:
            ledger.append("subject-exported", order.order_id, now, {"who": who, "sha256": sha256})
    try:
        write_new_file(place / DATA, [data])
        write_new_file(place / TEXT, [text])
        fsync_directory(place)
        fsync_directory(out)
    except BaseException:
        for file in (DATA, TEXT):
            (place / file).unlink(missing_ok=True)
        place.rmdir()
        raise
    if request is not None:  # only now is there something to be handed over
        with ledger.atomic():
            subject_requests.answer(ledger, request, SubjectState.DONE, who=who, why="exported", now=now)
    return place


def erase(
    ledger: Ledger,
    found: Found,
    *,
    request: Request | None,
    undelivered: bool,
    who: str,
    now: int,
) -> Erased:
    """Erase the persons of these orders, in one transaction; what an open charge, owed goods or a hold keep must wait.

    ``undelivered``: also of orders whose goods were not sent; their address is gone then. A request is answered once
    nothing of it waits.
    """
    done = Erased()
    asked = "" if request is None else request.request
    with ledger.atomic():
        for order in found.orders:
            if order.erased:
                done.gone_before.append(order.order_id)
            elif not order.is_erasable(undelivered=undelivered):
                erasure.wish(ledger, order.number, order.order_id, who=who, request=asked, now=now)
                done.waiting[order.order_id] = order.against
            else:
                erasure.erase(ledger, order.number, order.order_id, who=who, why=asked or "asked", now=now)
                done.erased.append(order.order_id)
        if request is not None and not done.waiting:
            subject_requests.answer(ledger, request, SubjectState.DONE, who=who, why="erased", now=now)
    return done


def set_restriction(
    ledger: Ledger, found: Found, *, request: Request | None, take_back: bool, who: str, now: int
) -> int:
    """Keep the data of these people and do nothing else with it, or take that back; how many addresses changed."""
    addresses = {_normal(order.customer.email) for order in found.orders if order.customer is not None}
    if request is not None:
        addresses.add(
            _normal(request.email)
        )  # also before their first order comes, or after the last was erased
    change = lift if take_back else restrict
    with ledger.atomic():
        changed = sum(change(ledger, address, ALL, who=who, now=now) for address in sorted(addresses))
        if request is not None:
            subject_requests.answer(ledger, request, SubjectState.DONE, who=who, why="restricted", now=now)
    return changed


def refuse(ledger: Ledger, request: Request, *, who: str, why: str, now: int) -> None:
    """Answer a request with no: it is not theirs, or cannot be done; why stays here, for the letter."""
    with ledger.atomic():
        erasure.withdraw(ledger, request.request)
        subject_requests.answer(ledger, request, SubjectState.REFUSED, who=who, why=why, now=now)


def _of_addresses(ledger: Ledger, wanted: set[str]) -> dict[str, list[Matched]]:
    rows = ledger.rows(
        f"SELECT {_COLUMNS} FROM person AS p JOIN orders AS o USING (number) ORDER BY o.number"  # noqa: S608
    )
    mine: dict[str, list[Row]] = {address: [] for address in wanted}
    for row in rows:
        address = _normal(_decoder.decode(row[-1])[1].email)
        if address in mine:
            mine[address].append(row)
    return {address: [_matched(ledger, row) for row in found] for address, found in mine.items()}


def _of_ids(ledger: Ledger, order_ids: Sequence[str]) -> list[Matched]:
    rows: list[Row] = []
    wanted = sorted(set(order_ids))
    for start in range(0, len(wanted), _BOUND):
        some = wanted[start : start + _BOUND]
        marks = ",".join("?" * len(some))
        rows += ledger.rows(
            f"SELECT {_COLUMNS} FROM orders AS o LEFT JOIN person AS p USING (number)"  # noqa: S608
            f" WHERE o.order_id IN ({marks})",
            tuple(some),
        )
    return [_matched(ledger, row) for row in sorted(rows)]


def _matched(ledger: Ledger, row: Row) -> Matched:
    number, order_id, node, state, reason, amount, currency, card, changed_at, person = row
    items, customer, delivery = ([], None, None) if person is None else _decoder.decode(person)
    return Matched(
        number=number,
        order_id=order_id,
        node=node,
        state=state,
        reason=reason,
        amount=amount,
        currency=currency,
        card=card,
        changed_at=changed_at,
        against=erasure.against(ledger, number),
        items=items,
        customer=customer,
        delivery=delivery,
    )


def _normal(email: str) -> str:
    # As restrictions compare addresses: one mailbox is written in many ways.
    return unicodedata.normalize("NFKC", email.strip()).casefold()


def _document(ledger: Ledger, orders: Sequence[Matched], *, now: int) -> dict[str, Any]:
    """All that this machine keeps of these orders, and for how long."""
    history = _history(ledger, [order.order_id for order in orders])
    restrictions = Restrictions(ledger)
    wishes = {
        wish
        for order in orders
        if order.customer is not None
        for wish in restrictions.of(order.customer.email)
    }
    return {
        "made_at": in_words(now),
        "orders": [_order(ledger, order, history.get(order.order_id, [])) for order in orders],
        "do_not_use_for": sorted(wishes),
        "kept_for": [rule.as_document() for rule in SCHEDULE],
    }


def _order(ledger: Ledger, order: Matched, history: list[dict[str, Any]]) -> dict[str, Any]:
    person: dict[str, Any] = {"erased": True}
    if order.customer is not None and order.delivery is not None:
        person = {
            "name": order.customer.name,
            "email": order.customer.email,
            "address": {
                "lines": order.delivery.lines,
                "city": order.delivery.city,
                "region": order.delivery.region,
                "postcode": order.delivery.postcode,
                "country": order.delivery.country,
            },
        }
    return {
        "order": order.order_id,
        "state": order.state,
        "reason": order.reason,
        "changed_at": in_words(order.changed_at),
        "total": money(order.amount, order.currency) if order.currency else "",
        "card": order.card,
        "items": [{"sku": item.sku, "quantity": item.quantity, "price": item.price} for item in order.items],
        "person": person,
        "history": history,
        "given_to": [
            {
                "purpose": made.purpose,
                "recipient": made.recipient,
                "fields": list(made.fields),
                "legal_ground": made.ground,
                "at": in_words(made.at),
            }
            for made, _ in disclosures.of_order(ledger, order.number)
        ],
    }


def _history(ledger: Ledger, order_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for start in range(0, len(order_ids), _BOUND):
        some = tuple(order_ids[start : start + _BOUND])
        rows = ledger.rows(
            "SELECT subject, at, kind, facts FROM entry"  # noqa: S608
            f" WHERE subject IN ({','.join('?' * len(some))}) ORDER BY id",
            some,
        )
        for subject, at, kind, facts in rows:
            # Who worked on it is another person's data, and no part of the answer.
            told = {name: fact for name, fact in json.loads(facts).items() if name not in _STAFF}
            found.setdefault(subject, []).append({"at": in_words(at), "what": kind, "facts": told})
    return found


def _lines(document: dict[str, Any]) -> Iterable[str]:
    yield f"A copy of the data that is kept about you, made {document['made_at']}"
    for order in document["orders"]:
        yield ""
        yield f"Order {order['order']}: {order['state']} since {order['changed_at']}, {order['total']}"
        person = order["person"]
        if "name" in person:
            address = person["address"]
            yield f"  {person['name']}, {person['email']}"
            place = (
                *address["lines"],
                address["postcode"],
                address["city"],
                address["region"],
                address["country"],
            )
            yield f"  {', '.join(part for part in place if part)}"
        else:
            yield "  name and address: erased"
        yield f"  card: {order['card'] or 'nothing is kept'}"
        for item in order["items"]:
            yield f"  {item['quantity']} x {item['sku']} at {item['price']}"
        for given in order["given_to"]:
            yield f"  given to {given['recipient']} on {given['at']}: {', '.join(given['fields'])}"
        for event in order["history"]:
            yield f"  {event['at']}  {event['what']}"
    yield ""
    if document["do_not_use_for"]:
        yield f"You asked that it not be used for: {', '.join(document['do_not_use_for'])}"
    yield "How long it is kept:"
    for kept in document["kept_for"]:
        yield f"  {kept['what']}: {kept['kept']}"
