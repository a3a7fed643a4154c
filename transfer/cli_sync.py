"""The daily verbs of `spool-sync`: push, pull, and resend for the day when a medium was lost.

Why here: what a person or cron starts; watch does the same by itself.
Must not: decide what is cut or taken (the plan does), or take a secret on the command line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from keys import console
from keys.console import ExitCode, passphrase_option, say, shared_options, warn
from transfer.cli_settings import current_time, read_settings, wait_option
from transfer.cli_shown import (
    Bars,
    error_document,
    notice_documents,
    pull_document,
    pull_line,
    push_document,
    push_line,
    refused_line,
    show_notices,
    show_pull,
    show_push,
)
from transfer.sync import status as overview
from transfer.sync import trust
from transfer.sync.rounds import Rounds
from transfer.sync.signing import Signer

_brief = click.option(
    "--brief", is_flag=True, help="One line a run, and none when there is nothing to do: for cron."
)


def register(commands: click.Group) -> None:
    """Add these verbs to ``spool-sync``."""
    commands.add_command(_push)
    commands.add_command(_pull)
    commands.add_command(_resend)


@click.command("push", epilog="Example: spool-sync push --config node.toml")
@shared_options
@passphrase_option
@wait_option
@click.option("--empty", is_flag=True, help="Make a bundle even without orders; it asks for new keys.")
@_brief
def _push(
    *, config: Path, as_json: bool, passphrase_fd: int | None, wait: int, empty: bool, brief: bool
) -> ExitCode:
    """Cut the waiting orders into signed bundles, and write every bundle without a receipt to the drop.

    On a prepared medium it ends with "Safe to remove": only then is every byte on it, read back and compared.
    """
    settings, sync = read_settings(config)
    signer = Signer(settings.state, passphrase_file=settings.passphrase_file, descriptor=passphrase_fd)
    with bars() as progress:
        rounds = Rounds(settings=settings, sync=sync, progress=progress.advance, patience=wait)
        trust.node_identity(settings.state)
        with rounds.alone() as register, signer.session() as sign:
            report = rounds.push(register, sign, now=current_time(), empty=empty)
            notices = overview.look(rounds.node, register, now=current_time()).notices
    if as_json:
        console.print_json(push_document(report) | notice_documents(notices))
    elif brief:
        _say_line("push", push_line(report), refused_line(report.refused))
    else:
        show_push(report, sync.drop_in)
        show_notices(notices)
    if report.refused:
        return ExitCode.REFUSED
    if report.needs_person:
        return ExitCode.NEEDS_PERSON
    return ExitCode.DONE if report.did_something else ExitCode.NOTHING_TO_DO


@click.command("pull", epilog="Example: spool-sync pull --config node.toml")
@shared_options
@wait_option
@_brief
def _pull(*, config: Path, as_json: bool, wait: int, brief: bool) -> ExitCode:
    """Take the newest return in: key roll, statuses, receipts. Bundles with a receipt are deleted here."""
    settings, sync = read_settings(config)
    rounds = Rounds(settings=settings, sync=sync, patience=wait)
    trust.load_identity(settings.state)
    with rounds.alone() as register:
        report = rounds.pull(register)
        notices = overview.look(rounds.node, register, now=current_time()).notices
    if as_json:
        console.print_json(pull_document(report) | notice_documents(notices))
    elif brief:
        _say_line("pull", pull_line(report), refused_line(report.refused))
    else:
        show_pull(report)
        show_notices(notices)
    if report.refused:
        return ExitCode.REFUSED
    if report.findings:
        return ExitCode.NEEDS_PERSON
    return ExitCode.DONE if report.taken else ExitCode.NOTHING_TO_DO


@click.command("resend", epilog="Example: spool-sync resend 17 --config node.toml")
@shared_options
@wait_option
@click.argument("sequence", type=click.IntRange(min=1, max=99_999_999))
def _resend(*, config: Path, as_json: bool, wait: int, sequence: int) -> ExitCode:
    """Write one bundle again from the bytes that are kept, onto the medium that is in now.

    For a medium that was lost or came back damaged. After its receipt a bundle's bytes are deleted: then it says so,
    and there is nothing to resend. What does not arrive in order is refused over there, so send older ones first.
    """
    settings, sync = read_settings(config)
    with bars() as progress:
        rounds = Rounds(settings=settings, sync=sync, progress=progress.advance, patience=wait)
        with rounds.alone() as register:
            report = rounds.resend(register, sequence)
    if as_json:
        document = dataclasses.asdict(dataclasses.replace(report, refused=[]))
        console.print_json(document | {"refused": [error_document(error) for error in report.refused]})
    else:
        done = "Already there, whole" if report.already_there else "Written again, read back and compared"
        say(f"{done}: {report.name} ({report.orders} orders) in {sync.drop_in}", style="bold")
        for error in report.refused:
            console.report_error(error, as_json=False)
        if report.safe_to_remove:
            say(f"Safe to remove: {report.safe_to_remove}", style="bold")
    return ExitCode.REFUSED if report.refused else ExitCode.DONE


@contextmanager
def bars() -> Iterator[Bars]:
    """Bars for a person at a terminal, gone at the end."""
    shown = Bars(shown=console.is_terminal())
    try:
        yield shown
    finally:
        shown.stop()


def _say_line(verb: str, done: str, refused: str) -> None:
    if done:
        say(f"{verb}: {done}")
    if refused:
        warn(f"{verb}: {refused}")
