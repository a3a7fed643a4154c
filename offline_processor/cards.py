"""A window's worth of cards in locked memory: opened for one exchange with the acquirer, then wiped.

Why here: the only place offline where PAN and CVV exist in clear.
Must not: hand out bytes or str of them, or keep one beyond its window.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from keys.errors import RuleError
from keys.private.locked import LockedBuffer, zero_stack
from keys.private.reseal import seal_view
from keys.private.secretbox import UnwrapError, unwrap_into, wrap
from keys.private.unseal import SealingKey, UnsealError, open_box_into
from keys.public.digest import equal
from keys.public.seal import SEAL_OVERHEAD
from transfer.wire.card import CARD_SIZE, CVV_LENGTH, PAN_LENGTH, CardView, decode_card, stored_card

_VAULT_ID_SIZE = 16
_VAULT_CARD = slice(PAN_LENGTH, CVV_LENGTH)
_VAULT_SIZE = _VAULT_ID_SIZE + CVV_LENGTH - PAN_LENGTH


class CardTable:
    """``size`` slots of locked memory for opened card compartments, and one for the vault's boxes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._slots = LockedBuffer(size * CARD_SIZE)
        self._scratch = LockedBuffer(_VAULT_SIZE)
        view = self._slots.view
        self._views = [view[start : start + CARD_SIZE] for start in range(0, size * CARD_SIZE, CARD_SIZE)]

    def open(self, slot: int, box: bytes, key: SealingKey) -> CardView | str:
        """Open a card box into a slot; the rule instead when it does not open or is no card."""
        if len(box) != CARD_SIZE + SEAL_OVERHEAD:
            return "CARD-UNREADABLE"
        try:
            open_box_into(box, key.public_key, key.private, self._views[slot])
            return decode_card(self._views[slot])
        except UnsealError:
            return "CARD-UNREADABLE"
        except RuleError as error:
            return error.rule

    def vault_box(self, slot: int, order_id: str, vault_key: LockedBuffer) -> bytes:
        """PAN and expiry of a slot, without the CVV, bound to their order and wrapped under the vault key."""
        scratch = self._scratch.view
        scratch[:_VAULT_ID_SIZE] = bytes.fromhex(order_id)
        scratch[_VAULT_ID_SIZE:] = self._views[slot][_VAULT_CARD]
        return wrap(vault_key, scratch)

    def open_vault(self, slot: int, order_id: str, box: bytes, vault_key: LockedBuffer) -> CardView | None:
        """PAN and expiry of a vault box in a slot, with an empty CVV; None when it is not this order's.

        Of the compartment's other fields the view says nothing: digests, amount and currency are empty.
        """
        scratch = self._scratch.view
        try:
            unwrap_into(vault_key, box, scratch)
        except UnwrapError:
            return None
        if not equal(bytes(scratch[:_VAULT_ID_SIZE]), bytes.fromhex(order_id)):
            return None
        self._views[slot][_VAULT_CARD] = scratch[_VAULT_ID_SIZE:]
        return stored_card(self._views[slot])

    def reseal(self, slot: int, public_key: bytes) -> bytes:
        """The whole compartment of a slot as a box sealed to a hold key."""
        return seal_view(self._views[slot], public_key)

    def wipe(self) -> None:
        """Zero every slot and the stack that the opening used."""
        self._slots.wipe()
        self._scratch.wipe()
        zero_stack()

    def close(self) -> None:
        """Wipe and give the memory back."""
        self.wipe()
        self._slots.close()
        self._scratch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
