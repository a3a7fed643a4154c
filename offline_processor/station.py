"""The workstation as its commands find it: settings, ledger and mirror, open keystore, and the marks of every screen.

Why here: `run`, the custody commands and `status` open the same things by the same checks.
Must not: read clock or environment itself, or go on when the machine is not isolated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from keys import config as configuration
from keys import console
from keys.config import KeystoreConfig
from keys.durable import make_directory
from keys.keystore import Keystore
from keys.passphrases import Descriptors, keystore_passphrases
from keys.private.locked import harden_process
from keys.private.swap import OnSwap, check_swap
from offline_processor.circuit import circuit_of
from offline_processor.config import (
    AcquirerConfig,
    ChargingConfig,
    ExportsConfig,
    OperatorConfig,
    ProcessorConfig,
)
from offline_processor.confinement import confine
from offline_processor.errors import ProcessorError
from offline_processor.isolation import leads_to, radios, ways_out
from offline_processor.ledger.ledger import Ledger
from offline_processor.trail import Trail

TO_ISOLATE = (
    "pull the cable, take the interface down (ip link set NAME down), or start it in a network namespace of its own:"
    " unshare -rn offline-processor …"
)
TO_SILENCE = "switch it off in the firmware or take it out; until then: rfkill block all"
REHEARSAL = "REHEARSAL: throwaway keys and a simulated acquirer; nobody is charged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The offline configuration file, and the trail of the command that has read it."""

    keystore: KeystoreConfig
    processor: ProcessorConfig
    acquirer: AcquirerConfig
    charging: ChargingConfig
    exports: ExportsConfig
    operator: OperatorConfig
    trail: Trail

    @property
    def ledger(self) -> Path:
        return self.processor.state / "ledger.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """What the command line gives to its commands: the environment, the clock (Unix seconds), and their trail."""

    environ: Mapping[str, str]
    clock: Callable[[], int]
    trail: Trail

    def settings(self, path: Path) -> Settings:
        """The settings in this file, with overrides from the environment."""
        sections = configuration.load(
            path,
            {
                "keystore": KeystoreConfig,
                "processor": ProcessorConfig,
                "acquirer": AcquirerConfig,
                "charging": ChargingConfig,
                "exports": ExportsConfig,
                "operator": OperatorConfig,
            },
            self.environ,
        )
        settings = Settings(**sections, trail=self.trail)
        self.trail.who = self.trail.who or settings.operator.name
        self.trail.reopen = lambda: _ledger_of_trail(settings)
        return settings


def open_ledger(settings: Settings, *, renew_mirror: bool = False) -> Ledger:
    """The ledger and its mirror; made when there is none yet."""
    make_directory(settings.processor.state)
    return Ledger(settings.ledger, mirror=settings.processor.mirror, renew_mirror=renew_mirror)


def existing_ledger(settings: Settings, *, renew_mirror: bool = False) -> Ledger:
    """The ledger that is there already; ``LEDGER-MISSING``."""
    if not settings.ledger.is_file() and not _is_mirrored(settings):
        raise ProcessorError(
            "LEDGER-MISSING",
            f"there is no ledger in {settings.processor.state}",
            "correct [processor] state; a first `offline-processor run` makes the ledger",
        )
    return open_ledger(settings, renew_mirror=renew_mirror)


@contextmanager
def ledger_of(station: Station, settings: Settings) -> Iterator[Ledger]:
    """The ledger, at a time that is not before its newest entry; no key is opened."""
    ledger = existing_ledger(settings)
    try:
        ledger.check_clock(station.clock())
        yield ledger
    finally:
        ledger.close()


def ledger_to_read(settings: Settings) -> tuple[Ledger, ProcessorError | None]:
    """The ledger for a command that writes nothing; without its mirror when that cannot be had, and why.

    ``LEDGER-MISSING``, or as ``Ledger`` raises.
    """
    try:
        return existing_ledger(settings), None
    except ProcessorError as error:
        if error.rule != "LEDGER-MIRROR-DISK" or not settings.ledger.is_file():
            raise
        return Ledger(settings.ledger), error


def _ledger_of_trail(settings: Settings) -> Ledger | None:
    """The ledger for a command's last word; none where there is no keystore: a restore cut short goes on from that."""
    there = settings.ledger.is_file() and settings.keystore.path.exists()
    return open_ledger(settings) if there else None


def _is_mirrored(settings: Settings) -> bool:
    return settings.processor.mirror is not None and settings.processor.mirror.is_file()


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What this process stands in, in words: ways out of the machine, radios, and what it could not give up.

    ``circuit``: where one is configured, whether it leads to the acquirer.
    """

    ways_out: Sequence[str]
    radios: Sequence[str]
    circuit: bool | None
    kept: Sequence[str] = ()


def look_around(settings: Settings) -> Surroundings:
    """The machine as it is, before anything was given up."""
    circuit = circuit_of(settings.acquirer)
    return Surroundings(
        ways_out=ways_out(circuit),
        radios=radios(),
        circuit=None if circuit is None else leads_to(circuit),
    )


def confined(settings: Settings, *, charges: bool) -> Surroundings:
    """Look around, then give up what is not needed; only to charge over a line needs a network."""
    seen = look_around(settings)
    return replace(seen, kept=confine(needs_network=charges and settings.acquirer.driver == "iso8583"))


@contextmanager
def open_station(
    settings: Settings, fds: Descriptors, *, as_json: bool, seen: Surroundings | None = None
) -> Iterator[tuple[Keystore, Ledger, list[str]]]:
    """An open keystore and ledger on a machine that was checked, with its marks; the ledger tells of the command.

    The marks are shown here, before anything else is said, so that no command can leave them out; with
    ``as_json`` they belong into the command's document instead, as ``marks``. ``seen``: from before the process
    gave up its network.
    """
    harden_process()
    seen = seen or look_around(settings)
    with keystore_passphrases(settings.keystore, fds) as passphrases:
        keystore = Keystore.open(settings.keystore.path, passphrases)
    with keystore:
        marks = check_machine(settings, seen, rehearsal=keystore.rehearsal)
        show_marks(marks, as_json=as_json)
        ledger = open_ledger(settings)
        try:
            settings.trail.begin(ledger, keystore)
            try:
                yield keystore, ledger, marks
            except BaseException:
                settings.trail.give_up(ledger, keystore)
                raise
            settings.trail.settle(ledger, keystore)
        finally:
            ledger.close()


def show_marks(marks: list[str], *, as_json: bool) -> None:
    """Tell a person what this machine and its keys are not good for; a program reads it in the document."""
    for mark in [] if as_json else marks:
        console.warn(mark, style="bold yellow")


def check_machine(settings: Settings, seen: Surroundings, *, rehearsal: bool) -> list[str]:
    """The marks of this machine.

    ``RUN-NOT-ISOLATED``, ``RUN-WIRELESS`` or ``RUN-SIMULATOR`` where real keys must not be used.
    """
    marks = [REHEARSAL] if rehearsal else []
    if (swap := check_swap(OnSwap.ACCEPT)) is not None:  # refused with the passphrase, unless accepted
        marks.append(swap)
    out, on_air = "; ".join(seen.ways_out), "; ".join(seen.radios)
    if out and not rehearsal:
        raise ProcessorError("RUN-NOT-ISOLATED", f"this machine is connected to something: {out}", TO_ISOLATE)
    if out:
        marks.append(f"NOT ISOLATED: {out}")
    if on_air and not rehearsal:
        raise ProcessorError("RUN-WIRELESS", f"this machine can be reached by radio: {on_air}", TO_SILENCE)
    if on_air:
        marks.append(f"WIRELESS: {on_air}")
    marks.extend(f"NOT CONFINED: {kept}" for kept in seen.kept)
    if not rehearsal and settings.acquirer.driver == "simulator":
        raise ProcessorError(
            "RUN-SIMULATOR",
            "the simulated acquirer charges nobody, and this keystore is a real one",
            "use a rehearsal keystore (key-ceremony init --rehearsal) with the simulator",
        )
    return marks
