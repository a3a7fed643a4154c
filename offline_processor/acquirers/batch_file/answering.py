"""The acquirer's end of the files, simulated: opens an authorisation file with its private key and answers it.

Why here: the whole loop can be rehearsed by commands, and an acquirer's programmer has a second reader to compare with.
Must not: charge anybody, answer a LIVE file, or show more of a card than BIN and last four.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from keys.durable import create_durable, make_directory
from keys.errors import KeysError
from keys.private.locked import LockedBuffer
from keys.private.sign import SigningKey, generate_signing_key, sign_file, signing_key
from keys.private.unseal import SealingKey, generate_sealing_key, public_key_of, sealing_key
from keys.public.minisign import MinisignPublicKey, signature_matches
from offline_processor.acquirers.batch_file import authorisations
from offline_processor.acquirers.batch_file.answers import COMMENT, AnswerFile, AnswerRecord, write_answers
from offline_processor.acquirers.batch_file.authorisations import RecordBuffer, Request, read_file
from offline_processor.acquirers.batch_file.files import SIGNATURE_SUFFIX, comment_of
from offline_processor.acquirers.batch_file.form import Kind, Mode, refused
from offline_processor.charging import APPROVED_CODE
from offline_processor.errors import ProcessorError

PUBLIC_KEY: Final = "acquirer.key"
SIGNING_PUBLIC: Final = "acquirer.pub"
_PRIVATE_KEY: Final = "acquirer.private"
_SIGNING_SEED: Final = "acquirer.seed"
_KEY_SIZE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AcquirerKeys:
    """A simulated acquirer's keys: what records are boxed to, and what answers are signed with."""

    sealing: SealingKey = field(repr=False)
    signing: SigningKey = field(repr=False)

    def close(self) -> None:
        """Wipe both."""
        self.sealing.close()
        self.signing.close()


Decide = Callable[[Request, str], str]
"""The response code for a record and its BIN*last four."""


def make_keys(directory: Path) -> None:
    """Make the keys of a simulated acquirer, in clear: for rehearsals only. ``BATCH-FILE-EXISTS``."""
    make_directory(directory)
    sealing, signing = generate_sealing_key(), generate_signing_key()
    try:
        create_durable(directory / _PRIVATE_KEY, sealing.private.view)
        create_durable(directory / _SIGNING_SEED, signing.seed)
        create_durable(directory / PUBLIC_KEY, f"{sealing.public_key.hex()}\n".encode("ascii"), 0o644)
        create_durable(directory / SIGNING_PUBLIC, signing.minisign.encode().encode("ascii"), 0o644)
    except FileExistsError as error:
        raise ProcessorError(
            "BATCH-FILE-EXISTS", f"{directory} has such keys already", "name another directory"
        ) from error
    finally:
        sealing.close()
        signing.close()


def read_keys(directory: Path) -> AcquirerKeys:
    """The keys that ``make_keys`` made."""
    private, seed = LockedBuffer(_KEY_SIZE), LockedBuffer(_KEY_SIZE)
    for name, buffer in ((_PRIVATE_KEY, private), (_SIGNING_SEED, seed)):
        descriptor = os.open(directory / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.readv(descriptor, [buffer.view]) != _KEY_SIZE:
                raise refused(f"{name} is no key")
        finally:
            os.close(descriptor)
    with seed:
        return AcquirerKeys(
            sealing=sealing_key(public_key_of(private), private), signing=signing_key(seed.view)
        )


def read_public_key(path: Path) -> bytes:
    """An acquirer's public key: 64 hexadecimal digits in a file. ``BATCH-FILE-KEY``."""
    try:
        with path.open("rb") as file:
            text = file.read(_KEY_SIZE * 2 + 3)
        found = bytes.fromhex(text.decode("ascii").strip())
    except (OSError, ValueError) as error:
        raise _no_key(path) from error
    if len(found) != _KEY_SIZE:
        raise _no_key(path)
    return found


def read_signing_key(path: Path) -> MinisignPublicKey:
    """The key that signs an acquirer's answers, as minisign writes it. ``BATCH-FILE-KEY``."""
    try:
        return MinisignPublicKey.decode(path.read_bytes()[:1024].decode("ascii"))
    except (OSError, ValueError, KeysError) as error:
        raise _no_key(path) from error


def answer_file(
    raw: bytes,
    keys: AcquirerKeys,
    decide: Decide,
    *,
    number: int,
    now: int,
    sender: tuple[MinisignPublicKey, str] | None = None,
) -> AnswerFile:
    """Check, open and answer every record. ``sender`` is who must have signed the file, and the signature.

    ``BATCH-FILE-FORM`` too when a record's box is not what its line says, or was moved from another file.
    """
    facts, records = read_file(raw)
    if facts.mode is Mode.LIVE or facts.key != keys.sealing.public_key:
        raise refused("this file is not for the simulated acquirer")
    if sender is not None and not signature_matches(
        sender[0], raw, sender[1], comment_of(authorisations.COMMENT, facts.file)
    ):
        raise refused("the file is not signed by the sender that was named")
    buffer = RecordBuffer()
    answers: list[AnswerRecord] = []
    seen: Counter[str] = Counter()
    try:
        for place, record in enumerate(records, 1):
            request, card = buffer.open(record.box, keys.sealing)
            if request.counted != record.counted or request.file != facts.file:
                raise refused(f"record {place} is not what its line says")
            name = f"{request.kind} {request.rrn} {request.stan}"
            seen[name] += 1
            if seen[name] > 1:
                raise refused(f"record {place} is there twice")
            code = decide(request, card)
            approval = (
                f"{request.stan:06d}" if code == APPROVED_CODE and request.kind is Kind.AUTHORISE else ""
            )
            answers.append(
                AnswerRecord(
                    kind=request.kind,
                    rrn=request.rrn,
                    stan=request.stan,
                    order_id=request.order_id,
                    amount=request.amount,
                    currency=request.currency,
                    code=code,
                    approval=approval,
                )
            )
    finally:
        buffer.close()
    return AnswerFile(
        file=facts.file,
        number=number,
        mode=facts.mode,
        merchant=facts.merchant,
        terminal=facts.terminal,
        made_at=now,
        complete=True,
        answers=tuple(answers),
    )


def write_signed(path: Path, answers: AnswerFile, keys: AcquirerKeys) -> None:
    """Write the answer file and its signature beside it. ``BATCH-FILE-EXISTS``."""
    raw = write_answers(answers)
    signature = sign_file(keys.signing, raw, comment_of(COMMENT, answers.file))
    try:
        create_durable(path, raw, 0o644)
        create_durable(path.with_name(path.name + SIGNATURE_SUFFIX), signature.encode("ascii"), 0o644)
    except FileExistsError as error:
        raise ProcessorError("BATCH-FILE-EXISTS", f"{path} is there already", "name another file") from error


def _no_key(path: Path) -> ProcessorError:
    return ProcessorError(
        "BATCH-FILE-KEY",
        f"{path} does not hold the acquirer's public key",
        "[acquirer] batch_key: 64 hexadecimal digits (X25519); batch_signer: a minisign public key",
    )
