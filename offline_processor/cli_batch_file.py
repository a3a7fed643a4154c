"""`offline-processor batch-file`: the authorisation files out, the answer files in, and what waits between them.

Why here: the command line's part of the batch-file driver.
Must not: read clock or environment (the station has them), or take an answer in part.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Final

import click

from keys import console
from keys.console import ExitCode
from keys.passphrases import Descriptors
from offline_processor.acquirers.batch_file import answering, answers, files, importing
from offline_processor.acquirers.batch_file.authorisations import Request
from offline_processor.acquirers.batch_file.files import SIGNATURE_SUFFIX, Counterpart
from offline_processor.acquirers.batch_file.form import SIZE_LIMIT, Kind, Mode, refused
from offline_processor.acquirers.simulator.faults import AMOUNT_CODES, AMOUNT_ENDING, BY_LAST_FOUR
from offline_processor.charging import APPROVED_CODE
from offline_processor.config import AcquirerConfig
from offline_processor.errors import ProcessorError
from offline_processor.file_answers import settle_answers
from offline_processor.ledger import batch_files
from offline_processor.station import Station, existing_ledger, open_station
from offline_processor.words import checked_word

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_DIRECTORY: Final = click.Path(path_type=Path, file_okay=False)
_WHO: Final = click.option("--who", required=True, metavar="NAME", help="The person who looked into it.")


@click.group("batch-file")
def batch_file() -> None:
    """Charge by files that are carried to the acquirer: export, import of its answers, what waits."""


@batch_file.command(
    "export", epilog="Example: offline-processor batch-file export --config offline.toml --out /media/bank"
)
@console.shared_options
@click.option("--out", required=True, metavar="DIR", type=_DIRECTORY, help="Where the files are written.")
@console.keystore_passphrase_option
@click.pass_obj
def export(
    station: Station, *, config: Path, out: Path, passphrase_fds: Descriptors, as_json: bool
) -> ExitCode:
    """Finish the open file, sign it, and write every file that waits for answers. May be repeated: the same bytes."""
    settings = station.settings(config)
    with open_station(settings, passphrase_fds, as_json=as_json) as (keystore, ledger, marks):
        ledger.check_clock(station.clock())
        counterpart = counterpart_of(settings.acquirer, rehearsal=keystore.rehearsal)
        made = files.finish(ledger, counterpart, keystore.identity, now=station.clock())
        exported = files.export(ledger, counterpart, out)
    if as_json:
        console.print_json(
            {
                "marks": marks,
                "finished": made,
                "files": [
                    {
                        "file": item.file,
                        "path": item.path,
                        "records": item.records,
                        "totals": item.totals,
                        "sha256": item.sha256,
                        "was_there": item.was_there,
                    }
                    for item in exported
                ],
            }
        )
    for item in [] if as_json else exported:
        again = " (was there already)" if item.was_there else ""
        console.say(f"File {item.file}{again}: {item.path}, {item.records} records", style="bold")
        console.say(f"  totals: {item.totals}; SHA-256: {item.sha256}")
    if not exported and not as_json:
        console.say("No record waits for a file, and every file is answered.")
    return ExitCode.DONE if exported else ExitCode.NOTHING_TO_DO


@batch_file.command(
    "import", epilog="Example: offline-processor batch-file import --config offline.toml A000001.answer"
)
@console.shared_options
@click.argument("response", type=_FILE)
@console.keystore_passphrase_option
@click.pass_obj
def import_answers(
    station: Station, *, config: Path, response: Path, passphrase_fds: Descriptors, as_json: bool
) -> ExitCode:
    """Take an acquirer's answer file: all of it or nothing. What does not agree is put before a person (code 3)."""
    settings = station.settings(config)
    raw = _read(response)
    found = answers.read_answers(raw)
    with open_station(settings, passphrase_fds, as_json=as_json) as (keystore, ledger, marks):
        now = station.clock()
        ledger.check_clock(now)
        counterpart = counterpart_of(settings.acquirer, rehearsal=keystore.rehearsal)
        if settings.acquirer.batch_signer is not None:
            signature = _read(response.with_name(response.name + SIGNATURE_SUFFIX)).decode("ascii", "replace")
            key = answering.read_signing_key(settings.acquirer.batch_signer)
            importing.check_signature(raw, signature, key, found)
        elif not keystore.rehearsal:
            raise ProcessorError(
                "BATCH-ANSWER-SIGNATURE",
                "no key is configured with which the acquirer signs its answers; nothing was taken",
                "name it: [acquirer] batch_signer",
            )
        done = importing.take(
            ledger,
            raw,
            found,
            counterpart,
            lambda taken: settle_answers(ledger, taken, capture=settings.charging.capture, now=now),
            now=now,
        )
    if as_json:
        console.print_json(
            {
                "marks": marks,
                "file": done.file,
                "answer": done.number,
                "taken": done.taken,
                "repeated": done.repeated,
                "cases": [{"rule": rule, "what": what} for rule, what in done.cases],
                "waiting": done.waiting,
            }
        )
    else:
        _show(done)
    return ExitCode.NEEDS_PERSON if done.cases else ExitCode.DONE


def _show(done: importing.Imported) -> None:
    console.say(f"Answer {done.number} to file {done.file}: {done.taken} taken.", style="bold")
    if done.repeated:
        console.warn(f"Answered before in the same way: {len(done.repeated)}", style="yellow")
        for what in done.repeated[:20]:
            console.warn(f"  {what}")
    for rule, what in done.cases:
        console.warn(f"{rule}: {what}", style="bold yellow")
    if done.waiting:
        console.say(f"{done.waiting} records of that file wait for an answer.")


@batch_file.command("status")
@console.shared_options
@click.pass_obj
def status(station: Station, *, config: Path, as_json: bool) -> ExitCode:
    """Every file with what waits in it, and the cases for a person (code 3). Needs no passphrase."""
    with closing(existing_ledger(station.settings(config))) as ledger:
        open_number = batch_files.open_file(ledger)
        waits = len(batch_files.in_file(ledger, open_number, batch_files.WAITING))
        found = [
            (number, len(batch_files.in_file(ledger, number, batch_files.WAITING)), sha256)
            for number, _, sha256, _, _ in batch_files.finished(ledger)
        ]
        cases = batch_files.open_cases(ledger)
    if as_json:
        console.print_json(
            {
                "open": {"file": open_number, "records": waits},
                "files": [
                    {"file": number, "waiting": waiting, "sha256": sha256}
                    for number, waiting, sha256 in found
                ],
                "cases": [
                    {"case": case, "file": file, "rule": rule, "what": what}
                    for case, file, rule, what in cases
                ],
            }
        )
    else:
        console.table("Files", ("file", "records without an answer", "SHA-256"), found)
        console.say(f"Records for the next file ({open_number}): {waits}")
        for case, file, rule, what in cases:
            console.warn(f"Case {case}, file {file}: {rule}: {what}", style="bold yellow")
    return ExitCode.NEEDS_PERSON if cases else ExitCode.DONE


@batch_file.command("close-case")
@console.shared_options
@click.argument("case", type=click.IntRange(min=1))
@_WHO
@click.option("--why", required=True, metavar="TEXT", help="What the acquirer said, and what was done.")
@click.pass_obj
def close_case(station: Station, *, config: Path, case: int, who: str, why: str, as_json: bool) -> ExitCode:
    """A person has looked into a case; who, and what was done, stay in the ledger."""
    named, said = checked_word(who, "--who"), checked_word(why, "--why")
    with closing(existing_ledger(station.settings(config))) as ledger:
        ledger.check_clock(station.clock())
        with ledger.atomic():
            closed = batch_files.close_case(ledger, case, who=named, why=said, now=station.clock())
    if not closed:
        raise ProcessorError(
            "USAGE-BATCH-FILE", f"there is no open case {case}", "`batch-file status` lists them"
        )
    if as_json:
        console.print_json({"closed": case})
    else:
        console.say(f"Case {case} is closed.")
    return ExitCode.DONE


@batch_file.command("simulate-keys")
@click.argument("directory", type=_DIRECTORY)
def simulate_keys(*, directory: Path) -> ExitCode:
    """Rehearsal only: make the keys of a simulated acquirer, in clear, for [acquirer] batch_key and batch_signer."""
    answering.make_keys(directory)
    console.say(f"SIMULATED acquirer, charges nobody: {directory / answering.PUBLIC_KEY},")
    console.say(f"  and {directory / answering.SIGNING_PUBLIC}, with which its answers are signed.")
    return ExitCode.DONE


@batch_file.command(
    "answer",
    epilog="Example: offline-processor batch-file answer A000001.batch --keys acquirer --out A000001.answer",
)
@click.argument("authorisations", type=_FILE)
@click.option("--keys", required=True, metavar="DIR", type=_DIRECTORY, help="Made by simulate-keys.")
@click.option("--out", required=True, metavar="FILE", type=_FILE, help="The answer file; .minisig beside it.")
@click.option("--number", default=1, show_default=True, type=click.IntRange(1, 9_999), help="Of this answer.")
@click.pass_obj
def answer(station: Station, *, authorisations: Path, keys: Path, out: Path, number: int) -> ExitCode:
    """Rehearsal only: answer an authorisation file as the simulated acquirer does, by card and amount."""
    opened = answering.read_keys(keys)
    try:
        found = answering.answer_file(
            _read(authorisations), opened, simulated_code, number=number, now=station.clock()
        )
        answering.write_signed(out, found, opened)
    finally:
        opened.close()
    console.say(f"SIMULATED acquirer: {out}, {len(found.answers)} answers, {hash_of(out)}")
    return ExitCode.DONE


def simulated_code(request: Request, card: str) -> str:
    """What the simulated host answers too: authorisations by card and amount, all else is done."""
    if request.kind is not Kind.AUTHORISE:
        return APPROVED_CODE
    by_amount = AMOUNT_CODES.get(request.amount % AMOUNT_ENDING, APPROVED_CODE)
    return BY_LAST_FOUR.get(card[-4:], by_amount)


def counterpart_of(config: AcquirerConfig, *, rehearsal: bool) -> Counterpart:
    """Who is named in every file. ``USAGE-BATCH-FILE`` when another driver is configured."""
    if config.driver != "batch-file" or config.batch_key is None or not config.merchant:
        raise ProcessorError(
            "USAGE-BATCH-FILE",
            "the configuration does not charge by files",
            '[acquirer] driver = "batch-file", with batch_key and merchant',
        )
    return Counterpart(
        public_key=answering.read_public_key(config.batch_key),
        merchant=config.merchant,
        terminal=config.terminal,
        mode=Mode.REHEARSAL if rehearsal else Mode.LIVE,
    )


def hash_of(path: Path) -> str:
    """SHA-256 of a file in words."""
    return f"SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise refused(f"{path} cannot be read: {error.strerror}") from error


COMMANDS: Final = (batch_file,)
