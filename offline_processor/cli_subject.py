"""`offline-processor subject`: what people asked about their data, done by somebody who has seen whose orders it is.

Why here: the command line's part of people's rights; it opens no key.
Must not: read clock or environment (the station has them), or print a name or an address.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from keys import console
from keys.console import ExitCode
from offline_processor import erasure_proof, subjects
from offline_processor.acquirers.report import in_words
from offline_processor.cli_said import said_options
from offline_processor.decisions import Said
from offline_processor.errors import ProcessorError
from offline_processor.ledger import erasure, subject_requests
from offline_processor.ledger.ledger import Ledger
from offline_processor.ledger.subject_requests import Request
from offline_processor.station import Station, ledger_of
from offline_processor.subjects import Found
from offline_processor.words import checked_word

_ORDER: Final = re.compile(r"[0-9a-f]{32}")
_ORDERS_LIMIT: Final = 1_000
_SHOWN: Final = 50
F = TypeVar("F", bound=Callable[..., Any])


def _whose(function: F) -> F:
    """Add ``[ORDER]...``, ``--request``, ``--all-orders``, ``--confirm`` and ``--who``."""
    options = (
        click.argument("order_ids", metavar="[ORDER]...", nargs=-1),
        click.option("--request", "request_id", metavar="ID", help="A request that came in a bundle."),
        click.option(
            "--all-orders", is_flag=True, help="And all other orders with the same address of email."
        ),
        click.option("--confirm", metavar="COUNT", help="How many orders it touches, as '2 orders'."),
        click.option("--who", required=True, metavar="NAME", help="Who does this; kept in the ledger."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group("subject")
def subject() -> None:
    """What people want of their data: a copy, its erasure, its restriction. Requests come in bundles, or by letter."""


@subject.command("list", epilog="Example: offline-processor subject list --config offline.toml --json")
@console.shared_options
@click.pass_obj
def list_requests(station: Station, *, config: Path, as_json: bool) -> ExitCode:
    """Show the requests that wait, with the orders that each would touch, and erasures that wait for their time."""
    with ledger_of(station, station.settings(config)) as ledger:
        asked = subject_requests.waiting(ledger)
        found = list(zip(asked, subjects.of_requests(ledger, asked), strict=True))
        wishes = erasure.wishes(ledger)
        stands = {wish.order_id: erasure.against(ledger, wish.number).value for wish in wishes}
    if as_json:
        console.print_json(
            {
                "requests": [
                    {
                        "request": request.request,
                        "kind": request.kind,
                        "node": request.node,
                        "came_at": in_words(request.came_at),
                        "address": _hint(request.email),
                        "orders": [order.as_line() for order in theirs.orders],
                        "not_theirs": theirs.others,
                    }
                    for request, theirs in found
                ],
                "erasures_waiting": stands,
            }
        )
    else:
        console.table(
            "Requests",
            ("request", "wants", "came", "address", "orders", "not theirs"),
            [
                (
                    request.request,
                    request.kind,
                    in_words(request.came_at),
                    _hint(request.email),
                    len(theirs.orders),
                    len(theirs.others),
                )
                for request, theirs in found
            ],
        )
        for order_id, why in stands.items():
            console.say(f"The erasure of order {order_id} waits: {why or 'for the next retention run'}")
    return ExitCode.NEEDS_PERSON if found else ExitCode.NOTHING_TO_DO


@subject.command(
    "export",
    epilog="\b\nExamples:\n  offline-processor subject export 9f… --out letters --who 'A. K.' --config offline.toml\n"
    "  offline-processor subject export --request 7c… --out letters --who 'A. K.' --config offline.toml",
)
@console.shared_options
@_whose
@click.option(
    "--out",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="An existing directory; a new one is made in it.",
)
@click.pass_obj
def export(
    station: Station,
    *,
    config: Path,
    order_ids: tuple[str, ...],
    request_id: str | None,
    all_orders: bool,
    confirm: str | None,
    who: str,
    out: Path,
    as_json: bool,
) -> ExitCode:
    """Write a copy of all that is kept about a person, for the post: it never goes back the way that answers go."""
    named = checked_word(who, "--who")
    with ledger_of(station, station.settings(config)) as ledger:
        request, found = _find(ledger, order_ids, request_id, "export", all_orders=all_orders)
        _confirm(found, confirm, "copied")
        name = f"subject-{(request.request if request else found.orders[0].order_id)[:12]}"
        place = subjects.export(
            ledger, found, out, name=name, request=request, who=named, now=station.clock()
        )
    if as_json:
        console.print_json({**_document(found), "export": place})
    else:
        console.say(
            f"{len(found.orders)} orders: {place / subjects.TEXT} to read, {place / subjects.DATA} for programs"
        )
        console.say("Send it by post or hand it over, then delete it here.", style="bold")
    return ExitCode.DONE


@subject.command(
    "erase",
    epilog="Example: offline-processor subject erase --request 7c… --confirm '2 orders' --who 'A. Keeper'"
    " --config offline.toml",
)
@console.shared_options
@_whose
@click.option(
    "--undelivered", is_flag=True, help="Also orders whose goods were not sent: nobody can send them then."
)
@click.pass_obj
def erase(
    station: Station,
    *,
    config: Path,
    order_ids: tuple[str, ...],
    request_id: str | None,
    all_orders: bool,
    confirm: str | None,
    who: str,
    undelivered: bool,
    as_json: bool,
) -> ExitCode:
    """Erase name, address and salt of orders, and prove it by a raw search of the ledger's files.

    What an open charge, goods that are owed or a legal hold still need waits, and `retention run` erases it later.
    """
    named = checked_word(who, "--who")
    with ledger_of(station, station.settings(config)) as ledger:
        request, found = _find(ledger, order_ids, request_id, "erase", all_orders=all_orders)
        _confirm(found, confirm, "erased")
        numbers = [order.number for order in found.orders if order.is_erasable(undelivered=undelivered)]
        traces = erasure_proof.look_for(ledger, numbers, answers=request)
        done = subjects.erase(
            ledger, found, request=request, undelivered=undelivered, who=named, now=station.clock()
        )
        proof = erasure_proof.search_again(ledger, traces) if done.erased else None
    if as_json:
        console.print_json(
            {
                **_document(found),
                "erased": done.erased,
                "erased_before": done.gone_before,
                "waiting": done.waiting,
                "proof": None if proof is None else proof.as_document(),
            }
        )
    else:
        console.say(f"Erased: {len(done.erased)} orders. Erased before: {len(done.gone_before)}.")
        for order_id, why in done.waiting.items():
            console.warn(f"WAITS: order {order_id}: {why}; `retention run` erases it when that is over")
        if proof is not None:
            console.say(proof.in_words())
    if proof is not None and not proof.holds:
        console.warn(
            "The search still finds what was erased: keep this disk, and look into it", style="bold red"
        )
    return ExitCode.NEEDS_PERSON if done.waiting or (proof and not proof.holds) else ExitCode.DONE


@subject.command(
    "restrict",
    epilog="Example: offline-processor subject restrict 9f… --who 'A. Keeper' --config offline.toml",
)
@console.shared_options
@_whose
@click.option("--lift", "take_back", is_flag=True, help="The person has taken it back.")
@click.pass_obj
def restrict(
    station: Station,
    *,
    config: Path,
    order_ids: tuple[str, ...],
    request_id: str | None,
    all_orders: bool,
    confirm: str | None,
    who: str,
    take_back: bool,
    as_json: bool,
) -> ExitCode:
    """Keep a person's data and do nothing else with it: no export names them any more, of orders to come neither."""
    named = checked_word(who, "--who")
    with ledger_of(station, station.settings(config)) as ledger:
        request, found = _find(ledger, order_ids, request_id, "restrict", all_orders=all_orders)
        _confirm(found, confirm, "free again" if take_back else "restricted")
        changed = subjects.set_restriction(
            ledger, found, request=request, take_back=take_back, who=named, now=station.clock()
        )
    if as_json:
        console.print_json({**_document(found), "addresses_changed": changed})
    else:
        console.say(f"{changed} addresses changed; {len(found.orders)} orders of theirs are here.")
    return ExitCode.DONE if changed or request else ExitCode.NOTHING_TO_DO


@subject.command(
    "refuse",
    epilog="Example: offline-processor subject refuse 7c… --why 'not the account holder' --who 'A. Keeper'"
    " --config offline.toml",
)
@console.shared_options
@click.argument("request_id", metavar="REQUEST")
@said_options
@click.pass_obj
def refuse(station: Station, *, config: Path, request_id: str, said: Said, as_json: bool) -> ExitCode:
    """Answer a request with no. The person learns the word from the shop's page; the reasons are for a letter."""
    with ledger_of(station, station.settings(config)) as ledger:
        request = subject_requests.find(ledger, _id(request_id))
        subjects.refuse(ledger, request, who=said.who, why=said.why, now=station.clock())
    if as_json:
        console.print_json({"request": request.request, "state": "refused"})
    else:
        console.say(f"Request {request.request} is refused; the next return says so.")
    return ExitCode.DONE


def _find(
    ledger: Ledger, order_ids: Sequence[str], request_id: str | None, kind: str, *, all_orders: bool
) -> tuple[Request | None, Found]:
    if (request_id is None) == (not order_ids) or len(order_ids) > _ORDERS_LIMIT:
        raise ProcessorError(
            "USAGE-SUBJECT", "whose data is it?", f"name orders (at most {_ORDERS_LIMIT}), or one --request"
        )
    if request_id is None:
        ids = [_id(order) for order in order_ids]
        found = subjects.of_orders(ledger, ids, whole_person=all_orders)
        if not found.orders or found.others:
            raise ProcessorError(
                "ORDER-UNKNOWN",
                f"this ledger has no order {(found.others or ids)[0]}",
                "copy the ids from the packing slip; nothing was done",
            )
        return None, found
    request = subject_requests.find(ledger, _id(request_id))
    if request.kind != kind:
        raise ProcessorError(
            "SUBJECT-KIND",
            f"this person asked to {request.kind}, not to {kind}",
            f"offline-processor subject {request.kind}",
        )
    return request, subjects.of_request(ledger, request)


def _confirm(found: Found, given: str | None, done: str) -> None:
    """A person has seen which orders it touches. ``USAGE-CONFIRM``, ``SUBJECT-CONFIRM``."""
    wanted = "1 order" if len(found.orders) == 1 else f"{len(found.orders)} orders"
    console.warn(f"To be {done}: {wanted}", style="bold")
    for order in found.orders[:_SHOWN]:
        erased = ", erased before" if order.erased else ""
        console.warn(f"  {order.order_id}  {order.state} since {in_words(order.changed_at)}{erased}")
    for order_id in found.others[:_SHOWN]:
        console.warn(f"  NOT THEIRS, left out: {order_id}")
    typed = given
    if typed is None:
        if not console.is_terminal():
            raise ProcessorError(
                "USAGE-CONFIRM", "nothing was done: nobody confirmed it", f"repeat with --confirm '{wanted}'"
            )
        typed = click.prompt(f"Type '{wanted}' to go on", err=True)
    if typed.strip() != wanted:
        raise ProcessorError(
            "SUBJECT-CONFIRM", f"nothing was done: it is {wanted}, not {typed}", "look at the orders again"
        )


def _document(found: Found) -> dict[str, Any]:
    return {"orders": [order.as_line() for order in found.orders], "not_theirs": found.others}


def _hint(email: str) -> str:
    """Enough to compare with a letter, and no more."""
    name, _, domain = email.rpartition("@")
    return f"{name[:1]}…@{domain[:1]}…{domain[domain.rfind('.') :]}"


def _id(text: str) -> str:
    if _ORDER.fullmatch(text.lower()) is None:
        raise ProcessorError(
            "USAGE-ORDER", "this is no id of an order or request", "an id has 32 hexadecimal digits"
        )
    return text.lower()


COMMANDS: Final = (subject,)
