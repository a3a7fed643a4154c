"""`intake webhooks`: tell the shop's own server of changes of status.

Why here: a command of its own, since the process that takes cards must never call out.
Must not: show a secret, or take one on the command line.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar, cast

import click

from intake.cli_trust import read_settings
from intake.server import register_path
from intake.webhooks.message import SECRET_MAXIMUM, secret_text
from intake.webhooks.sending import Round, Sender, alone
from intake.webhooks.settings import WebhooksConfig, endpoint_of
from keys import console
from keys.config import load
from keys.console import ExitCode, say, shared_options, warn
from keys.durable import create_durable
from transfer.register import Register

_SECRET_SIZE = SECRET_MAXIMUM // 2
_LOOK_SECONDS = 2.0
_PAUSE_SECONDS = 30.0  # a receiver that takes nothing at all is left alone for a while
_T = TypeVar("_T")


@click.group(name="webhooks", epilog="Example: intake webhooks send --follow --config node.toml")
def _webhooks() -> None:
    """Tell the shop's own server when an order's status changes: signed, and again until it is taken."""


def register(commands: click.Group) -> None:
    """Add this group to ``intake``."""
    commands.add_command(_webhooks)


@_webhooks.command("send", epilog="Example: intake webhooks send --config node.toml")
@shared_options
@click.option("--follow", is_flag=True, help="Go on until SIGTERM or Ctrl-C; for a service.")
def _send(*, config: Path, as_json: bool, follow: bool) -> ExitCode:
    """Send what is due. Changes are kept from the first time that this runs; each is sent until a 2xx answers it.

    Without --follow all that is due now is sent, then it ends: for cron, or after spool-sync pull.
    """
    node, _ = read_settings(config)
    endpoint = endpoint_of(_read(config))
    with alone(node.state):
        kept = Register(register_path(node))
        try:
            if kept.want_changes():
                warn("Changes of status are told from now on.")
            sender = Sender(
                register=kept, endpoint=endpoint, now=lambda: int(time.time()), chance=secrets.randbelow
            )
            if follow:
                _follow(sender)
                return ExitCode.DONE
            return _report(_all_due(sender), as_json=as_json)
        finally:
            kept.close()


@_webhooks.command("status", epilog="Example: intake webhooks status --config node.toml --json")
@shared_options
def _status(*, config: Path, as_json: bool) -> ExitCode:
    """Show how many messages wait; 3 when some were given up and wait for a person."""
    waiting = _with_register(config, Register.changes_waiting)
    if as_json:
        console.print_json(waiting)
    else:
        say(
            f"{waiting['new']} new, {waiting['retrying']} waiting for another try, {waiting['given-up']} given up"
        )
    if waiting["given-up"]:
        warn("When the receiver works again: intake webhooks retry")
        return ExitCode.NEEDS_PERSON
    return ExitCode.DONE if any(waiting.values()) else ExitCode.NOTHING_TO_DO


@_webhooks.command("retry", epilog="Example: intake webhooks retry --config node.toml")
@shared_options
def _retry(*, config: Path, as_json: bool) -> ExitCode:
    """Make every message that waits or was given up due now."""
    count = _with_register(config, Register.try_again)
    if as_json:
        console.print_json({"due": count})
    else:
        say(f"{count} messages are due now.")
    return ExitCode.DONE if count else ExitCode.NOTHING_TO_DO


@_webhooks.command("new-secret", epilog="Example: intake webhooks new-secret webhook-secret")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def _new_secret(*, file: Path) -> ExitCode:
    """Write a new secret into FILE, for its owner only. The receiver needs the same: give it by a safe way.

    To change a secret: put the new one as a first line above the old one, give it to the receiver, remove the old one.
    """
    try:
        create_durable(file, secret_text(os.urandom(_SECRET_SIZE)).encode("ascii") + b"\n")
    except FileExistsError as error:
        raise click.UsageError(f"{file} is there already, and is not written over") from error
    say(f"{file} holds a new secret. Name it as [webhooks] secret_file.")
    return ExitCode.DONE


def _all_due(sender: Sender) -> Round:
    told = postponed = given_up = 0
    faults: dict[str, int] = {}
    while True:
        done = sender.run_round()
        told, postponed, given_up = told + done.told, postponed + done.postponed, given_up + done.given_up
        for fault, count in done.faults.items():
            faults[fault] = faults.get(fault, 0) + count
        if not done.told:  # nothing is due, or the receiver takes nothing: the next run sees
            break
    return Round(told=told, postponed=postponed, given_up=given_up, faults=faults)


def _follow(sender: Sender) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    shown: frozenset[str] = frozenset()
    while not stop.is_set():
        done = sender.run_round()
        if frozenset(done.faults) != shown and not done.is_empty:
            shown = frozenset(done.faults)
            for fault in sorted(shown):
                warn(f"messages wait: {fault}")
        if not done.told:
            stop.wait(_LOOK_SECONDS if done.is_empty else _PAUSE_SECONDS)


def _report(done: Round, *, as_json: bool) -> ExitCode:
    if as_json:
        console.print_json(asdict(done))
    elif not done.is_empty:
        say(f"{done.told} messages told, {done.postponed} to be tried again, {done.given_up} given up")
        for fault, count in sorted(done.faults.items()):
            warn(f"{fault} ({count} times)")
    if done.given_up:
        return ExitCode.NEEDS_PERSON
    return ExitCode.NOTHING_TO_DO if done.is_empty else ExitCode.DONE


def _read(config: Path) -> WebhooksConfig:
    return cast("WebhooksConfig", load(config, {"webhooks": WebhooksConfig}, os.environ)["webhooks"])


def _with_register(config: Path, ask: Callable[[Register], _T]) -> _T:
    node, _ = read_settings(config)
    kept = Register(register_path(node))
    try:
        return ask(kept)
    finally:
        kept.close()
