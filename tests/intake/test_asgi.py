"""The application over ASGI without a server: what a real client cannot bring about at will."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from intake import asgi
from intake.app import Intake
from intake.forms import Keys
from intake.health import Health
from intake.page.pages import Pages, Shop
from intake.taking import OrderDesk
from tests.intake.orders import CATALOGUE, CVV, PAN, good_order, new_key

Answered = list[dict[str, Any]]


class _Broken:
    """Fails wherever it is touched, with card data in the message, as a bug might."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        def fail(*_: object) -> object:
            raise RuntimeError(f"{name} failed for {PAN} {CVV}")

        return fail

    def __call__(self, _: str) -> None:
        raise RuntimeError(f"status failed for {PAN}")


def application() -> Intake:
    broken = _Broken()
    return Intake(
        desk=cast("OrderDesk", broken),
        catalogue=CATALOGUE,
        status=broken,
        health=cast("Health", broken),
        pages=Pages(
            shop=Shop(name="Shop", carried_every_hours=24, is_https=False),
            catalogue=CATALOGUE,
            keys=cast("Callable[[], Keys | None]", broken.keys),
            identities=tuple,
            is_retired=bool,
            month=lambda: (2026, 11),
        ),
        more_routes=(),
        token_key=bytes(32),
        month=lambda: (2026, 11),
        openapi=b"{}",
        started=lambda: None,
        close=lambda: None,
    )


def call(method: str, path: str, receive: Callable[[], Awaitable[dict[str, Any]]]) -> Answered:
    answered: Answered = []

    async def send(message: asgi.Message) -> None:
        answered.append(dict(message))

    headers = [(b"content-type", b"application/json"), (b"idempotency-key", new_key().encode())]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "headers": headers}
    scope |= {
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("x", 80),
        "http_version": "1.1",
    }
    asyncio.run(application()(scope, receive, send))
    return answered


def body(raw: bytes) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    return receive


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/orders"), ("GET", "/readyz"), ("GET", "/keys"), ("GET", "/checkout")]
)
def test_a_bug_is_answered_and_logged_without_anything_of_the_request(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], method: str, path: str
) -> None:
    caplog.set_level(logging.DEBUG)
    start, content = call(method, path, body(json.dumps(good_order()).encode()))
    assert start["status"] == 500
    assert (b"content-type", b"application/problem+json") in start["headers"]
    assert json.loads(content["body"])["rule"] == "INTAKE-UNEXPECTED"
    assert "unexpected RuntimeError at fail:" in caplog.text
    shown = caplog.text + "".join(capsys.readouterr()) + content["body"].decode()
    assert PAN not in shown
    assert CVV not in shown


def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.05)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    start, content = call("POST", "/orders", receive)
    assert start["status"] == 408
    assert json.loads(content["body"])["rule"] == "INTAKE-TOO-SLOW"


def test_a_stop_of_the_server_is_not_mistaken_for_a_slow_body() -> None:
    async def receive() -> dict[str, Any]:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        call("POST", "/orders", receive)


def test_a_client_that_goes_away_has_ordered_nothing() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    start, _ = call("POST", "/orders", receive)
    assert start["status"] == 400


def test_repeated_headers_are_left_out() -> None:
    headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b"1"), (b"c", b"3")]
    assert asgi.single_headers({"headers": headers}) == {b"b": b"2", b"c": b"3"}
