"""`key-ceremony` verbs that replace or revoke keys while the shop goes on: rotate, revoke, custody-copy.

Why here: each is one act of an operator, with the copy that the custodians must get and what to do next.
Must not: change a key before everything that can be refused was refused, or end without a fresh custody copy.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from keys import console
from keys.ceremony import read_node_key
from keys.ceremony_run import REHEARSAL_MARK
from keys.config import KeystoreConfig, load
from keys.console import ExitCode, keystore_passphrase_option, say, shared_options
from keys.durable import create_durable
from keys.errors import KeysError
from keys.keystore import Keystore, claims_rehearsal
from keys.keystore_index import DAY, OVERLAP
from keys.passphrases import Descriptors, keystore_passphrases
from keys.public.fingerprint import fingerprint, matches, words
from keys.recovery import refresh_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

F = TypeVar("F", bound="Callable[..., Any]")

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_KEY_ID_DIGITS: Final = 8
_PUBLIC_MODE: Final = 0o644

_ROTATE_EXAMPLES: Final = """
\b
Examples:
  key-ceremony rotate order-key --config offline.toml --custody-copy /media/a/custody-2.copy
  key-ceremony rotate node --config offline.toml --node shop-a --public-key identity.next.pub
  key-ceremony rotate identity --config offline.toml --custody-copy /media/a/custody-3.copy
"""
_REVOKE_EXAMPLES: Final = """
\b
Examples:
  key-ceremony revoke order-key 1 --config offline.toml --custody-copy /media/a/custody-4.copy
  key-ceremony revoke batch-keys --config offline.toml --node shop-a --number 7 --number 8
  key-ceremony revoke batch-keys --config offline.toml --node shop-a
"""


def _copy_option(function: F) -> F:
    option = click.option(
        "--custody-copy",
        "copy_file",
        metavar="FILE",
        type=_FILE,
        help="Where the new custody copy is written; needed when the keystore has custodians.",
    )
    return option(function)


@click.group(epilog=_ROTATE_EXAMPLES)
def rotate() -> None:
    """Replace a key by a new one, without a pause for the shop."""


@click.group(epilog=_REVOKE_EXAMPLES)
def revoke() -> None:
    """Forbid for ever that anything is sealed to a key."""


@rotate.command(
    "order-key",
    epilog="Example: key-ceremony rotate order-key --config offline.toml --custody-copy custody-2.copy",
)
@shared_options
@keystore_passphrase_option
@_copy_option
@click.option(
    "--overlap-days",
    default=OVERLAP // DAY,
    show_default=True,
    metavar="N",
    type=click.IntRange(0, 90),
    help="How long the old order key may still be sealed to.",
)
def rotate_order_key(
    *, config: Path, as_json: bool, passphrase_fds: Descriptors, copy_file: Path | None, overlap_days: int
) -> ExitCode:
    """Make a new order key, in use at once. The old one opens what was sealed to it until its own end."""
    with _opened(config, passphrase_fds, as_json=as_json, copy_file=copy_file) as keystore:
        new = keystore.rotate_order_key(_now(), overlap_days * DAY)
        copies = _write_copies(keystore, copy_file)
        older = [key for key in keystore.order_keys[:-1] if key.revoked_at is None]
    report = {
        "order_key": new.number,
        "key_id": new.key.key_id,
        "seal_until": new.seal_until,
        "destroy_at": new.destroy_at,
        **copies,
    }
    if as_json:
        console.print_json(report)
        return ExitCode.DONE
    say(
        f"Order key {new.number} ({_short(new.key.key_id)}) is made; sealed to until {_date(new.seal_until)}."
    )
    for key in older:
        say(
            f"Order key {key.number} is sealed to until {_date(key.seal_until)}, "
            f"opens orders until {_date(key.destroy_at)}, and is then destroyed by the next run."
        )
    _say_copies(copies)
    say("Next: `offline-processor run`; its returns bring the new key to every node.", style="bold")
    return ExitCode.DONE


@rotate.command(
    "node",
    epilog="Example: key-ceremony rotate node --config offline.toml --node shop-a --public-key identity.next.pub",
)
@shared_options
@keystore_passphrase_option
@_copy_option
@click.option("--node", required=True, metavar="NAME", help="The node whose identity changes.")
@click.option(
    "--public-key",
    required=True,
    metavar="FILE",
    type=_FILE,
    help="identity.next.pub, from `spool-sync rotate-identity`.",
)
@click.option("--fingerprint", "spoken", metavar="F", help="As the node's administrator reads it out.")
def rotate_node(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    copy_file: Path | None,
    node: str,
    public_key: Path,
    spoken: str | None,
) -> ExitCode:
    """Take in a node's new identity by its fingerprint; the old one is believed until a bundle of the new one comes."""
    key = read_node_key(public_key)
    spoken = spoken or _ask(f"Fingerprint of the new key of {node}, as its administrator reads it out")
    _compare(key, spoken, "the key in the file")
    with _opened(config, passphrase_fds, as_json=as_json, copy_file=copy_file) as keystore:
        keystore.ring.rotate_node(node, key, _now())
        copies = _write_copies(keystore, copy_file)
    if as_json:
        console.print_json({"node": node, "fingerprint": fingerprint(key), **copies})
        return ExitCode.DONE
    say(f"Node {node} has a new identity: {fingerprint(key)}")
    say(f"  in words: {words(key)}")
    _say_copies(copies)
    say("Next, on the node: spool-sync rotate-identity --activate", style="bold")
    return ExitCode.DONE


@rotate.command(
    "identity",
    epilog="Example: key-ceremony rotate identity --config offline.toml --custody-copy custody-3.copy",
)
@shared_options
@keystore_passphrase_option
@_copy_option
@click.option("--fingerprint", "spoken", metavar="F", help="Of the identity that is replaced, from paper.")
@click.option(
    "--compromised", is_flag=True, help="Others may have the old key: no handover, no more trust in it."
)
def rotate_identity(
    *,
    config: Path,
    as_json: bool,
    passphrase_fds: Descriptors,
    copy_file: Path | None,
    spoken: str | None,
    compromised: bool,
) -> ExitCode:
    """Make a new offline identity. The old one signs the handover, unless it is compromised."""
    spoken = spoken or _ask("Fingerprint of the offline identity that is replaced, as on paper")
    with _opened(config, passphrase_fds, as_json=as_json, copy_file=copy_file) as keystore:
        _compare(keystore.identity.public_key, spoken, "the identity of this keystore")
        keystore.rotate_identity(_now(), compromised=compromised)
        copies = _write_copies(keystore, copy_file)
        public, waiting = keystore.identity.public_key, keystore.handover_waits_for
    if as_json:
        report = {"fingerprint": fingerprint(public), "words": words(public), "handover_waits_for": waiting}
        console.print_json({**report, "compromised": compromised, **copies})
        return ExitCode.DONE
    say(f"The new offline identity: {fingerprint(public)}", style="bold")
    say(f"  in words: {words(public)}")
    say("Write it down with the date, and strike out the old one.")
    _say_copies(copies)
    if compromised:
        say(
            "No node trusts this identity yet, and none must trust the old one any longer. For each node, at once:"
        )
        say(
            "  key-ceremony enrol-node (with its present key) writes its files; carry them there, and run there:"
        )
        say("  intake trust DIR --fingerprint F --replace", style="bold")
    else:
        say("Next: `offline-processor run`; its returns carry the handover.", style="bold")
        say(f"The old key is kept until these nodes have confirmed it: {', '.join(waiting) or 'none'}.")
    return ExitCode.DONE


@revoke.command(
    "order-key",
    epilog="Example: key-ceremony revoke order-key 1 --config offline.toml --custody-copy custody-4.copy",
)
@shared_options
@keystore_passphrase_option
@_copy_option
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
    number: int,
    typed: str | None,
) -> ExitCode:
    """Revoke an order key: nothing is sealed to it again. A new one is made when no other is left."""
    typed = typed or _ask(f"First {_KEY_ID_DIGITS} digits of the id of order key {number}")
    with _opened(config, passphrase_fds, as_json=as_json, copy_file=copy_file) as keystore:
        doomed = next((key for key in keystore.order_keys if key.number == number), None)
        if doomed is not None and _short(doomed.key.key_id) != typed.strip().lower()[:_KEY_ID_DIGITS]:
            remedy = "look at `key-ceremony status`, and be sure which key it is"
            raise KeysError("KEY-FINGERPRINT", f"order key {number} has another id", remedy)
        new = keystore.revoke_order_key(number, _now())
        copies = _write_copies(keystore, copy_file)
    if as_json:
        console.print_json(
            {"revoked": number, "new_order_key": None if new is None else new.number, **copies}
        )
        return ExitCode.DONE
    say(f"Order key {number} is revoked. It still opens what was sealed to it, until its end.")
    if new is not None:
        say(f"No other key was left, so order key {new.number} was made.")
    _say_copies(copies)
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
@_copy_option
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
    node: str,
    numbers: tuple[int, ...],
    spoken: str | None,
) -> ExitCode:
    """Destroy unused batch keys of a node. Orders already sealed to them become "please order again"."""
    spoken = spoken or _ask(f"Fingerprint of {node}")
    with _opened(config, passphrase_fds, as_json=as_json, copy_file=copy_file) as keystore:
        known = keystore.ring.node(node)
        if known is None:
            raise KeysError("KEY-NODE-UNKNOWN", f"node {node} is not enrolled", "see `key-ceremony status`")
        _compare(bytes.fromhex(known.public_key), spoken, f"node {node}")
        dead = keystore.ring.revoke_batch_keys(node, numbers or None, _now())
        copies = _write_copies(keystore, copy_file)
    done = sorted(record.number for record in dead if record.number is not None)
    if as_json:
        console.print_json({"node": node, "revoked": done, **copies})
        return ExitCode.DONE if done else ExitCode.NOTHING_TO_DO
    if not done:
        say("Nothing to do: these keys are used or destroyed already.")
        return ExitCode.NOTHING_TO_DO
    say(f"Batch keys of {node} destroyed: {', '.join(map(str, done))}.")
    _say_copies(copies)
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
@click.argument("copy_file", metavar="FILE", type=_FILE)
def write_copy(*, config: Path, as_json: bool, passphrase_fds: Descriptors, copy_file: Path) -> ExitCode:
    """Write a custody copy: all that the custodians need, beside their shares, to rebuild the keys."""
    with _opened(config, passphrase_fds, as_json=as_json, copy_file=copy_file) as keystore:
        copies = _write_copies(keystore, copy_file)
    if as_json:
        console.print_json(copies)
    else:
        _say_copies(copies)
    return ExitCode.DONE


def register(group: click.Group) -> None:
    """Add these verbs to `key-ceremony`."""
    for command in (rotate, revoke, write_copy):
        group.add_command(command)


@contextlib.contextmanager
def _opened(config: Path, fds: Descriptors, *, as_json: bool, copy_file: Path | None) -> Iterator[Keystore]:
    """An open keystore, once it is certain that its custody copy can be written where it should be."""
    settings = load(config, {"keystore": KeystoreConfig}, os.environ)["keystore"]
    if claims_rehearsal(settings.path):
        (console.warn if as_json else say)(REHEARSAL_MARK, style="bold")
    if copy_file is not None:
        _refuse_existing(copy_file)
    with keystore_passphrases(settings, fds) as passphrases:
        keystore = Keystore.open(settings.path, passphrases)
    with keystore:
        if keystore.custody is not None and copy_file is None:
            raise KeysError(
                "CUSTODY-COPY",
                "this change must reach the custody copy, or a recovery would bring the old keys back",
                "say where to write the new copy: --custody-copy FILE, on a medium that is kept elsewhere",
            )
        if keystore.custody is None and copy_file is not None:
            raise KeysError("CUSTODY-NONE", "this keystore has no custodians", "leave --custody-copy away")
        yield keystore


def _refuse_existing(copy_file: Path) -> None:
    if os.path.lexists(copy_file):
        remedy = "copies are never overwritten: choose another name"
        raise KeysError("CUSTODY-EXISTS", f"{copy_file} exists already", remedy)
    if not os.access(copy_file.parent, os.W_OK | os.X_OK):
        remedy = "insert the medium, or choose another place"
        raise KeysError("CUSTODY-COPY", f"cannot write into {copy_file.parent}", remedy)


def _write_copies(keystore: Keystore, copy_file: Path | None) -> dict[str, Path]:
    """The custody copy beside the keystore, and the one that is carried away."""
    now = _now()
    beside = refresh_copy(keystore, now)
    if beside is None or copy_file is None:
        return {}
    try:
        create_durable(copy_file, keystore.custody_copy(now), _PUBLIC_MODE)
    except OSError as error:
        raise KeysError(
            "CUSTODY-COPY",
            f"the change is made, but {copy_file} was not written: {error.strerror}",
            f"write it now: key-ceremony custody-copy FILE, or carry {beside} to another medium",
        ) from error
    return {"custody_copy": copy_file, "custody_copy_beside": beside}


def _say_copies(copies: dict[str, Path]) -> None:
    if copies:
        say(
            f"The new custody copy: {copies['custody_copy']}. Take it to where copies are kept; the shares stay."
        )


def _compare(public_key: bytes, spoken: str, what: str) -> None:
    if not matches(public_key, spoken):
        raise KeysError(
            "KEY-FINGERPRINT",
            f"{what} does not have the fingerprint that was given",
            "have it read out again; if it still differs, stop: something was exchanged",
        )


def _ask(question: str) -> str:
    if not sys.stdin.isatty():
        raise KeysError(
            "KEY-FINGERPRINT",
            f"nobody is there to ask: {question}",
            "give it as an option (--fingerprint, --key-id), read from paper or read out by voice",
        )
    # Typed, not shown for a nod: whoever only confirms what the screen says has compared nothing.
    return str(click.prompt(question, err=True))


def _short(key_id: bytes) -> str:
    return key_id.hex()[:_KEY_ID_DIGITS]


def _now() -> int:
    return int(time.time())


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
