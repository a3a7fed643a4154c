"""The offline machine is lost and comes back from a backup, by the commands that the runbook names.

Why here: the simulation restores old backups again and again, as custodians, operator and administrators would.
Must not: know what is in a backup, or help a ledger that the commands leave behind.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keys.custody import Custody, split
from keys.public.fingerprint import fingerprint
from offline_processor import cli as offline_cli
from offline_processor.acquirers.report import write_report
from tests.faults.world import Ended, World, command
from transfer.sync import trust

_KEPT = 3
_NEEDS_PERSON = 3


@dataclass(slots=True, kw_only=True)
class Rebuilding:
    """The custodians with their shares, and the backups in their safe."""

    custody: Custody
    shares: Sequence[str]
    backups: list[Path] = field(default_factory=list)
    epoch: int = 1  # the highest that these people have seen

    @classmethod
    def begin(cls) -> Rebuilding:
        custody, key, shares = split(2, 3)
        key.close()
        return cls(custody=custody, shares=shares[:2])

    def back_up(self, world: World) -> Ended:
        """One more backup; the oldest of too many is thrown away."""
        path = world.place / f"backup-{time.monotonic_ns()}"
        ended = _offline(world, "backup", "--out", path)
        if ended.code == 0:
            self.backups = [*self.backups, path][-_KEPT:]
        return ended

    def restore(self, world: World, backup: Path, nodes: Iterable[World]) -> Iterator[Ended]:
        """Lose the machine, restore, reconcile, and tell it where each node's chain stands."""
        identity = fingerprint(trust.load_identity(world.node_state).public_key)
        for what in ("state", "keystore"):
            shutil.rmtree(world.root / "offline" / what)
        with self._asked() as shares:
            words: tuple[object, ...] = (backup, "--shares-fd", shares, "--passphrases", 1, "--json")
            ended = _offline(world, "restore", *words, "--fingerprint", identity, "--epoch-above", self.epoch)
        if ended.code != _NEEDS_PERSON:
            raise AssertionError(f"a restore ended with {ended.code}: {ended.said}")
        told = json.loads(ended.said[ended.said.index("{") :])
        self.epoch = told["epoch"]
        yield ended
        report = world.place / f"report-{time.monotonic_ns()}.csv"
        if world.books.exists():
            made = command(offline_cli.cli, "acquirer-report", "--books", world.books, "--out", report)
            if made.code != 0:
                raise AssertionError(f"a report ended with {made.code}: {made.said}")
        else:
            report.write_bytes(write_report([]))
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time()))
        period = ("--from", "1970-01-01T00:00:00Z", "--until", until, "--who", "A. Keeper")
        ended = _offline(world, "reconcile", report, *period)
        if ended.code not in (0, _NEEDS_PERSON):
            raise AssertionError(f"a reconciliation ended with {ended.code}: {ended.said}")
        yield ended
        for node in nodes:
            seen = node.status()
            if (gone := seen["last_receipted"]) is not None:
                with self._asked() as shares:
                    where = (
                        "--node",
                        seen["node"],
                        "--sequence",
                        gone["sequence"],
                        "--digest",
                        gone["manifest"],
                    )
                    yield _offline(world, "set-sequence", *where, "--shares-fd", shares)

    @contextmanager
    def _asked(self) -> Iterator[int]:
        """A descriptor from which the custodians' shares can be read."""
        reading, writing = os.pipe()
        try:
            os.write(writing, "".join(f"{share}\n" for share in self.shares).encode("ascii"))
            os.close(writing)
            yield reading
        finally:
            os.close(reading)


def _offline(world: World, verb: str, *words: object) -> Ended:
    return command(offline_cli.cli, verb, *words, "--config", world.offline_toml)
