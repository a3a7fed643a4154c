"""`intake newsletter`: send issues and confirmations, take somebody off, and show how it stands.

Why here: the server itself calls nobody; what it has asked for in its file is sent by these.
Must not: take an address on the command line, or show one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from intake.catalogue import load_catalogue
from intake.cli_mail import read_mail
from intake.cli_trust import read_settings
from intake.errors import IntakeError
from intake.mail.line import MailLine
from intake.newsletter.deliveries import Deliveries
from intake.newsletter.issue import load_issue
from intake.newsletter.place import open_subscribers
from intake.newsletter.sending import Sent, send_confirmations, send_issue
from intake.newsletter.subscribers import Subscribers
from intake.policy import UNSENT_SECONDS
from intake.texts import clean, email_address
from keys import console
from keys.console import ExitCode, say, shared_options, warn

_FOLLOW_SECONDS = 2.0
_AFTER_A_FAULT_SECONDS = 30.0
_FILE = """
\b
ISSUE is a file like this one; records are SKUs of the catalogue:
  issue = "2026-12"
  subject = "New in December"
  text = \"\"\"
  Dear friends of quiet music, …
  \"\"\"
  records = ["LP-0001", "CD-0101"]
\b
Every address gets an issue at most once, also when this is killed and given again: before a message leaves, a mark for
it is on disk. Where the line broke in the middle of a message nobody can know whether it was taken; such an address is
counted as unknown and is not written to again. A server that refuses everybody (no relaying, a blocklist, a quota) ends
the run, and uses up nobody: see to it and give the command again. Exit code 3: some were refused, unknown, or are to be
tried again.
\b
Examples:
  intake newsletter send december.toml --config node.toml --dry-run
  intake newsletter send december.toml --config node.toml
"""


@click.group("newsletter", epilog="Example: intake newsletter status --config node.toml")
def _newsletter() -> None:
    """Send the newsletter and its confirmations, and show how it stands."""


def register(commands: click.Group) -> None:
    """Add these verbs to ``intake``."""
    commands.add_command(_newsletter)


@_newsletter.command("send", epilog=_FILE)
@click.argument("issue", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Check everything, show the text, send nothing.")
@shared_options
def _send(*, issue: Path, dry_run: bool, config: Path, as_json: bool) -> ExitCode:
    """Send ISSUE to everybody who confirmed and has not got it yet."""
    _, intake = read_settings(config)
    mail = read_mail(config)
    loaded = load_issue(issue, load_catalogue(intake.catalogue), shop_url=mail.shop_url)
    with _subscribers(config) as subscribers:
        deliveries = Deliveries(subscribers.file)
        deliveries.check_same(loaded)
        owed = deliveries.count_owed(loaded.name)
        if dry_run:
            _show_dry(loaded.name, loaded.subject, loaded.text, owed, as_json=as_json)
            return ExitCode.DONE if owed else ExitCode.NOTHING_TO_DO
        columns = (*Progress.get_default_columns(), MofNCompleteColumn())
        progress = Progress(*columns, console=Console(stderr=True), disable=not console.is_terminal())
        with MailLine(mail, name=intake.shop) as line, progress:
            task = progress.add_task("sending", total=owed)
            sent = send_issue(
                loaded,
                subscribers,
                line,
                shop=intake.shop,
                shop_url=mail.shop_url,
                now=_now,
                progress=lambda: progress.advance(task),
            )
        # Those whom an earlier run left in the middle count, too: nobody will write to them for this issue again.
        unknown = deliveries.count_unknown(loaded.name)
    return _report({"issue": loaded.name}, sent, unknown=unknown, as_json=as_json)


@_newsletter.command("deliver", epilog="Example: intake newsletter deliver --config node.toml --follow")
@click.option("--follow", is_flag=True, help="Go on until stopped, looking every two seconds.")
@shared_options
def _deliver(*, follow: bool, config: Path, as_json: bool) -> ExitCode:
    """Send the confirmations that people asked for on the page, and erase addresses that nobody confirmed."""
    _, intake = read_settings(config)
    mail = read_mail(config)
    with _subscribers(config) as subscribers:

        def once() -> Sent:
            subscribers.erase_unconfirmed(now=_now())
            with MailLine(mail, name=intake.shop) as line:
                return send_confirmations(
                    subscribers, line, shop=intake.shop, shop_url=mail.shop_url, now=_now
                )

        if not follow:
            return _report({}, once(), unknown=0, as_json=as_json)
        warn(f"confirmations go out through {mail.host} port {mail.port}; Ctrl-C ends it")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                _once_of_many(once)
                time.sleep(_FOLLOW_SECONDS)
    return ExitCode.DONE


@_newsletter.command("leave", epilog="Example: intake newsletter leave --config node.toml < address.txt")
@shared_options
def _leave(*, config: Path, as_json: bool) -> ExitCode:
    """Take somebody off who asked by letter or telephone; the address is typed, and is erased at once."""
    typed = click.prompt("address", err=True) if sys.stdin.isatty() else sys.stdin.readline(1000)
    address = email_address(clean(str(typed).strip()))
    if address is None:
        raise IntakeError(
            "USAGE-ADDRESS", "that is not an email address", "it is typed, or comes on standard input"
        )
    with _subscribers(config) as subscribers:
        subscribers.leave_address(address, now=_now())
    if as_json:
        console.print_json({"left": True})
    else:
        say("That address is not there any more, and gets no newsletter again unless its owner asks for one.")
    return ExitCode.DONE


@_newsletter.command("status", epilog="Example: intake newsletter status --config node.toml --json")
@shared_options
def _status(*, config: Path, as_json: bool) -> ExitCode:
    """Show how many get the newsletter, how many wait, and how each issue stands. No address is shown."""
    with _subscribers(config) as subscribers:
        counts, standings = subscribers.counts(), Deliveries(subscribers.file).standings()
    is_late = 0 < counts.to_write_since < _now() - UNSENT_SECONDS
    if as_json:
        console.print_json({**asdict(counts), "issues": [asdict(one) for one in standings]})
    else:
        say(
            f"{counts.confirmed} get the newsletter; {counts.waiting} have not said yes to their confirmation "
            f"({counts.to_write} of them are still to be sent one); {counts.left} have left."
        )
        rows = [
            (one.name, one.subject, _time(one.begun_at), one.sent, one.refused, one.unknown, one.owed)
            for one in standings
        ]
        console.table("Issues", ("issue", "subject", "begun", "sent", "refused", "unknown", "owed"), rows)
        if is_late:
            say(
                "Confirmations wait for more than an hour. Does `intake newsletter deliver --follow` run?",
                style="red",
            )
    return ExitCode.NEEDS_PERSON if is_late else ExitCode.DONE


@contextlib.contextmanager
def _subscribers(config: Path) -> Iterator[Subscribers]:
    node, _ = read_settings(config)
    subscribers = open_subscribers(node.state, random=os.urandom)
    try:
        yield subscribers
    finally:
        subscribers.file.close()


def _once_of_many(once: Callable[[], Sent]) -> None:
    """One look of ``--follow``: what is wrong with the mail server today may be right in a minute."""
    try:
        once()
    except IntakeError as error:
        console.report_error(error, as_json=False)
        time.sleep(_AFTER_A_FAULT_SECONDS)


def _show_dry(name: str, subject: str, text: str, owed: int, *, as_json: bool) -> None:
    if as_json:
        console.print_json({"issue": name, "subject": subject, "text": text, "owed": owed})
    else:
        say(f"Subject: {subject}\n\n{text}")
        say(f"{owed} addresses would get it. Nothing was sent.")


def _report(first: dict[str, object], sent: Sent, *, unknown: int, as_json: bool) -> ExitCode:
    needs_person = sent.needs_person or unknown > 0
    if as_json:
        console.print_json({**first, **asdict(sent), "unknown": max(unknown, sent.unknown)})
    else:
        say(f"{sent.taken} sent, {sent.refused} refused by the mail server, {sent.later} to be tried again.")
        if unknown:
            say(
                f"{unknown} may have got it or not (a run was stopped, or the line broke); they are not sent again."
            )
        if sent.later:
            say("Give the same command again later; nobody is written to twice.")
    if sent == Sent():
        return ExitCode.NOTHING_TO_DO
    return ExitCode.NEEDS_PERSON if needs_person else ExitCode.DONE


def _now() -> int:
    return int(time.time())


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
