"""What the server says when it says no: RFC 9457 problem documents, one constructor a rule.

Why here: every refusal over HTTP has a rule id, a status and words of ours in one place.
Must not: hold or show any value that a client sent; pointers name fields of the contract and positions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus

import msgspec

from intake.forms import NoticeForm

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:sealed-orders:problem:"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One faulty field: an RFC 6901 pointer into the request's body, and what is wrong there."""

    pointer: str
    detail: str


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every refusal (RFC 9457); ``errors`` names each faulty field, ``notices`` what ails the server."""

    type: str
    title: str
    status: int
    detail: str
    rule: str
    errors: list[Fault] = []
    keys: str = ""
    notices: list[NoticeForm] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A refusal as a value. ``headers`` are added to the answer's; ``keys`` is where to fetch the keys of now."""

    rule: str
    status: HTTPStatus
    title: str
    detail: str
    errors: Sequence[Fault] = ()
    headers: Sequence[tuple[str, str]] = field(default=())
    keys: str = ""
    notices: Sequence[NoticeForm] = ()


_encoder = msgspec.json.Encoder()


def encode_problem(problem: Problem) -> bytes:
    """The JSON body."""
    return _encoder.encode(
        ProblemDocument(
            type=TYPE_PREFIX + problem.rule.lower(),
            title=problem.title,
            status=int(problem.status),
            detail=problem.detail,
            rule=problem.rule,
            errors=list(problem.errors),
            keys=problem.keys,
            notices=list(problem.notices),
        )
    )


def _retry(seconds: int) -> tuple[tuple[str, str], ...]:
    return (("retry-after", str(seconds)),)


AMBIGUOUS = Problem(
    rule="INTAKE-HTTP",
    status=HTTPStatus.BAD_REQUEST,
    title="The request can be read in two ways",
    detail="Send one Host header, and the body's length either by Content-Length or by chunks, once.",
    headers=(("connection", "close"),),
)
IDEMPOTENCY_KEY_MISSING = Problem(
    rule="INTAKE-IDEMPOTENCY-KEY",
    status=HTTPStatus.BAD_REQUEST,
    title="Idempotency-Key is missing",
    detail="Send one Idempotency-Key header: at least 128 random bits as base64url or hexadecimal, new for each order.",
)
IDEMPOTENCY_KEY_MALFORMED = Problem(
    rule="ORDER-IDEMPOTENCY-KEY",
    status=HTTPStatus.BAD_REQUEST,
    title="Idempotency-Key has the wrong form",
    detail="It must have 22 to 128 characters of A-Z a-z 0-9 - _ and at least 128 random bits.",
)
MEDIA_TYPE_REFUSED = Problem(
    rule="INTAKE-MEDIA-TYPE",
    status=HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    title="Only application/json is read here",
    detail="Send the order as UTF-8 JSON, without content coding, and with Content-Type: application/json.",
    headers=(("accept-post", "application/json"),),
)
BODY_TOO_LARGE = Problem(
    rule="INTAKE-BODY-SIZE",
    status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    title="The request is too large",
    detail="An order may have at most 32 KiB.",
    headers=(("connection", "close"),),
)
TOO_SLOW = Problem(
    rule="INTAKE-TOO-SLOW",
    status=HTTPStatus.REQUEST_TIMEOUT,
    title="The request came too slowly",
    detail="Nothing was stored. Send the same request again, with the same Idempotency-Key.",
    headers=(("connection", "close"),),
)
NOT_JSON = Problem(
    rule="INTAKE-JSON",
    status=HTTPStatus.BAD_REQUEST,
    title="The request is not a JSON object",
    detail="The body must be one JSON object in UTF-8.",
)
BASKET_DIFFERS = Problem(
    rule="INTAKE-IDEMPOTENCY-CONFLICT",
    status=HTTPStatus.UNPROCESSABLE_ENTITY,
    title="This Idempotency-Key was used for another basket",
    detail="The first order stands as it was. Make a new Idempotency-Key for a new order.",
)
RESEAL = Problem(
    rule="INTAKE-RESEAL",
    status=HTTPStatus.CONFLICT,
    title="Sealed to a key that is no longer in use",
    detail="Nothing was stored. Fetch the keys again, seal again, and send with the same Idempotency-Key.",
    keys="/keys",
)
KEYS_OUT = Problem(
    rule="INTAKE-KEYS-OUT",
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="No cards are taken at the moment",
    detail="The shop is waiting for new keys from its offline processor. Nothing was stored. Try again later.",
    headers=_retry(300),
)
RETIRED = Problem(
    rule="INTAKE-RETIRED",
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="This server takes no more orders",
    detail="It is closed for good. Nothing was stored. Orders that it took before keep their number and status.",
    headers=_retry(86_400),
)
NOT_READY = Problem(
    rule="INTAKE-NOT-READY",
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="The shop is not ready to take orders",
    detail="Nothing was stored. Try again later.",
    headers=_retry(60),
)
BUSY = Problem(
    rule="INTAKE-BUSY",
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="Too many orders at once",
    detail="Nothing was stored. Send the same request again in a moment, with the same Idempotency-Key.",
    headers=_retry(2),
)
NOT_STORED = Problem(
    rule="INTAKE-STORE",
    status=HTTPStatus.SERVICE_UNAVAILABLE,
    title="The order could not be stored",
    detail="Send the same request again later, with the same Idempotency-Key: it is never taken twice.",
    headers=_retry(30),
)
TOO_MANY = Problem(
    rule="INTAKE-TOO-MANY",
    status=HTTPStatus.TOO_MANY_REQUESTS,
    title="Too many requests from this network",
    detail="Nothing was stored. Wait as long as Retry-After says, then send the same request again.",
)
ORDER_UNKNOWN = Problem(
    rule="INTAKE-ORDER-UNKNOWN",
    status=HTTPStatus.NOT_FOUND,
    title="No such order",
    detail="There is no order for this number and access token. The token goes into Authorization: Bearer.",
    headers=(("cache-control", "no-store"),),
)
NOT_FOUND = Problem(
    rule="INTAKE-NOT-FOUND",
    status=HTTPStatus.NOT_FOUND,
    title="Nothing is here",
    detail="See /openapi.json for what this server answers.",
)
UNEXPECTED = Problem(
    rule="INTAKE-UNEXPECTED",
    status=HTTPStatus.INTERNAL_SERVER_ERROR,
    title="An unexpected error",
    detail="Send the same request again, with the same Idempotency-Key: an order is never taken twice.",
)


def faulty_fields(errors: Sequence[Fault]) -> Problem:
    """The order's form is not right; every faulty field is named."""
    return Problem(
        rule="INTAKE-FIELDS",
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
        title="Some fields of the order are not right",
        detail="Correct the fields named in errors and send the order again.",
        errors=errors,
    )


def faulty_letter(errors: Sequence[Fault]) -> Problem:
    """The same for what is not an order: a request for the newsletter, or an enquiry."""
    return replace(
        faulty_fields(errors),
        title="Some fields are not right",
        detail="Correct the fields named in errors and send them again. Nothing was stored.",
    )


def method_refused(allowed: str) -> Problem:
    """``allowed``: the methods of the path, as the Allow header has them."""
    return Problem(
        rule="INTAKE-METHOD",
        status=HTTPStatus.METHOD_NOT_ALLOWED,
        title="This method is not for this address",
        detail="See the Allow header.",
        headers=(("allow", allowed),),
    )


def too_many(seconds: int) -> Problem:
    """A rate limit is reached; after ``seconds`` one more request fits."""
    return replace(TOO_MANY, headers=_retry(seconds))


def not_ready(reasons: Sequence[str], notices: Sequence[NoticeForm]) -> Problem:
    """For /readyz: what is missing, in words of ours."""
    return replace(NOT_READY, detail="; ".join(reasons), notices=notices)
