"""What the verbs of an online host show alike: reports of push and pull, trust, notices, bars, the line of a run.

Why here: push, pull, watch, resend and both status verbs must say the same thing in the same words.
Must not: decide anything, or show more of an order than its id.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from keys import console
from keys.console import say, warn
from keys.errors import RuleError
from transfer.sync import trust
from transfer.sync.handover import Step
from transfer.sync.inbound import PullReport
from transfer.sync.notices import Notice
from transfer.sync.push_report import PushReport
from transfer.sync.status import TrustStatus


class Bars:
    """One bar a bundle, with its rate, on standard error; nothing where nobody watches."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def advance(self, name: str, done: int, total: int) -> None:
        """So many bytes of the bundle are written and read back."""
        if not self._shown:
            return
        if self._bars is None:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done, total=total)

    def stop(self) -> None:
        """Take the bars off the screen."""
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._tasks = None, {}


def error_document(error: RuleError) -> dict[str, str]:
    """A refusal in a JSON report."""
    return {"rule": error.rule, "message": error.message, "remedy": error.remedy}


def push_document(report: PushReport) -> dict[str, Any]:
    """A push as a JSON report."""
    plain = dataclasses.replace(report, refused=[], damaged=[])
    return dataclasses.asdict(plain) | {
        "damaged": [error_document(error) for error in report.damaged],
        "refused": [error_document(error) for error in report.refused],
    }


def pull_document(report: PullReport) -> dict[str, Any]:
    """A pull as a JSON report."""
    return {
        "taken": report.taken,
        "roll": report.roll.name.lower() if report.roll else None,
        "statuses": report.statuses,
        "unknown_orders": report.unknown_orders,
        "receipts": report.receipts,
        "revoked": report.revoked,
        "subject_answers": report.subject_answers,
        "handover": report.handover,
        "trusted": report.trusted,
        "untold": report.untold,
        "findings": report.findings,
        "refused": [error_document(error) for error in report.refused],
    }


def push_line(report: PushReport) -> str:
    """A push in one line, "" when it did nothing."""
    parts = []
    if report.cut:
        orders = sum(made.orders for made in report.cut)
        size = sum(made.size for made in report.cut)
        parts.append(f"{len(report.cut)} bundles made of {orders} orders, {size} bytes")
    parts += [f"repaired: {done}" for done in report.repaired]
    if report.written:
        parts.append(f"written and compared: {' '.join(report.written)}")
    if report.removed:
        parts.append(f"removed, receipts are in: {' '.join(report.removed)}")
    parts += [f"DAMAGED: {error.message}" for error in report.damaged]
    if report.missing:
        parts.append(f"MISSING: {len(report.missing)} acknowledged orders")
    if parts and report.safe_to_remove:
        parts.append(f"safe to remove: {report.safe_to_remove}")
    return "; ".join(parts)


def pull_line(report: PullReport) -> str:
    """A pull in one line, "" when nothing was taken in."""
    if report.taken is None:
        return ""
    parts = [f"{report.taken} taken in, {report.statuses} statuses"]
    if report.receipts:
        parts.append(f"receipts for bundles {' '.join(map(str, report.receipts))}")
    parts += [f"for a person: {finding}" for finding in report.findings]
    return "; ".join(parts)


def refused_line(refused: Sequence[RuleError]) -> str:
    """What was refused, in one line, "" for nothing."""
    return "; ".join(f"refused, {error.rule}: {error.message}" for error in refused)


def show_push(report: PushReport, drop: Path) -> None:
    """A push for a person."""
    for error in report.refused:
        console.report_error(error, as_json=False)
    for done in report.repaired:
        say(f"Repaired after an interruption: {done}")
    if report.cut:
        console.table(
            "Bundles made",
            ("sequence", "orders", "bytes", "batch key"),
            [(made.sequence, made.orders, made.size, (made.batch_key or "none")[:8]) for made in report.cut],
        )
    if report.written:
        say(f"Written to {drop}, read back and compared: {', '.join(report.written)}", style="bold")
    if report.already_there:
        say(f"Already there, whole: {', '.join(report.already_there)}")
    if report.removed:
        say(f"Removed from the drop, their receipts are in: {', '.join(report.removed)}")
    for error in report.damaged:
        console.report_error(error, as_json=False)
    _show_missing(report.missing)
    if report.safe_to_remove:
        say(f"Safe to remove: {report.safe_to_remove}", style="bold")
    if not report.did_something:
        say("Nothing to do.")


def _show_missing(missing: list[str]) -> None:
    if missing:
        warn(f"{len(missing)} orders were acknowledged to customers, but their envelopes are gone:")
        for order_id in missing[:20]:
            warn(f"  {order_id}")
        warn("  What to do: find out who touched the spool; ask these customers to order again.")


def show_pull(report: PullReport) -> None:
    """A pull for a person."""
    for error in report.refused:
        console.report_error(error, as_json=False)
    if report.taken is None:
        say("No new return was taken in.")
        return
    say(f"Return {report.taken} taken in: {report.statuses} statuses.", style="bold")
    if report.roll is trust.RollChange.NEWER:
        say("A new key roll is in use.")
    _show_identity(report)
    if report.revoked:
        say(f"{report.revoked} keys are revoked: nothing is sealed to them any more.")
    if report.receipts:
        say(f"Receipts came for bundles {', '.join(map(str, report.receipts))}; their envelopes are deleted.")
    if report.unknown_orders:
        warn(f"{report.unknown_orders} statuses are of orders that this node does not know.")
    for finding in report.findings:
        warn(f"For a person: {finding}")
    for order_id in report.untold[:20]:
        warn(f"  {order_id}")


def _show_identity(report: PullReport) -> None:
    if report.handover is Step.ANNOUNCED:
        warn(
            "The offline side hands its identity over to a new key: push, so that the next bundle confirms it."
        )
    if report.handover is Step.COMPLETED:
        say(
            f"This node trusts the offline side's new identity {report.trusted} now, and the old one no more."
        )


def show_trust(trusted: TrustStatus) -> None:
    """Whom this node believes; nothing when it is nobody."""
    if trusted.fingerprint:
        say(f"Trusts the offline identity {trusted.fingerprint}")
        say(f"  in words: {trusted.words}")
    if trusted.revoked:
        say(f"Keys that were revoked and are never sealed to: {trusted.revoked}")


def show_notices(notices: Sequence[Notice]) -> None:
    """What a person must know, on standard error."""
    for notice in notices:
        warn(f"warning: {notice.text}")
        if notice.remedy:
            warn(f"  What to do: {notice.remedy}")


def notice_documents(notices: list[Notice]) -> dict[str, object]:
    """The same in a JSON report."""
    return {
        "notices": [dataclasses.asdict(notice) for notice in notices],
        "warnings": [notice.text for notice in notices],
    }
