"""The story of the main job: every step of a first day, typed one after another.

Why here: main job and tests play the same steps; each is one of the commands that the README names.
Must not: reach into a room's code to make a step pass, or know how a status should turn out.
"""

from __future__ import annotations

import random
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from intake.money import control_total
from keys.public.fingerprint import fingerprint
from keys.public.minisign import MinisignPublicKey
from tests.end_to_end import findings, orders, page_order, proof
from tests.end_to_end.commands import DONE, JobFailedError, Outcome, Service, Shell, entered
from tests.end_to_end.findings import Play, Proof
from tests.end_to_end.orders import PAID, SETTLED, Receipt, Status
from tests.end_to_end.page_order import PageOrder
from tests.end_to_end.places import NODE, Places, write_passphrases, write_profile, write_settings

NEEDS_PERSON = 3
_FINGERPRINT = re.compile(r"\b[0-9a-f]{4}(?:-[0-9a-f]{4}){7}\b")
_CONTROL_TOTAL = re.compile(r"\b\d+ orders?: [A-Z]{3} [0-9.]+(?:, [A-Z]{3} [0-9.]+)*")
_NOT_ISOLATED = "NOT ISOLATED"
_PORTS = range(20_000, 32_000)  # below those that a system gives to connections of its own
_START_PATIENCE = 30.0
_STEP = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """An intake that serves, and where."""

    service: Service
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """How the orders went: their statuses after the first return and after the second."""

    receipts: list[Receipt]
    first: dict[str, Status]
    last: dict[str, Status]
    play: Play


@contextmanager
def open_circuit(shell: Shell, places: Places) -> Iterator[Service]:
    """The simulated acquirer at the other end of the private circuit, in the network namespace of the offline side.

    From then on the shell's offline commands run there: the circuit is loopback, and there is nothing else.
    """
    shell.title("Offline: the private circuit, with a simulated acquirer at its other end")
    log, outside = places.logs / "simulate-acquirer.log", shell.prefix
    write_profile(places)
    loopback: tuple[str, ...] = (sys.executable, "-m", "tests.end_to_end.with_loopback") if outside else ()
    simulator = ("offline-processor", "simulate-acquirer", "--profile", places.profile)
    books = ("--books", places.books, "--port-file", places.listening)
    with shell.background(*outside, *loopback, *simulator, *books, log=log) as service:
        try:
            shell.prefix = entered(outside, service)
            deadline = time.monotonic() + _START_PATIENCE
            while not places.listening.exists():
                if not service.alive() or time.monotonic() > deadline:
                    raise JobFailedError(f"no simulated acquirer; see {log}\n{service.last_words()}")
                time.sleep(_STEP)
            yield service
        finally:
            shell.prefix = outside


def set_up(shell: Shell, places: Places, *, workers: int) -> str:
    """Settings, keys of both sides, enrolment and trust; returns the intake's address."""
    port = free_port()
    shell.title("Settings: written to files, with passphrases that nobody has to type here (mode 0600)")
    write_passphrases(places)
    write_settings(places, port=port, workers=workers)
    for path in (places.node_toml, places.node_passphrase, places.offline_toml, places.offline_passphrase):
        shell.say(f"  {shell.short(path)}", "dim")
    shell.title(
        "Keys: the node's, the offline side's (a rehearsal: throwaway keys), and each other's fingerprint"
    )
    made = shell.run("spool-sync", "init-node", "--config", places.node_toml)
    shell.offline("key-ceremony", "init", "--config", places.offline_toml, "--rehearsal")
    spoken = _one(_FINGERPRINT, made, "fingerprint")
    node = ("--node", NODE, "--public-key", places.node_identity, "--fingerprint", spoken)
    enrol: tuple[str | Path, ...] = ("key-ceremony", "enrol-node", "--config", places.offline_toml, *node)
    enrolled = shell.offline(*enrol, "--out", places.enrolment)
    # It names the node's fingerprint, which it compared, and then its own.
    both = fingerprints(enrolled)
    if not both:
        raise JobFailedError(f"the enrolment names no fingerprint; see {enrolled.log}")
    shell.run("intake", "trust", places.enrolment, "--config", places.node_toml, "--fingerprint", both[-1])
    return f"http://127.0.0.1:{port}"


@contextmanager
def open_shop(shell: Shell, places: Places, url: str) -> Iterator[Shop]:
    """Intake in the background, ready; it is stopped at the end, whatever happens."""
    log = places.logs / "intake-serve.log"
    with shell.background("intake", "serve", "--config", places.node_toml, log=log) as service:
        deadline = time.monotonic() + _START_PATIENCE
        while not _is_ready(url):
            if not service.alive() or time.monotonic() > deadline:
                raise JobFailedError(f"intake does not serve; see {log}\n{service.last_words()}")
            time.sleep(_STEP)
        yield Shop(service=service, url=url)


def take_orders(shell: Shell, places: Places, url: str, *, count: int) -> str:
    """Sample orders over HTTP; returns the control total that the shop's own books say."""
    taken = shell.run("intake", "sample", "--url", url, "--count", str(count), "--receipts", places.receipts)
    return _one(_CONTROL_TOTAL, taken, "control total")


def buy_in_the_page(shell: Shell, places: Places, url: str) -> PageOrder:
    """One more order, by a customer with a browser; where there is none it is said, and nothing is installed."""
    shell.title(
        "Online: are the live pages as they were shipped? Then one customer buys there, with a real browser"
    )
    identity = MinisignPublicKey.decode(places.offline_identity.read_text("ascii"))
    shell.run("intake", "check-page", url, "--fingerprint", fingerprint(identity.public_key))
    page = page_order.place(shell, places, url)
    if page.receipt is None:
        shell.say(f"NOT SHOWN: {page.why}. The other orders go on.", "yellow")
    else:
        shell.say(
            f"  {page.browser} chose a record, filled in the checkout and pressed Pay; the thank-you page is in"
            f" {shell.short(places.logs / page_order.PICTURE)}",
            "dim",
        )
    return page


def push(shell: Shell, places: Places) -> Outcome:
    """Cut, sign and write a bundle to the medium, and keep a copy of what is on it: the adversary's copy."""
    outcome = shell.run("spool-sync", "push", "--config", places.node_toml)
    shell.run("cp", "-r", places.drop_in, places.copies)
    return outcome


def charge(shell: Shell, places: Places, *confirm: str, expect: tuple[int, ...] = (DONE,)) -> Outcome:
    """The operator's run. What it writes to the medium is copied too."""
    outcome = shell.offline(
        "offline-processor", "run", "--config", places.offline_toml, *confirm, expect=expect
    )
    shell.run("cp", "-r", places.drop_out, places.copies)
    return outcome


def pull(shell: Shell, places: Places) -> Outcome:
    """Take the return in."""
    return shell.run("spool-sync", "pull", "--config", places.node_toml)


def day(shell: Shell, places: Places, url: str, *, count: int) -> Day:
    """Orders in, charged, answered; then once more for those whose answer was lost on the way."""
    shell.title(f"Online: {count} sample orders over HTTP, then out to the medium")
    take_orders(shell, places, url, count=count)
    receipts = orders.read_receipts(places.receipts)
    page = buy_in_the_page(shell, places, url)
    receipts += [page.receipt] if page.receipt else []
    total = control_total((receipt.amount, receipt.currency) for receipt in receipts)
    shell.say(f"The shop's own books: {total}", "bold")
    push(shell, places)
    bundles = sorted((places.copies / places.drop_in.name / NODE).iterdir())
    shell.say("The copy opens as long as its key lives:")
    before = proof.try_open(shell, places, bundles[0])
    shell.say(f"  {before.opened} of {before.cards} cards opened", "dim")
    shell.title("Offline: the operator confirms the shop's control total and charges")
    runs = [charge(shell, places, "--confirm", total, expect=(DONE, NEEDS_PERSON))]
    shell.title("Online: the return comes in")
    pull(shell, places)
    first = orders.statuses(url, receipts)
    shell.title("Once more: what got no answer is reversed first, and only then charged anew")
    push(shell, places)
    runs.append(charge(shell, places))
    pull(shell, places)
    last = orders.statuses(url, receipts)
    return Day(
        receipts=receipts,
        first=first,
        last=last,
        play=Play(
            orders=len(receipts),
            paid=frozenset(order for order, status in last.items() if status.state == PAID),
            unsettled=sum(status.state not in SETTLED for status in last.values()),
            cards_before=before.cards,
            opened_before=before.opened,
            runs=len(runs),
            not_isolated=tuple(
                line for run in runs for line in run.output.splitlines() if _NOT_ISOLATED in line
            ),
            page=page,
        ),
    )


def paper(shell: Shell, places: Places) -> list[Path]:
    """Packing slips, the carrier's file and the day report; a machine without some fonts says what is missing."""
    shell.title("Offline: packing slips, the carrier's file and the day report")
    for words in (("print", "slips"), ("export", "carrier")):
        where = ("--config", places.offline_toml, "--out", places.paper, "--who", "A. Keeper")
        shell.offline("offline-processor", *words, *where, expect=(DONE, NEEDS_PERSON))
    shell.offline("offline-processor", "report", "--config", places.offline_toml, "--out", places.paper)
    return sorted(places.paper.iterdir())


def evidence(shell: Shell, places: Places, played: Day) -> Proof:
    """The table of all orders and the proof block."""
    shell.title("What customers see, and what an adversary would find")
    found = proof.prove(shell, places, played.play)
    shell.console.print()
    orders.show(shell, played.receipts, played.first, played.last)
    shell.console.print()
    findings.show(shell, found)
    return found


def _one(pattern: re.Pattern[str], outcome: Outcome, what: str) -> str:
    found = pattern.findall(outcome.output)
    if not found:
        raise JobFailedError(f"no {what} in what the command printed; see {outcome.log}")
    return str(found[0])


def _is_ready(url: str) -> bool:
    with suppress(OSError, HTTPException, ValueError):
        code, _ = orders.get(url, "/readyz")
        return code == HTTPStatus.OK
    return False


def fingerprints(outcome: Outcome) -> list[str]:
    """The fingerprints that a command showed, in their order."""
    return _FINGERPRINT.findall(outcome.output)


def free_port() -> int:
    """A port on loopback that nobody uses now."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise JobFailedError("no free port on 127.0.0.1")
