"""`key-ceremony evidence`: what became of every batch and hold key, signed; and the check of such evidence.

Why here: the only part of the evidence that reads the clock and the environment.
Must not: change the ledger or the ring, or print more than ids, times and reasons.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from keys import console, evidence, evidence_files, evidence_ledger
from keys.cli_change import DIRECTORY, FILE, now, read_settings
from keys.console import ExitCode, keystore_passphrase_option, say
from keys.errors import KeysError
from keys.keystore import Keystore
from keys.passphrases import Descriptors, keystore_passphrases
from keys.public.fingerprint import fingerprint, words

if TYPE_CHECKING:
    from keys.evidence import Evidence

_LONGEST_HOLD: Final = 72
_EXAMPLES: Final = """
\b
Examples:
  key-ceremony evidence --config offline.toml --ledger state/ledger.db --out evidence-2027-03
  key-ceremony evidence --verify evidence-2027-03 --fingerprint "the twelve words of the ceremony record"
"""


@click.command("evidence", epilog=_EXAMPLES)
@click.option("--config", metavar="FILE", type=FILE, help="TOML file.")
@click.option("--ledger", metavar="FILE", type=FILE, help="The processor's ledger.db, or a copy of it.")
@click.option("--out", metavar="DIR", type=DIRECTORY, help="Where the signed evidence is written.")
@click.option(
    "--hold-hours",
    default=_LONGEST_HOLD,
    show_default=True,
    type=click.IntRange(min=1, max=_LONGEST_HOLD),
    help="The processor's hold_hours: an opened batch key is overdue after them.",
)
@click.option(
    "--verify", "checked", metavar="DIR", type=DIRECTORY, help="Check evidence that was made before."
)
@click.option("--fingerprint", "spoken", metavar="F", help="With --verify: who must have signed it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@keystore_passphrase_option
def show_evidence(
    *,
    config: Path | None,
    ledger: Path | None,
    out: Path | None,
    hold_hours: int,
    checked: Path | None,
    spoken: str | None,
    as_json: bool,
    passphrase_fds: Descriptors,
) -> ExitCode:
    """Show when each batch and hold key was issued, used, emptied and destroyed, as the ledger tells it; sign that.

    The ledger's chain is verified on the way, and the key ring compared. Ends with 3 when something has to be
    explained or a key is overdue.
    """
    if checked is not None:
        found = evidence_files.verify(checked, spoken)
        return _report(found, checked, as_json=as_json, verified=spoken is not None)
    if config is None or ledger is None or out is None:
        remedy = "give --config, --ledger and --out; or --verify DIR"
        raise KeysError(
            "USAGE-EVIDENCE", "it takes a configuration, a ledger and a place to write to", remedy
        )
    settings = read_settings(config)
    with (
        keystore_passphrases(settings, passphrase_fds) as passphrases,
        Keystore.open(settings.path, passphrases) as keystore,
    ):
        made = evidence.make(
            evidence_ledger.read(ledger),
            keystore.ring.index(),
            backend=keystore.ring_backend,
            identity=keystore.identity.public_key,
            rehearsal=keystore.rehearsal,
            hold_limit=hold_hours * 3600,
            now=now(),
        )
        evidence_files.write(made, keystore.identity, out)
    return _report(made, out, as_json=as_json, verified=True)


def register(commands: click.Group) -> None:
    """Add the verb to `key-ceremony`."""
    commands.add_command(show_evidence)


def _report(found: Evidence, place: Path, *, as_json: bool, verified: bool) -> ExitCode:
    identity = bytes.fromhex(found.identity)
    code = ExitCode.NEEDS_PERSON if found.findings or found.overdue else ExitCode.DONE
    if as_json:
        console.print_json(
            {
                "evidence": place,
                "identity_fingerprint": fingerprint(identity),
                "keys": len(found.keys),
                "destroyed": sum(key.destroyed_at is not None for key in found.keys),
                "backend": found.backend,
                "not_yet_recorded": found.not_yet_recorded,
                "findings": [[one.rule, one.key_id, one.what] for one in found.findings],
                "overdue": [[one.role, one.key_id, one.due_at, one.reason] for one in found.overdue],
            }
        )
        return code
    text = evidence_files.as_text(found)
    say(text.partition("\nkey id ")[0].rstrip())
    say(f"All {len(found.keys)} keys are listed in {place / evidence_files.TABLE}")
    if not verified:
        say(
            "Signed by whom identity.pub names. To know who that is, compare the fingerprint above, or these words:"
        )
        say(f"  {words(identity)}")
    return code
