"""Sending an issue: what is on the wire, and never twice to one address, whatever happens on the way."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.errors import IntakeError
from intake.mail.config import MailConfig, checked
from intake.mail.line import MailLine
from intake.newsletter.deliveries import Deliveries
from intake.newsletter.issue import Issue, read_issue
from intake.newsletter.place import open_subscribers
from intake.newsletter.sending import PUT_OFF_MAXIMUM, Sent, send_issue
from intake.newsletter.subscribers import Subscribers
from intake.newsletter.tokens import Purpose
from tests.intake.mail_server import MailServer
from tests.intake.orders import CATALOGUE
from tests.source import ROOT

SHOP, URL = "Quiet Groove Records", "https://shop.example"
COMMAND = (sys.executable, "-m", "intake", "newsletter", "send")
ISSUE = (
    'issue = "2026-12"\nsubject = "Neu im Dezember: новинки"\n'
    'text = """\nLiebe Freunde,\n.\n.. and a long line: '
    + "x" * 1200
    + '\n"""\nrecords = ["LP-0001", "CD-0101"]\n'
)


@dataclass(slots=True)
class Shop:
    """A node's newsletter with its configuration, and the mail server."""

    root: Path
    mail: MailServer
    subscribers: Subscribers
    addresses: list[str] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.root / "node.toml"

    def add(self, count: int) -> Shop:
        for number in range(len(self.addresses), len(self.addresses) + count):
            self.addresses.append(f"reader{number}@example.org")
            self.subscribers.ask(self.addresses[-1], words="w", now=1)
        for one in self.subscribers.to_confirm(now=10**10):
            assert self.subscribers.confirm(one.id, words="w", now=2)
        return self

    def settings(self, **more: object) -> MailConfig:
        return checked(MailConfig(sender="news@shop.example", shop_url=URL, port=self.mail.port, **more))  # type: ignore[arg-type]

    def send(self, issue: Issue | None = None) -> Sent:
        with MailLine(self.settings(timeout_seconds=5), name=SHOP) as line:
            return send_issue(
                issue or read_issue(ISSUE.encode(), CATALOGUE, shop_url=URL, name="file"),
                self.subscribers,
                line,
                shop=SHOP,
                shop_url=URL,
                now=lambda: 3,
                progress=lambda: None,
            )

    def command(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, self.root / "issue.toml", "--config", self.config, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def link(self, address: str) -> str:
        key = self.subscribers.key
        [(identity,)] = self.subscribers.file.rows("SELECT id FROM subscriber WHERE address = ?", (address,))
        return f"{URL}/newsletter/unsubscribe?token={key.token(Purpose.UNSUBSCRIBE, identity)}"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    mail = MailServer().start()
    made = Shop(tmp_path, mail, open_subscribers(tmp_path / "state", random=random.Random(7).randbytes))
    made.config.write_text(
        '[node]\nnode = "shop-t"\nstate = "state"\n'
        f'[mail]\nsender = "news@shop.example"\nshop_url = "{URL}"\nport = {mail.port}\n'
    )
    (tmp_path / "issue.toml").write_text(ISSUE)
    yield made
    made.subscribers.file.close()
    mail.stop()


def test_headers_are_on_the_wire_as_rfc_8058_wants_them(shop: Shop) -> None:
    shop.add(3)
    shop.subscribers.ask("waits@example.org", words="w", now=1)
    assert shop.send() == Sent(taken=3)
    assert sorted(shop.mail.counts) == shop.addresses
    for came in shop.mail.inbox:
        head, _, body = came.raw.partition(b"\r\n\r\n")
        lines = head.decode("ascii").split("\r\n")
        # One line each, as they are: a broken one would be encoded words, which no mail program reads as a link.
        assert f"List-Unsubscribe: <{shop.link(came.to)}>" in lines
        assert "List-Unsubscribe-Post: List-Unsubscribe=One-Click" in lines
        assert f"To: <{came.to}>" in lines
        assert "List-Id: <newsletter.shop.example>" in lines
        assert max(map(len, body.split(b"\r\n"))) <= 76
        assert b"\n" not in came.raw.replace(b"\r\n", b"")
        message = came.message
        assert message["Subject"] == "Neu im Dezember: новинки"
        assert message["From"] == f"{SHOP} <news@shop.example>"
        assert message.get_content_type() == "text/plain"
        text = came.text.replace("\r\n", "\n")
        assert "\n.\n.. and a long line: " + "x" * 1200 + "\n" in text
        assert f"{CATALOGUE.records['LP-0001'].title}\n" in text
        assert f"{URL}/records/CD-0101\n" in text
        assert text.endswith(f"{shop.link(came.to)}\n")
        assert [other for other in shop.addresses if other != came.to and other.encode() in came.raw] == []
    assert len({came.message["Message-ID"] for came in shop.mail.inbox}) == 3


def test_an_issue_that_went_out_goes_to_those_who_came_since_and_to_nobody_again(shop: Shop) -> None:
    shop.add(2)
    assert shop.send().taken == 2
    assert shop.send() == Sent()
    shop.add(1)
    assert shop.send().taken == 1
    shop.subscribers.leave_address(shop.addresses[0], now=4)
    shop.subscribers.ask(shop.addresses[0].upper(), words="w", now=5)
    [again] = shop.subscribers.to_confirm(now=10**10)
    shop.subscribers.confirm(again.id, words="w", now=6)
    assert shop.send() == Sent()  # who left and came back has this issue already
    assert set(shop.mail.counts.values()) == {1}


@pytest.mark.parametrize(
    ("fault", "first", "second", "came"),
    [
        (("rcpt", "450 later"), Sent(taken=2, later=1), Sent(taken=1), 1),
        (("rcpt", "550 nobody"), Sent(taken=2, refused=1), Sent(), 0),
        (("data", "451 later"), Sent(taken=2, later=1), Sent(taken=1), 1),
        (("data", "554 spam"), Sent(taken=2, refused=1), Sent(), 0),
        (("data", "what was that?"), Sent(taken=2, unknown=1), Sent(), 0),
        (("data", "354 go on"), Sent(taken=2, unknown=1), Sent(), 0),
        (("cut", "before"), Sent(taken=2, unknown=1), Sent(), 0),
        (("cut", "after"), Sent(taken=2, unknown=1), Sent(), 1),
        (("cut", "envelope"), Sent(taken=3), Sent(), 1),
    ],
)
def test_what_surely_was_not_taken_is_tried_again_and_nothing_else(
    shop: Shop, fault: tuple[str, str], first: Sent, second: Sent, came: int
) -> None:
    shop.add(3)
    place, what = fault
    getattr(shop.mail, place)[shop.addresses[1]] = what
    assert shop.send() == first
    for place in ("rcpt", "data", "cut"):
        getattr(shop.mail, place).clear()
    assert shop.send() == second
    assert shop.mail.counts[shop.addresses[1]] == came
    assert max(shop.mail.counts.values()) == 1
    [standing] = Deliveries(shop.subscribers.file).standings()
    assert (standing.unknown, standing.refused) == (first.unknown, first.refused)
    assert standing.owed == 0


def test_a_server_that_takes_nothing_now_is_left_in_peace(shop: Shop) -> None:
    shop.add(PUT_OFF_MAXIMUM + 5)
    shop.mail.rcpt = dict.fromkeys(shop.addresses, "450 slow down")
    assert shop.send() == Sent(later=PUT_OFF_MAXIMUM)
    shop.mail.rcpt = {}
    assert shop.send() == Sent(taken=PUT_OFF_MAXIMUM + 5)


@pytest.mark.parametrize("taken", [0, 3])
def test_a_server_that_refuses_everybody_uses_up_nobody(shop: Shop, taken: int) -> None:
    shop.add(PUT_OFF_MAXIMUM + 8)
    refusing = dict.fromkeys(shop.addresses, "550 relaying denied")

    def begin_to_refuse(_: str) -> None:
        if len(shop.mail.inbox) == taken:
            shop.mail.rcpt = refusing

    shop.mail.at_data = begin_to_refuse  # a quota is used up in the middle of a run
    shop.mail.rcpt = {} if taken else refusing
    assert shop.send() == Sent(taken=taken, later=PUT_OFF_MAXIMUM)
    assert shop.mail.rcpt == refusing
    [standing] = Deliveries(shop.subscribers.file).standings()
    assert (standing.refused, standing.unknown, standing.owed) == (0, 0, len(shop.addresses) - taken)
    shop.mail.at_data = lambda _: None
    # Some addresses are dead: that is known as soon as the server takes others, and they are left in peace.
    shop.mail.rcpt = dict.fromkeys({*shop.addresses[::9]} - set(shop.mail.counts), "550 nobody")
    dead = len(shop.mail.rcpt)
    assert dead > 0
    assert shop.send() == Sent(taken=len(shop.addresses) - taken - dead, refused=dead)
    shop.mail.rcpt = {}
    assert shop.send() == Sent()
    assert set(shop.mail.counts.values()) == {1}


def test_a_few_who_are_left_and_all_refused_are_asked_about_again(shop: Shop) -> None:
    shop.add(2)
    shop.mail.rcpt = dict.fromkeys(shop.addresses, "550 blocked")
    assert shop.send() == Sent(later=2)
    shop.mail.rcpt = {}
    assert shop.send() == Sent(taken=2)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
def test_a_sender_that_the_server_will_not_have_stops_the_run(shop: Shop) -> None:
    shop.add(1)
    shop.mail.stop()
    shop.mail.start(login=("news", "secret"))  # without a login it takes nothing
    with pytest.raises(IntakeError) as refusal:
        shop.send()
    assert refusal.value.rule == "MAIL-SENDER"
    assert Deliveries(shop.subscribers.file).count_owed("2026-12") == 1


def test_who_leaves_while_it_is_being_sent_does_not_get_it(shop: Shop) -> None:
    shop.add(30)  # the run has read all of them before the first message leaves
    leaving = set(shop.addresses[::3])

    def leave(to: str) -> None:
        if len(shop.mail.inbox) == 1:
            leaving.discard(to)
            for address in leaving:
                shop.subscribers.leave_address(address, now=3)

    shop.mail.at_data = leave
    sent = shop.send()
    assert sent.taken == len(shop.mail.inbox) == 30 - len(leaving)
    assert not leaving & set(shop.mail.counts)


@pytest.mark.parametrize("is_booked", [True, False])
def test_killed_in_the_middle_of_a_message_nobody_gets_it_twice(shop: Shop, is_booked: bool) -> None:
    shop.add(9)
    running: list[subprocess.Popen[str]] = []
    fifth = shop.subscribers.file.rows("SELECT address FROM subscriber ORDER BY id")[4][0]

    def kill(to: str) -> None:
        if to == fifth:
            running[0].send_signal(signal.SIGKILL)
            running[0].wait()

    shop.mail.at_data = kill
    if not is_booked:
        shop.mail.cut[fifth] = "before"
    running.append(shop.command())
    assert running[0].wait(60) == -signal.SIGKILL
    shop.mail.at_data = lambda _: None
    shop.mail.cut.clear()
    resumed = shop.command()
    out, _ = resumed.communicate(timeout=60)
    report = json.loads(out)
    assert (resumed.returncode, report["unknown"]) == (
        3,
        1,
    )  # a person is told of the one that nobody can know of
    assert max(shop.mail.counts.values()) == 1
    assert len(shop.mail.inbox) == (9 if is_booked else 8)
    last = shop.command()
    out, _ = last.communicate(timeout=60)
    assert (last.returncode, len(shop.mail.inbox)) == (5, 9 if is_booked else 8)


def test_killed_at_any_moment_and_run_twice_at_once_nobody_gets_it_twice(shop: Shop) -> None:
    shop.add(60)
    chance = random.Random(11)
    kills = 0
    for _ in range(20):
        pair = [shop.command(), shop.command()]
        wanted = len(shop.mail.inbox) + chance.randrange(1, 25)
        while len(shop.mail.inbox) < wanted and any(one.poll() is None for one in pair):
            time.sleep(0.002)
        is_over = True
        for one in pair:
            if len(shop.mail.inbox) < 60 and one.poll() is None:
                one.kill()
                kills += 1
            one.communicate(timeout=60)
            is_over &= one.returncode in (0, 3, 5)
        if is_over:
            break
    assert kills > 0
    assert max(shop.mail.counts.values()) == 1
    [standing] = Deliveries(shop.subscribers.file).standings()
    assert standing.owed == 0
    assert standing.sent + standing.unknown == 60
    assert 60 - standing.unknown <= len(shop.mail.inbox) <= 60
    assert standing.unknown <= kills


def test_a_mail_server_that_is_away_loses_nothing(shop: Shop) -> None:
    shop.add(2)
    shop.mail.stop()
    stopped = shop.command()
    out, _ = stopped.communicate(timeout=60)
    assert (stopped.returncode, json.loads(out)["rule"]) == (4, "MAIL-UNREACHABLE")
    assert Deliveries(shop.subscribers.file).count_owed("2026-12") == 2
    shop.mail.start()
    assert shop.send().taken == 2


def test_a_changed_issue_is_refused_once_somebody_has_it(
    shop: Shop, run_intake: Callable[..., tuple[int, str, str]]
) -> None:
    shop.add(1).send()
    (shop.root / "issue.toml").write_text(ISSUE.replace("Liebe", "Teure"))
    arguments = ("newsletter", "send", shop.root / "issue.toml", "--config", shop.config, "--json")
    code, out, _ = run_intake(*arguments)
    assert (code, json.loads(out)["rule"]) == (4, "NEWSLETTER-ISSUE-CHANGED")
    (shop.root / "issue.toml").write_text(ISSUE.replace("2026-12", "2026-12b"))
    code, out, _ = run_intake(*arguments, "--dry-run")
    assert (code, json.loads(out)["owed"]) == (0, 1)
    assert len(shop.mail.inbox) == 1


def test_an_issue_older_than_those_that_are_shown_still_goes_on(
    shop: Shop, run_intake: Callable[..., tuple[int, str, str]]
) -> None:
    shop.add(1).send()
    for number in range(25):
        text = ISSUE.replace("2026-12", f"2027-{number}")
        issue = read_issue(text.encode(), CATALOGUE, shop_url=URL, name="file")
        Deliveries(shop.subscribers.file).begin(issue, now=10 + number)
    shop.add(1)
    code, out, _ = run_intake(
        "newsletter", "send", shop.root / "issue.toml", "--config", shop.config, "--json"
    )
    assert (code, json.loads(out)["taken"], json.loads(out)["unknown"]) == (0, 1, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2026-12", "../etc"),
        ("2026-12", ""),
        ("2026-12", "x" * 41),
        ("LP-0001", "LP-9999"),
        ("Neu im", "Neu\\nBcc: x@example.org"),
        ("Liebe", "\\u202e"),
        ("subject", "topic"),
        ('issue = "2026-12"', "issue = 12"),
        ("records = [", "records = [["),
    ],
)
def test_an_issue_that_is_not_right_is_not_sent(old: str, new: str) -> None:
    with pytest.raises(IntakeError) as refusal:
        read_issue(ISSUE.replace(old, new, 1).encode(), CATALOGUE, shop_url=URL, name="file")
    assert refusal.value.rule == "NEWSLETTER-ISSUE"


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_no_file_makes_anything_but_an_issue_or_a_refusal(raw: bytes) -> None:
    with pytest.raises(IntakeError) as refusal:
        read_issue(raw, CATALOGUE, shop_url=URL, name="file")
    assert refusal.value.rule == "NEWSLETTER-ISSUE"
