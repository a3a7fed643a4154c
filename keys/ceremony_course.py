"""A ceremony on its way: what is done at each step, in the order of the plan.

Why here: one place puts passphrases, keys, shares, nodes and the record together.
Must not: put the keystore in its place before the last step, or clean up (keys/ceremony_run.py does).
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never

from keys.ceremony import IDENTITY_NAME, ROLL_NAME, SIGNATURE_NAME, enrol_node, read_node_key
from keys.ceremony_steps import StepKind
from keys.custody import split
from keys.durable import create_durable, fsync_directory, make_directory
from keys.errors import KeysError
from keys.keystore import Keystore
from keys.keystore_index import DAY, Cryptoperiods
from keys.machine import look
from keys.private.passphrase import read_passphrase
from keys.public.fingerprint import matches
from keys.quorum import ask_shares
from keys.record import RECORD_NAME, digest_of
from keys.record_facts import record_act
from keys.record_form import Act, Record, RecordedStep
from keys.recovery import COPY_NAME, copy_beside, prove_copy, put_beside
from keys.share_screen import fingerprint_lines, hand_out

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from keys.ceremony_file import CeremonyPlan
    from keys.ceremony_steps import Step
    from keys.custody import Custody
    from keys.private.locked import LockedBuffer
    from keys.screen import Screen
    from keys.software import Software

PLAN_NAME: Final = "CEREMONY.toml"
_PUBLIC_MODE: Final = 0o644
_BREAK_OFF: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A ceremony that came to its end. ``record_digest`` is the b2sum of the record, for the paper."""

    rehearsal: bool
    keystore: Path
    output: Path
    fingerprint: str
    words: str
    custody_words: str
    record_digest: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """Where everything is made before it is put in its place."""

    keystore: Path
    output: Path


@dataclass(slots=True, kw_only=True)
class Course:
    """A ceremony on its way."""

    plan: CeremonyPlan
    raw: bytes
    software: Software
    clock: Callable[[], int]
    screen: Screen
    aside: Aside
    stack: contextlib.ExitStack
    passphrases: list[LockedBuffer] = field(default_factory=list)
    shares: list[str] = field(default_factory=list, repr=False)
    done: list[RecordedStep] = field(default_factory=list)
    began: int = 0
    _custody: Custody | None = None
    _keystore: Keystore | None = None
    _held: Held | None = None

    def begin(self, step: Step) -> None:
        self.began = self.clock()
        self.screen.page(step.what, "")

    def end(self, heading: str) -> None:
        self.done.append(RecordedStep(heading=heading, began=self.began, ended=self.clock()))

    def do(self, step: Step) -> None:
        match step.kind:
            case StepKind.CHECK_MACHINE:
                self._check_machine()
            case StepKind.CHOOSE_PASSPHRASE:
                self._choose_passphrase(self.plan.passphrase_holders[step.place])
            case StepKind.MAKE_KEYS:
                self._make_keys()
            case StepKind.TAKE_SHARE:
                self._take_share(step.place)
            case StepKind.REHEARSE_RECOVERY:
                self._rehearse_recovery(step.what)
            case StepKind.ENROL_NODE:
                self._enrol_node(step.place)
            case StepKind.READ_FINGERPRINT:
                self._read_fingerprint()
            case StepKind.SIGN_RECORD:
                self._sign_record()
            case _:
                assert_never(step.kind)

    def held(self) -> Held:
        if self._held is None:
            raise AssertionError("the last step of a ceremony signs the record")
        return self._held

    @property
    def is_held(self) -> bool:
        return self._held is not None

    @property
    def keystore(self) -> Keystore:
        if self._keystore is None:
            raise AssertionError("the keys are made before they are used")
        return self._keystore

    @property
    def custody(self) -> Custody:
        if self._custody is None:
            raise AssertionError("the keys are made before their shares")
        return self._custody

    def _check_machine(self) -> None:
        plan, screen = self.plan, self.screen
        screen.say(
            f"Ceremony     {plan.title}{f', {plan.place}' if plan.place else ''}",
            *look(self.began, plan.on_swap).lines(),
            f"Software     {self.software.version}",
            f"             {self.software.digest}",
            f"File         {digest_of(self.raw)}  (b2sum -l 256)",
            *(f"{', '.join(person.roles)}: {person.name}" for person in plan.people),
            "",
            "No cable and no radio is on, only these people are in the room, no camera sees the screen.",
        )
        if not screen.confirm("Is all of this so"):
            raise KeyboardInterrupt

    def _choose_passphrase(self, name: str) -> None:
        while True:
            prompt = f"New {'REHEARSAL ' if self.plan.rehearsal else ''}passphrase of {name}"
            try:
                chosen = read_passphrase(prompt=prompt, new=True, on_swap=self.plan.on_swap)
            except KeysError as error:
                if not error.rule.startswith("KEY-PASSPHRASE-") or error.rule == "KEY-PASSPHRASE-SOURCE":
                    raise
                self.screen.say(f"{error.rule}: {error.message}; {error.remedy}.", "")
                continue
            self.passphrases.append(self.stack.enter_context(chosen))
            return

    def _make_keys(self) -> None:
        plan, periods = self.plan, self.plan.cryptoperiods
        self._custody, key, self.shares = split(plan.custody.threshold, len(plan.custody.custodians))
        key.close()  # only the shares rebuild it, and the next steps prove that they do
        make_directory(self.aside.keystore.parent)
        self._keystore = self.stack.enter_context(
            Keystore.create(
                self.aside.keystore,
                self.passphrases,
                rehearsal=plan.rehearsal,
                now=self.began,
                custody=self._custody,
                ring_backend=plan.keystore.ring_secret,
                periods=Cryptoperiods(
                    order_seal=periods.order_seal * DAY,
                    order_destroy=periods.order_destroy * DAY,
                    batch_seal=periods.batch_seal * DAY,
                    batch_destroy=periods.batch_destroy * DAY,
                ),
            )
        )
        self.screen.say("The keys are made: offline identity, order key, vault key, key ring, custody key.")
        self.screen.wait("Call the custodians, one by one")

    def _take_share(self, place: int) -> None:
        custodian = self.plan.custody.custodians[place]
        hand_out(
            self.screen,
            self.shares[place],
            number=place + 1,
            custodian=custodian,
            custody=self.custody,
            title=self.plan.title,
        )
        self.shares[place] = ""

    def _rehearse_recovery(self, purpose: str) -> None:
        key = ask_shares(self.screen, self.custody, purpose)
        with contextlib.closing(key):
            prove_copy(self.keystore, key, self.clock())
        self.screen.page(
            f"The shares of {self.custody.threshold} custodians rebuilt the custody key,",
            "and it opened the custody copy with the keys in it.",
        )
        self.screen.wait("Everybody may look again")

    def _enrol_node(self, place: int) -> None:
        node = self.plan.nodes[place]
        key = read_node_key(node.public_key)
        while not matches(
            key, spoken := self.screen.ask(f"Fingerprint of {node.name}, hex or words, as it is read out")
        ):
            self.screen.say(
                "That is not the fingerprint of the key in the file. Have it read out again; if it still differs,",
                "the file was exchanged: break off with Ctrl-C.",
            )
        out = self.aside.output / f"node-{node.name}"
        enrol_node(
            self.keystore,
            node=node.name,
            public_key=key,
            spoken=spoken,
            out=out,
            batch_keys=node.batch_keys,
            now=self.clock(),
        )
        self.screen.wait(f"Node {node.name} is enrolled")

    def _read_fingerprint(self) -> None:
        identity = self.keystore.identity.public_key
        while True:
            self.screen.say(
                *fingerprint_lines("offline identity", identity),
                *fingerprint_lines("custody key", self.custody.public_key),
            )
            self.screen.wait("When both are read out and written down")
            self.screen.page("The witness reads the fingerprint of the offline identity from the paper.")
            if matches(identity, self.screen.ask("Type it, hex or words")):
                return
            self.screen.page("That is not the fingerprint of the offline identity. Correct the paper.", "")

    def _sign_record(self) -> None:
        plan, keystore, out = self.plan, self.keystore, self.aside.output
        now = self.clock()
        make_directory(out, 0o755)
        content = {PLAN_NAME: self.raw, COPY_NAME: keystore.custody_copy(now)}
        for name, data in content.items():
            create_durable(out / name, data, _PUBLIC_MODE)
        of_nodes = [
            f"node-{node.name}/{name}"
            for node in plan.nodes
            for name in (IDENTITY_NAME, ROLL_NAME, SIGNATURE_NAME)
        ]
        self.end(self.screen.heading)
        record = record_act(
            keystore,
            out,
            act=Act.CEREMONY,
            title=plan.title,
            place=plan.place,
            people=plan.people,
            custodians=plan.custody.custodians,
            files=[*content, *of_nodes],
            software=self.software,
            passphrases=plan.passphrases,
            steps=tuple(self.done),
            input_digest=digest_of(self.raw),
            now=now,
        )
        make_directory(self.plan.output.parent)
        self.keystore.close()
        # All or nothing, and known which: no signal comes between the two places.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _BREAK_OFF)
        try:
            self._put_in_place()
            self._held = self._summary(record)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _put_in_place(self) -> None:
        os.rename(self.aside.output, self.plan.output)
        fsync_directory(self.plan.output.parent)
        # Last: a keystore in its place means that its ceremony was held to the end.
        os.rename(self.aside.keystore, self.plan.keystore.path)
        fsync_directory(self.plan.keystore.path.parent)
        with contextlib.suppress(OSError):  # it is held; `status` says so when this copy is missing
            put_beside(copy_beside(self.plan.keystore.path), (self.plan.output / COPY_NAME).read_bytes())

    def _summary(self, record: Record) -> Held:
        if record.custody is None:
            raise AssertionError("a ceremony makes a custody key")
        return Held(
            rehearsal=record.rehearsal,
            keystore=self.plan.keystore.path,
            output=self.plan.output,
            fingerprint=record.identity.fingerprint,
            words=record.identity.words,
            custody_words=record.custody.key.words,
            record_digest=digest_of((self.plan.output / RECORD_NAME).read_bytes()),
            nodes=tuple(node.node for node in record.nodes),
        )
