"""`spool-sync watch`: pushes and pulls by itself, for years, until it is asked to end.

Why here: the loop, its signals and its lines; what one look does stands in `transfer.sync.watch`.
Must not: end in the middle of a look, or say anything when nothing happened.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import click

from keys.console import ExitCode, passphrase_option, say, shared_options, warn
from keys.errors import RuleError
from transfer.cli_settings import current_time, date, read_settings
from transfer.cli_shown import (
    error_document,
    pull_document,
    pull_line,
    push_document,
    push_line,
    refused_line,
)
from transfer.cli_sync import bars
from transfer.sync import trust
from transfer.sync.rounds import Rounds
from transfer.sync.signing import Signer
from transfer.sync.waker import Waker
from transfer.sync.watch import Look, Watch

_BREATH = 1.0  # seconds between two looks, however many events come


def register(commands: click.Group) -> None:
    """Add this verb to ``spool-sync``."""
    commands.add_command(_watch)


@click.command("watch", epilog="Example: spool-sync watch --config node.toml")
@shared_options
@passphrase_option
@click.option(
    "--no-events", is_flag=True, help="Look only every [sync] watch_seconds, without file system events."
)
@click.option(
    "--once", is_flag=True, help="One look, then end: to see what it would do, or for a timer unit."
)
def _watch(
    *, config: Path, as_json: bool, passphrase_fd: int | None, no_events: bool, once: bool
) -> ExitCode:
    """Push and pull whenever it is due, until SIGTERM or Ctrl-C; one line (--json: one document) a look.

    A look comes every [sync] watch_seconds; an event (a medium is mounted, a partition is full) only brings it forward.
    Orders are cut when a medium is put in, when a batch key is full or near its end, or after [sync] cut_minutes.
    Asked to end, it finishes the look under way first, and ends with 0; --once ends with the code of its look.
    """
    settings, sync = read_settings(config)
    trust.node_identity(settings.state)
    trust.load_identity(settings.state)
    signer = Signer(settings.state, passphrase_file=settings.passphrase_file, descriptor=passphrase_fd)
    places = (
        sync.drop_in,
        sync.drop_out,
        sync.drop_in.parent,
        sync.drop_out.parent,
        settings.state / "spool",
    )
    waker = Waker(places, events=not no_events)
    stopping = _stop_on_signals(waker)
    speaker = _Speaker(as_json=as_json)
    try:
        with bars() as progress, signer.session() as sign:
            watch = Watch(rounds=Rounds(settings=settings, sync=sync, progress=progress.advance), sign=sign)
            while not stopping():
                waker.rearm()  # before the look, so that what comes during it is not missed
                look = _look(watch)
                speaker.say(look)
                progress.stop()
                if once:
                    return _exit_code(look)
                if waker.wait(sync.watch_seconds) and not stopping():
                    time.sleep(_BREATH)  # let events gather; those that come now are noted
    finally:
        waker.stop()
    return ExitCode.DONE


def _look(watch: Watch) -> Look:
    now = current_time()
    try:
        return watch.look(now=now)
    except RuleError as error:  # another sync is at work, or the state cannot be used: the next look sees
        return Look(refused=[error])


def _exit_code(look: Look) -> ExitCode:
    if look.refused:
        return ExitCode.REFUSED
    if (look.pushed and look.pushed.needs_person) or (look.pulled and look.pulled.findings):
        return ExitCode.NEEDS_PERSON
    return ExitCode.DONE if look.did_something else ExitCode.NOTHING_TO_DO


def _stop_on_signals(waker: Waker) -> Callable[[], bool]:
    stopped = False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        waker.wake()
        if number == signal.SIGINT:  # who presses Ctrl-C again does not want to wait
            signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return lambda: stopped


class _Speaker:
    """Says what a look did; what was refused or is absent only when that has changed."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._refused = ""
        self._absent = ""

    def say(self, look: Look) -> None:
        refused, absent = refused_line(look.refused), "; ".join(sorted({error.rule for error in look.absent}))
        new_refusal, new_absence = refused != self._refused, absent != self._absent
        self._refused, self._absent = refused, absent
        if self._as_json:
            if look.did_something or new_refusal or new_absence:
                sys.stdout.write(json.dumps(_document(look)) + "\n")
                sys.stdout.flush()
            return
        stamp = date(current_time())
        parts = [push_line(look.pushed) if look.pushed else "", pull_line(look.pulled) if look.pulled else ""]
        done = [f"{verb}: {part}" for verb, part in zip(("push", "pull"), parts, strict=True) if part]
        if done:
            say(f"{stamp} {'; '.join(done)}")
        if new_absence and absent:
            say(f"{stamp} waiting for a medium ({absent})")
        if new_refusal and refused:
            warn(f"{stamp} {refused}")


def _document(look: Look) -> dict[str, object]:
    return {
        "time": current_time(),
        "push": push_document(look.pushed) if look.pushed else None,
        "pull": pull_document(look.pulled) if look.pulled else None,
        "absent": [error_document(error) for error in look.absent],
        "refused": [error_document(error) for error in look.refused],
    }
