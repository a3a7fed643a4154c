"""`intake enquiries`: read, answer, close and erase what customers asked.

Why here: answering is the shop's own people's work, on the host where the enquiries are kept.
Must not: take an answer on the command line, where other users of the machine could read it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from intake.cli_mail import read_mail
from intake.cli_trust import read_settings
from intake.enquiries.answering import ANSWER_MAXIMUM, answer
from intake.enquiries.desk import Enquiry, EnquiryDesk
from intake.mail.line import Fate, MailLine
from keys import console
from keys.console import ExitCode, say, shared_options, warn

_SHOWN_WIDTH = 50
_BYTES_MAXIMUM = 4 * ANSWER_MAXIMUM + 1
_ANSWER = """
\b
Examples:
  intake enquiries answer 7KQM-2HXT --config node.toml < answer.txt
  intake enquiries answer 7KQM-2HXT --config node.toml --file answer.txt --keep-open
\b
Exit code 3: the mail server did not take it (nothing was sent), or nobody knows whether it did.
"""
_WHEN = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"])
_ERASE = """
\b
Examples:
  intake enquiries erase 7KQM-2HXT --config node.toml
  intake enquiries erase --since 2026-11-27T21:05 --until 2026-11-27T22:30 --dry-run --config node.toml
"""


@click.group("enquiries", epilog="Example: intake enquiries list --config node.toml")
def _enquiries() -> None:
    """Read, answer, close and erase what customers asked."""


def register(commands: click.Group) -> None:
    """Add these verbs to ``intake``."""
    commands.add_command(_enquiries)


@_enquiries.command("list", epilog="Example: intake enquiries list --config node.toml --all")
@click.option("--all", "show_all", is_flag=True, help="Closed ones, too.")
@shared_options
def _list(*, show_all: bool, config: Path, as_json: bool) -> ExitCode:
    """List the enquiries that wait for an answer, the oldest first."""
    with _desk(config) as desk:
        found = desk.all() if show_all else desk.open()
    if as_json:
        console.print_json({"enquiries": [asdict(one) for one in found]})
    else:
        _show_table(found)
    return ExitCode.DONE if found else ExitCode.NOTHING_TO_DO


@_enquiries.command("show", epilog="Example: intake enquiries show 7KQM-2HXT --config node.toml")
@click.argument("number")
@shared_options
def _show(*, number: str, config: Path, as_json: bool) -> ExitCode:
    """Show one enquiry and what was answered."""
    with _desk(config) as desk:
        enquiry, answers = desk.one(number)
    if as_json:
        console.print_json({**asdict(enquiry), "answers": [asdict(one) for one in answers]})
        return ExitCode.DONE
    closed = f", closed {_time(enquiry.closed_at)}" if enquiry.closed_at else ", open"
    say(f"{enquiry.number}, received {_time(enquiry.received_at)}{closed}", style="bold")
    say(f"From {enquiry.name} <{enquiry.email}>")
    if enquiry.order_number or enquiry.postcode:
        say(f"Order {enquiry.order_number or 'not named'}, postcode {enquiry.postcode or 'not named'}")
    say(f"\n{enquiry.text}")
    for one in answers:
        state = "Answered" if one.sent else "Answered, but nobody knows whether it was sent,"
        say(f"\n{state} {_time(one.answered_at)}:", style="bold")
        say(one.text)
    return ExitCode.DONE


@_enquiries.command("answer", epilog=_ANSWER)
@click.argument("number")
@click.option(
    "--file", "path", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="The answer."
)
@click.option("--keep-open", is_flag=True, help="Do not close the enquiry with it.")
@click.option("--again", is_flag=True, help="Also when an earlier answer may or may not have been sent.")
@shared_options
def _answer(
    *, number: str, path: Path | None, keep_open: bool, again: bool, config: Path, as_json: bool
) -> ExitCode:
    """Send the answer on standard input (or in --file) to who asked, and close the enquiry."""
    _, intake = read_settings(config)
    mail = read_mail(config)
    if path is None and sys.stdin.isatty():
        warn("Type the answer; Ctrl-D on a line of its own ends it.")
    with sys.stdin.buffer if path is None else path.open("rb") as file:
        text = file.read(_BYTES_MAXIMUM).decode(
            "utf-8", "surrogateescape"
        )  # what is no text is refused as such
    with _desk(config) as desk, MailLine(mail, name=intake.shop) as line:
        fate = answer(desk, number, text, line, shop=intake.shop, keep_open=keep_open, again=again, now=_now)
    if as_json:
        console.print_json({"enquiry": number, "answer": fate.value})
    else:
        say(_SAID[fate])
    return ExitCode.DONE if fate is Fate.TAKEN else ExitCode.NEEDS_PERSON


@_enquiries.command("close", epilog="Example: intake enquiries close 7KQM-2HXT --config node.toml")
@click.argument("number")
@shared_options
def _close(*, number: str, config: Path, as_json: bool) -> ExitCode:
    """Close an enquiry that needs no answer (any more)."""
    _, intake = read_settings(config)
    with _desk(config) as desk:
        enquiry, _ = desk.one(number)
        desk.settle(enquiry.number, now=_now())
    _told(
        as_json, f"Closed; it is erased in {intake.enquiry_days} days.", enquiry=enquiry.number, closed=True
    )
    return ExitCode.NOTHING_TO_DO if enquiry.closed_at else ExitCode.DONE


@_enquiries.command("erase", epilog=_ERASE)
@click.argument("number", required=False)
@click.option("--since", metavar="TIME", type=_WHEN, help="In place of NUMBER: received then (UTC) or later,")
@click.option("--until", metavar="TIME", type=_WHEN, help="and before then (UTC); what was answered stays.")
@click.option("--dry-run", is_flag=True, help="Show what would be erased, and erase nothing.")
@shared_options
def _erase(
    *,
    number: str | None,
    since: datetime | None,
    until: datetime | None,
    dry_run: bool,
    config: Path,
    as_json: bool,
) -> ExitCode:
    """Erase an enquiry and its answers now, as who wrote it may ask; or what a flood left."""
    with _desk(config) as desk:
        if number is not None and since is None and until is None:
            found = [desk.one(number)[0]]
        elif number is None and since is not None and until is not None:
            first, end = (int(one.replace(tzinfo=UTC).timestamp()) for one in (since, until))
            found = desk.unanswered(since=first, until=end)
        else:
            raise click.UsageError("give either the NUMBER of one enquiry, or --since and --until")
        if not dry_run:
            desk.erase(*(one.number for one in found))
    if dry_run and as_json:
        console.print_json({"enquiries": [one.number for one in found], "erased": 0})
    elif dry_run:
        _show_table(found)
        say(f"{len(found)} would be erased. Nothing was.")
    elif number is not None:
        _told(as_json, "Erased.", enquiry=found[0].number, erased=1)
    else:
        _told(as_json, f"{len(found)} erased.", erased=len(found))
    return ExitCode.DONE if found else ExitCode.NOTHING_TO_DO


@_enquiries.command("erase-old", epilog="Example: intake enquiries erase-old --config node.toml")
@shared_options
def _erase_old(*, config: Path, as_json: bool) -> ExitCode:
    """Erase what has been kept for as long as was promised; the server does the same by itself every hour."""
    _, intake = read_settings(config)
    with _desk(config) as desk:
        done = desk.erase_old(closed_days=intake.enquiry_days, open_days=intake.enquiry_open_days, now=_now())
    _told(as_json, f"{done} erased.", erased=done)
    return ExitCode.DONE if done else ExitCode.NOTHING_TO_DO


_SAID = {
    Fate.TAKEN: "The mail server has the answer.",
    Fate.LATER: "The mail server does not take it now; nothing was sent. Give the same command again later.",
    Fate.REFUSED: "The mail server will not send to that address; nothing was sent.",
    Fate.UNKNOWN: "The line broke in the middle: the answer may have been sent or not.",
}


@contextlib.contextmanager
def _desk(config: Path) -> Iterator[EnquiryDesk]:
    node, _ = read_settings(config)
    desk = EnquiryDesk(node.state, random=os.urandom)
    try:
        yield desk
    finally:
        desk.close()


def _show_table(found: Sequence[Enquiry]) -> None:
    rows = [
        (
            one.number,
            _time(one.received_at),
            "closed" if one.closed_at else "open",
            one.name,
            one.text.replace("\n", " ")[:_SHOWN_WIDTH],
        )
        for one in found
    ]
    console.table("Enquiries", ("number", "received", "state", "name", "begins"), rows)


def _told(as_json: bool, text: str, **report: object) -> None:  # noqa: FBT001  what the person asked for
    if as_json:
        console.print_json(report)
    else:
        say(text)


def _now() -> int:
    return int(time.time())


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
