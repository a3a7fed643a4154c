"""The main job as a whole: it ends as its cards demand, its proof can fail, and it leaves nothing running.

Why here: `make run` is the first thing that a newcomer sees, and its proof must be worth something.
Must not: touch var/ of this checkout; every play has a folder of its own.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from intake.catalogue import SHIPPED, load_catalogue
from intake.sample import sample_orders
from intake.sample_people import TROUBLED_CARDS
from tests.end_to_end import proof, story
from tests.end_to_end.commands import JobFailedError
from tests.end_to_end.conftest import System, quiet_shell
from tests.end_to_end.findings import Play, Proof
from tests.end_to_end.main_job import ORDERS
from tests.end_to_end.orders import Status
from tests.end_to_end.page_order import PICTURE
from tests.end_to_end.places import ROOT, Places, fresh
from tests.end_to_end.proof import SAMPLE_PANS
from tests.end_to_end.scan import PLANTED_CVV_COMPARTMENT, digits_of
from tests.tools.known import find

_SEED = 1  # what `intake sample` takes when nobody says another
_EXPECTED = {
    "0002": Status(state="declined", reason="card-declined"),
    "0119": Status(state="declined", reason="try-later"),
    "0127": Status(state="declined", reason="new-card"),
    "9995": Status(state="declined", reason="try-later"),
    "0341": Status(state="paid", reason="none"),
    "0069": Status(state="declined", reason="new-card"),
}
_PAID = Status(state="paid", reason="none")
_LOST = "0341"
_TAG = "MAIN_JOB_UNDER_TEST"
_PATIENCE = 180.0
_PAGE = "the page encrypts in the customer's browser"


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    places: Places
    day: story.Day
    proof: Proof
    seconds: float
    screen: str


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """One play of the main job, with everything that it left."""
    screen = io.StringIO()
    started = time.monotonic()
    with fresh(tmp_path_factory.mktemp("job") / "var") as places:
        shell = quiet_shell(places, screen)
        with story.open_circuit(shell, places):
            url = story.set_up(shell, places, workers=2)
            with story.open_shop(shell, places, url):
                day = story.day(shell, places, url, count=ORDERS)
            story.paper(shell, places)
            found = story.evidence(shell, places, day)
    seconds = time.monotonic() - started
    return Played(places=places, day=day, proof=found, seconds=seconds, screen=screen.getvalue())


@pytest.fixture
def copied(played: Played, tmp_path: Path) -> Iterator[Places]:
    """All that the play left, in a place of its own where it may be altered."""
    shutil.copytree(played.places.var, tmp_path / "var")
    yield Places(var=tmp_path / "var")
    shutil.rmtree(tmp_path / "var")


def _prove(played: Played, places: Places) -> set[str]:
    """The promises that fail now."""
    found = proof.prove(quiet_shell(places), places, played.day.play)
    return {line.promise for line in found.lines if line.holds is False}


def _last_four() -> list[str]:
    """The card of each sample order, in the order in which they were sent."""
    orders = sample_orders(load_catalogue(SHIPPED), count=ORDERS, seed=_SEED, year=datetime.now(UTC).year)
    return [digits_of(json.loads(order.body)["card"]["number"])[-4:].decode() for order in orders]


def test_every_order_ends_as_its_card_demands(played: Played) -> None:
    cards = _last_four()
    assert {digits_of(number)[-4:].decode() for number in TROUBLED_CARDS} == set(_EXPECTED) <= set(cards)
    sampled = [receipt for receipt in played.day.receipts if receipt.by == "API"]
    ended = [played.day.last[receipt.order_id] for receipt in sampled]
    assert ended == [_EXPECTED.get(card, _PAID) for card in cards]


def test_only_the_order_whose_answer_was_lost_was_held_and_is_then_charged(played: Played) -> None:
    held = [
        number
        for number, receipt in enumerate(played.day.receipts)
        if played.day.first[receipt.order_id].state == "held"
    ]
    assert [_last_four()[number] for number in held] == [_LOST]
    lost = played.day.receipts[held[0]].order_id
    with closing(sqlite3.connect(played.places.books)) as books:
        seen = books.execute("SELECT kind FROM booking WHERE reference = ? ORDER BY id", (lost,)).fetchall()
    assert [kind for (kind,) in seen] == ["authorisation", "reversal", "authorisation", "capture"]


def test_the_proof_holds_in_every_line(played: Played) -> None:
    not_shown = [] if find("chromium") else [_PAGE]
    assert [line.promise for line in played.proof.lines if not line.holds] == not_shown
    assert len(played.proof.lines) == 14
    assert played.proof.places == []


@pytest.mark.needs_tool("pdftotext", "fonts-noto", "fonts-noto-cjk")
def test_every_paid_order_has_a_slip_and_a_row_and_all_are_in_the_report(
    played: Played, tool: Callable[[str], Path]
) -> None:
    made = {path.suffix: path for path in played.places.paper.iterdir() if not path.name.startswith("day-")}
    read = subprocess.run([tool("pdftotext"), made[".pdf"], "-"], capture_output=True, text=True, check=True)
    slips = "".join(read.stdout.split())
    paid = {receipt.order_id for receipt in played.day.receipts} & played.day.play.paid
    with made[".csv"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["Order reference"] for row in rows} == paid == {order for order in paid if order in slips}
    assert read.stdout.count("Packing slip") == len(paid)
    (page,) = played.places.paper.glob("day-*.html")
    assert f"<dt>approved</dt><dd>{len(paid)}</dd>" in page.read_text("utf-8")


@pytest.mark.needs_tool("chromium")
def test_one_order_came_through_the_real_page_in_a_real_browser(played: Played) -> None:
    page, places = played.day.play.page, played.places
    assert page.receipt is not None
    assert page.receipt in played.day.receipts
    assert played.day.last[page.receipt.order_id] == _PAID
    assert page.requests > 10
    assert page.browser in played.screen
    assert (places.logs / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert not places.browser.exists()


@pytest.mark.needs_tool("chromium")
@pytest.mark.parametrize(
    "change",
    [
        {"foreign": ("https://evil.example/x",)},
        {"in_clear": ("Zoë Müller",)},
        {"complaints": ("policy: ContentSecurityPolicyIssue",)},
        {"sealed": False},
    ],
)
def test_a_page_that_does_what_it_must_not_makes_the_proof_fail(
    played: Played, copied: Places, change: dict[str, Any]
) -> None:
    play = replace(played.day.play, page=replace(played.day.play.page, **change))
    found = proof.prove(quiet_shell(copied), copied, play)
    assert [line.promise for line in found.lines if line.holds is False] == [_PAGE]


def test_the_screen_shows_every_order_and_line_and_no_card(played: Played) -> None:
    for receipt in played.day.receipts:
        assert receipt.order_id[:8] in played.screen
        assert receipt.token not in played.screen
    assert all(line.promise in played.screen for line in played.proof.lines)
    assert not any(pan.decode() in played.screen for pan in SAMPLE_PANS)


def test_it_does_not_let_anybody_wait(played: Played) -> None:
    assert played.seconds < 120  # half a minute where nothing else runs


def test_passphrases_and_receipts_are_for_their_owner_only(played: Played) -> None:
    places = played.places
    for path in (places.node_passphrase, places.offline_passphrase, places.receipts):
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    ("where", "what", "promise"),
    [
        (
            "online/state/note",
            SAMPLE_PANS[0],
            "no card number stands in clear in any file, online or offline",
        ),
        (
            "offline/keystore.old",
            SAMPLE_PANS[-1],
            "no card number stands in clear in any file, online or offline",
        ),
        (
            "logs/core",
            PLANTED_CVV_COMPARTMENT,
            "no security code stands in clear in any file, online or offline",
        ),
    ],
)
def test_a_planted_card_makes_the_proof_fail(
    played: Played, copied: Places, where: str, what: bytes, promise: str
) -> None:
    (copied.var / where).write_bytes(b"before" + what + b"after")
    assert _prove(played, copied) == {promise}


def test_a_second_approval_in_the_books_makes_the_proof_fail(played: Played, copied: Places) -> None:
    with closing(sqlite3.connect(copied.books)) as books, books:
        (number,) = books.execute(
            "SELECT id FROM booking WHERE kind = 'authorisation' AND code = '00' LIMIT 1"
        ).fetchone()
        books.execute("CREATE TEMP TABLE again AS SELECT * FROM booking WHERE id = ?", (number,))
        books.execute("UPDATE again SET id = NULL, rrn = rrn || 'x'")
        books.execute("INSERT INTO booking SELECT * FROM again")
    assert _prove(played, copied) == {"every order is charged once, says the acquirer's own book"}


def test_an_altered_return_makes_the_proof_fail(played: Played, copied: Places) -> None:
    records = min((copied.copies / "out").rglob("records.jsonl"))
    records.write_bytes(records.read_bytes().replace(b"declined", b"paidpaid", 1))
    assert _prove(played, copied) == {"every return is signed by the offline identity"}


def test_an_altered_ledger_makes_the_proof_fail(played: Played, copied: Places) -> None:
    with closing(sqlite3.connect(copied.var / "offline" / "state" / "ledger.db")) as ledger, ledger:
        ledger.execute("DROP TRIGGER entry_is_never_changed")
        ledger.execute("UPDATE entry SET at = at + 1 WHERE id = 7")
    assert _prove(played, copied) == {"the ledger's chain of entries is intact"}


def test_the_same_proof_holds_again_where_nothing_is_altered(played: Played, copied: Places) -> None:
    assert _prove(played, copied) == set()


def test_a_key_that_still_lives_makes_the_proof_fail(system: System) -> None:
    shell, places = system.shell, system.places
    with story.open_shop(shell, places, system.url):
        story.take_orders(shell, places, system.url, count=3)
        story.push(shell, places)
    play = Play(orders=3, paid=frozenset(), unsettled=3, cards_before=3, opened_before=3, runs=0)
    failing = {line.promise: line.found for line in proof.prove(shell, places, play).lines if not line.holds}
    assert failing["now it cannot: the kept copy, with every key that there is"] == "3 of 3 cards opened"
    assert "batch keys are destroyed, no card waits under a hold key" in failing
    assert "every return is signed by the offline identity" in failing
    assert "every customer has an answer" in failing


def test_it_runs_again_and_kept_running_it_serves_until_interrupted(played: Played) -> None:
    job = _command(played.places.var, "--keep-running")
    seen = _read_until(job, lambda line: "goes on serving" in line)
    assert "All of the proof holds." in seen
    assert _left_running(played.places.var) != []
    os.killpg(job.pid, signal.SIGINT)  # as a terminal does
    output, _ = job.communicate(timeout=_PATIENCE)
    assert job.returncode == 130, seen + output
    assert _left_running(played.places.var) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_half_way_it_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    job = _command(tmp_path / "var")
    _read_until(job, lambda line: "intake sample" in line)
    os.kill(job.pid, number)
    job.communicate(timeout=_PATIENCE)
    assert job.returncode not in (0, 1)
    assert _left_running(tmp_path / "var") == []


@pytest.mark.needs_tool("chromium")
def test_stopped_while_its_browser_runs_it_leaves_no_process(tmp_path: Path) -> None:
    job = _command(tmp_path / "var")
    _read_until(job, lambda line: "--remote-debugging-pipe" in line)
    time.sleep(1)  # Chromium starts half a dozen processes
    os.kill(job.pid, signal.SIGTERM)
    job.communicate(timeout=_PATIENCE)
    assert job.returncode not in (0, 1)
    assert _left_running(tmp_path / "var") == []


def test_a_failing_command_ends_it_with_the_place_of_the_logs(tmp_path: Path) -> None:
    job = _command(tmp_path / "var")
    _read_until(job, lambda line: "key-ceremony init" in line)
    # The medium cannot take the bundle: a file stands where the directory was.
    shutil.rmtree(tmp_path / "var" / "medium")
    (tmp_path / "var" / "medium").write_text("broken")
    output, _ = job.communicate(timeout=_PATIENCE)
    assert job.returncode == 1
    assert "The main job failed" in output
    assert str(tmp_path / "var" / "logs") in output
    assert _left_running(tmp_path / "var") == []


def test_without_unshare_and_minisign_it_says_what_it_could_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    copy = shutil.which("cp")
    assert copy is not None
    (bare / "cp").symlink_to(copy)
    monkeypatch.setenv("PATH", str(bare))
    job = _command(tmp_path / "var")
    output, _ = job.communicate(timeout=_PATIENCE)
    assert job.returncode == 0, output
    assert "NOT ISOLATED" in output
    assert "not shown" in output
    assert "NOT SHOWN: no Chromium is installed here" in output
    # A table folds its lines where the columns are narrow, so only the words that no fold parts are looked for.
    assert "our own" in output
    assert "minisign -V" not in output
    assert _left_running(tmp_path / "var") == []


def test_when_nobody_reads_its_output_it_leaves_no_process(tmp_path: Path) -> None:
    job = _command(tmp_path / "var")
    _read_until(job, lambda line: "intake sample" in line)
    assert job.stdout is not None
    job.stdout.close()
    assert job.wait(timeout=_PATIENCE) != 0
    assert _left_running(tmp_path / "var") == []


def test_what_the_main_job_did_not_make_is_not_removed(tmp_path: Path) -> None:
    mine = tmp_path / "var" / "online" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep me")
    with pytest.raises(JobFailedError, match="move it away"), fresh(tmp_path / "var"):
        pass
    assert mine.read_text() == "keep me"


def test_other_files_beside_an_earlier_play_stay(tmp_path: Path) -> None:
    with fresh(tmp_path / "var") as places:
        (places.logs / "old.log").write_text("old")
    (tmp_path / "var" / "notes.txt").write_text("keep me")
    with fresh(tmp_path / "var") as places:
        assert not (places.logs / "old.log").exists()
    assert (tmp_path / "var" / "notes.txt").read_text() == "keep me"


def test_two_plays_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        fresh(tmp_path / "var") as places,
        pytest.raises(JobFailedError, match="another main job"),
        fresh(tmp_path / "var"),
    ):
        pass
    assert places.logs.is_dir()


def _command(var: Path, *more: str) -> subprocess.Popen[str]:
    """The main job as `make run` starts it, in a process group of its own like a terminal's."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.end_to_end.main_job", "--var", str(var), *more],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", _TAG: str(var)},
        start_new_session=True,
    )


def _read_until(job: subprocess.Popen[str], is_it: Callable[[str], bool]) -> str:
    seen = ""
    assert job.stdout is not None
    for line in job.stdout:
        seen += line
        if is_it(line):
            return seen
    raise AssertionError(f"it ended before that:\n{seen}")


def _left_running(var: Path) -> list[str]:
    """The command lines of all processes that work for ``var``: named in their command or, for workers, inherited."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                if str(var).encode() in line or f"{_TAG}={var}".encode() in (entry / "environ").read_bytes():
                    found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found
