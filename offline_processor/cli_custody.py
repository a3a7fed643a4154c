"""`offline-processor` verbs for a bad day: backup, restore, reconcile, set-sequence, mirror, retire, acquirer-report.

Why here: the command line's other half; most of these need custodians or a report.
Must not: read clock or environment (the station has them), or take a secret as an argument.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from keys import console, recovery
from keys.console import ExitCode
from keys.durable import write_new_file
from keys.keystore import Keystore
from keys.passphrases import Descriptors, new_keystore_passphrases, on_swap
from keys.private.locked import harden_process
from keys.private.unseal import SealingKey
from keys.quorum import ask_quorum
from keys.ring_index import RingBackend
from offline_processor import backup as backups
from offline_processor import reconciliation, retirement, sequences
from offline_processor import restore as restoration
from offline_processor.acquirers.report import in_seconds, in_words, read_report, write_report
from offline_processor.acquirers.simulator import report as simulated_report
from offline_processor.epochs import begin_epoch
from offline_processor.errors import ProcessorError
from offline_processor.isolation import ways_out
from offline_processor.ledger import mirror as mirrors
from offline_processor.ledger.snapshot import Progress
from offline_processor.progress import Bars
from offline_processor.station import Settings, Station, check_machine, existing_ledger, open_station

_FILE: Final = click.Path(path_type=Path)
_WHO: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .'-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

shares_option = click.option(
    "--shares-fd",
    type=click.IntRange(min=0),
    metavar="N",
    help="Read the custodians' shares, one a line, from this open file descriptor.",
)


@contextmanager
def _bars() -> Iterator[Progress]:
    bars = Bars(shown=console.is_terminal())
    try:
        yield bars.advance
    finally:
        bars.stop()


@click.command(
    "backup", epilog="Example: offline-processor backup --config offline.toml --out /media/backup-2"
)
@console.shared_options
@click.option("--out", required=True, metavar="FILE|DIR", type=_FILE, help="A new file, or a directory.")
@console.keystore_passphrase_option
@click.pass_obj
def backup(
    station: Station, *, config: Path, out: Path, passphrase_fds: Descriptors, as_json: bool
) -> ExitCode:
    """Write ledger and long-lived keys to one file that only a quorum of custodians can open, and read it back.

    Batch keys, hold keys and held cards are never in it.
    """
    settings = station.settings(config)
    with open_station(settings, passphrase_fds) as (keystore, ledger, marks), _bars() as progress:
        ledger.check_clock(station.clock())
        begin_epoch(ledger, keystore, now=station.clock())
        made = backups.make_backup(
            ledger, keystore, settings.processor.state, out, now=station.clock(), progress=progress
        )
    if as_json:
        console.print_json(
            {
                "marks": marks,
                "backup": made.path,
                "size": made.size,
                "sha256": made.sha256,
                "entries": made.contents.entries,
                "epoch": made.contents.epoch,
            }
        )
        return ExitCode.DONE
    console.say(f"Backup written and read back: {made.path}, {made.size} bytes", style="bold")
    console.say(f"SHA-256: {made.sha256}")
    console.say(f"It holds the ledger up to entry {made.contents.entries}, of epoch {made.contents.epoch}.")
    return ExitCode.DONE


@click.command(
    "restore",
    epilog="Example: offline-processor restore backup-20261122t211910z-e0001.sealed --config offline.toml",
)
@console.shared_options
@click.argument("backup_file", metavar="BACKUP", type=_FILE)
@shares_option
@console.keystore_passphrase_option
@click.option(
    "--epoch-above",
    default=0,
    metavar="N",
    type=click.IntRange(min=0),
    help="The highest epoch that anyone has seen (r0002-… is epoch 2), if newer than the backup's.",
)
@click.option(
    "--passphrases", default=1, show_default=True, type=click.IntRange(1, 2), help="Dual control: 2."
)
@click.option("--ring-secret", default="file", show_default=True, type=click.Choice(["file", "tpm"]))
@click.pass_obj
def restore(
    station: Station,
    *,
    config: Path,
    backup_file: Path,
    shares_fd: int | None,
    passphrase_fds: Descriptors,
    epoch_above: int,
    passphrases: int,
    ring_secret: str,
    as_json: bool,
) -> ExitCode:
    """Make keystore and ledger anew from a backup, with a quorum of custodians; a new epoch begins.

    Until the ledger is reconciled with the acquirer's report nothing is charged, and nobody told to order again.
    Cut short, the same command goes on.
    """
    harden_process()
    settings = station.settings(config)
    found = ways_out()
    header = restoration.read_backup_header(backup_file)
    restoration.check_place(settings.keystore.path, settings.processor.state, settings.processor.mirror)
    custody_key = ask_quorum(
        backups.custody_of(header),
        shares_fd=shares_fd,
        on_swap=on_swap(settings.keystore, rehearsal=False),
        purpose=f"Restoring the backup of {header.notes.get('made', 'unknown time')}",
    )
    with (
        custody_key.private,
        new_keystore_passphrases(
            settings.keystore, passphrase_fds, count=passphrases, rehearsal=False
        ) as chosen,
        _bars() as progress,
    ):
        opened = restoration.put_ledger(
            backup_file, custody_key, settings.processor.state, now=station.clock(), progress=progress
        )
        with Keystore.recover(
            settings.keystore.path,
            chosen,
            opened.custody_copy,
            custody_key,
            now=station.clock(),
            epoch_above=epoch_above,
            ring_backend=RingBackend(ring_secret),
        ) as keystore:
            marks = check_machine(settings, found, rehearsal=keystore.rehearsal)
            recovery.refresh_copy(keystore, station.clock())
            epoch, lost = keystore.epoch, len(keystore.ring.destroyed_records())
    contents = opened.contents
    if as_json:
        document = {"marks": marks, "epoch": epoch, "entries": contents.entries, "keys_lost": lost}
        console.print_json({**document, "backup_made_at": contents.made_at})
        return ExitCode.NEEDS_PERSON
    console.say(
        f"Restored: the ledger of {in_words(contents.made_at)}, {contents.entries} entries.", style="bold"
    )
    console.say(f"Epoch {epoch} begins. {lost} outstanding batch and hold keys are lost and will be revoked.")
    console.say("Nothing is charged or answered yet. Next, with the acquirer's report of transactions:")
    console.say(f"  offline-processor reconcile REPORT --from {in_words(contents.newest)} --until … --who …")
    return ExitCode.NEEDS_PERSON


@click.command(
    "reconcile",
    epilog="Example: offline-processor reconcile report.csv --config offline.toml"
    " --from 2026-11-01T00:00:00Z --until 2026-11-22T21:00:00Z --who 'A. Keeper'",
)
@console.shared_options
@click.argument("report_file", metavar="REPORT", type=_FILE)
@click.option("--from", "start", required=True, metavar="TIME", help="From when the report reaches.")
@click.option("--until", required=True, metavar="TIME", help="Until when it reaches, by your own knowledge.")
@click.option("--who", required=True, metavar="NAME", help="Who states this; kept in the ledger.")
@console.keystore_passphrase_option
@click.pass_obj
def reconcile(
    station: Station,
    *,
    config: Path,
    report_file: Path,
    start: str,
    until: str,
    who: str,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Bring what the acquirer charged since the backup into a restored ledger, so that work can go on.

    REPORT is CSV: order_reference,rrn,stan,time,amount,currency,outcome (approved, declined or reversed).
    """
    settings = station.settings(config)
    if _WHO.fullmatch(who) is None:
        raise ProcessorError(
            "USAGE-WHO", "--who is a person's name", "letters, digits, blanks and .'- only, at most 64"
        )
    times = (_seconds(start), _seconds(until))
    with open_station(settings, passphrase_fds) as (keystore, ledger, marks):
        ledger.check_clock(station.clock())
        begin_epoch(ledger, keystore, now=station.clock())
        if not reconciliation.is_required(ledger):
            console.warn("This ledger needs no reconciliation. Nothing was changed.")
            return ExitCode.NOTHING_TO_DO
        done = reconciliation.reconcile(
            ledger,
            read_report(report_file),
            start=times[0],
            until=times[1],
            who=who,
            epoch=keystore.epoch,
            now=station.clock(),
        )
    if as_json:
        console.print_json({"marks": marks, **dataclasses.asdict(done)})
    else:
        for line in reconciliation.in_words(done):
            console.say(line)
    return ExitCode.NEEDS_PERSON if done.needs_person() else ExitCode.DONE


@click.command(
    "set-sequence",
    epilog="Example: offline-processor set-sequence --config offline.toml --node shop-a --sequence 17 --digest 9f…",
)
@console.shared_options
@click.option("--node", required=True, metavar="NAME")
@click.option(
    "--sequence", required=True, metavar="S", type=click.IntRange(1, 99_999_999), help="The last one gone."
)
@click.option("--digest", required=True, metavar="HEX", help="Digest of that bundle's manifest.")
@shares_option
@console.keystore_passphrase_option
@click.pass_obj
def set_sequence(
    station: Station,
    *,
    config: Path,
    node: str,
    sequence: int,
    digest: str,
    shares_fd: int | None,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Go on behind bundles that a lost ledger had accepted and the node will not send again. Needs a quorum.

    The node's next bundle must name this digest as the one before it: `spool-sync status` there shows it.
    """
    settings = station.settings(config)
    if _DIGEST.fullmatch(digest) is None:
        raise ProcessorError(
            "USAGE-DIGEST", "--digest is 64 hexadecimal digits", "read it off the node's status again"
        )
    with open_station(settings, passphrase_fds) as (keystore, ledger, marks):
        ledger.check_clock(station.clock())
        begin_epoch(ledger, keystore, now=station.clock())
        if keystore.ring.node(node) is None:
            raise ProcessorError(
                "USAGE-NODE", f"no node {node} is enrolled", "`key-ceremony status` lists the nodes"
            )
        _check_quorum(settings, keystore, shares_fd, f"Setting the last sequence of {node} to {sequence}")
        done = sequences.set_sequence(
            ledger,
            settings.processor.state / "spool" / node,
            node=node,
            sequence=sequence,
            manifest=digest,
            now=station.clock(),
        )
    if as_json:
        console.print_json({"marks": marks, **dataclasses.asdict(done)})
    else:
        for line in sequences.in_words(done):
            console.say(line)
    return ExitCode.NEEDS_PERSON


@click.command("retire", epilog="Example: offline-processor retire shop-a --config offline.toml")
@console.shared_options
@click.argument("node")
@console.keystore_passphrase_option
@click.pass_obj
def retire(
    station: Station, *, config: Path, node: str, passphrase_fds: Descriptors, as_json: bool
) -> ExitCode:
    """End an intake node for ever: its keys are destroyed, later bundles refused, what is open of it named."""
    settings = station.settings(config)
    with open_station(settings, passphrase_fds) as (keystore, ledger, marks):
        ledger.check_clock(station.clock())
        begin_epoch(ledger, keystore, now=station.clock())
        done = retirement.retire(ledger, keystore, node, now=station.clock())
        recovery.refresh_copy(keystore, station.clock())
    if as_json:
        console.print_json({"marks": marks, **dataclasses.asdict(done)})
    else:
        for line in retirement.in_words(done):
            console.say(line)
    return ExitCode.NEEDS_PERSON if done.unsettled or done.waiting else ExitCode.DONE


@click.command("mirror", epilog="Example: offline-processor mirror --config offline.toml --take")
@console.shared_options
@click.option("--take", is_flag=True, help="The ledger is lost or old: go on with the mirror's content.")
@click.option(
    "--renew", is_flag=True, help="The mirror is lost: begin a new one on the disk that is configured."
)
@click.pass_obj
def mirror(station: Station, *, config: Path, take: bool, renew: bool, as_json: bool) -> ExitCode:
    """Compare the ledger with its mirror and bring the mirror up; --take and --renew for when one of them is lost."""
    settings = station.settings(config)
    if settings.processor.mirror is None:
        raise ProcessorError(
            "USAGE-MIRROR", "no mirror is configured", "name a file on a second disk: [processor] mirror"
        )
    if take and renew:
        raise ProcessorError(
            "USAGE-MIRROR", "--take and --renew exclude each other", "say which of the two is lost"
        )
    if take:
        entries = mirrors.take(settings.processor.mirror, settings.ledger)
        said = {"taken": True, "entries": entries}
    else:
        ledger = existing_ledger(settings, renew_mirror=renew)
        try:
            said = {"taken": False, "was_behind": ledger.mirror_was_behind, "entries": ledger.entries}
        finally:
            ledger.close()
    if as_json:
        console.print_json(said)
    elif take:
        console.say(f"The ledger now holds what the mirror held: {said['entries']} entries.")
    else:
        console.say(f"Ledger and mirror are the same, {said['entries']} entries.")
    return ExitCode.DONE


@click.command(
    "acquirer-report", epilog="Example: offline-processor acquirer-report --config offline.toml --out r.csv"
)
@console.shared_options
@click.option("--out", required=True, metavar="FILE", type=_FILE, help="A new file.")
@click.pass_obj
def acquirer_report(station: Station, *, config: Path, out: Path, as_json: bool) -> ExitCode:
    """Rehearsal only: the simulated acquirer's report of transactions, from its own books."""
    settings = station.settings(config)
    if not settings.acquirer.books.is_file():
        raise ProcessorError(
            "CONFIG-BOOKS", f"there are no books at {settings.acquirer.books}", "correct [acquirer] books"
        )
    if os.path.lexists(out):
        raise ProcessorError("USAGE-OUT", f"{out} exists already", "choose another name")
    lines = simulated_report(settings.acquirer.books)
    write_new_file(out, [write_report(lines)])
    if as_json:
        console.print_json({"report": out, "lines": len(lines), "until": in_words(station.clock())})
    else:
        console.say(
            f"SIMULATED acquirer's report: {out}, {len(lines)} transactions until {in_words(station.clock())}"
        )
    return ExitCode.DONE


def _check_quorum(settings: Settings, keystore: Keystore, shares_fd: int | None, purpose: str) -> None:
    """Enough custodians are here: their shares rebuild the custody key of this keystore. ``CUSTODY-NONE``."""
    custody = keystore.custody
    if custody is None:
        raise ProcessorError(
            "CUSTODY-NONE",
            "this keystore has no custodians, so nobody can allow this",
            "a rehearsal with custodians is held with key-ceremony run",
        )
    key: SealingKey = ask_quorum(
        custody,
        shares_fd=shares_fd,
        on_swap=on_swap(settings.keystore, rehearsal=keystore.rehearsal),
        purpose=purpose,
    )
    key.close()


def _seconds(text: str) -> int:
    try:
        return in_seconds(text)
    except ValueError:
        raise ProcessorError(
            "USAGE-TIME", f"{text!r} is not a time", "write it in UTC, as 2026-11-22T21:19:10Z"
        ) from None


COMMANDS: Final = (backup, restore, reconcile, set_sequence, retire, mirror, acquirer_report)
