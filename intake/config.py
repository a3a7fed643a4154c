"""The [intake] section of node.toml.

Why here: the settings of the room, typed, with defaults that are safe.
Must not: hold a setting that switches a check off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from intake.catalogue import SHIPPED
from intake.errors import IntakeError

_PORT_MAXIMUM = 65_535


class IntakeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``bind`` is HOST:PORT, with an IPv6 host in brackets. ``workers``: processes that take orders.

    ``shop`` is its name on the pages. ``carried_every_hours``: how often orders are carried to the offline server, as
    customers are told. ``sent_within_days``: how soon after the payment records are sent, as customers are told.
    ``is_https``: customers reach the pages by https, so cookies must not go another way.
    ``enquiry_days``: how long after it was closed an enquiry is erased; ``enquiry_open_days``: the same for one that
    nobody closed, after anything last happened with it.
    ``cors_origins``: the origins (https://shop.example) whose pages may use the API from a browser; none by default.
    """

    bind: str = "127.0.0.1:8080"
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    catalogue: Path = SHIPPED
    shop: Annotated[str, msgspec.Meta(min_length=1, max_length=60)] = "Quiet Groove Records"
    carried_every_hours: Annotated[int, msgspec.Meta(ge=1, le=24 * 14)] = 24
    sent_within_days: Annotated[int, msgspec.Meta(ge=1, le=90)] = 3
    is_https: bool = False
    enquiry_days: Annotated[int, msgspec.Meta(ge=1, le=365)] = 30
    enquiry_open_days: Annotated[int, msgspec.Meta(ge=1, le=365)] = 180
    cors_origins: tuple[str, ...] = ()


def address(bind: str) -> tuple[str, int]:
    """Host and port of a ``bind`` setting; ``CONFIG-VALUE`` when it is not one."""
    host, separator, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if (
        not separator
        or not host
        or not port.isascii()
        or not port.isdigit()
        or not 0 < int(port) <= _PORT_MAXIMUM
    ):
        raise IntakeError(
            "CONFIG-VALUE", f"[intake] bind = {bind} is not HOST:PORT", "for example 127.0.0.1:8080"
        )
    return host, int(port)
