"""`spool-sync`: makes the node identity, pushes bundles to the drop, pulls returns from it, and tells how things stand.

Why here: the only part of this room that reads the clock, the environment and the terminal.
Must not: decide what is cut or taken (the plan does), or take a secret on the command line.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NoReturn

import click

from keys import console
from keys.console import ExitCode, passphrase_option, say, shared_options, warn
from keys.public.fingerprint import words
from transfer import cli_node
from transfer.cli_settings import current_time, date, read_settings
from transfer.sync import status as overview
from transfer.sync import trust
from transfer.sync.handover import Step
from transfer.sync.inbound import Pull, PullReport
from transfer.sync.node import Node
from transfer.sync.notices import Notice
from transfer.sync.outbound import Push, PushReport
from transfer.sync.signing import Signer, harden_process, init_node

_EXAMPLES = """
\b
Examples:
  spool-sync init-node --config node.toml
  spool-sync push --config node.toml
  spool-sync pull --config node.toml --json
  spool-sync status --config node.toml
  spool-sync rotate-identity --config node.toml
  spool-sync retire --config node.toml
\b
The node identity's passphrase is read from --passphrase-fd, else from the file that [node] passphrase_file
names, else from the terminal:
  spool-sync push --config node.toml --passphrase-fd 3 3< passphrase.txt
"""


@click.group(name="spool-sync", epilog=_EXAMPLES)
def commands() -> None:
    """Carry sealed orders to the offline side and their statuses back, by way of two drop directories."""
    harden_process()


cli_node.register(commands)


@commands.command("init-node", epilog="Example: spool-sync init-node --config node.toml")
@shared_options
@passphrase_option
def init_node_command(*, config: Path, as_json: bool, passphrase_fd: int | None) -> ExitCode:
    """Make the state directory and the identity with which this node signs its bundles."""
    settings, _ = read_settings(config)
    node = Node.of(settings)
    fingerprint = init_node(node.state, passphrase_file=settings.passphrase_file, descriptor=passphrase_fd)
    public = node.state / trust.NODE_IDENTITY_NAME
    spoken = words(trust.node_identity(node.state).public_key)
    if as_json:
        console.print_json(
            {"node": node.node, "fingerprint": fingerprint, "words": spoken, "public_key": public}
        )
        return ExitCode.DONE
    say(f"Node {node.node} has an identity now. Its public key is {public}")
    say(f"Fingerprint: {fingerprint}", style="bold")
    say(f"   in words: {spoken}", style="bold")
    say("Next: carry the public key to the offline side, and read the fingerprint out to its operator:")
    say(
        f"  key-ceremony enrol-node --config offline.toml --node {node.node} --public-key identity.pub --out DIR"
    )
    say("Then bring DIR back, and here run: intake trust DIR")
    return ExitCode.DONE


@commands.command("push", epilog="Example: spool-sync push --config node.toml")
@shared_options
@passphrase_option
@click.option("--empty", is_flag=True, help="Make a bundle even without orders; it asks for new keys.")
def push(*, config: Path, as_json: bool, passphrase_fd: int | None, empty: bool) -> ExitCode:
    """Cut the waiting orders into signed bundles, and write every bundle without a receipt to the drop."""
    settings, sync = read_settings(config)
    node = Node.of(settings)
    identity = trust.node_identity(node.state)
    trusted = trust.load(node.state, node=node.node)
    signer = Signer(node.state, passphrase_file=settings.passphrase_file, descriptor=passphrase_fd)
    with node.alone(), node.register() as register, signer.session() as sign:
        report = Push(
            node=node,
            register=register,
            spool=node.spool(),
            roll=trusted.roll,
            identity=identity,
            sign=sign,
            now=current_time(),
        ).run(sync.drop_in, empty=empty)
        notices = overview.look(node, register, now=current_time()).notices
    if as_json:
        console.print_json(dataclasses.asdict(report) | _as_documents(notices))
    else:
        _show_push(report, sync.drop_in)
        _show_notices(notices)
    if report.missing:
        return ExitCode.NEEDS_PERSON
    return ExitCode.DONE if report.did_something else ExitCode.NOTHING_TO_DO


@commands.command("pull", epilog="Example: spool-sync pull --config node.toml")
@shared_options
def pull(*, config: Path, as_json: bool) -> ExitCode:
    """Take the newest return in: key roll, statuses, receipts. Bundles with a receipt are deleted here."""
    settings, sync = read_settings(config)
    node = Node.of(settings)
    trust.load_identity(node.state)
    with node.alone(), node.register() as register:
        report = Pull(node=node, register=register, spool=node.spool()).run(sync.drop_out)
        notices = overview.look(node, register, now=current_time()).notices
    if as_json:
        refused = [
            {"rule": error.rule, "message": error.message, "remedy": error.remedy} for error in report.refused
        ]
        roll = report.roll.name.lower() if report.roll else None
        console.print_json(
            {
                "taken": report.taken,
                "roll": roll,
                "statuses": report.statuses,
                "unknown_orders": report.unknown_orders,
                "receipts": report.receipts,
                "revoked": report.revoked,
                "subject_answers": report.subject_answers,
                "handover": report.handover,
                "trusted": report.trusted,
                "untold": report.untold,
                "findings": report.findings,
                "refused": refused,
            }
            | _as_documents(notices)
        )
    else:
        _show_pull(report)
        _show_notices(notices)
    if report.refused:
        return ExitCode.REFUSED
    if report.findings:
        return ExitCode.NEEDS_PERSON
    return ExitCode.DONE if report.taken else ExitCode.NOTHING_TO_DO


@commands.command("status", epilog="Example: spool-sync status --config node.toml --json")
@shared_options
def status(*, config: Path, as_json: bool) -> ExitCode:
    """Show keys, trust, orders that wait, bundles on their way and the last return; 3 if a person is needed."""
    settings, _ = read_settings(config)
    node = Node.of(settings)
    trust.node_identity(node.state)
    with node.register() as register:
        seen = overview.look(node, register, now=current_time())
    if as_json:
        console.print_json(overview.document(seen))
    else:
        _show_status(seen)
    return ExitCode.NEEDS_PERSON if seen.needs_person else ExitCode.DONE


def _show_push(report: PushReport, drop: Path) -> None:
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
    if report.missing:
        warn(f"{len(report.missing)} orders were acknowledged to customers, but their envelopes are gone:")
        for order_id in report.missing[:20]:
            warn(f"  {order_id}")
        warn("  What to do: find out who touched the spool; ask these customers to order again.")
    if not report.did_something:
        say("Nothing to do.")


def _show_pull(report: PullReport) -> None:
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


def _show_status(seen: overview.Overview) -> None:
    say(f"Node {seen.node}, fingerprint {seen.fingerprint}", style="bold")
    if seen.next_fingerprint:
        say(f"Its next identity waits to be activated: {seen.next_fingerprint}")
    if seen.trusted.fingerprint:
        say(f"Trusts the offline identity {seen.trusted.fingerprint}")
        say(f"  in words: {seen.trusted.words}")
    if seen.trusted.revoked:
        say(f"Keys that were revoked and are never sealed to: {seen.trusted.revoked}")
    say(f"Batch keys left: {seen.keys_left}. Orders waiting for a push: {seen.waiting}.")
    console.table(
        "Spool",
        ("batch key", "groups", "orders", "bytes", "state"),
        [
            (part.batch_key[:8], part.groups, part.orders, part.size, "closed" if part.closed else "open")
            for part in seen.partitions
        ],
    )
    console.table(
        "Bundles without a receipt",
        ("sequence", "orders", "bytes", "cut"),
        [(made.sequence, made.orders, made.size, date(made.cut_at)) for made in seen.in_flight],
    )
    if seen.last_return:
        say(f"Last return: {seen.last_return}, of {date(seen.last_return_time)}")
    else:
        say("No return was taken in yet.")
    _show_notices(seen.notices)
    for finding in seen.findings:
        warn(f"For a person: {finding}")
    for order_id in seen.untold[:20]:
        warn(f"  no word of {order_id}")


def _show_notices(notices: list[Notice]) -> None:
    for notice in notices:
        warn(f"Warning: {notice.text}")
        if notice.remedy:
            warn(f"  What to do: {notice.remedy}")


def _as_documents(notices: list[Notice]) -> dict[str, object]:
    return {
        "notices": [dataclasses.asdict(notice) for notice in notices],
        "warnings": [notice.text for notice in notices],
    }


def main() -> NoReturn:
    """The entry point of the command."""
    console.run(commands)


if __name__ == "__main__":
    main()
