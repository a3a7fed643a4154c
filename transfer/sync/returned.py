"""A return under the magnifying glass: whose it is, whether it is newer, and whether every byte is as signed.

Why here: taking a return in starts only when all of this has passed.
Must not: change anything, or read more than the signed manifest announces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from keys.errors import RuleError
from keys.public.digest import equal
from keys.public.roll import decode_roll
from transfer.errors import TransferError
from transfer.register import Register
from transfer.sync import trust
from transfer.sync.handover import Identities, Step, judge, signer_of
from transfer.sync.node import Node
from transfer.wire.ids import NodeId
from transfer.wire.manifest import (
    KEYROLL_NAME,
    RECORDS_NAME,
    ReturnManifest,
    decode_return_manifest,
)
from transfer.wire.records import RECORD_LIMIT, Handover, Record, decode_record

RETURN_MANIFEST_LIMIT = 4096  # it must fit into a bundle's manifest as text
_READ_SIZE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedReturn:
    """A copy of a return that was verified whole; ``identities`` are those that the node trusts once it is taken in."""

    path: Path
    manifest: ReturnManifest
    signer: bytes
    identities: Identities
    step: Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a return must fit: this node, the trusted identities, and the last bundle that this state knows."""

    node: NodeId
    identities: Identities
    last_sequence: int

    @classmethod
    def of(cls, node: Node, register: Register) -> Self:
        """What this node expects now."""
        return cls(
            node=node.node,
            identities=trust.load_identities(node.state),
            last_sequence=register.last_sequence(),
        )

    def judge(
        self,
        source: Path,
        raw: bytes,
        signature: bytes,
        *,
        named: tuple[int, int],
        taken: tuple[int, int] | None,
    ) -> tuple[ReturnManifest, bytes]:
        """The manifest and who signed it, if it is ours and newer than ``taken``, and ``named`` as it should be.

        Raises ``RETURN-SIGNATURE``, ``RETURN-FORMER``, ``RETURN-FORMAT``, ``RETURN-NODE``, ``RETURN-OLD`` or
        ``NODE-BEHIND``.
        """
        signer = signer_of(self.identities, raw, signature.decode("utf-8", "replace"), source=source)
        try:
            manifest = decode_return_manifest(raw)
        except RuleError as error:
            raise TransferError("RETURN-FORMAT", f"{source} is refused: {error.message}") from error
        if manifest.node != self.node:
            raise TransferError(
                "RETURN-NODE",
                f"{source} is a return for node {manifest.node}",
                "carry it to that node; nothing of it was used",
            )
        numbers = (manifest.epoch, manifest.number)
        if taken is not None and numbers <= taken:
            raise TransferError(
                "RETURN-OLD",
                f"{source} holds return {manifest.number} of epoch {manifest.epoch}, "
                "which is not newer than the last",
                "somebody renamed an old return: find out where this medium comes from",
            )
        if numbers != named:
            raise TransferError(
                "RETURN-FORMAT", f"{source} does not have the name of the return that it holds"
            )
        if manifest.accepted > self.last_sequence:
            raise TransferError(
                "NODE-BEHIND",
                f"the offline side has accepted bundle {manifest.accepted}, "
                f"but this state only knows {self.last_sequence}",
                "this state is an old copy: retire the node and enrol it under a new node id",
            )
        return manifest, signer

    def check_content(self, copy: Path, manifest: ReturnManifest, signer: bytes) -> VerifiedReturn:
        """Check roll and records of our own copy whole, and the handover that it may bring.

        Raises ``RETURN-DAMAGED``, ``RETURN-FORMAT``, or a rule of the roll or of handovers.
        """
        handovers = _check_files(copy, manifest, signer)
        identities, step = judge(self.identities, signer, manifest, handovers)
        return VerifiedReturn(path=copy, manifest=manifest, signer=signer, identities=identities, step=step)


def _check_files(copy: Path, manifest: ReturnManifest, signer: bytes) -> list[Handover]:
    roll = (copy / KEYROLL_NAME).read_bytes()
    with (copy / RECORDS_NAME).open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if (
        not same_digest(hashlib.sha256(roll).hexdigest(), manifest.keyroll_sha256)
        or not same_digest(sha256, manifest.records_sha256)
        or (copy / RECORDS_NAME).stat().st_size != manifest.records_size
    ):
        raise TransferError(
            "RETURN-DAMAGED",
            f"{copy.name} does not hold what the offline side signed",
            "have the offline side write it again, onto another medium",
        )
    decode_roll(roll, node=manifest.node, identity=signer)
    count, handovers = 0, []
    try:
        for record in read_records(copy / RECORDS_NAME):
            count += 1
            if isinstance(record, Handover):
                handovers.append(record)
    except RuleError as error:
        raise TransferError("RETURN-FORMAT", f"{copy.name} is refused: {error.message}") from error
    if count != manifest.records:
        raise TransferError("RETURN-FORMAT", f"{copy.name} holds {count} records, not {manifest.records}")
    return handovers


def read_records(path: Path) -> Iterator[Record]:
    """The records one by one; ``FORMAT-JSON`` or ``RETURN-FORMAT`` at the first that is none."""
    with path.open("rb", buffering=_READ_SIZE) as file:
        while line := file.readline(RECORD_LIMIT + 2):
            if not line.endswith(b"\n"):
                raise TransferError("RETURN-FORMAT", "a record is too long or cut short")
            yield decode_record(line[:-1])


def same_digest(left: str, right: str) -> bool:
    """Compare two digests in hexadecimal, in constant time."""
    return equal(left.encode("ascii"), right.encode("ascii"))
