"""Fingerprints as people say them: typed from paper or read out by voice, then compared.

Why here: enrolment, rotation, recovery and restore must ask and refuse in one way.
Must not: show a fingerprint before it was typed: whoever only confirms what the screen says has compared nothing.
"""

from __future__ import annotations

import sys
from typing import Final

import click

from keys import console
from keys.errors import KeysError
from keys.public.fingerprint import fingerprint, matches, words

_TRIES: Final = 3


def compare(public_key: bytes, spoken: str, what: str) -> None:
    """Refuse (``KEY-FINGERPRINT``) when ``spoken`` is not this key's fingerprint, in hex or words."""
    if not matches(public_key, spoken):
        raise KeysError(
            "KEY-FINGERPRINT",
            f"{what} does not have the fingerprint that was given",
            "have it read out again; if it still differs, stop: something was exchanged",
        )


def compare_copy(identity: bytes, spoken: str | None) -> None:
    """The same for the identity that a custody copy brings: anyone could have made a copy with one of their own.

    On a terminal a person types it from paper, and again when it was mistyped.
    """
    what = "the offline identity in this custody copy"
    if spoken is not None:
        compare(identity, spoken, what)
        return
    for _ in range(_TRIES):
        if matches(
            identity, ask("Fingerprint of the offline identity, hex or words, from the paper of the ceremony")
        ):
            console.warn(f"The custody copy brings this identity: {fingerprint(identity)}")
            console.warn(f"  in words: {words(identity)}")
            return
        console.warn("That is not the fingerprint of the identity in this copy.")
    raise KeysError(
        "KEY-FINGERPRINT",
        f"{what} does not have the fingerprint that was given",
        "look at the paper again, and at the newest record; if it differs, the copy is not ours: take another one",
    )


def ask(question: str) -> str:
    """What a person types; ``KEY-FINGERPRINT`` when nobody is there."""
    if not sys.stdin.isatty():
        raise KeysError(
            "KEY-FINGERPRINT",
            f"nobody is there to ask: {question}",
            "give it as an option (--fingerprint, --key-id), read from paper or read out by voice",
        )
    return str(click.prompt(question, err=True))
