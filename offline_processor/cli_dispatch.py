"""`offline-processor` verbs for goods that go, or do not: capture-when, dispatch, cancel.

Why here: the command line's part of what was only authorised, and of telling the shop that an order was sent.
Must not: read clock or environment (the station has them), or decide what may be taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, get_args

import click

from keys import console
from keys.console import ExitCode
from keys.passphrases import Descriptors
from offline_processor import dispatch as dispatching
from offline_processor.capturing import Capture
from offline_processor.cli_said import said_options
from offline_processor.cli_wishes import (
    Noted,
    Report,
    at_work,
    carry_out,
    end,
    note_together,
    order_ids,
)
from offline_processor.control_total import minor_units
from offline_processor.decisions import Said
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.operations import Operation
from offline_processor.station import Station
from offline_processor.words import checked_word

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(
    "dispatch",
    epilog="\b\nExamples:\n  offline-processor dispatch 9f… --config offline.toml\n"
    "  offline-processor dispatch --file sent-today.txt --config offline.toml\n"
    "  offline-processor dispatch 9f… --amount 'EUR 12.50' --shipment parcel-1 --config offline.toml",
)
@console.shared_options
@click.argument("orders", metavar="[ORDER]...", nargs=-1)
@click.option("--file", "listed", type=_FILE, metavar="FILE", help="Order ids, one a line.")
@click.option("--amount", metavar="AMOUNT", help="A part of the order: what this shipment is worth.")
@click.option("--shipment", metavar="NAME", help="Names a part; the same name again changes nothing.")
@click.option("--final", is_flag=True, help="Nothing more will be sent: the rest is released.")
@click.option("--early", is_flag=True, help="The goods of a pre-order are here before their day.")
@console.keystore_passphrase_option
@click.pass_obj
def dispatch(
    station: Station,
    *,
    config: Path,
    orders: tuple[str, ...],
    listed: Path | None,
    amount: str | None,
    shipment: str | None,
    final: bool,
    early: bool,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Say that orders were sent: what was only authorised is captured now, and the shop is told.

    An order that was paid at once is only marked. Safe to repeat: what was sent already stays as it is.
    """
    part = None if amount is None else minor_units(amount)
    one_of_one = listed is None and len(orders) == 1
    if (part is None) is not (shipment is None) or (part is not None and not one_of_one):
        raise ProcessorError(
            "USAGE-SHIPMENT",
            "a part is of one order, has a name and an amount",
            "give one ORDER, --amount and --shipment",
        )
    named = checked_word(shipment or dispatching.ALL_SENT, "--shipment")
    ids = order_ids(orders, listed)

    def wish(ledger: Ledger, order_id: str) -> Noted:
        charge = dispatching.find(ledger, order_id)
        if part is not None and charge.authorised is not None and charge.authorised.currency != part[1]:
            raise ProcessorError(
                "DISPATCH-AMOUNT",
                f"order {order_id} is not in {part[1]}",
                f"name the amount in {charge.authorised.currency}",
            )
        worth = None if part is None else part[0]
        made = dispatching.ship(
            ledger,
            charge,
            work.settings.charging,
            shipment=named,
            amount=worth,
            final=final,
            early=early,
            now=station.clock(),
        )
        return _noted(ledger, charge, made, "dispatched", {"shipment": named}, now=station.clock())

    with at_work(station, config, passphrase_fds, as_json=as_json) as work:
        return end(work, carry_out(work, ids, wish, "dispatched", together=True), as_json=as_json)


@click.command(
    "cancel",
    epilog="Example: offline-processor cancel 9f… --who 'A. Keeper' --why 'customer asked' --config offline.toml",
)
@console.shared_options
@click.argument("order", metavar="ORDER")
@said_options
@console.keystore_passphrase_option
@click.pass_obj
def cancel(
    station: Station,
    *,
    config: Path,
    order: str,
    said: Said,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Release an order's authorisation, of which nothing was captured yet; the customer pays nothing."""
    ids = order_ids((order,), None)

    def wish(ledger: Ledger, order_id: str) -> Noted:
        charge = dispatching.find(ledger, order_id)
        made = dispatching.cancel(ledger, charge, now=station.clock())
        return _noted(ledger, charge, made, "cancelled", said.as_facts(), now=station.clock())

    with at_work(station, config, passphrase_fds, as_json=as_json) as work:
        return end(work, carry_out(work, ids, wish, "cancelled"), as_json=as_json)


@click.command(
    "capture-when",
    epilog="\b\nExamples:\n"
    "  offline-processor capture-when 9f… --at dispatch --who 'A. Keeper' --why 'made to order'"
    " --config offline.toml\n"
    "  offline-processor capture-when 9f… 41… --at sale --who 'A. Keeper' --why 'in stock' --config offline.toml",
)
@console.shared_options
@click.argument("orders", metavar="ORDER...", nargs=-1, required=True)
@click.option(
    "--at",
    "wanted",
    type=click.Choice(get_args(Capture)),
    required=True,
    help="sale: captured at once when it is charged. dispatch: authorised then, captured when the goods go.",
)
@said_options
@console.keystore_passphrase_option
@click.pass_obj
def capture_when(
    station: Station,
    *,
    config: Path,
    orders: tuple[str, ...],
    wanted: Capture,
    said: Said,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Say of orders that came and are not charged yet when each is captured, whatever [charging] capture says.

    Nothing is sent now. Safe to repeat; the newest word stands until the order is charged.
    """
    ids = order_ids(orders, None)

    def wish(ledger: Ledger, order_id: str) -> Noted:
        charge = dispatching.find(ledger, order_id)
        changed = dispatching.capture_when(ledger, charge, wanted, now=station.clock())
        if changed:
            ledger.append("capture-when", order_id, station.clock(), {**said.as_facts(), "at": wanted})
        return Noted(changed=changed)

    with at_work(station, config, passphrase_fds, as_json=as_json) as work:
        report = Report()
        note_together(work, report, ids, wish)
        return end(work, report, as_json=as_json)


def _noted(
    ledger: Ledger,
    before: dispatching.Charge,
    made: list[Operation],
    entry: str,
    said: dict[str, str],
    *,
    now: int,
) -> Noted:
    changed = dispatching.find(ledger, before.order_id) != before
    if changed:
        ledger.append(entry, before.order_id, now, said)
    return Noted(changed=changed, made=made)


COMMANDS: Final = (capture_when, dispatch, cancel)
