"""A process in which every use of a socket raises, and which then runs the real command (for test_no_sockets.py).

With ``control`` it tries to use sockets itself, to show that the trap is set.
"""

from __future__ import annotations

import socket
import sys
from typing import NoReturn

from offline_processor import cli


class SocketUsedError(Exception):
    """Somebody touched the network."""


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith("socket."):
        raise SocketUsedError(event)


class NoSocket:
    """What stands in the place of ``socket.socket``."""

    def __init__(self, *arguments: object, **options: object) -> NoReturn:
        raise SocketUsedError("socket.socket")


def try_sockets() -> None:
    for attempt in (
        socket.socket,
        socket.socketpair,
        lambda: socket.getaddrinfo("localhost", 9),
        lambda: socket.create_connection(("127.0.0.1", 9)),
    ):
        try:
            attempt()
        except SocketUsedError:
            print("refused")


def main() -> None:
    mode, *arguments = sys.argv[1:]
    sys.addaudithook(refuse)
    if mode == "control":
        try_sockets()
    socket.socket = NoSocket  # type: ignore[assignment, misc]
    if mode == "control":
        try_sockets()
        return
    sys.argv = ["offline-processor", *arguments]
    cli.main()


if __name__ == "__main__":
    main()
