"""The group that keeps a trail: whatever command is added to it says in the ledger who ran it and how it ended.

Why here: a command that is added later cannot forget it.
Must not: decide anything for a command, or hide why it failed.
"""

from __future__ import annotations

import functools
import os
import pwd
import re
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, Final

import click

from keys.console import ExitCode, code_of
from keys.errors import RuleError
from offline_processor.errors import ProcessorError
from offline_processor.ledger.ledger import Ledger
from offline_processor.station import Station
from offline_processor.trail import Trail
from offline_processor.words import may_stand

ONLY_LOOK: Final = frozenset(
    {
        "status",
        "cases",
        "verify-ledger",
        "batch-file status",
        "export log",
        "legal-hold list",
        "report",
        "retention schedule",
        "subject list",
    }
)
"""Commands that change nothing, name nobody and open no key; one that opens the keys after all leaves its entries."""
_ACCOUNT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
# Of what was typed, the ledger takes what has the form of an id and nothing else.
_NAMED: Final = {
    "order": re.compile(r"[0-9a-f]{32}"),
    "order_id": re.compile(r"[0-9a-f]{32}"),
    "node": re.compile(r"[a-z0-9][a-z0-9-]{0,31}"),
}
_WAIT: Final = 5.0


class TrailGroup(click.Group):
    """Adds the trail to every command, and to those of the groups, that are added to it."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """As ``click.Group`` does."""
        _keep_trail(cmd)
        super().add_command(cmd, name)


def _keep_trail(command: click.Command) -> None:
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _keep_trail(each)
    elif command.callback is not None and not hasattr(command.callback, "keeps_trail"):
        command.callback = _with_trail(command.callback)


def _with_trail(work: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(work)
    def kept(**given: Any) -> Any:
        context = click.get_current_context()
        station = context.obj
        if not isinstance(station, Station):
            return work(**given)
        trail = _trail(station, context, given)
        context.obj = replace(station, trail=trail)
        try:
            result = work(**given)
        except BaseException as error:
            # What stopped the command matters more than why no more could be recorded of it.
            with suppress(RuleError, OSError, sqlite3.Error):
                _end(trail, *_failure(error))
            raise
        _end(trail, int(result) if isinstance(result, int) else int(ExitCode.DONE), "")
        return result

    kept.keeps_trail = True  # type: ignore[attr-defined]
    return kept


def _trail(station: Station, context: click.Context, given: Mapping[str, Any]) -> Trail:
    command = context.command_path.partition(" ")[2] or str(context.info_name)
    who = given.get("who")
    named = {
        name.removesuffix("_id"): given[name]
        for name, form in _NAMED.items()
        if isinstance(given.get(name), str) and form.fullmatch(given[name])
    }
    return Trail(
        command=command,
        account=_account(),
        who=who if isinstance(who, str) and may_stand(who) else "",
        named=named,
        clock=station.clock,
        silent=bool(given.get("dry_run") or given.get("dry")),
    )


def _account() -> str:
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = ""
    return name if _ACCOUNT.fullmatch(name) else f"uid-{os.getuid()}"


def _failure(error: BaseException) -> tuple[int, str]:
    if isinstance(error, RuleError):
        return int(code_of(error.rule)), error.rule
    usage = isinstance(error, click.ClickException)
    return int(ExitCode.USAGE if usage else ExitCode.ERROR), type(error).__name__


def _end(trail: Trail, code: int, rule: str) -> None:
    if trail.silent or (trail.command in ONLY_LOOK and not trail.begun):
        return
    ledger = _reopened(trail)
    if ledger is not None:
        with closing(ledger):
            trail.end(ledger, code=code, rule=rule)


def _reopened(trail: Trail) -> Ledger | None:
    patience = time.monotonic() + _WAIT
    while True:
        try:
            return trail.reopen()
        except ProcessorError as error:
            # Another command may have taken the ledger between this one's work and its last word.
            if error.rule != "LEDGER-IN-USE" or not trail.begun or time.monotonic() > patience:
                raise
        time.sleep(0.05)
