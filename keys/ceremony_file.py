"""CEREMONY.toml: the one input of a ceremony, read and judged whole before a key is touched.

Why here: people can read and sign one file beforehand; a ceremony of many options nobody can check.
Must not: make, open or overwrite anything.
"""

from __future__ import annotations

import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec

from keys.ceremony import DEFAULT_BATCH_KEYS, read_node_key
from keys.config import Risk
from keys.custody import FEWEST, MOST
from keys.errors import KeysError
from keys.keystore_index import BATCH_DESTROY, BATCH_SEAL, DAY, ORDER_DESTROY, ORDER_SEAL
from keys.private.swap import OnSwap
from keys.public.roll import Node
from keys.ring_index import RingBackend
from keys.toml_words import in_words

_SIZE_LIMIT: Final = 64 * 1024
_LONGEST_DAYS: Final = 730
_LONGEST_BATCH_DAYS: Final = 90
_PEOPLE_LIMIT: Final = 64
_NODES_LIMIT: Final = 64

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
Days = Annotated[int, msgspec.Meta(ge=1, le=_LONGEST_DAYS)]


class Duty(StrEnum):
    """What a person does in a ceremony. One person may have several."""

    ADMINISTRATOR = "administrator"  # types at the keyboard
    OPERATOR = "operator"  # chooses and keeps a passphrase
    CUSTODIAN = "custodian"  # takes and keeps a share
    WITNESS = "witness"  # watches, compares, signs the paper


_CHOICES: Final = {"roles": Duty, "ring_secret": RingBackend, "accept_risk": Risk}


class Person(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is there, and as what."""

    name: Text
    roles: Annotated[tuple[Duty, ...], msgspec.Meta(min_length=1, max_length=4)]


class KeystorePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the keys will be, and what keeps the ring secret."""

    path: Path
    ring_secret: RingBackend = RingBackend.FILE


class Periods(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Cryptoperiods in days: how long a key is sealed to, and when it is destroyed."""

    order_seal: Days = ORDER_SEAL // DAY
    order_destroy: Days = ORDER_DESTROY // DAY
    batch_seal: Days = BATCH_SEAL // DAY
    batch_destroy: Days = BATCH_DESTROY // DAY


class CustodyPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many shares rebuild the custody key, and who takes one."""

    threshold: Annotated[int, msgspec.Meta(ge=FEWEST, le=MOST)]
    custodians: Annotated[tuple[Text, ...], msgspec.Meta(min_length=FEWEST, max_length=MOST)]


class NodePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An intake node that is enrolled in this ceremony; ``public_key`` is its identity.pub."""

    name: Node
    public_key: Path
    batch_keys: Annotated[int, msgspec.Meta(ge=1, le=1000)] = DEFAULT_BATCH_KEYS


class CeremonyPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Paths are relative to its directory."""

    format: Annotated[int, msgspec.Meta(ge=1, le=1)]
    title: Text
    place: Text | None = None
    rehearsal: bool
    output: Path
    passphrases: Annotated[int, msgspec.Meta(ge=1, le=2)] = 1
    accept_risk: tuple[Risk, ...] = ()
    keystore: KeystorePlan
    cryptoperiods: Periods = msgspec.field(default_factory=Periods)
    custody: CustodyPlan
    people: Annotated[tuple[Person, ...], msgspec.Meta(min_length=1, max_length=_PEOPLE_LIMIT)]
    nodes: Annotated[tuple[NodePlan, ...], msgspec.Meta(max_length=_NODES_LIMIT)] = ()

    def having(self, duty: Duty) -> tuple[str, ...]:
        """The names of those who have this duty, in the file's order."""
        return tuple(person.name for person in self.people if duty in person.roles)

    @property
    def on_swap(self) -> OnSwap:
        """What to do where swap is not encrypted."""
        if self.rehearsal:
            return OnSwap.REHEARSAL
        return OnSwap.ACCEPT if Risk.UNENCRYPTED_SWAP in self.accept_risk else OnSwap.REFUSE

    @property
    def passphrase_holders(self) -> tuple[str, ...]:
        """The first operators: each chooses one passphrase."""
        return self.having(Duty.OPERATOR)[: self.passphrases]


def read_plan(path: Path) -> tuple[CeremonyPlan, bytes]:
    """The plan and the very bytes that it was read from.

    Raises ``CEREMONY-FILE`` (unreadable, unknown field, wrong value), ``CEREMONY-PEOPLE`` (who is named does
    not fit together), ``CEREMONY-EXISTS``, ``KEYSTORE-EXISTS`` or ``KEY-PUBLIC``.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        remedy = "name the ceremony file; keys/CEREMONY.md shows one"
        raise KeysError("CEREMONY-FILE", f"cannot read {path}: {error.strerror}", remedy) from error
    plan = parse_plan(raw, path.resolve().parent)
    check_people(plan)
    _check_outputs(plan)
    for node in plan.nodes:
        read_node_key(node.public_key)
    return plan, raw


def parse_plan(raw: bytes, base: Path) -> CeremonyPlan:
    """The typed content of a ceremony file whose paths are relative to ``base``. ``CEREMONY-FILE``."""
    if len(raw) > _SIZE_LIMIT:
        raise _unfit(f"it is larger than {_SIZE_LIMIT} bytes")

    def path_of(wanted: type, value: object) -> object:
        if wanted is Path and isinstance(value, str) and value and value.isprintable():
            return Path(os.path.normpath(base / Path(value).expanduser()))
        raise ValueError("a path is wanted")

    try:
        document = tomllib.loads(raw.decode("utf-8"))
        plan = msgspec.convert(document, CeremonyPlan, strict=True, dec_hook=path_of)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _unfit(f"it is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise _unfit(in_words(error, _CHOICES)) from error
    except (RecursionError, RuntimeError) as error:
        raise _unfit("it is not TOML that can be read") from error
    _check_values(plan)
    return plan


def _check_values(plan: CeremonyPlan) -> None:
    texts = [plan.title, plan.place or "", *(person.name for person in plan.people), *plan.custody.custodians]
    for text in texts:
        if not text.isprintable() or text != text.strip():
            raise _unfit(f"{text!r} has characters that a screen does not show, or blanks around it")
    periods = plan.cryptoperiods
    if periods.order_seal >= periods.order_destroy:
        raise _unfit("cryptoperiods.order_seal must be shorter than order_destroy")
    if not periods.batch_seal < periods.batch_destroy <= _LONGEST_BATCH_DAYS:
        raise _unfit(
            "cryptoperiods.batch_seal must be shorter than batch_destroy, and that at most "
            f"{_LONGEST_BATCH_DAYS} days"
        )
    if len({node.name for node in plan.nodes}) != len(plan.nodes):
        raise _unfit("a node is named twice")


def check_people(plan: CeremonyPlan) -> None:
    """Refuse (``CEREMONY-PEOPLE``) a cast with which the ceremony could not be held."""
    names = [person.name for person in plan.people]
    custodians = plan.custody.custodians
    faults = []
    if len({name.casefold() for name in names}) != len(names):
        faults.append("two people have the same name")
    if any(len(set(person.roles)) != len(person.roles) for person in plan.people):
        faults.append("a person has a role twice")
    if len(set(custodians)) != len(custodians):
        faults.append("a custodian is named twice: one person keeps one share")
    if set(custodians) != set(plan.having(Duty.CUSTODIAN)):
        faults.append("custody.custodians and the people with the role custodian must be the same names")
    if plan.custody.threshold > len(custodians):
        faults.append(f"{plan.custody.threshold} shares are needed and only {len(custodians)} are made")
    if not plan.having(Duty.ADMINISTRATOR):
        faults.append("nobody is administrator")
    if len(plan.having(Duty.OPERATOR)) < plan.passphrases:
        faults.append(f"{plan.passphrases} passphrases need as many people with the role operator")
    if not set(plan.having(Duty.WITNESS)) - set(plan.having(Duty.ADMINISTRATOR)):
        faults.append("nobody is witness who is not administrator too")
    if faults:
        raise KeysError(
            "CEREMONY-PEOPLE",
            f"the ceremony file names people that do not fit together: {'; '.join(faults)}",
            "correct the file and let everybody read it again; no key was touched",
        )


def _check_outputs(plan: CeremonyPlan) -> None:
    if os.path.lexists(plan.keystore.path):
        remedy = "keys are never overwritten: choose another keystore.path, or move the old one away"
        raise KeysError("KEYSTORE-EXISTS", f"{plan.keystore.path} exists already", remedy)
    if os.path.lexists(plan.output):
        raise KeysError("CEREMONY-EXISTS", f"{plan.output} exists already", "choose another output directory")
    if plan.output.is_relative_to(plan.keystore.path) or plan.keystore.path.is_relative_to(plan.output):
        raise _unfit("output and keystore.path must not lie in each other")


def _unfit(reason: str) -> KeysError:
    return KeysError(
        "CEREMONY-FILE",
        f"this is no ceremony file: {reason}",
        "correct it; no key was touched (--check tries it)",
    )
