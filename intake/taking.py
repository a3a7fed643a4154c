"""Taking an order: from a judged form to a sealed, durable order, or to the reason why not.

Why here: one code path for the API and the pages, for plain and browser-sealed orders.
Must not: look at keys before it has looked the order id up, or keep the Idempotency-Key or the form.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import assert_never

import msgspec

from intake.groups import GroupCommit, Outcome
from intake.live_keys import LiveKeys
from intake.problems import (
    BASKET_DIFFERS,
    BUSY,
    KEYS_OUT,
    NOT_STORED,
    RESEAL,
    RETIRED,
    Fault,
    Problem,
    faulty_fields,
)
from intake.sealed_form import SealedParts, header_fault
from intake.tokens import access_token
from intake.validation import CheckedForm, PlainContents
from keys.public.digest import equal
from transfer.errors import TransferError
from transfer.register import Register
from transfer.wire import ids
from transfer.wire.basket import basket_digest
from transfer.wire.card import Card
from transfer.wire.envelope import Envelope
from transfer.wire.header import Header
from transfer.wire.order import Order
from transfer.wire.sealing import SealingKeys, seal_order

_WITHOUT_A_KEY = {Outcome.KEYS_OUT: KEYS_OUT, Outcome.RETIRED: RETIRED, Outcome.RESEAL: RESEAL}


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """The order stands. ``order_id``: 32 hex digits. ``is_new``: it did not before."""

    order_id: str
    access_token: str
    is_new: bool = False


class Entered(msgspec.Struct, frozen=True, kw_only=True):
    """An order on its way into a group; nothing of its form is left but the basket's digest (32 bytes)."""

    order_id: bytes
    basket_digest: bytes
    outcome: asyncio.Future[Outcome] | Outcome


class OrderDesk:
    """Takes orders. ``register`` knows those that were taken before."""

    def __init__(
        self,
        *,
        commit: GroupCommit,
        keys: LiveKeys,
        register: Register,
        token_key: bytes,
        now: Callable[[], int],
    ) -> None:
        self._commit = commit
        self._keys = keys
        self._register = register
        self._token_key = token_key
        self._now = now

    def enter(self, idempotency_key: str, form: CheckedForm) -> Entered | Taken | Problem:
        """Seal an order into a group, or say what is wrong with it. Plaintext ends here."""
        order_id = ids.order_id(idempotency_key)
        if form.basket is None:
            # A price may have changed since: whoever only lost the answer must not hear that nothing was taken.
            is_known = self._register.lookup(order_id.hex()) is not None
            return BASKET_DIFFERS if is_known else faulty_fields(form.faults)
        nonce = ids.basket_nonce(idempotency_key)
        digest = basket_digest(nonce=nonce, items=form.basket.items, total=form.basket.total)
        sealed_to = None
        match form.contents:
            case None:
                return self._known_or(order_id, digest, faulty_fields(form.faults))
            case PlainContents(order=order, card=card):
                seal = partial(_seal, order, card, order_id, nonce, self._now())
            case SealedParts(envelope=envelope, header=header):
                if problem := self._header_problem(header, order_id, digest):
                    return self._known_or(order_id, digest, problem)
                seal = partial(_as_it_is, envelope)
                sealed_to = header.order_key_id, header.batch_key_id
            case never:
                assert_never(never)
        try:
            outcome = self._commit.enter(
                order_id=order_id, basket_digest=digest, seal=seal, sealed_to=sealed_to
            )
        except TransferError as error:  # ORDER-SIZE: each field is within its limit, but not all together
            return faulty_fields([Fault(pointer="", detail=error.message)])
        return Entered(order_id=order_id, basket_digest=digest, outcome=outcome)

    async def result(self, entered: Entered) -> Taken | Problem:
        """Wait until the order is durable."""
        outcome = entered.outcome
        if not isinstance(outcome, Outcome):
            outcome = await outcome
        match outcome:
            case Outcome.NEW | Outcome.SAME:
                return self._taken(entered.order_id, is_new=outcome is Outcome.NEW)
            case Outcome.OTHER_BASKET:
                return BASKET_DIFFERS
            case Outcome.KEYS_OUT | Outcome.RETIRED | Outcome.RESEAL:
                return self._known_or(entered.order_id, entered.basket_digest, _WITHOUT_A_KEY[outcome])
            case Outcome.BUSY:
                return BUSY
            case Outcome.NOT_STORED:
                return NOT_STORED
            case never:
                assert_never(never)

    def _taken(self, order_id: bytes, *, is_new: bool = False) -> Taken:
        token = access_token(self._token_key, order_id)
        return Taken(order_id=order_id.hex(), access_token=token, is_new=is_new)

    def _known_or(self, order_id: bytes, digest: bytes, problem: Problem) -> Taken | Problem:
        """An order that stands already is answered as the first time, whatever is missing today."""
        known = self._register.lookup(order_id.hex())
        if known is None:
            return problem
        return self._taken(order_id) if equal(known.basket_digest, digest) else BASKET_DIFFERS

    def _header_problem(self, header: Header, order_id: bytes, digest: bytes) -> Problem | None:
        if wrong := header_fault(header, order_id=order_id, basket_digest=digest):
            return faulty_fields([Fault(pointer="/sealed/header", detail=wrong)])
        self._keys.refresh()
        if self._keys.retired:
            return RETIRED
        return None if self._keys.is_live_order_key(header.order_key_id, self._now()) else RESEAL


def _seal(  # the form that a group wants: the keys come last, when the group has them
    order: Order, card: Card, order_id: bytes, nonce: bytes, now: int, keys: SealingKeys
) -> Envelope:
    return seal_order(order, card, order_id=order_id, nonce=nonce, keys=keys, now=now)


def _as_it_is(envelope: Envelope, keys: SealingKeys) -> Envelope:
    """The browser sealed it already; ``keys`` were found to be the header's."""
    del keys
    return envelope
