"""The road between browser and intake: passes everything on, and loses what a test tells it to.

Why here: lost answers and a dead line are made on the wire, not in the page.
Must not: alter a byte of what it passes on.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(slots=True)
class Seen:
    method: str
    path: str
    body: bytes
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Road:
    """``lose``: how many answers to ``POST /orders`` get lost; ``is_cut``: nothing gets through at all.

    ``lose_on_the_way``: how many orders never reach the shop. ``before_order`` is done once, before the next order is
    passed on. ``replaced``: other contents by address. ``client``: whom it says it speaks for, as a proxy does.
    """

    target: int
    lose: int = 0
    lose_on_the_way: int = 0
    is_cut: bool = False
    seen: list[Seen] = field(default_factory=list)
    replaced: dict[str, bytes] = field(default_factory=dict)
    client: str = ""
    before_order: Callable[[], None] | None = None
    server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        assert self.server
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def orders(self) -> list[Seen]:
        return [seen for seen in self.seen if (seen.method, seen.path) == ("POST", "/orders")]

    def forget(self) -> None:
        self.lose, self.lose_on_the_way, self.is_cut, self.seen = 0, 0, False, []
        self.replaced, self.before_order, self.client = {}, None, ""

    def open(self) -> Road:
        road = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                road.carry(self)

            do_GET = do_POST = do_HEAD = answer  # noqa: N815  the names that http.server calls

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name in http.server
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def close(self) -> None:
        assert self.server
        self.server.shutdown()
        self.server.server_close()

    def carry(self, handler: BaseHTTPRequestHandler) -> None:
        # A connection that is used again lets Chromium send a request again by itself.
        handler.close_connection = True
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        if self.is_cut:
            return
        if self.lose_on_the_way > 0 and (handler.command, handler.path) == ("POST", "/orders"):
            self.lose_on_the_way -= 1
            return
        if self.before_order and (handler.command, handler.path) == ("POST", "/orders"):
            act, self.before_order = self.before_order, None
            act()
        onward = http.client.HTTPConnection("127.0.0.1", self.target, timeout=20)
        onward.request(handler.command, handler.path, body=body or None, headers=self._onward(handler))
        answer = onward.getresponse()
        content = self.replaced.get(handler.path, answer.read())
        headers = answer.getheaders()
        onward.close()
        named = {name.lower(): value for name, value in headers}
        self.seen.append(
            Seen(handler.command, handler.path, body, answer.status, named, dict(handler.headers.items()))
        )
        if (handler.command, handler.path) == ("POST", "/orders") and self.lose > 0:
            self.lose -= 1
            return
        handler.send_response_only(answer.status)
        for name, value in headers:
            is_packing = name.lower() == "content-encoding" and handler.path in self.replaced
            if name.lower() not in {"content-length", "connection"} and not is_packing:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(content)

    def _onward(self, handler: BaseHTTPRequestHandler) -> dict[str, str]:
        """Its headers; a conditional request would be answered with nothing to replace."""
        conditions = {"if-none-match", "if-modified-since"} if handler.path in self.replaced else set()
        named = {name: value for name, value in handler.headers.items() if name.lower() not in conditions}
        return named | ({"X-Forwarded-For": self.client} if self.client else {})
