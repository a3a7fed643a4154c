"""The proof block: what was really found, after the play, about each promise.

Why here: the privacy policy's sentences are shown here, not only said.
Must not: print a figure that was not measured in this run, or let a failing line pass.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from intake.sample_people import CARDS, TROUBLED_CARDS
from keys.public.minisign import MinisignPublicKey, signature_matches
from offline_processor.acquirers.simulator.books import unreversed_approvals
from tests.end_to_end.commands import Shell, environment
from tests.end_to_end.findings import Play, Proof
from tests.end_to_end.page_order import SECRETS
from tests.end_to_end.places import NODE, Places
from tests.end_to_end.scan import (
    PLANTED_CVV_COMPARTMENT,
    PLANTED_CVV_TEXT,
    Looked,
    digits_of,
    scan,
    spellings,
)
from transfer.wire.manifest import BUNDLE_COMMENT, MANIFEST_NAME, RETURN_COMMENT, SIGNATURE_NAME

SAMPLE_PANS = tuple(digits_of(number) for number in (*CARDS, *TROUBLED_CARDS))
_PLANTED_CVVS = 2
_PLACES_SHOWN = 10


def prove(shell: Shell, places: Places, play: Play) -> Proof:
    """Look, and return what was found. Nothing is taken from the play that can be looked at."""
    proof = Proof()
    _sealed_by_the_browser(play, proof)
    _isolation(shell, play, proof)
    _opening(shell, places, play, proof)
    _signatures(places, proof)
    _ledger(shell, places, proof)
    _books(places, play, proof)
    _bytes(places, proof)  # last, so that what the others wrote is looked through too
    return proof


def _bytes(places: Places, proof: Proof) -> None:
    marker = b"9" + b"".join(secrets.choice([b"%d" % digit for digit in range(10)]) for _ in range(15))
    ways = spellings(marker)
    places.planted.write_bytes(b"\n".join([*ways.values(), PLANTED_CVV_TEXT, PLANTED_CVV_COMPARTMENT]))
    try:
        looked = scan(places.var, [*SAMPLE_PANS, marker])
    finally:
        places.planted.unlink()
    others = looked.outside(places.planted)
    _judge_scan(looked, others, places, proof)
    seen = {found.kind for found in looked.pans if found.path == places.planted}
    cvvs = sum(found.path == places.planted for found in looked.cvvs)
    proof.add(
        "the scan finds what is there: a planted marker",
        f"marker card number in {len(seen)} of {len(ways)} spellings, {cvvs} of {_PLANTED_CVVS} marker codes",
        holds=seen == set(ways) and cvvs == _PLANTED_CVVS,
    )


def _judge_scan(looked: Looked, others: Looked, places: Places, proof: Proof) -> None:
    proof.add(
        "every file under var/ is looked through",
        f"{looked.files} files, {looked.size} bytes, {len(looked.unread)} not readable",
        holds=looked.files > 1 and not looked.unread,
    )
    for what, found in (("card number", others.pans), ("security code", others.cvvs)):
        sought = (
            f" of {len(SAMPLE_PANS)} sample cards" if what == "card number" else ", where a field holds one"
        )
        proof.add(
            f"no {what} stands in clear in any file, online or offline",
            f"{len(found)} {what}s{sought}",
            holds=not found,
        )
        proof.places += [
            f"{place.path.relative_to(places.var.parent)}, byte {place.offset}: a {what} ({place.kind})"
            for place in found[:_PLACES_SHOWN]
        ]
    proof.places += looked.unread[:_PLACES_SHOWN]


def _sealed_by_the_browser(play: Play, proof: Proof) -> None:
    promise = "the page encrypts in the customer's browser"
    page = play.page
    if page.receipt is None:
        proof.add(promise, page.why or "no order went through the page", holds=None)
        return
    found = (
        f"{page.browser}: 1 order sealed and sent, {len(page.in_clear)} of {len(SECRETS)} typed texts in clear in"
        f" {page.requests} requests, {len(page.foreign)} requests to others, {len(page.complaints)} complaints"
    )
    proof.add(promise, found, holds=page.is_clean)
    proof.places += [f"the browser: {text}" for text in (*page.foreign, *page.complaints)[:_PLACES_SHOWN]]


def _isolation(shell: Shell, play: Play, proof: Proof) -> None:
    if shell.prefix:
        found = (
            f"{play.runs} runs in a network namespace of their own; {len(play.not_isolated)} saw a network"
        )
        proof.add("cards are charged where there is no network", found, holds=not play.not_isolated)
    else:
        found = "; ".join(play.not_isolated[:1]) or "this machine allows no network namespace"
        proof.add("cards are charged where there is no network", found, holds=None)


def _opening(shell: Shell, places: Places, play: Play, proof: Proof) -> None:
    proof.add(
        "while its key lived, the kept bundle could be opened",
        f"{play.opened_before} of {play.cards_before} cards opened before the run",
        holds=play.opened_before == play.cards_before == play.orders > 0,
    )
    bundles = sorted((places.copies / "in" / NODE).glob("b*"))
    cards = opened = 0
    destroyed: set[str] = set()
    named: set[str] = set()
    for bundle in bundles:
        manifest = json.loads((bundle / MANIFEST_NAME).read_bytes())
        if not manifest["count"]:
            continue
        named.add(manifest["batch_key"])
        found = try_open(shell, places, bundle)
        cards += found.cards
        opened += found.opened
        destroyed |= found.destroyed
    proof.add(
        "now it cannot: the kept copy, with every key that there is",
        f"{opened} of {cards} cards opened",
        holds=opened == 0 and cards == play.orders,
    )
    status = shell.offline(
        "key-ceremony", "status", "--config", places.offline_toml, "--json", show=False
    ).document
    gone = sum(node["destroyed"] for node in status["nodes"])
    proof.add(
        "batch keys are destroyed, no card waits under a hold key",
        f"{len(named & destroyed)} of {len(named)} batch keys used are destroyed (the ring counts {gone}),"
        f" {status['hold_keys']} hold keys left; ring secret {status['ring_secret']}",
        holds=bool(named) and named <= destroyed and gone == len(named) and status["hold_keys"] == 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What `offline-processor try-open` said of one bundle."""

    cards: int
    opened: int
    destroyed: frozenset[str]
    marks: tuple[str, ...]


def try_open(shell: Shell, places: Places, bundle: Path) -> Tried:
    """Ask the offline side to open a copy's cards with every key that it still has."""
    command = ("offline-processor", "try-open", "--config", places.offline_toml, bundle, "--json")
    document = shell.offline(*command, show=False).document
    return Tried(
        cards=document["cards"],
        opened=document["opened"],
        destroyed=frozenset(document["destroyed"]),
        marks=tuple(document["marks"]),
    )


def _signatures(places: Places, proof: Proof) -> None:
    program = shutil.which("minisign", path=environment()["PATH"])
    by = "minisign -V" if program else "our own verification (minisign is not here)"
    kinds = (
        ("bundle", places.copies / "in", places.node_identity, BUNDLE_COMMENT, "the node's key"),
        ("return", places.copies / "out", places.offline_identity, RETURN_COMMENT, "the offline identity"),
    )
    for what, folder, identity, comment, whose in kinds:
        copies = sorted((folder / NODE).glob("*"))
        if not copies:
            proof.add(f"every {what} is signed by {whose}", f"no {what} was kept", holds=False)
            continue
        good = sum(_signed(copy, identity, comment, program) for copy in copies)
        whole = sum(_contents_match(copy) for copy in copies)
        altered = _signed(_altered(copies[0], places.copies / "altered" / what), identity, comment, program)
        proof.add(
            f"every {what} is signed by {whose}",
            f"{good} of {len(copies)} verified by {by}, {whole} with the contents signed;"
            f" one byte altered: {'accepted' if altered else 'refused'}",
            holds=good == whole == len(copies) and not altered,
        )


def _signed(folder: Path, identity: Path, comment: str, program: str | None) -> bool:
    manifest = folder / MANIFEST_NAME
    if program is None:
        key = MinisignPublicKey.decode(identity.read_text(encoding="ascii"))
        text = (folder / SIGNATURE_NAME).read_text(encoding="utf-8")
        return signature_matches(key, manifest.read_bytes(), text, comment)
    command = [program, "-V", "-p", str(identity), "-m", str(manifest)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0 and f"Trusted comment: {comment}\n" in done.stdout + "\n"


def _contents_match(folder: Path) -> bool:
    """True when each file beside the manifest has the SHA-256 that the manifest names."""
    manifest = json.loads((folder / MANIFEST_NAME).read_bytes())
    contents = [file for file in folder.iterdir() if file.name not in (MANIFEST_NAME, SIGNATURE_NAME)]
    return bool(contents) and all(
        hashlib.sha256(file.read_bytes()).hexdigest() == manifest[f"{file.stem}_sha256"] for file in contents
    )


def _altered(copy: Path, to: Path) -> Path:
    """A copy of a copy, one byte of its manifest changed."""
    shutil.copytree(copy, to, dirs_exist_ok=True)
    raw = bytearray((to / MANIFEST_NAME).read_bytes())
    raw[len(raw) // 2] ^= 1
    (to / MANIFEST_NAME).write_bytes(raw)
    return to


def _ledger(shell: Shell, places: Places, proof: Proof) -> None:
    command = ("offline-processor", "verify-ledger", "--config", places.offline_toml, "--json")
    outcome = shell.offline(*command, expect=tuple(range(6)), show=False)
    document = outcome.document
    entries = document.get("entries", 0)
    proof.add(
        "the ledger's chain of entries is intact",
        f"{entries} entries, chain {document['chain']}"
        if outcome.code == 0
        else str(document.get("message")),
        holds=outcome.code == 0 and entries > 0,
    )


def _books(places: Places, play: Play, proof: Proof) -> None:
    approvals = unreversed_approvals(places.books) if places.books.is_file() else {}
    twice = sum(count > 1 for count in approvals.values())
    proof.add(
        "every order is charged once, says the acquirer's own book",
        f"{len(approvals)} orders with an approval that stands, {twice} with two; {len(play.paid)} orders paid",
        holds=twice == 0 and set(approvals) == play.paid,
    )
    proof.add(
        "every customer has an answer",
        f"{play.orders - play.unsettled} of {play.orders} orders settled",
        holds=play.unsettled == 0 < play.orders,
    )
