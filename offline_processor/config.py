"""The offline side's settings.

Why here: one typed section a purpose, read by the command line only.
Must not: name a secret, or offer a way to switch a check off.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from offline_processor.capturing import Capture
from offline_processor.schemes import Scheme
from transfer.config import Days, ShopName
from transfer.wire.order import Sku

_MILLIMETRES = "([5-9][0-9]|[12][0-9]{2})"
LabelSize = Annotated[str, msgspec.Meta(pattern=rf"^{_MILLIMETRES}x{_MILLIMETRES}$(?!\n)")]
SenderLine = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
CurrencyCode = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$(?!\n)")]


class ProcessorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[processor]``: state directory, the two drops, orders in flight in one commit, hold limit in hours.

    ``mirror`` is a file on a second disk that has every transaction of the ledger too; a backup older than
    ``backup_days`` is warned of. ``media_of``: the drops are media of this shop, prepared with ``spool-sync
    format-medium``; without it they are plain directories. ``expect_bundle_days``: a node that was not heard from for
    so long is named.
    """

    state: Path
    drop_in: Path
    drop_out: Path
    window: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 500
    hold_hours: Annotated[int, msgspec.Meta(ge=1, le=72)] = 72
    mirror: Path | None = None
    backup_days: Annotated[int, msgspec.Meta(ge=1, le=90)] = 7
    media_of: ShopName | None = None
    expect_bundle_days: Days = 7


class ChargingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[charging]``: how long an uncertain or a declined charge is pursued, and when what was authorised is taken.

    A reversal that was sent ``reversal_tries`` times over ``reversal_days`` at least is left to a person. A decline
    that says "later" is tried ``retry_declines`` times more, ``retry_after_hours`` apart, within ``retry_days``; with
    0 the customer is told at once, and decides. ``vault_days`` bounds how long PAN and expiry wait for a reversal's
    answer. ``capture``: at once (``sale``) or when the goods go (``dispatch``); what is in ``preorders`` (SKU = day of
    release) is captured when it goes; ``capture-when`` says otherwise of one order. ``authorisation_days``: how long
    the acquirer lets an authorisation of a scheme ("visa") wait for its capture, where it is not as in schemes.py.
    ``second_person_above``: above how much of a currency (minor units) a
    refund, or a person's word about money, needs a second person; in a currency that is not named every one does.
    """

    reversal_tries: Annotated[int, msgspec.Meta(ge=3, le=100)] = 10
    reversal_days: Annotated[int, msgspec.Meta(ge=1, le=14)] = 3
    retry_declines: Annotated[int, msgspec.Meta(ge=0, le=10)] = 0
    retry_after_hours: Annotated[int, msgspec.Meta(ge=12, le=168)] = 20
    retry_days: Annotated[int, msgspec.Meta(ge=1, le=30)] = 5
    vault_days: Annotated[int, msgspec.Meta(ge=1, le=60)] = 30
    capture: Capture = "sale"
    preorders: dict[Sku, dt.date] = msgspec.field(default_factory=dict)
    authorisation_days: dict[Scheme, Annotated[int, msgspec.Meta(ge=1, le=30)]] = msgspec.field(
        default_factory=dict
    )
    second_person_above: dict[CurrencyCode, Annotated[int, msgspec.Meta(ge=0, le=10**15)]] = msgspec.field(
        default_factory=dict
    )

    def releases(self) -> dict[str, int]:
        """When the goods of each pre-ordered SKU are there: the first second of that day, UTC."""
        midnight = dt.time(tzinfo=dt.UTC)
        return {
            sku: int(dt.datetime.combine(day, midnight).timestamp()) for sku, day in self.preorders.items()
        }


class AcquirerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[acquirer]``: the driver, and what it needs.

    ``merchant``, ``terminal`` and ``acquirer_id`` name us at the acquirer. For ``iso8583``: the ``profile`` (a shipped
    one or a file), the ``address`` with its port, in digits, the ``interface`` of the private circuit that leads there,
    how many ``connections``, and how many messages may be unanswered over them; where the profile asks for TLS,
    ``tls_authority``, the PEM file of the one that certifies the acquirer, ``tls_name``, the name in its certificate,
    and ``tls_certificate`` with ``tls_key`` if it asks for one of ours; where the profile asks for a MAC, ``mac_key``,
    the file of the line's key, and ``mac_key_check``, its check value. ``batch_key``: the acquirer's public key for
    authorisation files; ``batch_signer``: the minisign public key with which it signs its answers. ``books``: the books
    of the simulator in this process.
    """

    driver: Literal["simulator", "iso8583", "operator", "batch-file"] = "simulator"
    profile: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] = "ascii-1987"
    address: Annotated[str, msgspec.Meta(max_length=64)] = ""
    interface: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.@-]{0,15}$(?!\n)")] = ""
    acquirer_id: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{0,11}$(?!\n)")] = ""
    connections: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1
    in_flight: Annotated[int, msgspec.Meta(ge=1, le=256)] = 32
    tls_authority: Path | None = None
    tls_name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9.:-]{0,253}$(?!\n)")] = ""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    mac_key: Path | None = None
    mac_key_check: Annotated[str, msgspec.Meta(pattern=r"^([0-9A-Fa-f]{6})?$(?!\n)")] = ""
    books: Path | None = None
    merchant: Annotated[str, msgspec.Meta(pattern=r"^[ -+\--~]{0,15}$(?!\n)")] = ""
    terminal: Annotated[str, msgspec.Meta(pattern=r"^[ -+\--~]{0,8}$(?!\n)")] = ""
    batch_key: Path | None = None
    batch_signer: Path | None = None


class ExportsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[exports]``: the ``carrier`` (a shipped profile or a TOML file), and what stands on paper.

    ``sender``: the shop's name and address, line by line. ``paper`` of packing slips and reports, ``label`` in
    millimetres (width x height, 50 to 299). ``fonts``: a directory to look for fonts in, instead of the system's.
    """

    carrier: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)] = "royal-mail"
    sender: Annotated[tuple[SenderLine, ...], msgspec.Meta(max_length=6)] = ()
    paper: Literal["a4", "a5", "letter"] = "a4"
    label: Annotated[
        str, msgspec.Meta(pattern=r"^([5-9][0-9]|[12][0-9]{2})x([5-9][0-9]|[12][0-9]{2})$(?!\n)")
    ] = "100x150"
    fonts: Path | None = None


class OperatorConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[operator]``: the ``name`` of who works at this machine, for the trail of commands; OPERATOR_NAME overrides it.

    Where a command asks ``--who``, that is the name.
    """

    name: Annotated[
        str, msgspec.Meta(pattern=r"^(?!(.*[0-9]){12})([A-Za-z0-9][A-Za-z0-9 .'-]{0,63})?$(?!\n)")
    ] = ""
