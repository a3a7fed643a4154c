"""The rules by which a node follows the offline identity from one key to the next (FORMAT.md, section 11).

Why here: who may sign a return decides what is believed of all that comes back, so it stands alone and pure.
Must not: touch a file; what it decides is made durable by the trust module.

    PINNED(old) --return of old with the handover--> ANNOUNCED(old, new) --first return of new--> PINNED(new)

While a handover is announced the old identity is believed only in returns that bring this very handover again; the
first return of the new one ends all trust in the old.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from keys.public.announcement import KeyRevocation, handover_is_good, revocation_is_good
from keys.public.minisign import MinisignPublicKey, is_cut_short, signature_matches
from transfer.errors import TransferError
from transfer.wire.manifest import RETURN_COMMENT, ReturnManifest
from transfer.wire.records import Handover

_ASK = "ask the offline operator by telephone; nothing of it was used"


class Step(StrEnum):
    """What a return does to the identity that a node trusts."""

    NONE = "none"
    ANNOUNCED = "announced"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identities:
    """The offline identities that a node knows, each 32 bytes.

    ``handover``: the one that was taken and not completed yet. ``before``: the identity that the pinned one followed;
    a roll that it signed may still lie on the disk. ``former``: all that were trusted once and never will be again
    without a person.
    """

    pinned: bytes
    handover: Handover | None = None
    before: bytes | None = None
    former: frozenset[bytes] = field(default_factory=frozenset)

    @property
    def announced(self) -> Handover | None:
        """The handover that was taken and that no return of the new identity has completed.

        One whose old identity is not the pinned one is what a crash left of a step that is being repeated.
        """
        return self.handover if self.handover and _old(self.handover) == self.pinned else None

    @property
    def successor(self) -> bytes | None:
        """The announced identity."""
        return _new(self.announced) if self.announced else None

    @property
    def of_rolls(self) -> tuple[bytes, ...]:
        """Under which of these a roll that was taken in is still good, the most likely one first."""
        return tuple(key for key in (self.pinned, self.successor, self.before) if key is not None)


def signer_of(known: Identities, raw: bytes, signature: str, *, source: object) -> bytes:
    """Which trusted identity has signed a return's manifest: ``RETURN-SIGNATURE``, or ``RETURN-FORMER``."""
    for key in (known.pinned, known.successor):
        if key is not None and _signed(key, raw, signature):
            return key
    if any(_signed(key, raw, signature) for key in known.former if key != known.pinned):
        raise TransferError(
            "RETURN-FORMER",
            f"{source} is signed by an offline identity that this node trusted before and trusts no more",
            "somebody holds an old key, or the offline side was restored from a copy older than its rotation: "
            "ask its operator; only `intake trust DIR --replace` makes this node trust another identity",
        )
    if is_cut_short(signature):
        raise TransferError(
            "RETURN-SIGNATURE",
            f"{source} is not complete: its signature file is cut short, as an interrupted writer leaves it",
            "nothing of it was used; the next offline-processor run writes it again. If not, take another medium",
        )
    raise TransferError(
        "RETURN-SIGNATURE",
        f"{source} is not signed by the offline identity that this node trusts",
        "find out where this medium comes from; nothing of it was used",
    )


def judge(
    known: Identities, signer: bytes, manifest: ReturnManifest, handovers: Iterable[Handover]
) -> tuple[Identities, Step]:
    """What a return of ``signer`` with these handover records makes of the identities.

    Raises ``HANDOVER-SIGNATURE``, ``HANDOVER-FROM``, ``HANDOVER-EPOCH``, ``HANDOVER-BACK``, ``HANDOVER-CONFLICT``,
    ``HANDOVER-EARLY`` or ``HANDOVER-MISSING``.
    """
    offered = _only_one(list(handovers), signer, manifest)
    announced = known.announced
    if announced and signer == known.pinned:
        if offered is None:
            raise _refusal("HANDOVER-MISSING", "a return of the old identity without the handover")
        if offered != announced:
            raise _refusal("HANDOVER-CONFLICT", "another handover than the one that this node has taken")
        return known, Step.NONE
    step = Step.NONE
    if announced:
        if manifest.time < announced.start:
            raise _refusal("HANDOVER-EARLY", "a return that the new identity signed before its time")
        known = Identities(pinned=signer, before=known.pinned, former=known.former | {known.pinned})
        step = Step.COMPLETED
    if offered is not None:
        if _new(offered) in known.former:
            raise _refusal("HANDOVER-BACK", "a handover back to an identity that is trusted no more")
        known = replace(known, handover=offered)
        step = Step.ANNOUNCED if step is Step.NONE else step
    return known, step


def _only_one(brought: list[Handover], signer: bytes, manifest: ReturnManifest) -> Handover | None:
    for handover in brought:
        check_handover(handover, signer=signer)
        if handover.epoch > manifest.epoch:
            raise _refusal("HANDOVER-EPOCH", "a handover of a later epoch than the return that brings it")
    if len(brought) > 1:
        raise _refusal("HANDOVER-CONFLICT", "a return that brings more than one handover")
    return brought[0] if brought else None


def check_handover(handover: Handover, *, signer: bytes) -> None:
    """``HANDOVER-SIGNATURE`` unless both have signed it; ``HANDOVER-FROM`` unless ``signer`` is the old identity."""
    if not handover_is_good(handover):
        raise _refusal("HANDOVER-SIGNATURE", "a handover that is not signed by both identities")
    if _old(handover) != signer:
        raise _refusal(
            "HANDOVER-FROM", "a handover from another identity than the one that signed the return"
        )


def revocation_is_ours(known: Identities, revocation: KeyRevocation) -> bool:
    """True when an identity that this node trusts, or trusted last, has signed it.

    The return that brings it vouches for it too: one that was made before a handover may travel after it.
    """
    return any(revocation_is_good(revocation, key) for key in known.of_rolls)


def _signed(key: bytes, raw: bytes, signature: str) -> bool:
    return signature_matches(MinisignPublicKey(public_key=key), raw, signature, RETURN_COMMENT)


def _old(handover: Handover) -> bytes:
    return bytes.fromhex(handover.old_identity)


def _new(handover: Handover) -> bytes:
    return bytes.fromhex(handover.new_identity)


def _refusal(rule: str, what: str) -> TransferError:
    return TransferError(rule, f"{what} is refused", _ASK)
