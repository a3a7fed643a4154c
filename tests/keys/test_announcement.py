"""Revocations and handovers: good under the identities that they name, and under no other and with nothing changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from keys.entries import sign_handover, sign_revocation
from keys.private.sign import generate_signing_key
from keys.public.announcement import handover_is_good, revocation_is_good
from keys.public.roll import Role
from transfer.wire.records import decode_record, encode_record, handover_record, revocation_record

OLD, NEW, STRANGER = (generate_signing_key() for _ in range(3))
EPOCHS, TIMES = st.integers(1, 2**32 - 2), st.integers(0, 2**53 - 2)


@given(epoch=EPOCHS, when=TIMES, key=st.binary(min_size=16, max_size=16), role=st.sampled_from(Role))
def test_revocation_is_bound_to_every_field(epoch: int, when: int, key: bytes, role: Role) -> None:
    made = sign_revocation(OLD, role=role, node=None, epoch=epoch, key_id=key, revoked_at=when)
    assert revocation_is_good(made, OLD.public_key)
    assert not revocation_is_good(made, NEW.public_key)
    other = Role.BATCH if role is Role.ORDER else Role.ORDER
    for changed in (
        replace(made, epoch=epoch + 1),
        replace(made, revoked_at=when + 1),
        replace(made, role=other),
        replace(made, key=bytes(byte ^ 1 for byte in key).hex()),
    ):
        assert not revocation_is_good(changed, OLD.public_key)
    record = revocation_record(made)
    assert decode_record(encode_record(record)[:-1]) == record
    assert revocation_is_good(record, OLD.public_key)


@given(epoch=EPOCHS, when=TIMES)
def test_handover_needs_both_signatures_over_every_field(epoch: int, when: int) -> None:
    made = sign_handover(OLD, NEW, epoch=epoch, start=when)
    assert handover_is_good(made)
    stranger = sign_handover(OLD, STRANGER, epoch=epoch, start=when)
    for changed in (
        replace(made, epoch=epoch + 1),
        replace(made, start=when + 1),
        replace(made, new_identity=STRANGER.public_key.hex()),
        replace(made, old_identity=STRANGER.public_key.hex()),
        replace(made, new_signature=stranger.new_signature),
        replace(made, old_signature=stranger.old_signature),
        replace(made, old_signature=made.new_signature, new_signature=made.old_signature),
        sign_handover(OLD, OLD, epoch=epoch, start=when),
    ):
        assert not handover_is_good(changed)
    record = handover_record(made)
    assert decode_record(encode_record(record)[:-1]) == record
    assert handover_is_good(record)
