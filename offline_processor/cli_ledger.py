"""`offline-processor verify-ledger`: whether the record of what happened is whole, signed for others to rely on.

Why here: the command line's part of the audit trail.
Must not: change the ledger, unless a report is signed, which is an act of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from keys import console
from keys.console import ExitCode
from keys.passphrases import Descriptors
from keys.public.fingerprint import fingerprint
from offline_processor import ledger_report
from offline_processor.acquirers.report import in_words
from offline_processor.ledger_report import LedgerReport
from offline_processor.station import Station, ledger_to_read, open_station

_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command(
    "verify-ledger",
    epilog="\b\nExamples:\n  offline-processor verify-ledger --config offline.toml\n"
    "  offline-processor verify-ledger --config offline.toml --signed-report ledger-2026-11.json\n"
    "  offline-processor verify-ledger --config offline.toml --against ledger-2026-10.json --fingerprint '12 words'",
)
@console.shared_options
@click.option(
    "--signed-report", metavar="FILE", type=_FILE, help="Sign what was found; FILE.minisig beside it."
)
@click.option(
    "--against", metavar="FILE", type=_FILE, help="An earlier report: all of it must still be there."
)
@click.option("--fingerprint", "spoken", metavar="F", help="With --against: who must have signed it.")
@console.keystore_passphrase_option
@click.pass_obj
def verify_ledger(
    station: Station,
    *,
    config: Path,
    signed_report: Path | None,
    against: Path | None,
    spoken: str | None,
    passphrase_fds: Descriptors,
    as_json: bool,
) -> ExitCode:
    """Recompute the chain of all entries: one that was altered, removed, reordered or cut off the end is found.

    Needs no passphrase, unless a report is signed. A signed report, kept by somebody else, proves later that nothing
    up to its time was taken away or told anew. Ends with 3 when the newest command has no end.
    """
    settings = station.settings(config)
    earlier: LedgerReport | None = None
    document: dict[str, Any] = {}
    no_mirror = None
    if signed_report is not None:
        with open_station(settings, passphrase_fds, as_json=as_json) as (keystore, ledger, marks):
            found = ledger_report.verify(ledger, keystore.identities)
            earlier = None if against is None else ledger_report.check(ledger, against, spoken)
            ledger_report.write(
                ledger,
                keystore,
                signed_report,
                account=settings.trail.account,
                who=settings.trail.who,
                now=station.clock(),
            )
            found = found.at_work()
        document = {"marks": marks, "report": signed_report}
    else:
        ledger, no_mirror = ledger_to_read(settings)
        try:
            found = ledger_report.verify(ledger)
            earlier = None if against is None else ledger_report.check(ledger, against, spoken)
        finally:
            ledger.close()
    document = {**found.as_document(), **document}
    if no_mirror is not None:
        document["mirror"] = no_mirror.message
    if earlier is not None:
        signer = fingerprint(bytes.fromhex(earlier.identity))
        document["against"] = {
            "entries": earlier.entries,
            "made": in_words(earlier.made_at),
            "signed_by": signer,
        }
    if as_json:
        console.print_json(document)
    else:
        _show(found, signed_report, earlier)
        if no_mirror is not None:
            console.report_error(no_mirror, as_json=False)
    return ExitCode.DONE if no_mirror is None and found.unended is None else ExitCode.NEEDS_PERSON


def _show(found: ledger_report.Verified, written: Path | None, earlier: LedgerReport | None) -> None:
    for line in found.in_words():
        console.say(line)
    if earlier is not None:
        console.say(
            f"it contains all of the {earlier.entries} entries of the report of {in_words(earlier.made_at)},"
            f" signed by {fingerprint(bytes.fromhex(earlier.identity))}"
        )
    if written is not None:
        console.say(f"Signed report: {written} and {written}{ledger_report.SIGNATURE_SUFFIX}", style="bold")
        console.say("Give both to somebody who does not work at this machine.")


COMMANDS: Final = (verify_ledger,)
