"""A shop's outgoing records and the acquirer's end of the files, for the tests of the batch-file driver.

Why here: in-process and killed-process tests make the same windows.
Must not: stand in for the driver, its files or the ledger.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from keys.private.locked import LockedBuffer
from keys.private.sign import SigningKey, signing_key
from offline_processor.acquirers.batch_file.driver import BatchFileAcquirer
from offline_processor.acquirers.batch_file.files import Counterpart, export, finish
from offline_processor.acquirers.batch_file.form import Mode
from offline_processor.acquirers.protocol import Authorisation, HandedOver, Reversal
from offline_processor.charging import Answer, Reference
from offline_processor.ledger.ledger import Ledger
from transfer.wire.card import CARD_SIZE, Card, decode_card, encode_card

NOW = 1_790_000_000


def reference(number: int, *, stan: int | None = None, amount: int = 2499) -> Reference:
    return Reference(
        number=number,
        order_id=f"{number:032x}",
        attempt=1,
        stan=stan or number,
        rrn=f"01{number:010d}",
        sent_at=NOW,
        amount=amount,
        currency="JPY" if number % 5 == 0 else "EUR",
    )


def pan_of(number: int) -> bytes:
    """A PAN of its own for each order."""
    return f"453957{number:06d}1486".encode()


def card_of(number: int) -> Card:
    return Card(pan=pan_of(number), cvv=f"{100 + number % 900}".encode(), expiry_month=7, expiry_year=2031)


def counterpart(public_key: bytes) -> Counterpart:
    return Counterpart(public_key=public_key, merchant="MERCHANT-1", terminal="T0000001", mode=Mode.REHEARSAL)


def signer() -> SigningKey:
    with LockedBuffer(32) as seed:
        return signing_key(seed.copy_from(bytes(range(32))).view)


def driver(ledger: Ledger, public_key: bytes) -> BatchFileAcquirer:
    return BatchFileAcquirer(ledger, public_key=public_key, rehearsal=True, clock=lambda: NOW)


def hand_over(acquirer: BatchFileAcquirer, numbers: Sequence[int]) -> Sequence[Answer | HandedOver | None]:
    with LockedBuffer(CARD_SIZE * len(numbers)) as slots:
        window = []
        for place, number in enumerate(numbers):
            view = slots.view[place * CARD_SIZE : (place + 1) * CARD_SIZE]
            view[:] = encode_card(
                card_of(number),
                header_digest=bytes(32),
                order_box_digest=bytes(32),
                amount=2499,
                currency="EUR",
            )
            window.append(Authorisation(reference=reference(number), card=decode_card(view)))
        return [answer for _, answer in acquirer.authorise(iter(window))]


def reversal(number: int) -> Reversal:
    return Reversal(
        operation=f"{number:032x}",
        reference=reference(number, stan=500_000 + number),
        original=reference(number),
        approval="",
        repeat=False,
        card=None,
    )


def main() -> None:
    """``ledger`` ``key``: hand over windows of ten for ever; ``ledger`` ``key`` ``out``: finish and export."""
    path, key, *rest = sys.argv[1:]
    ledger, public_key = Ledger(Path(path)), bytes.fromhex(key)
    if rest:
        finish(ledger, counterpart(public_key), signer(), now=NOW)
        export(ledger, counterpart(public_key), Path(rest[0]))
        return
    acquirer = driver(ledger, public_key)
    row = ledger.row("SELECT count(*) FROM batch_record")
    begin = (row[0] if row else 0) + 1
    for number in range(begin, 100_000, 10):
        hand_over(acquirer, range(number, number + 10))
        print(number + 9, flush=True)


if __name__ == "__main__":
    main()
