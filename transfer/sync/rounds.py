"""One push and one pull as every caller does them: the drop admitted, the work done, the medium settled.

Why here: the verbs and watch must treat a medium alike, so that none of them forgets a check.
Must not: read a clock or the terminal; the command lines do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from keys.errors import RuleError
from transfer.config import NodeConfig, SyncConfig
from transfer.errors import TransferError
from transfer.register import Register
from transfer.sync import trust
from transfer.sync.checking import check_kept
from transfer.sync.drop import Progress, list_units, no_progress
from transfer.sync.inbound import Pull, PullReport
from transfer.sync.medium import Direction, Medium, admit
from transfer.sync.node import Node
from transfer.sync.notices import DAY
from transfer.sync.outbound import Push, Sign, write_bundle
from transfer.sync.push_report import PushReport
from transfer.wire.manifest import ENVELOPES_NAME, bundle_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendReport:
    """A bundle that was written again. ``already_there``: it lay there whole."""

    sequence: int
    orders: int
    name: str
    already_there: bool
    safe_to_remove: str
    refused: list[TransferError] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """A node with its drops. ``progress`` is told of every bundle that is written.

    ``patience``: seconds to wait for another sync of this node to end.
    """

    settings: NodeConfig
    sync: SyncConfig
    progress: Progress = no_progress
    patience: float = 0.0

    @property
    def node(self) -> Node:
        return Node.of(self.settings)

    @contextmanager
    def alone(self) -> Iterator[Register]:
        """The open register, while no other sync of this node runs."""
        with self.node.alone(patience=self.patience), self.node.register() as register:
            yield register

    def medium_in(self) -> Medium:
        """The drop towards the offline side, if it is what it has to be; raises as ``admit`` does."""
        return self._admit(Direction.IN)

    def medium_out(self) -> Medium:
        """The drop that comes from the offline side."""
        return self._admit(Direction.OUT)

    def push(self, register: Register, sign: Sign, *, now: int, empty: bool = False) -> PushReport:
        """Cut, write, and say when the medium may be removed; run it inside ``alone()``."""
        node, state = self.node, self.settings.state
        trust.node_identity(state)
        roll = trust.load_roll(state, node=node.node)
        medium = self.medium_in()
        report = Push(
            node=node,
            register=register,
            spool=node.spool(),
            roll=roll,
            sign=sign,
            now=now,
            sign_of_life=self.settings.expect_return_days * DAY // 2,
            progress=self.progress,
            check_drop=medium.check,
        ).run(medium.drop, empty=empty)
        try:
            report.refused += medium.strangers(node.node)
            if not report.unwritten and not _failed(report.refused):
                report.safe_to_remove = medium.settle()
        except TransferError as error:
            report.refused.append(error)  # what was cut and written is told all the same
        return report

    def pull(self, register: Register) -> PullReport:
        """Take the newest return in; run it inside ``alone()``."""
        node = self.node
        medium = self.medium_out()
        report = Pull(node=node, register=register, spool=node.spool()).run(medium.drop)
        report.refused += medium.strangers(node.node)
        return report

    def resend(self, register: Register, sequence: int) -> ResendReport:
        """Write a kept bundle again, whatever the drop holds of others; run it inside ``alone()``.

        ``BUNDLE-UNKNOWN``: never made. ``BUNDLE-SETTLED``: its receipt came and its envelopes are deleted.
        ``OUTBOX-DAMAGED``: our own copy is not what was signed.
        """
        node = self.node
        row = register.bundle(sequence)
        if row is None:
            last = register.last_sequence()
            raise TransferError(
                "BUNDLE-UNKNOWN",
                f"this node never made bundle {sequence}; its last is {last}",
                "spool-sync status lists the bundles that are on their way",
            )
        place = node.bundle(sequence)
        if not (place / ENVELOPES_NAME).exists():
            raise TransferError(
                "BUNDLE-SETTLED",
                f"bundle {sequence} cannot be sent again: its receipt came ({row.outcome or 'no outcome known'}), "
                "and its envelopes were deleted after that",
                "nothing needs to be done: the offline side has a durable outcome for each of its orders",
            )
        manifest = check_kept(node, sequence)
        medium = self.medium_in()
        fresh = write_bundle(node, sequence, medium.drop, self.progress)
        return ResendReport(
            sequence=sequence,
            orders=manifest.count,
            name=bundle_name(sequence),
            already_there=not fresh,
            safe_to_remove=medium.settle(),
            refused=medium.strangers(node.node),
        )

    def newest_offered(self, medium: Medium) -> str:
        """The name of the newest return on the drop, "" for none; a cheap look."""
        return max(list_units(medium.drop, self.node.node, "r"), default="")

    def _admit(self, direction: Direction) -> Medium:
        drop = self.sync.drop_in if direction is Direction.IN else self.sync.drop_out
        return admit(
            drop, direction, shop=self.sync.media_of, nodes=(self.node.node,), home=self.settings.state
        )


def _failed(refused: Sequence[RuleError]) -> bool:
    """True when something could not be written; what merely lies there does not make the medium unsafe."""
    return any(error.rule != "MEDIUM-UNEXPECTED" for error in refused)
