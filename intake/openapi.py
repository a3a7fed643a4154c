"""The OpenAPI 3.1 document, made from the types of forms.py.

Why here: a shop's developer reads it, and tools check the server against it.
Must not: describe a field by hand that a type describes already.
"""

from __future__ import annotations

from typing import Any

import msgspec

from intake import forms
from intake.enquiries.form import EnquiryForm, EnquiryTaken
from intake.newsletter.form import NewsletterAsked, NewsletterForm
from intake.problems import MEDIA_TYPE, ProblemDocument
from intake.webhooks.message import StatusMessage

API_VERSION = "1.1.0"
_JSON = "application/json"
_ORDER_ID = {
    "name": "order_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "At least 128 random bits, new for each order, the same for each retry of it. "
    "It yields the order's id. Double quotes around it (a structured-field string) are allowed.",
    "schema": {"type": "string", "pattern": '^(?:"[A-Za-z0-9_-]{22,128}"|[A-Za-z0-9_-]{22,128})$'},
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}}
_ETAG = {"ETag": {"schema": {"type": "string"}}}
_TRACE = {
    "traceresponse": {
        "description": "W3C Trace Context: the trace of the request's traceparent, or a new one, and our span.",
        "schema": {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$"},
    }
}
_TRACEPARENT = {
    "name": "traceparent",
    "in": "header",
    "required": False,
    "description": "W3C Trace Context. Anything that is not one is ignored.",
    "schema": {"type": "string"},
}
_TYPES = (
    forms.PlainOrder,
    forms.SealedOrder,
    forms.Accepted,
    forms.Status,
    forms.Keys,
    forms.Live,
    forms.Ready,
    StatusMessage,
    NewsletterForm,
    NewsletterAsked,
    EnquiryForm,
    EnquiryTaken,
    ProblemDocument,
)


def openapi_document() -> bytes:
    """The document's JSON."""
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Order intake",
            "version": API_VERSION,
            "description": "Takes orders, seals them to an offline machine's keys, and tells how each one fared.",
        },
        "paths": {
            "/orders": {"post": _take_order()},
            "/orders/{order_id}": {"get": _show_order()},
            "/keys": {"get": _get("keys", "The keys to seal to now.", "Keys", unavailable=True)},
            "/livez": {"get": _get("live", "Answers while the process runs.", "Live")},
            "/readyz": {
                "get": _get("ready", "Answers 200 while orders can be taken.", "Ready", unavailable=True)
            },
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This document.",
                    "responses": {
                        "200": _answer("This document.", {"type": "object"}),
                        **_problems("405", "429", "500"),
                    },
                }
            },
            "/metrics": {"get": _metrics()},
            **_letters(),
        },
        "webhooks": {"orderStatus": {"post": _order_status()}},
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "orderToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The access_token of the one order.",
                }
            },
        },
    }
    return msgspec.json.encode(document)


_PROBLEMS = {
    "400": "The Idempotency-Key is missing or malformed, or the body is not a JSON object.",
    "404": "No such order, or not with this token.",
    "405": "Another method is needed.",
    "408": "The body came too slowly.",
    "409": "Sealed to a key that is no longer in use: fetch `keys`, seal again, same Idempotency-Key.",
    "413": "More than 32 KiB.",
    "415": "Not application/json.",
    "429": "Too many requests from this address or its network; see Retry-After. Nothing was stored.",
    "422": "Some fields are not right (`errors` names each), or the Idempotency-Key was used for another basket.",
    "500": "An unexpected error.",
    "503": "Not ready, out of keys, or too busy; see Retry-After.",
}
_WAIT = ("429", "503")
_ALLOW = {"Allow": {"schema": {"type": "string"}}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(
    description: str, schema: dict[str, Any], headers: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "description": description,
        "content": {_JSON: {"schema": schema}},
        "headers": (headers or {}) | _TRACE,
    }


def _problems(*statuses: str) -> dict[str, Any]:
    return {
        status: {
            "description": _PROBLEMS[status],
            "content": {MEDIA_TYPE: {"schema": _reference("ProblemDocument")}},
            "headers": _TRACE
            | (_RETRY_AFTER if status in _WAIT else {})
            | (_ALLOW if status == "405" else {}),
        }
        for status in statuses
    }


def _take_order() -> dict[str, Any]:
    headers = {"Location": {"description": "The order.", "schema": {"type": "string"}}, **_RETRY_AFTER}
    return {
        "operationId": "takeOrder",
        "summary": "Take an order. Answers only when the sealed order is durable.",
        "parameters": [_IDEMPOTENCY_KEY, _TRACEPARENT],
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": {"oneOf": [_reference("PlainOrder"), _reference("SealedOrder")]}}},
        },
        "responses": {
            "202": _answer(
                "Taken; the same again for a retry with the same Idempotency-Key.",
                _reference("Accepted"),
                headers,
            ),
            **_problems("400", "405", "408", "409", "413", "415", "422", "429", "500", "503"),
        },
    }


def _show_order() -> dict[str, Any]:
    none_match = {"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}}
    return {
        "operationId": "showOrder",
        "summary": "Where an order is. Only with the order's own token.",
        "parameters": [_ORDER_ID, none_match, _TRACEPARENT],
        "security": [{"orderToken": []}],
        "responses": {
            "200": _answer("Its status.", _reference("Status"), _ETAG | _RETRY_AFTER),
            "304": {"description": "Not changed.", "headers": _ETAG | _RETRY_AFTER | _TRACE},
            **_problems("404", "405", "429", "500", "503"),
        },
    }


def _order_status() -> dict[str, Any]:
    """What the shop's own server is told (Standard Webhooks 1.0)."""
    text = {"type": "string"}
    headers = {
        "webhook-id": "The same however often a change is told: drop what you had.",
        "webhook-timestamp": "When it was sent, in Unix seconds: refuse what is older than some minutes.",
        "webhook-signature": "One v1 signature a secret, with spaces between.",
    }
    return {
        "operationId": "orderStatus",
        "summary": "An order's status changed. Sent at least once, and again until it is answered 2xx.",
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": meaning, "schema": text}
            for name, meaning in headers.items()
        ],
        "requestBody": {
            "required": True,
            "content": {_JSON: {"schema": _reference("StatusMessage")}},
        },
        "responses": {
            "2XX": {"description": "Taken."},
            "410": {"description": "Not wanted any more."},
        },
    }


def _metrics() -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    return {
        "operationId": "metrics",
        "summary": "Counters for Prometheus, to programs of the server's own machine only.",
        "responses": {
            "200": {
                "description": "Requests, times, refusals, limits, keys left. No customer's data.",
                "content": {"text/plain": text, "application/openmetrics-text": text},
                "headers": _TRACE,
            },
            **_problems("404", "405", "429", "500"),
        },
    }


def _get(operation: str, summary: str, schema: str, *, unavailable: bool = False) -> dict[str, Any]:
    problems = ("405", "429", "500", "503") if unavailable else ("405", "429", "500")
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": _answer(summary, _reference(schema)), **_problems(*problems)},
    }


def _letters() -> dict[str, Any]:
    """What is not about orders: the newsletter and enquiries."""
    newsletter = (
        "askForNewsletter",
        "Ask for the newsletter; the address's owner is asked by mail. The answer tells nobody whether it is known.",
        "Newsletter",
    )
    enquiry = (
        "enquire",
        "Ask the shop something. It is answered by email and erased after its time.",
        "Enquiry",
    )
    html = {"text/html": {"schema": {"type": "string"}}}
    page = {"description": "The page.", "content": html, "headers": _TRACE}
    return {
        path: {
            "get": {
                "operationId": f"{operation}Page",
                "summary": "The same for people.",
                "responses": {"200": page, **_problems("405", "429", "500")},
            },
            "post": {
                "operationId": operation,
                "summary": summary,
                "requestBody": {"required": True, "content": {_JSON: {"schema": _reference(f"{name}Form")}}},
                "responses": {
                    "202": _answer("Kept.", _reference(taken)),
                    **_problems("400", "405", "408", "413", "415", "422", "429", "500"),
                },
            },
        }
        for path, (operation, summary, name), taken in (
            ("/newsletter", newsletter, "NewsletterAsked"),
            ("/enquiries", enquiry, "EnquiryTaken"),
        )
    }
