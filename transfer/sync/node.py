"""A node's state directory: where each thing lies, and the one lock of its sync.

Why here: push, pull, status and init-node must agree on the places, and only one of them may change them at a time.
Must not: interpret what it finds; a listing is facts, the plan decides.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keys.durable import make_directory
from transfer.config import NodeConfig
from transfer.errors import TransferError
from transfer.register import Register
from transfer.spool import Spool
from transfer.subject_outbox import SubjectOutbox
from transfer.sync.plan import BundleSeen
from transfer.wire.ids import NodeId, check_node_id
from transfer.wire.manifest import (
    ENVELOPES_NAME,
    MANIFEST_NAME,
    SIGNATURE_NAME,
    SignedText,
    bundle_name,
    bundle_sequence,
    return_numbers,
)

# Facts that the register keeps about the newest return.
LAST_RETURN = "last-return"
WORTH_CONFIRMING = "worth-confirming"

_POLL = 0.05  # seconds
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_REGISTER_FAULTS = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenReturn:
    """The newest return that was taken in, as the next bundle carries it."""

    epoch: int
    number: int
    signed: SignedText


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One intake node's state directory."""

    node: NodeId
    state: Path
    max_orders: int
    max_bytes: int
    expect_return_days: int = 7

    @classmethod
    def of(cls, config: NodeConfig) -> Node:
        """The node of a configuration; ``NODE-ID`` for a name that is none."""
        return cls(
            node=check_node_id(config.node),
            state=config.state,
            max_orders=config.max_orders,
            max_bytes=config.max_bytes,
            expect_return_days=config.expect_return_days,
        )

    @property
    def outbox(self) -> Path:
        return self.state / "outbox"

    @property
    def returns(self) -> Path:
        return self.state / "returns"

    @property
    def incoming(self) -> Path:
        return self.state / "incoming"

    @property
    def subjects(self) -> SubjectOutbox:
        return SubjectOutbox(root=self.state / "subjects")

    def spool(self) -> Spool:
        return Spool(self.state / "spool", max_orders=self.max_orders, max_bytes=self.max_bytes)

    @contextlib.contextmanager
    def register(self) -> Iterator[Register]:
        """The open register; ``NODE-DISK`` as ``alone`` raises it."""
        with _disk_errors(self.state):
            register = Register(self.state / "register.db")
            try:
                yield register
            finally:
                register.close()

    @contextlib.contextmanager
    def alone(self, *, patience: float = 0.0) -> Iterator[None]:
        """No other sync of this node runs meanwhile; ``NODE-BUSY`` if one does for ``patience`` seconds.

        What this machine's own disk refuses meanwhile is ``NODE-DISK``; what a medium does has rules of its own.
        """
        if not self.state.is_dir():
            remedy = "run: spool-sync init-node"
            raise TransferError("NODE-MISSING", f"there is no node state at {self.state}", remedy)
        with _disk_errors(self.state):
            lock = os.open(self.state / "sync.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._lock(lock, patience)
                for place in (self.outbox, self.returns):
                    make_directory(place)
                yield
            finally:
                os.close(lock)

    def _lock(self, lock: int, patience: float) -> None:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(_POLL)
                    continue
                remedy = "wait for it to end, then repeat the command, or let it --wait longer"
                raise TransferError(
                    "NODE-BUSY", f"another spool-sync is at work in {self.state}", remedy
                ) from None
            return

    def bundle(self, sequence: int) -> Path:
        return self.outbox / bundle_name(sequence)

    def outbox_listing(self, *, recorded: int) -> list[BundleSeen]:
        """Every bundle in the outbox, by sequence; ``recorded`` is the last sequence that the register knows."""
        seen = []
        for path in self.outbox.iterdir() if self.outbox.is_dir() else ():
            sequence = bundle_sequence(path.name)
            if sequence is not None:
                seen.append(
                    BundleSeen(
                        sequence=sequence,
                        complete=(path / SIGNATURE_NAME).exists(),
                        envelopes=(path / ENVELOPES_NAME).exists(),
                        recorded=sequence <= recorded,
                    )
                )
        return sorted(seen, key=lambda bundle: bundle.sequence)

    def newest_return(self) -> TakenReturn | None:
        """The return of the highest (epoch, number) that was taken in, or None."""
        taken = []
        for path in self.returns.iterdir() if self.returns.is_dir() else ():
            named = return_numbers(path.name)
            if named and (path / SIGNATURE_NAME).exists():
                taken.append((*named, path))
        if not taken:
            return None
        epoch, number, path = max(taken)
        return TakenReturn(
            epoch=epoch,
            number=number,
            signed=SignedText(
                manifest=(path / MANIFEST_NAME).read_text("ascii"),
                signature=(path / SIGNATURE_NAME).read_text("utf-8"),
            ),
        )


@contextlib.contextmanager
def _disk_errors(state: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FAULTS:
            raise
        raise _disk_failed(state, error.strerror or str(error)) from error
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _REGISTER_FAULTS:
            raise
        raise _disk_failed(state, str(error)) from error


def _disk_failed(state: Path, why: str) -> TransferError:
    return TransferError(
        "NODE-DISK",
        f"this machine's own disk failed below {state}: {why}",
        "make room, or see to the disk, and repeat the command: it brings to an end what was begun",
    )
