"""A return on its way in: chosen, copied, and verified whole before a byte of it is used.

Why here: what came back over the gap is not believed by its name, size or place, and this is where it is not.
Must not: change anything of this node but its working copy in `incoming`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from keys.durable import make_directory
from keys.errors import RuleError
from keys.public.roll import ROLL_LIMIT
from transfer.errors import TransferError
from transfer.register import Register
from transfer.sync.drop import list_units
from transfer.sync.node import Node
from transfer.sync.reading import copy_unit, read_file
from transfer.sync.returned import RETURN_MANIFEST_LIMIT, Expected, VerifiedReturn
from transfer.wire.manifest import (
    KEYROLL_NAME,
    MANIFEST_NAME,
    RECORDS_NAME,
    SIGNATURE_LIMIT,
    SIGNATURE_NAME,
    return_name,
    return_numbers,
)

_SHOWN = 20
LOOKED_AT = 256
"""Returns that are looked at from either end, the newest and the nearest; an honest drop holds one or two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching:
    """The fetching of one pull; ``refused``: returns that were not good."""

    node: Node
    register: Register
    refused: list[RuleError] = field(default_factory=list)

    def offered(self, drop: Path) -> Iterator[tuple[int, int]]:
        """The (epoch, number) of every complete return on the drop."""
        for name in list_units(drop, self.node.node, "r"):
            if named := return_numbers(name):
                yield named

    def interrupted(self, at_least: tuple[int, int], taken: tuple[int, int] | None) -> VerifiedReturn | None:
        """The copy that an earlier pull had begun to take in, unless the drop offers a newer return."""
        for copy in self.node.incoming.iterdir() if self.node.incoming.is_dir() else ():
            named = return_numbers(copy.name)
            if named and named >= at_least:
                try:
                    raw, signature = (copy / MANIFEST_NAME).read_bytes(), (copy / SIGNATURE_NAME).read_bytes()
                    expected = Expected.of(self.node, self.register)
                    manifest, signer = expected.judge(copy, raw, signature, named=named, taken=taken)
                    return expected.check_content(copy, manifest, signer)
                except (RuleError, FileNotFoundError):
                    continue  # the copy was never finished, or some of its files are gone: it is fetched again
        return None

    def newest_good(
        self, drop: Path, offered: list[tuple[int, int]], taken: tuple[int, int] | None
    ) -> VerifiedReturn | None:
        """The newest of ``offered`` (newest first) that is good; at most twice ``LOOKED_AT`` of them are looked at.

        Whoever fills a medium with forgeries chooses their names, but cannot put one where a genuine return lies: as
        numbers go up by one, that is near the last one taken, so both ends are looked at.
        """
        expected = Expected.of(self.node, self.register)
        left = len(offered) - 2 * LOOKED_AT
        looked_at = offered if left <= 0 else [*offered[:LOOKED_AT], *offered[-LOOKED_AT:]]
        if left > 0:
            self.refused.append(_crowd(drop / self.node.node, len(offered), left))
        for place, (epoch, number) in enumerate(looked_at):
            try:
                source = drop / self.node.node / return_name(epoch, number)
                return fetch(source, self.node.incoming, expected, named=(epoch, number), taken=taken)
            except RuleError as error:
                # A medium full of forgeries must not fill a log.
                if place < _SHOWN:
                    self.refused.append(error)
        return None


def _crowd(where: Path, offered: int, left: int) -> TransferError:
    return TransferError(
        "RETURN-CROWD",
        f"{where} holds {offered} returns above the last one; {left} of them were not even looked at",
        "find out who put them there, and take another medium for the next return",
    )


def fetch(
    source: Path, into: Path, expected: Expected, *, named: tuple[int, int], taken: tuple[int, int] | None
) -> VerifiedReturn:
    """Copy one return to the new directory ``into`` and verify the copy; it raises as ``expected`` does.

    Nothing large is copied before the signature is good.
    """
    raw = read_file(source, MANIFEST_NAME, RETURN_MANIFEST_LIMIT)
    signature = read_file(source, SIGNATURE_NAME, SIGNATURE_LIMIT)
    manifest, signer = expected.judge(source, raw, signature, named=named, taken=taken)
    shutil.rmtree(into, ignore_errors=True)
    make_directory(into)
    copy = into / source.name
    limits = {
        KEYROLL_NAME: ROLL_LIMIT,
        RECORDS_NAME: manifest.records_size,
        MANIFEST_NAME: len(raw),
        SIGNATURE_NAME: len(signature),
    }
    copy_unit(source, copy, limits)
    if (copy / MANIFEST_NAME).read_bytes() != raw or (copy / SIGNATURE_NAME).read_bytes() != signature:
        raise TransferError("RETURN-DAMAGED", f"{source} changed while it was copied", "repeat the command")
    return expected.check_content(copy, manifest, signer)
