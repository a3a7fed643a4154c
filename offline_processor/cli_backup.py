"""`offline-processor` verbs for a copy of everything: backup, restore, mirror.

Why here: the command line's part for the day before and the day after the loss of a disk or machine.
Must not: read clock or environment (the station has them), or take a secret as an argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import click

from keys import console, recovery
from keys.ceremony_run import REHEARSAL_MARK
from keys.console import ExitCode
from keys.custody_copy import look
from keys.keystore import Keystore
from keys.passphrases import Descriptors, new_keystore_passphrases, on_swap
from keys.private.locked import harden_process
from keys.public.fingerprint import fingerprint, words
from keys.quorum import ask_quorum
from keys.ring_index import RingBackend
from keys.spoken import compare_copy
from offline_processor import backup as backups
from offline_processor import reconciliation
from offline_processor import restore as restoration
from offline_processor.acquirers.report import in_words
from offline_processor.epochs import begin_epoch
from offline_processor.errors import ProcessorError
from offline_processor.ledger import mirror as mirrors
from offline_processor.ledger.ledger import Ledger
from offline_processor.progress import Bars
from offline_processor.station import (
    Station,
    check_machine,
    existing_ledger,
    look_around,
    open_station,
    show_marks,
)

_FILE: Final = click.Path(path_type=Path)


@contextmanager
def _bars() -> Iterator[Bars]:
    bars = Bars(shown=console.is_terminal())
    try:
        yield bars
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
    with (
        open_station(settings, passphrase_fds, as_json=as_json) as (keystore, ledger, marks),
        _bars() as bars,
    ):
        ledger.check_clock(station.clock())
        begin_epoch(ledger, keystore, now=station.clock())
        made = backups.make_backup(
            ledger, keystore, settings.processor.state, out, now=station.clock(), progress=bars.advance
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
    epilog="Example: offline-processor restore backup-….sealed --passphrases 2 --config offline.toml",
)
@console.shared_options
@click.argument("backup_file", metavar="BACKUP", type=_FILE)
@console.shares_option
@console.keystore_passphrase_option
@click.option(
    "--epoch-above",
    default=0,
    metavar="N",
    type=click.IntRange(min=0),
    help="The highest epoch that anyone has seen (r0002-… is epoch 2), if newer than the backup's.",
)
@click.option(
    "--passphrases", required=True, type=click.IntRange(1, 2), help="How many open it; 2 is dual control."
)
@click.option("--ring-secret", default="file", show_default=True, type=click.Choice(["file", "tpm"]))
@click.option(
    "--fingerprint", "spoken", metavar="F", help="Of the offline identity, from paper: hex or words."
)
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
    spoken: str | None,
    as_json: bool,
) -> ExitCode:
    """Make keystore and ledger anew from a backup, with a quorum of custodians; a new epoch begins.

    Until the ledger is reconciled with the acquirer's report nothing is charged, and nobody told to order again.
    Cut short, the same command goes on.
    """
    harden_process()
    settings = station.settings(config)
    seen, marks = look_around(settings), list[str]()
    header = restoration.read_backup_header(backup_file)
    restoration.check_place(settings.keystore.path, settings.processor.state, settings.processor.mirror)
    rehearsal = header.notes.get("rehearsal") == "yes"  # for the screens; what was opened decides
    custody_key = ask_quorum(
        backups.custody_of(header),
        shares_fd=shares_fd,
        on_swap=on_swap(settings.keystore, rehearsal=False),
        purpose=f"Restoring the backup of {header.notes.get('made', 'unknown time')}",
        mark=REHEARSAL_MARK if rehearsal else "",
    )
    with (
        custody_key.private,
        new_keystore_passphrases(
            settings.keystore, passphrase_fds, count=passphrases, rehearsal=False, says_rehearsal=rehearsal
        ) as chosen,
        _bars() as bars,
    ):

        def approve(found_in_backup: restoration.OpenedBackup) -> None:
            bars.stop()  # a person may be asked
            compare_copy(bytes.fromhex(look(found_in_backup.custody_copy).keystore.identity), spoken)
            marks.extend(check_machine(settings, seen, rehearsal=found_in_backup.contents.rehearsal))
            show_marks(marks, as_json=as_json)

        opened = restoration.put_ledger(
            backup_file,
            custody_key,
            settings.processor.state,
            approve=approve,
            now=station.clock(),
            progress=bars.advance,
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
            copy = recovery.refresh_copy(keystore, station.clock())
            epoch, lost = keystore.epoch, len(keystore.ring.destroyed_records())
            identity = keystore.identity.public_key
    contents = opened.contents
    with closing(Ledger(settings.ledger)) as ledger:
        since = in_words(reconciliation.needed_from(ledger))
    if as_json:
        document = {
            "marks": marks,
            "epoch": epoch,
            "entries": contents.entries,
            "keys_lost": lost,
            "custody_copy": copy,
        }
        document |= {"identity_fingerprint": fingerprint(identity), "report_from": since}
        console.print_json({**document, "backup_made_at": contents.made_at})
        return ExitCode.NEEDS_PERSON
    console.say(
        f"Restored: the ledger of {in_words(contents.made_at)}, {contents.entries} entries.", style="bold"
    )
    console.say(f"Fingerprint of the offline identity: {fingerprint(identity)}", style="bold")
    console.say(f"  in words: {words(identity)}")
    console.say(f"Epoch {epoch} begins. {lost} outstanding batch and hold keys are lost and will be revoked.")
    console.say(f"New custody copy: {copy}. Carry it to the two media, in place of the older ones.")
    console.say("Nothing is charged or answered yet. Next, with the acquirer's report of transactions:")
    console.say(f"  offline-processor reconcile REPORT --from {since} --until … --who …")
    return ExitCode.NEEDS_PERSON


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
            said = {
                "taken": False,
                "renewed": renew,
                "was_behind": ledger.mirror_was_behind,
                "entries": ledger.entries,
            }
        finally:
            ledger.close()
    if as_json:
        console.print_json(said)
    elif take:
        console.say(f"The ledger now holds what the mirror held: {said['entries']} entries.")
    elif renew:
        console.say(f"A new mirror was begun: {settings.processor.mirror}, {said['entries']} entries.")
    else:
        console.say(f"Ledger and mirror are the same, {said['entries']} entries.")
    return ExitCode.DONE


COMMANDS: Final = (backup, restore, mirror)
