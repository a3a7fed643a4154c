"""The offline run against bare opening of the same number of boxes, and its cost at 1k, 10k and 100k orders.

Each size is built by one process and run by another, so that the memory measured is the run's own. The simulator keeps
its books in that process too; one size is run again with an acquirer that only says yes, to tell our share.
"""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nacl.public import PrivateKey, SealedBox

from keys.keystore import Keystore
from keys.private.sign import sign_file
from offline_processor.acquirers.protocol import (
    Acquirer,
    Answered,
    Authorisation,
    BatchAnswer,
    BatchTotals,
    Capture,
    Refund,
    Reversal,
    Verb,
)
from offline_processor.charging import Answer, Reference
from tests.offline_processor.shop import NOW, Shop, open_shop, passphrase
from transfer.wire.card import CARD_SIZE
from transfer.wire.envelope import encode_envelope, frame
from transfer.wire.manifest import (
    BUNDLE_COMMENT,
    ENVELOPES_NAME,
    MANIFEST_NAME,
    NO_PREVIOUS,
    SIGNATURE_NAME,
    BundleManifest,
    bundle_name,
    encode_manifest,
)
from transfer.wire.order import STEP

SIZES = (1_000, 10_000, 100_000)
_BARE_ROUNDS = 4_000
_ALSO_WITHOUT_BOOKS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One run: orders/s, the bare rate of opening both boxes of an order in the same minutes, peak memory in MiB.

    ``books``: with the simulator's books in the same process.
    """

    orders: int
    books: bool
    rate: float
    bare_rate: float
    peak_mib: float

    @property
    def ratio(self) -> float:
        return self.rate / self.bare_rate


def bare_rates() -> tuple[float, float]:
    """Orders/s that bare PyNaCl seals and opens: one box of 512 bytes and one of 128 for each order."""
    key = PrivateKey.generate()
    seal, unseal = SealedBox(key.public_key), SealedBox(key)
    plaintexts = (bytes(STEP), bytes(CARD_SIZE))
    boxes = [seal.encrypt(plaintext) for plaintext in plaintexts]
    start = time.perf_counter()
    for _ in range(_BARE_ROUNDS):
        for plaintext in plaintexts:
            seal.encrypt(plaintext)
    sealed = time.perf_counter()
    for _ in range(_BARE_ROUNDS):
        for box in boxes:
            unseal.decrypt(box)
    opened = time.perf_counter()
    return _BARE_ROUNDS / (sealed - start), _BARE_ROUNDS / (opened - sealed)


def run(sizes: tuple[int, ...] = SIZES) -> list[Figure]:
    """Build and run a bundle of each size."""
    figures = []
    for size in sizes:
        for books in (True, False) if size == _ALSO_WITHOUT_BOOKS else (True,):
            with tempfile.TemporaryDirectory(prefix="bench-") as root:
                _child("build", root, size)
                found = json.loads(_child("run" if books else "run-without-books", root, size))
                figures.append(Figure(orders=size, books=books, **found))
    return figures


def _child(step: str, root: str, size: int) -> str:
    command = [sys.executable, "-m", "tests.bench.offline", step, root, str(size)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _build(root: Path, size: int) -> None:
    shop = open_shop(root)
    keys = shop.keys_for()
    unit = shop.drop_in / shop.node / bundle_name(1)
    unit.mkdir(parents=True)
    sha256, total = hashlib.sha256(), 0
    with (unit / ENVELOPES_NAME).open("wb") as file:
        for number in range(size):
            part = frame(encode_envelope(shop.seal(number, keys=keys)))
            file.write(part)
            sha256.update(part)
            total += len(part)
    manifest = encode_manifest(
        BundleManifest(
            node=shop.node,
            sequence=1,
            prev=NO_PREVIOUS,
            batch_key=keys.batch_key_id.hex(),
            count=size,
            envelopes_sha256=sha256.hexdigest(),
            envelopes_size=total,
            time=NOW,
            newest_return=None,
        )
    )
    (unit / MANIFEST_NAME).write_bytes(manifest)
    (unit / SIGNATURE_NAME).write_text(sign_file(shop.node_key, manifest, BUNDLE_COMMENT))


class _SaysYes:
    """An acquirer that approves whatever it is asked, and keeps no books."""

    is_simulator = True
    window = None
    in_flight: int | None = None

    def needs_card(self, verb: Verb) -> bool:
        return verb is Verb.REVERSE

    def echo(self) -> bool:
        return True

    def authorise(self, asked: Iterator[Authorisation]) -> Answered:
        yield from enumerate([_yes(one.reference) for one in asked])

    def capture(self, window: Sequence[Capture]) -> Sequence[Answer]:
        return [_yes(one.reference) for one in window]

    def reverse(self, window: Sequence[Reversal]) -> Sequence[Answer]:
        return [_yes(one.reference) for one in window]

    def refund(self, window: Sequence[Refund]) -> Sequence[Answer]:
        return [_yes(one.reference) for one in window]

    def close_batch(self, totals: BatchTotals) -> BatchAnswer:
        return BatchAnswer.IN_BALANCE

    def close(self) -> None:
        pass


def _yes(sent: Reference) -> Answer:
    return Answer(
        stan=sent.stan, rrn=sent.rrn, amount=sent.amount, currency=sent.currency, code="00", approval="000001"
    )


def _run(root: Path, size: int, *, acquirer: Acquirer | None = None) -> None:
    with passphrase() as secret:
        keystore = Keystore.open(root / "keystore", [secret])
    shop = Shop(root=root, keystore=keystore, node_key=keystore.identity, window=500)
    before = bare_rates()[1]
    start = time.perf_counter()
    report = shop.run(acquirer)
    rate = size / (time.perf_counter() - start)
    if report.outcomes != {"paid": size}:
        sys.exit(f"the run did not charge every order: {report.outcomes}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bare = (before + bare_rates()[1]) / 2
    print(json.dumps({"rate": rate, "bare_rate": bare, "peak_mib": peak}))


if __name__ == "__main__":
    steps: dict[str, Callable[[Path, int], None]] = {
        "build": _build,
        "run": _run,
        "run-without-books": partial(_run, acquirer=_SaysYes()),
    }
    steps[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
