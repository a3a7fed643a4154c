"""The steps of a ceremony, as data: what each is called, who does it, what to do.

Why here: the tool, its --check and the runbook keys/CEREMONY.md must name and number the same steps.
Must not: do any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from keys.ceremony_file import Duty

if TYPE_CHECKING:
    from keys.ceremony_file import CeremonyPlan


class StepKind(StrEnum):
    """The title of each kind of step; each has a section of this name in keys/CEREMONY.md."""

    CHECK_MACHINE = "check the machine"
    CHOOSE_PASSPHRASE = "choose a passphrase"  # noqa: S105  a title
    MAKE_KEYS = "make the keys"
    TAKE_SHARE = "take a share"
    REHEARSE_RECOVERY = "rehearse the recovery"
    ENROL_NODE = "enrol a node"
    READ_FINGERPRINT = "read out the fingerprint"
    SIGN_RECORD = "sign the record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step. ``who`` names roles and people; ``place`` counts steps of the same kind from 0."""

    kind: StepKind
    who: str
    what: str
    place: int = 0

    def heading(self, number: int, total: int) -> str:
        """As the screen and the paper say it: ``Step 4 of 9 - custodian Ada: take a share``."""
        return f"Step {number} of {total} - {self.who}: {self.kind}"


def steps_of(plan: CeremonyPlan) -> list[Step]:
    """All steps of this ceremony, in order."""
    administrator = f"administrator {plan.having(Duty.ADMINISTRATOR)[0]}"
    witness = f"witness {_watching(plan)}"
    both = f"{administrator} and {witness}"
    threshold = plan.custody.threshold
    steps = [
        Step(
            kind=StepKind.CHECK_MACHINE,
            who=both,
            what="Compare what the screen says about this machine with what you see. Nothing is made yet.",
        )
    ]
    steps += [
        Step(
            kind=StepKind.CHOOSE_PASSPHRASE,
            who=f"operator {name}",
            what=f"Everybody but {name} looks away. Type a new passphrase, twice; it is not shown.",
            place=place,
        )
        for place, name in enumerate(plan.passphrase_holders)
    ]
    steps.append(
        Step(
            kind=StepKind.MAKE_KEYS,
            who=administrator,
            what="The keys are made now. They are kept aside until the last step is done.",
        )
    )
    steps += [
        Step(
            kind=StepKind.TAKE_SHARE,
            who=f"custodian {name}",
            what=(
                f"Only {name} looks at the screen. Write the numbered words on your sheet, by hand; "
                "they are shown to you alone, and then you type them back."
            ),
            place=place,
        )
        for place, name in enumerate(plan.custody.custodians)
    ]
    steps.append(
        Step(
            kind=StepKind.REHEARSE_RECOVERY,
            who=f"any {threshold} custodians",
            what="One after the other, alone at the screen, type your share from your sheet.",
        )
    )
    steps += [
        Step(
            kind=StepKind.ENROL_NODE,
            who=administrator,
            what=(
                f"Have the administrator of node {node.name} read out the fingerprint of its key, "
                "by telephone or from paper, and type what you hear."
            ),
            place=place,
        )
        for place, node in enumerate(plan.nodes)
    ]
    steps += [
        Step(
            kind=StepKind.READ_FINGERPRINT,
            who=both,
            what="Read the fingerprint out, write it on paper, and type it back from the paper.",
        ),
        Step(
            kind=StepKind.SIGN_RECORD,
            who=both,
            what="The record is written and signed, and the keys are put in their place.",
        ),
    ]
    return steps


def _watching(plan: CeremonyPlan) -> str:
    return next(name for name in plan.having(Duty.WITNESS) if name not in plan.having(Duty.ADMINISTRATOR))
