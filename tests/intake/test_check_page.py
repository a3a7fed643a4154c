"""`intake check-page`: nothing to say of pages as shipped, and every change that matters is seen."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from intake.check_page import Fetched, changes
from intake.page.assets import assets
from intake.page.inventory import inventory
from keys.public.fingerprint import fingerprint
from tests.intake.node import Node, OfflineSide

Alter = Callable[[str, Fetched], Fetched]
Run = Callable[..., tuple[int, str, str]]


def fetcher(node: Node, alter: Alter = lambda _, fetched: fetched) -> Callable[[str, str], Fetched]:
    def fetch(path: str, cookie: str) -> Fetched:
        answer = node.request(
            "GET", path, headers={"Accept": "text/html"} | ({"Cookie": cookie} if cookie else {})
        )
        return alter(path, Fetched(status=answer.status, headers=answer.headers, content=answer.body))

    return fetch


def seen(node: Node, alter: Alter) -> set[tuple[str, str]]:
    spoken = fingerprint(node.offline.public.public_key)
    return {(one.page, one.what) for one in changes(inventory(), fetcher(node, alter), spoken=spoken)}


def on_checkout(change: Callable[[bytes], bytes]) -> Alter:
    return lambda path, fetched: (
        replace(fetched, content=change(fetched.content)) if path == "/checkout" else fetched
    )


def into_body(markup: bytes) -> Alter:
    return on_checkout(lambda content: content.replace(b"</main>", markup + b"</main>"))


def with_header(name: str, value: str) -> Alter:
    def alter(path: str, fetched: Fetched) -> Fetched:
        headers: Mapping[str, str] = {**fetched.headers, name: value}
        return replace(fetched, headers=headers) if path == "/checkout" else fetched

    return alter


def test_pages_as_shipped_have_no_change(node: Node, run_intake: Run) -> None:
    spoken = fingerprint(node.offline.public.public_key)
    code, out, _ = run_intake("check-page", node.url, "--json", "--fingerprint", spoken)
    report = json.loads(out)
    assert (code, report["changes"]) == (0, [])
    assert report["offline_identities"] == [spoken]


@pytest.mark.parametrize(
    ("alter", "what"),
    [
        (into_body(b"<script>steal()</script>"), "script"),
        (into_body(b'<script src="https://evil.example/x.js"></script>'), "script"),
        (into_body(b'<img src="/covers/x.svg" onerror="steal()">'), "markup"),
        (into_body(b'<img src="https://evil.example/x.gif">'), "markup"),
        (into_body(b'<iframe src="/x"></iframe>'), "markup"),
        (into_body(b'<form action="https://evil.example/"></form>'), "markup"),
        (into_body(b'<a href="javascript:steal()">'), "markup"),
        (into_body(b'<base href="//evil.example">'), "markup"),
        (into_body(b'<meta http-equiv="refresh" content="0;url=x">'), "markup"),
        (into_body(b'<link rel="modulepreload" href="/x.js">'), "markup"),
        (into_body(b"<input name=number>"), "field with a name"),
        (on_checkout(lambda content: content.replace(b"integrity=", b"data-was=")), "script"),
        (on_checkout(lambda content: content.replace(b'type="module" src', b"data-src")), "script"),
        (
            on_checkout(
                lambda content: content.replace(b'rel="stylesheet" href="/', b'rel="stylesheet" href="/x')
            ),
            "style",
        ),
        (
            on_checkout(lambda content: content.replace(b'.css" integrity="sha384-', b'.css" integrity="')),
            "style",
        ),
        (with_header("content-security-policy", "default-src *"), "header content-security-policy"),
        (with_header("integrity-policy", ""), "header integrity-policy"),
        (with_header("link", "</x.js>; rel=preload"), "header link"),
        (with_header("set-cookie", "track=1"), "header set-cookie"),
        (with_header("report-to", '{"endpoints":[{"url":"https://evil.example"}]}'), "header report-to"),
        (with_header("speculation-rules", '"/rules.json"'), "header speculation-rules"),
    ],
)
def test_every_change_of_the_checkout_is_seen(node: Node, alter: Alter, what: str) -> None:
    assert ("/checkout", what) in seen(node, alter)


@pytest.mark.parametrize("name", ["checkout.js", "status.js", "shop.css"])
def test_a_file_with_one_byte_more_is_seen(node: Node, name: str) -> None:
    address = assets()[name].address
    altered = seen(
        node,
        lambda path, fetched: (
            replace(fetched, content=fetched.content + b" ") if path == address else fetched
        ),
    )
    assert altered == {(address, "content")}


def test_a_consistent_swap_of_script_policy_and_page_is_seen(node: Node) -> None:
    script = assets()["checkout.js"]
    evil = script.content + b";steal()"
    integrity = f"sha384-{base64.b64encode(hashlib.sha384(evil).digest()).decode()}"

    def alter(path: str, fetched: Fetched) -> Fetched:
        if path == script.address:
            return replace(fetched, content=evil)
        headers = {
            name: value.replace(script.integrity, integrity) for name, value in fetched.headers.items()
        }
        content = fetched.content.replace(script.integrity.encode(), integrity.encode())
        return replace(fetched, headers=headers, content=content)

    assert {
        ("/checkout", "header content-security-policy"),
        ("/checkout", "script"),
        (script.address, "content"),
    } <= seen(node, alter)


def test_another_offline_identity_is_seen(node: Node, run_intake: Run) -> None:
    ours, theirs = (side.public.public_key.hex().encode() for side in (node.offline, OfflineSide()))
    assert seen(node, on_checkout(lambda content: content.replace(ours, theirs))) == {
        ("/checkout", "offline identity")
    }
    assert seen(node, on_checkout(lambda content: content.replace(ours, b""))) == {
        ("/checkout", "offline identity")
    }
    code, out, _ = run_intake("check-page", node.url, "--fingerprint", "1" * 32)
    assert code == 3
    assert "offline identity" in out


def test_a_shop_that_does_not_answer_is_not_a_good_page(run_intake: Run) -> None:
    code, _, err = run_intake("check-page", "http://127.0.0.1:9")
    assert code == 4
    assert "PAGE-UNREACHABLE" in err
    code, _, err = run_intake("check-page", "ftp://shop.example")
    assert code == 2
    assert "USAGE-URL" in err
