"""`key-ceremony revoke` and `custody-copy`: forbid a key for ever, and write what custodians keep.

Why here: the other half of the verbs that change keys while the shop goes on (keys/cli_rotation.py).
Must not: revoke a key that a person has not named twice, or end without a fresh custody copy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from keys import console
from keys.act_record import who_option
from keys.cli_change import FILE, KEY_ID_DIGITS, copy_option, now, opened, say_copies, settings_of, short
from keys.console import ExitCode, keystore_passphrase_option, say, shared_options
from keys.errors import KeysError
from keys.passphrases import Descriptors
from keys.record_form import Act, Change, ChangedKey, Subject
from keys.spoken import ask, compare

_REVOKE_EXAMPLES: Final = """
\b
Examples:
  key-ceremony revoke order-key 1 --config offline.toml --custody-copy /media/a/custody-4.copy
  key-ceremony revoke batch-keys --config offline.toml --node shop-a --number 7 --number 8
  key-ceremony revoke batch-keys --config offline.toml --node shop-a
"""


@click.group(epilog=_REVOKE_EXAMPLES)
def revoke() -> None:
    """Forbid for ever that anything is sealed to a key."""


@revoke.command(
    "order-key",
    epilog="Example: key-ceremony revoke order-key 1 --config offline.toml --custody-copy custody-4.copy",
)
@shared_options
@keystore_passphrase_option
@copy_option
@who_option
@click.argument("number", type=click.IntRange(min=1))
@click.option(
    "--key-id", "typed", metavar="HEX", help="The first 8 digits of the key's id, as `status` shows them."
)
def revoke_order_key(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    copy_file: Path | None,
    who: tuple[str, ...],
    number: int,
    typed: str | None,
) -> ExitCode:
    """Revoke an order key: nothing is sealed to it again. A new one is made when no other is left."""
    settings = settings_of(config, as_json=as_json)
    typed = typed or ask(f"First {KEY_ID_DIGITS} digits of the id of order key {number}")
    with opened(settings, passphrase_fds, copy_file, who) as work:
        keystore = work.keystore
        doomed = next((key for key in keystore.order_keys if key.number == number), None)
        if doomed is not None and short(doomed.key.key_id) != typed.strip().lower()[:KEY_ID_DIGITS]:
            remedy = "look at `key-ceremony status`, and be sure which key it is"
            raise KeysError("KEY-FINGERPRINT", f"order key {number} has another id", remedy)
        new = keystore.revoke_order_key(number, now())
        changed = [
            ChangedKey(subject=Subject.ORDER_KEY, change=change, key=key.key.key_id.hex(), number=key.number)
            for key, change in ((doomed, Change.REVOKED), (new, Change.MADE))
            if key is not None
        ]
        copies = work.end(Act.REVOCATION, f"Order key {number} revoked", changed)
    if as_json:
        console.print_json(
            {"revoked": number, "new_order_key": None if new is None else new.number, **copies}
        )
        return ExitCode.DONE
    say(f"Order key {number} is revoked. It still opens what was sealed to it, until its end.")
    if new is not None:
        say(f"No other key was left, so order key {new.number} was made.")
    say_copies(copies)
    say(
        "Next, and soon: `offline-processor run`; every return tells the nodes until they confirm.",
        style="bold",
    )
    return ExitCode.DONE


@revoke.command(
    "batch-keys",
    epilog="Example: key-ceremony revoke batch-keys --config offline.toml --node shop-a --number 7",
)
@shared_options
@keystore_passphrase_option
@copy_option
@who_option
@click.option("--node", required=True, metavar="NAME", help="Whose batch keys.")
@click.option(
    "--number", "numbers", multiple=True, metavar="K", type=click.IntRange(min=1), help="Default: all."
)
@click.option("--fingerprint", "spoken", metavar="F", help="Of the node, so that it is not another one.")
def revoke_batch_keys(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    copy_file: Path | None,
    who: tuple[str, ...],
    node: str,
    numbers: tuple[int, ...],
    spoken: str | None,
) -> ExitCode:
    """Destroy unused batch keys of a node. Orders already sealed to them become "please order again"."""
    settings = settings_of(config, as_json=as_json)
    spoken = spoken or ask(f"Fingerprint of {node}")
    with opened(settings, passphrase_fds, copy_file, who) as work:
        keystore = work.keystore
        known = keystore.ring.node(node)
        if known is None:
            raise KeysError("KEY-NODE-UNKNOWN", f"node {node} is not enrolled", "see `key-ceremony status`")
        compare(bytes.fromhex(known.public_key), spoken, f"node {node}")
        dead = keystore.ring.revoke_batch_keys(node, numbers or None, now())
        changed = [
            ChangedKey(
                subject=Subject.BATCH_KEY,
                change=Change.REVOKED,
                key=record.key_id,
                node=node,
                number=record.number,
            )
            for record in dead
        ]
        copies = work.end(Act.REVOCATION, f"Batch keys of node {node} revoked", changed)
    done = sorted(record.number for record in dead if record.number is not None)
    if as_json:
        console.print_json({"node": node, "revoked": done, **copies})
        return ExitCode.DONE if done else ExitCode.NOTHING_TO_DO
    if not done:
        say("Nothing to do: these keys are used or destroyed already.")
        return ExitCode.NOTHING_TO_DO
    say(f"Batch keys of {node} destroyed: {', '.join(map(str, done))}.")
    say_copies(copies)
    say(
        "Next, and soon: `offline-processor run`; the return brings new keys and tells the node.",
        style="bold",
    )
    return ExitCode.DONE


@click.command(
    "custody-copy", epilog="Example: key-ceremony custody-copy /media/a/custody-5.copy --config offline.toml"
)
@shared_options
@keystore_passphrase_option
@who_option
@click.argument("copy_file", metavar="FILE", type=FILE)
def write_copy(
    *, config: Path, as_json: bool, passphrase_fds: Descriptors, copy_file: Path, who: tuple[str, ...]
) -> ExitCode:
    """Write a custody copy: all that the custodians need, beside their shares, to rebuild the keys."""
    settings = settings_of(config, as_json=as_json)
    with opened(settings, passphrase_fds, copy_file, who) as work:
        copies = work.end(Act.CUSTODY_COPY, "Custody copy written")
    if as_json:
        console.print_json(copies)
    else:
        say_copies(copies)
    return ExitCode.DONE
