"""Giving one custodian a share: shown to them alone, taken from the screen, and typed back from paper.

Why here: the ceremony and a new share set hand shares out in the same way.
Must not: show a share on a screen that keeps a history, or go on before the paper was proved right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keys.custody import SHARE_WORDS, Assembly
from keys.errors import KeysError
from keys.public.fingerprint import fingerprint, words
from keys.quorum import AGAIN, read_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keys.custody import Custody
    from keys.screen import Screen

SHOW: Final = "show"
_ROWS: Final = 11
_WIDTH: Final = 12
_MOST_NAMED: Final = 6


def hand_out(
    screen: Screen, share: str, *, number: int, custodian: str, custody: Custody, title: str
) -> None:
    """Show ``share``, the ``number``th (from 1), and have it typed back; returns when it is on paper."""
    label = f"Share {number} of {custody.shares}, set {custody.set_id}"
    screen.page(
        f"{custodian}, take your sheet and a pen. Everybody else looks away, cameras and telephones too."
    )
    screen.wait("When you are alone at the screen")
    _show(screen, share, custody, title, label)
    screen.page(
        f"Now type the {SHARE_WORDS} words from your sheet. Four letters are enough for a word.",
        f"'{AGAIN}' begins anew.",
    )
    while (reason := what_is_wrong(read_share(screen), share, custody)) is not None:
        screen.page(f"That is not your share: {reason}.")
        if screen.ask(f"Press Enter to type it again, or type '{SHOW}' to see the words once more") == SHOW:
            _show(screen, share, custody, title, label)
        screen.page(f"Type the {SHARE_WORDS} words from your sheet; '{AGAIN}' begins anew.")
    screen.page("That is your share. The words are gone from the screen; they are on your sheet only.")
    screen.say(f"It is {label[0].lower()}{label[1:]}: write that outside.")
    screen.wait("Put the sheet into its envelope, seal it, and sign over the seal")
    screen.clear()


def hand_out_all(
    screen: Screen, shares: list[str], names: Sequence[str], custody: Custody, title: str
) -> None:
    """Every custodian's share in turn; ``shares`` is emptied on the way."""
    for place, custodian in enumerate(names):
        screen.heading = f"Share {place + 1} of {len(names)} - custodian {custodian}: take a share"
        hand_out(screen, shares[place], number=place + 1, custodian=custodian, custody=custody, title=title)
        shares[place] = ""


def grid(share: str) -> list[str]:
    """The words, numbered, in columns that are read downwards."""
    parts = share.split()
    return [
        "  ".join(
            f"{place + 1:2d} {parts[place]:<{_WIDTH}}" for place in range(row, len(parts), _ROWS)
        ).rstrip()
        for row in range(_ROWS)
    ]


def fingerprint_lines(what: str, public_key: bytes) -> list[str]:
    """Both forms of a key's fingerprint, the words numbered, four in a line."""
    parts = words(public_key).split()
    numbered = [f"{place + 1:2d} {word:<9}" for place, word in enumerate(parts)]
    rows = ["  " + "  ".join(numbered[start : start + 4]).rstrip() for start in range(0, len(parts), 4)]
    return [f"Fingerprint of the {what}:", "", f"  {fingerprint(public_key)}", *rows, ""]


def what_is_wrong(typed: str, share: str, custody: Custody) -> str | None:
    """Which kind of wrong ``typed`` is, in words for its custodian; None when it is ``share``."""
    given, shown = typed.split(), share.split()
    if given == shown:
        return None
    try:
        Assembly(custody).add(typed)
    except KeysError as error:
        if error.rule == "SHARE-OTHER-SET":
            return f"{error.rule}: it is from another set of shares; burn that sheet"
        return f"{error.rule}: {_differences(given, shown)}"
    return "SHARE-WRONG: it is the share of another custodian"


def _differences(given: Sequence[str], shown: Sequence[str]) -> str:
    if len(given) != len(shown):
        return f"it has {len(given)} words, not {len(shown)}"
    places = [
        str(place) for place, pair in enumerate(zip(given, shown, strict=True), 1) if pair[0] != pair[1]
    ]
    if len(places) > _MOST_NAMED:
        return f"{len(places)} of its words are not those that you were shown"
    return f"word {' and '.join(places)} on your sheet is not what you were shown"


def _show(screen: Screen, share: str, custody: Custody, title: str, label: str) -> None:
    screen.page(
        f"{title}. {label}. Any {custody.threshold} shares rebuild the key.",
        "Write number and set on your sheet, then number and word; read each one again, and show nobody:",
        "",
        *grid(share),
        "",
    )
    screen.wait(f"When all {SHARE_WORDS} words are on your sheet")
    screen.clear()
