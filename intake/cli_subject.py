"""`intake subject` and `intake retention`: what people ask about their data, sealed and sent; the end of what is over.

Why here: the person writes to the shop, and their order lies where no mail arrives.
Must not: take an address on the command line, keep one in clear, or learn what the offline side found.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from intake.cli_trust import read_settings
from intake.declines import Callers
from intake.enquiries.desk import EnquiryDesk
from intake.errors import IntakeError
from intake.live_keys import LiveKeys
from intake.newsletter.place import open_subscribers
from intake.newsletter.subscribers import Subscribers
from intake.texts import clean, email_address
from keys import console
from keys.console import ExitCode, say, shared_options
from keys.durable import write_new_file
from transfer.config import NodeConfig
from transfer.register import Register
from transfer.retention import RULES, Kept
from transfer.sync.node import Node
from transfer.wire.envelope import encode_envelope
from transfer.wire.sealing import seal_request

_ORDER = re.compile(r"[0-9a-f]{32}")
_ORDERS_LIMIT = 100
_ID_SIZE = 16


def register(commands: click.Group) -> None:
    """Add these verbs to ``intake``."""
    commands.add_command(_subject)
    commands.add_command(_retention)


@click.group("subject")
def _subject() -> None:
    """Send what a person asks about their data to the offline side, and show what was answered."""


@_subject.command(
    "ask",
    epilog="\b\nExamples:\n  intake subject ask export --out theirs.json --config node.toml\n"
    "  intake subject ask erase --order 9f… --config node.toml < address.txt",
)
@click.argument("kind", type=click.Choice(["export", "erase", "restrict"]))
@click.option("--order", "orders", multiple=True, metavar="ORDER", help="Only this order; may be repeated.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With export: a new file, for what this side keeps of them (enquiries, newsletter).",
)
@shared_options
def _ask(*, kind: str, orders: tuple[str, ...], out: Path | None, config: Path, as_json: bool) -> ExitCode:
    """Seal a request of a person whom you have recognised; the next push carries it. Their address is typed.

    An erasure ends the newsletter and erases their enquiries at once. The copy that an export makes of their orders is
    written offline, for the post; all that comes back here is "done" or "refused".
    """
    node, _ = read_settings(config)
    if (out is None) == (kind == "export") or (out is not None and os.path.lexists(out)):
        raise IntakeError(
            "USAGE-OUT",
            "an export, and nothing else, needs --out, a file that is not there yet",
            "what this side keeps of the person is written to it",
        )
    if len(orders) > _ORDERS_LIMIT or not all(_ORDER.fullmatch(order) for order in orders):
        raise IntakeError(
            "USAGE-ORDER",
            "this is no list of orders",
            f"ids of 32 hexadecimal digits, at most {_ORDERS_LIMIT}",
        )
    typed = click.prompt("address", err=True) if sys.stdin.isatty() else sys.stdin.readline(1000)
    address = email_address(clean(str(typed).strip()))
    if address is None:
        raise IntakeError(
            "USAGE-ADDRESS", "that is not an email address", "it is typed, or comes on standard input"
        )
    now, request = _now(), os.urandom(_ID_SIZE)
    key = _order_key(node, now)
    envelope = seal_request(
        kind=kind, email=address, orders=orders, request_id=request, order_key=key, now=now
    )
    if out is not None:
        write_new_file(out, [_kept_here(node, address)])
    with _register(node) as register_:
        # The row first: a request that is sent and not listed would be answered to nobody.
        register_.note_request(request.hex(), kind, now=now)
        try:
            Node.of(node).subjects.add(request.hex(), encode_envelope(envelope))
        except BaseException:
            register_.forget_requests([request.hex()])
            raise
    erased = _erase_here(node, address, now) if kind == "erase" else {}
    if as_json:
        console.print_json({"request": request.hex(), "kind": kind, "erased_here": erased, "kept_here": out})
    else:
        say(f"Request {request.hex()} waits for the next push.")
        for what, count in erased.items():
            say(f"Erased here: {count} ({what})")
        if out is not None:
            say(f"What this side keeps of them: {out}")
    return ExitCode.DONE


@_subject.command("list", epilog="Example: intake subject list --config node.toml --json")
@shared_options
def _list(*, config: Path, as_json: bool) -> ExitCode:
    """Show the requests and their answers; whose they are, only the offline side knows."""
    node, _ = read_settings(config)
    waiting = {path.name for path in Node.of(node).subjects.waiting()}
    with _register(node) as register_:
        rows = register_.subject_requests()
    shown = [
        {
            "request": row.request,
            "kind": row.kind,
            "asked_at": _time(row.asked_at),
            "state": row.state or ("waiting" if row.request in waiting else "sent"),
            "answered_at": _time(row.changed_at) if row.changed_at else "",
        }
        for row in rows
    ]
    if as_json:
        console.print_json({"requests": shown})
    else:
        columns = ("request", "kind", "asked_at", "state", "answered_at")
        console.table("Requests", columns, [[row[column] for column in columns] for row in shown])
    return ExitCode.DONE if rows else ExitCode.NOTHING_TO_DO


@_subject.command("resend", epilog="Example: intake subject resend --since 2026-11-01 --config node.toml")
@click.option(
    "--since", required=True, metavar="DAY", type=click.DateTime(["%Y-%m-%d"]), help="Asked on it or later."
)
@shared_options
def _resend(*, since: datetime, config: Path, as_json: bool) -> ExitCode:
    """Send requests once more: after a restore from a backup the offline side has forgotten what came after it."""
    node, _ = read_settings(config)
    limit = int(since.replace(tzinfo=UTC).timestamp())
    with _register(node) as register_:
        wanted = {row.request for row in register_.subject_requests() if row.asked_at >= limit}
        again = Node.of(node).subjects.send_again(wanted)
        register_.ask_again(again)
    if as_json:
        console.print_json({"again": again})
    else:
        say(f"{len(again)} requests wait for the next push.")
    return ExitCode.DONE if again else ExitCode.NOTHING_TO_DO


@click.group("retention")
def _retention() -> None:
    """The end of what is kept on this side (transfer/retention.py has the schedule)."""


@_retention.command("run", epilog="Example: intake retention run --config node.toml")
@click.option("--dry-run", is_flag=True, help="Show what would be erased; change nothing.")
@shared_options
def _run(*, dry_run: bool, config: Path, as_json: bool) -> ExitCode:
    """Erase sealed requests and enquiries whose time is over, and addresses that nobody confirmed. Run it daily."""
    node, intake = read_settings(config)
    now = _now()
    limit = now - RULES[Kept.SEALED_SUBJECT].seconds
    with _register(node) as register_:
        over = {row.request for row in register_.subject_requests() if row.state and row.changed_at <= limit}
        if not dry_run:
            Node.of(node).subjects.forget(over)
            register_.forget_requests(over)
    erased = {Kept.SEALED_SUBJECT.value: len(over)}
    if not dry_run:  # the two files of their own count as they erase
        with _subscribers(node) as subscribers, _enquiries(node) as desk:
            erased[Kept.CALLER.value] = Callers(node.state, os.getpid()).erase_old(now)
            erased[Kept.NEWSLETTER.value] = subscribers.erase_unconfirmed(now=now)
            erased[Kept.ENQUIRY.value] = desk.erase_old(
                closed_days=intake.enquiry_days, open_days=intake.enquiry_open_days, now=now
            )
    if as_json:
        console.print_json({"dry_run": dry_run, "erased": erased})
    else:
        for kind, count in erased.items():
            say(f"{'Would be erased' if dry_run else 'Erased'}: {count} ({kind})")
    return ExitCode.DONE if any(erased.values()) else ExitCode.NOTHING_TO_DO


def _order_key(node: NodeConfig, now: int) -> bytes:
    keys = LiveKeys(node=node.node, state=node.state)
    keys.refresh()
    key = keys.order_key(now)
    if key is None:
        raise keys.fault or IntakeError(
            "ORDER-KEY-EXPIRED",
            "there is no order key to seal to",
            "carry a return of the offline side here first",
        )
    return key.public_key


def _erase_here(node: NodeConfig, address: str, now: int) -> dict[str, int]:
    """What this side itself keeps of an address; an order's is sealed, and only the offline side can erase it."""
    with _subscribers(node) as subscribers, _enquiries(node) as desk:
        known = subscribers.of_address(address) is not None
        subscribers.leave_address(address, now=now)
        return {Kept.NEWSLETTER.value: int(known), Kept.ENQUIRY.value: desk.erase_address(address)}


def _kept_here(node: NodeConfig, address: str) -> bytes:
    with _subscribers(node) as subscribers, _enquiries(node) as desk:
        enquiries = []
        for enquiry in desk.of_address(address):
            _, answers = desk.one(enquiry.number)
            enquiries.append({**asdict(enquiry), "answers": [asdict(answer) for answer in answers]})
        document = {"newsletter": subscribers.of_address(address), "enquiries": enquiries}
    return (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()


@contextmanager
def _subscribers(node: NodeConfig) -> Iterator[Subscribers]:
    subscribers = open_subscribers(node.state, random=os.urandom)
    try:
        yield subscribers
    finally:
        subscribers.file.close()


@contextmanager
def _enquiries(node: NodeConfig) -> Iterator[EnquiryDesk]:
    desk = EnquiryDesk(node.state, random=os.urandom)
    try:
        yield desk
    finally:
        desk.close()


@contextmanager
def _register(node: NodeConfig) -> Iterator[Register]:
    with Node.of(node).register() as register_:
        yield register_


def _now() -> int:
    return int(time.time())


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
