"""Pre-flight: everything is as it has to be, or no order is opened.

Why here: `preflight`, `run` and `day` ask the same questions in the same words; each stage trusts the answers.
Must not: open an order, change anything, or be switched off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from keys.errors import RuleError
from keys.keystore import Keystore
from keys.private.swap import OnSwap, check_swap
from offline_processor import key_state
from offline_processor.acquirers.iso8583.driver import check_iso8583
from offline_processor.circuit import circuit_of
from offline_processor.errors import ProcessorError
from offline_processor.finding import Checked, Finding, Severity
from offline_processor.key_state import Notice
from offline_processor.ledger.ledger import Ledger
from offline_processor.machine import of_disk, of_memory
from offline_processor.old_ledger import check_not_behind
from offline_processor.reconciliation import check_reconciled
from offline_processor.station import TO_ISOLATE, TO_SILENCE, Settings, Surroundings
from offline_processor.status_report import notices_of

DAILY_ENTRIES: Final = 1_000_000
"""So many entries of the ledger's chain, the newest, are recomputed every day: some seconds. ``whole`` takes all."""
DAILY_SECONDS: Final = 30.0
"""So long SQLite may look for damage in the ledger's file. ``whole`` lets it come to the end."""

_CLOCK_RULES: Final = ("CLOCK-DOUBT",)
_LEDGER_RULES: Final = ("LEDGER-UNRECONCILED",)
_BACKUP_RULES: Final = ("BACKUP-OLD", "MIRROR-SAME-DISK", "LEDGER-MIRROR-DISK")
_REMEDIES: Final = {
    "BACKUP-OLD": "offline-processor backup --out FILE, onto a medium that is kept elsewhere",
    "KEYS-LOW": "carry the node its next return; it brings new batch keys",
    "KEYS-OVERDUE": "offline-processor run destroys them, also when there is no bundle",
    "KEYS-UNCONFIRMED": "carry it the next return, and its bundle back: that confirms them",
    "MIRROR-SAME-DISK": "put [processor] mirror on a second disk",
    "NODE-SILENT": "ask the online side: is intake running, does spool-sync push, where is the medium?",
    "ORDER-KEY-EXPIRED": "key-ceremony rotate order-key, then carry the next return",
    "ORDER-KEY-EXPIRING": "key-ceremony rotate order-key, then carry the next return",
    "RECONCILE-TO-COME": "have the online side send those bundles again (spool-sync push)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What pre-flight looks at. ``seen``: what this process stands in; ``ticks`` gives seconds that only go forward."""

    settings: Settings
    keystore: Keystore
    ledger: Ledger
    seen: Surroundings
    now: int
    ticks: Callable[[], float]
    whole: bool = False
    progress: Callable[[str, int, int], None] = lambda what, done, total: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """Everything that was looked at, in its order."""

    checks: Sequence[Checked]

    @property
    def findings(self) -> list[Finding]:
        return [finding for check in self.checks for finding in check.findings]

    @property
    def refusals(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity is Severity.REFUSED]

    @property
    def needs_person(self) -> bool:
        return any(finding.severity is Severity.PERSON for finding in self.findings)

    def require(self) -> None:
        """Refuse by the first rule that refuses, naming the others: no order is opened on such a machine."""
        if not self.refusals:
            return
        first, *others = self.refusals
        also = f" (and {', '.join(finding.rule for finding in others)})" if others else ""
        raise ProcessorError(first.rule, f"{first.message}{also}", first.remedy)

    def as_document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "passed": not self.refusals,
            "checks": [
                {
                    "check": check.what,
                    "seen": check.seen,
                    "findings": [
                        {
                            "rule": finding.rule,
                            "severity": finding.severity.value,
                            "message": finding.message,
                            "remedy": finding.remedy,
                        }
                        for finding in check.findings
                    ],
                }
                for check in self.checks
            ],
        }


def look(at: Look) -> Preflight:
    """Ask all questions; what refuses is among the findings."""
    settings, ledger = at.settings, at.ledger
    state = key_state.look(ledger, at.keystore, hold_seconds=settings.processor.hold_hours * 3600, now=at.now)
    notices = notices_of(settings, ledger, state, at.now)
    special = (*_CLOCK_RULES, *_LEDGER_RULES, *_BACKUP_RULES)
    usable = ", ".join(f"{node.node} has {node.usable} batch keys" for node in state.nodes)
    backups = [notice for notice in notices if notice.rule in _BACKUP_RULES]
    checks = [
        _network(at),
        *_line(at.settings),
        _wireless(at),
        _refusing("clock", f"it is {_day_and_time(at.now)}", lambda: _clock_is_right(at)),
        _swap(),
        Checked(
            what="memory",
            seen="no core dumps, and cards can be locked",
            findings=tuple(of_memory(settings.processor.window)),
        ),
        _disks(settings),
        _file(at),
        _chain(at),
        _refusing("ledger is the newest", "nothing is missing in it", lambda: _is_newest(at)),
        Checked(
            what="keys and key rolls",
            seen=usable or "no node is enrolled",
            findings=tuple(_from(notice) for notice in notices if notice.rule not in special),
        ),
        Checked(
            what="backup and mirror", seen="in order", findings=tuple(_from(notice) for notice in backups)
        ),
    ]
    return Preflight(checks=checks)


def _network(at: Look) -> Checked:
    circuit = circuit_of(at.settings.acquirer)
    findings = []
    if at.seen.ways_out:
        findings.append(
            Finding(
                rule="RUN-NOT-ISOLATED",
                severity=Severity.WARNING if at.keystore.rehearsal else Severity.REFUSED,
                message="this machine is connected to something: see the mark NOT ISOLATED"
                if at.keystore.rehearsal
                else f"this machine is connected to something: {'; '.join(at.seen.ways_out)}",
                remedy=TO_ISOLATE,
            )
        )
    if circuit is not None and not at.seen.circuit:
        findings.append(
            Finding(
                rule="CIRCUIT-DOWN",
                severity=Severity.PERSON,
                message=f"no route through {circuit.interface} leads to the acquirer at {circuit.address}",
                remedy="switch the circuit on, or correct [acquirer] address and interface; bundles can be received",
            )
        )
    seen = "loopback only" if circuit is None else f"loopback and the circuit {circuit.interface} only"
    return Checked(what="network", seen=seen, findings=tuple(findings))


def _line(settings: Settings) -> Iterator[Checked]:
    """Whether what was agreed with the acquirer can be used; nothing is connected to, and bundles can be received."""
    if settings.acquirer.driver != "iso8583":
        return
    findings = []
    try:
        check_iso8583(settings.acquirer)
    except ProcessorError as error:
        findings.append(
            Finding(
                rule=error.rule, severity=Severity.PERSON, message=error.message, remedy=error.remedy or ""
            )
        )
    yield Checked(
        what="acquirer's line", seen="profile, certificates and key can be used", findings=tuple(findings)
    )


def _wireless(at: Look) -> Checked:
    findings = [
        Finding(
            rule="RUN-WIRELESS",
            severity=Severity.WARNING if at.keystore.rehearsal else Severity.REFUSED,
            message=radio,
            remedy=TO_SILENCE,
        )
        for radio in at.seen.radios
    ]
    return Checked(what="wireless", seen="no radio is on", findings=tuple(findings))


def _swap() -> Checked:
    accepted = check_swap(OnSwap.ACCEPT)  # where it is not accepted, the passphrase was refused before
    findings = (
        Finding(
            rule="SWAP-NOT-ENCRYPTED",
            severity=Severity.WARNING,
            message=f"{accepted}; the configuration accepts it, or these are a rehearsal's keys",
            remedy="swapoff -a, and take it out of /etc/fstab; or put it on dm-crypt",
        ),
    )
    return Checked(what="swap", seen="none, or encrypted", findings=findings if accepted else ())


def _disks(settings: Settings) -> Checked:
    places = [("the ledger", settings.processor.state), ("the keystore", settings.keystore.path)]
    if settings.processor.mirror is not None:
        places.append(("the mirror", settings.processor.mirror.parent))
    return Checked(
        what="room on the disks",
        seen=f"enough for {', '.join(what for what, _ in places)}",
        findings=tuple(finding for what, folder in places for finding in of_disk(what, folder)),
    )


def _file(at: Look) -> Checked:
    end = at.ticks() + DAILY_SECONDS

    def give_up() -> bool:
        return not at.whole and at.ticks() > end

    found, findings = at.ledger.damage(give_up), []
    if found:
        findings.append(
            Finding(
                rule="LEDGER-DAMAGED",
                severity=Severity.REFUSED,
                message=f"the ledger's file is damaged: {'; '.join(found)[:300]}",
                remedy="stop work; offline-processor mirror --take, or restore the last good backup",
            )
        )
    elif found is None:
        findings.append(
            Finding(
                rule="LEDGER-UNCHECKED",
                severity=Severity.WARNING,
                message=f"the ledger's file was looked at for {DAILY_SECONDS:.0f} seconds and not to its end",
                remedy="offline-processor preflight --whole, when there is time for it",
            )
        )
    return Checked(what="ledger file", seen="undamaged", findings=tuple(findings))


def _chain(at: Look) -> Checked:
    entries = at.ledger.entries
    wanted = entries if at.whole else min(entries, DAILY_ENTRIES)
    first = entries - wanted
    seen = f"all {entries} entries are chained"
    if first:
        seen = f"the newest {wanted} of {entries} entries are chained; preflight --whole looks at all"

    def verify() -> None:
        at.ledger.verify_newest(
            wanted, progress=lambda number: at.progress("checking the ledger", number - first, wanted)
        )

    return _refusing("ledger chain", seen, verify)


def _clock_is_right(at: Look) -> None:
    at.ledger.check_clock(at.now)
    if at.now < at.keystore.made_at:
        raise ProcessorError(
            "CLOCK-BACK",
            f"the clock says {_day_and_time(at.now)}, but the keystore was made {_day_and_time(at.keystore.made_at)}",
            "set the clock, then repeat the command",
        )


def _is_newest(at: Look) -> None:
    check_reconciled(at.ledger)
    check_not_behind(at.ledger, at.keystore.ring)


def _refusing(what: str, seen: str, check: Callable[[], None]) -> Checked:
    """A check that raises where it refuses."""
    try:
        check()
    except RuleError as error:
        refused = Finding(
            rule=error.rule, severity=Severity.REFUSED, message=error.message, remedy=error.remedy
        )
        return Checked(what=what, seen=seen, findings=(refused,))
    return Checked(what=what, seen=seen)


def _from(notice: Notice) -> Finding:
    remedy = _REMEDIES.get(notice.rule, "")
    return Finding(
        rule=notice.rule,
        severity=Severity.PERSON if notice.needs_person else Severity.WARNING,
        message=notice.message.partition(": ")[0] if remedy else notice.message,
        remedy=remedy,
    )


def lines(found: Preflight) -> Iterator[tuple[str, str, str]]:
    """What to show: check, "ok" or a rule, and words."""
    for check in found.checks:
        if not check.findings:
            yield check.what, "ok", check.seen
        for finding in check.findings:
            yield check.what, f"{finding.severity}: {finding.rule}", f"{finding.message}. {finding.remedy}"


def _day_and_time(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
