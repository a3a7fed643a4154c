"""Asking for the newsletter, saying yes, leaving: over HTTP, with the messages that really went out."""

from __future__ import annotations

import base64
import json
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.errors import IntakeError
from intake.mail.config import MailConfig, checked
from intake.mail.line import MailLine
from intake.newsletter.agreement import agreement
from intake.newsletter.place import open_subscribers
from intake.newsletter.sending import PUT_OFF_MAXIMUM, Sent, send_confirmations
from intake.newsletter.subscribers import (
    AN_HOUR_MAXIMUM,
    PENDING_DAYS,
    WAITING_MAXIMUM,
    Counts,
    Subscribers,
)
from intake.newsletter.tokens import LinkKey, Purpose
from tests.intake.answers import problem
from tests.intake.mail_server import Came, MailServer
from tests.intake.node import Answer, Node
from tests.source import ROOT

Run = Callable[..., tuple[int, str, str]]
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
JSON = {"Content-Type": "application/json"}
SHOP = "Quiet Groove Records"
DAY = 86_400
KEY = LinkKey(secret=bytes(range(32)))


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer().start()
    yield server
    server.stop()


def with_mail(node: Node, mail: MailServer) -> Node:
    kept = node.config.read_text().partition("[mail]")[0]
    section = f'[mail]\nsender = "news@shop.example"\nshop_url = "{node.url}"\nport = {mail.port}\n'
    node.config.write_text(kept + section)
    return node


def ask(node: Node, address: str, **headers: str) -> Answer:
    return node.request("POST", "/newsletter", urlencode({"email": address}).encode(), FORM | headers)


def deliver(node: Node, mail: MailServer) -> Sent:
    """What `intake newsletter deliver` does."""
    settings = checked(MailConfig(sender="news@shop.example", shop_url=node.url, port=mail.port))
    subscribers = open_subscribers(node.state, random=bytes)
    try:
        with MailLine(settings, name=SHOP) as line:
            return send_confirmations(
                subscribers, line, shop=SHOP, shop_url=node.url, now=lambda: int(time.time())
            )
    finally:
        subscribers.file.close()


def confirmations(subscribers: Subscribers, mail: MailServer, *, now: int) -> Sent:
    url = "https://shop.example"
    settings = checked(MailConfig(sender="news@shop.example", shop_url=url, port=mail.port))
    with MailLine(settings, name=SHOP) as line:
        return send_confirmations(subscribers, line, shop=SHOP, shop_url=url, now=lambda: now)


def subscribe(node: Node, mail: MailServer, address: str) -> Came:
    """The whole way of one subscriber: the confirmation that came."""
    assert ask(node, address).status == 200
    assert deliver(node, mail).taken == 1
    came = next(one for one in reversed(mail.inbox) if one.to == address)
    assert node.request("POST", came.link("confirm"), b"", FORM).status == 200
    return came


def counts(node: Node) -> Counts:
    subscribers = open_subscribers(node.state, random=bytes)
    try:
        return subscribers.counts()
    finally:
        subscribers.file.close()


def raw_bytes(state: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(state.glob("newsletter.db*")))


def test_only_who_says_yes_to_the_mailed_link_is_in(
    new_node: Callable[[], Node], mail: MailServer, run_intake: Run
) -> None:
    node = with_mail(new_node().configure().enrol(1).start(), mail)
    assert ask(node, " Asa.Olund@Example.ORG ").status == 200
    made = counts(node)
    assert made == Counts(confirmed=0, waiting=1, to_write=1, to_write_since=made.to_write_since, left=0)
    assert abs(made.to_write_since - time.time()) < 30
    code, out, _ = run_intake("newsletter", "deliver", "--config", node.config, "--json")
    assert (code, json.loads(out)["taken"]) == (0, 1)
    [came] = mail.inbox
    assert came.to == "Asa.Olund@example.org"
    assert agreement(SHOP) in " ".join(came.text.split())
    link = came.link("confirm")
    # A scanner follows the link, more than once: that is not a yes.
    for method in ("GET", "HEAD", "GET"):
        assert node.request(method, link, headers={"Accept": "text/html"}).status == 200
    assert counts(node).confirmed == 0
    page = node.request("GET", link, headers={"Accept": "text/html"}).body.decode()
    assert agreement(SHOP) in page
    assert f'<form method="post" action="{link}">' in page
    assert node.request("POST", link, b"", FORM).status == 200
    assert node.request("POST", link, b"", FORM).status == 200  # twice is once
    code, out, _ = run_intake("newsletter", "status", "--config", node.config, "--json")
    assert (code, json.loads(out)) == (
        0,
        {"confirmed": 1, "waiting": 0, "to_write": 0, "to_write_since": 0, "left": 0, "issues": []},
    )
    # Nothing but the address, the words, and the times is kept.
    database = sqlite3.connect(node.state / "newsletter.db")
    [row] = database.execute(
        "SELECT address, asked.text, confirmed.text, confirmed_at >= asked_at FROM subscriber"
        " JOIN words AS asked ON asked.number = asked_words"
        " JOIN words AS confirmed ON confirmed.number = confirmed_words"
    ).fetchall()
    database.close()
    assert row == ("Asa.Olund@example.org", agreement(SHOP), agreement(SHOP), 1)
    for path in node.state.glob("newsletter.*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_answer_is_the_same_whether_the_address_is_known_or_not(node: Node, mail: MailServer) -> None:
    subscribe(node, mail, "known@example.org")
    first, again = ask(node, "new@example.org"), ask(node, "known@example.org")
    assert (first.status, first.body) == (again.status, again.body)
    answers = [
        node.request("POST", "/newsletter", json.dumps({"email": address}).encode(), JSON)
        for address in ("newer@example.org", "known@example.org")
    ]
    assert [(one.status, one.body) for one in answers] == [(202, b'{"status":"confirmation-sent"}')] * 2
    deliver(node, mail)
    assert mail.counts["known@example.org"] == 1  # who gets the newsletter is not asked again


def test_who_left_since_the_list_was_made_gets_no_confirmation(
    subscribers: Subscribers, mail: MailServer
) -> None:
    for name in ("a", "b", "c"):
        subscribers.ask(f"{name}@example.org", words="w", now=1_000)

    def leave(to: str) -> None:
        for name in ("a", "b", "c"):
            if not to.startswith(name):
                subscribers.leave_address(f"{name}@example.org", now=1_001)

    mail.at_data = leave
    sent = confirmations(subscribers, mail, now=1_001)
    assert (sent, len(mail.inbox)) == (Sent(taken=1), 1)


def test_a_server_that_refuses_everybody_erases_nobody_who_waits(
    subscribers: Subscribers, mail: MailServer
) -> None:
    addresses = [f"a{number}@example.org" for number in range(PUT_OFF_MAXIMUM + 2)]
    for address in addresses:
        subscribers.ask(address, words="w", now=1_000)
    mail.rcpt = dict.fromkeys(addresses, "550 blocklisted")
    assert confirmations(subscribers, mail, now=1_000) == Sent(later=PUT_OFF_MAXIMUM)
    # The next run does not stop at the same ones again: those behind them come first.
    assert confirmations(subscribers, mail, now=1_001) == Sent(later=2)
    assert subscribers.counts().to_write == len(addresses)
    mail.rcpt = {addresses[0]: "550 nobody"}
    assert confirmations(subscribers, mail, now=2_000) == Sent(taken=len(addresses) - 1, refused=1)
    assert subscribers.of_address(addresses[0]) is None
    assert subscribers.of_address(addresses[1]) is not None


@pytest.mark.parametrize("is_mailed_before", [True, False])
def test_a_stranger_can_have_us_write_to_who_left_once_in_thirty_days(
    subscribers: Subscribers, is_mailed_before: bool
) -> None:
    address, mails = "victim@example.org", []
    if is_mailed_before:  # who objects to a confirmation has had the one of these thirty days
        subscribers.ask(address, words="w", now=DAY)
        subscribers.was_mailed(subscribers.to_confirm(now=10**10)[0].id, now=DAY)
    subscribers.leave_address(address, now=DAY)
    for now in range(DAY, 70 * DAY, DAY // 4):
        subscribers.erase_unconfirmed(now=now)
        assert subscribers.ask(address, words="w", now=now)
        for one in subscribers.to_confirm(now=10**10):
            subscribers.was_mailed(one.id, now=now)
            mails.append(now // DAY)
        if now % (5 * DAY) == 0:
            subscribers.leave_address(address, now=now)  # leaving again does not begin it anew
    assert mails == ([31, 61] if is_mailed_before else [1, 31, 61])


def test_a_file_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    subscribers = open_subscribers(tmp_path, random=bytes)
    subscribers.leave_address("a@example.org", now=1)
    with subscribers.file.transaction() as connection:
        connection.execute("ALTER TABLE suppressed DROP COLUMN asked_at")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = 'asked_after_leaving'")
    subscribers.file.close()
    again = open_subscribers(tmp_path, random=bytes)
    assert again.counts().left == 1
    assert again.ask("a@example.org", words="w", now=2)
    assert waiting(again) == ["a@example.org"]
    again.file.close()


def test_one_click_leaves_and_erases_the_address(new_node: Callable[[], Node], mail: MailServer) -> None:
    node = new_node().configure().enrol(1).start()
    stays, goes = "stays@example.org", "goes.away@example.org"
    for address in (stays, goes):
        subscribe(node, mail, address)
    assert goes.encode() in raw_bytes(node.state)
    subscribers = open_subscribers(node.state, random=bytes)
    [identity] = [
        row[0] for row in subscribers.file.rows("SELECT id FROM subscriber WHERE address = ?", (goes,))
    ]
    link = f"/newsletter/unsubscribe?token={subscribers.key.token(Purpose.UNSUBSCRIBE, identity)}"
    subscribers.file.close()
    assert node.request("GET", link, headers={"Accept": "text/html"}).status == 200
    assert counts(node).confirmed == 2
    for coding, body in (
        ("application/x-www-form-urlencoded", b"List-Unsubscribe=One-Click"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--',
        ),
    ):
        # As a mail provider sends it: no cookie, no origin of ours; and once more, as they also do.
        answer = node.request("POST", link, body, {"Content-Type": coding, "Origin": "https://mail.example"})
        assert answer.status == 200
        assert "set-cookie" not in answer.headers
    assert (counts(node).confirmed, counts(node).left) == (1, 1)
    assert stays.encode() in raw_bytes(node.state)  # the search can find
    assert goes.encode() not in raw_bytes(node.state)
    assert LinkKey(secret=(node.state / "newsletter.key").read_bytes()).mark(goes) in raw_bytes(node.state)
    # The confirmation's link of before does not bring anybody back.
    old = next(one for one in mail.inbox if one.to == goes).link("confirm")
    assert node.request("POST", old, b"", FORM).status == 410
    assert node.request("GET", old, headers={"Accept": "text/html"}).status == 410
    assert counts(node).confirmed == 1


def test_leaving_by_letter_is_typed_and_not_an_argument(
    new_node: Callable[[], Node], mail: MailServer, run_intake: Run
) -> None:
    node = new_node().configure().enrol(1).start()
    subscribe(node, mail, "Gone@example.org")
    assert run_intake("newsletter", "leave", "--config", node.config, typed="gONE@example.org\n")[0] == 0
    assert b"one@example.org" not in raw_bytes(node.state).lower()
    assert counts(node).left == 1
    code, out, _ = run_intake("newsletter", "leave", "--config", node.config, "--json", typed="nobody\n")
    assert (code, json.loads(out)["rule"]) == (2, "USAGE-ADDRESS")


@pytest.mark.parametrize("token", ["", "x", "A" * 52, "A" * 53, "%00", "é" * 52, "A" * 5000])
@pytest.mark.parametrize("path", ["confirm", "unsubscribe"])
def test_a_link_that_is_not_ours_does_nothing(node: Node, path: str, token: str) -> None:
    where = f"/newsletter/{path}?{urlencode({'token': token})}"
    for method in ("GET", "POST"):
        answer = node.request(method, where, b"" if method == "POST" else None, FORM)
        assert answer.status == 404
        assert b"This link does not work" in answer.body


@pytest.mark.parametrize(
    "given",
    [
        "",
        " ",
        "nobody",
        "a@b",
        "a@b@example.org",
        "a\r\nBcc: x@example.org@example.org",
        "a" * 300 + "@example.org",
        "<script>",
    ],
)
def test_what_is_no_address_is_said_beside_the_field(node: Node, given: str) -> None:
    answer = ask(node, given)
    text = answer.body.decode()
    assert answer.status == 422
    assert (
        text.count("Email address must look like name@example.com") + text.count("Email address is missing")
        == 2
    )
    assert 'aria-describedby="email-fault agreement" aria-invalid="true"' in text
    assert "<script>" not in text
    document = problem(
        node.request("POST", "/newsletter", json.dumps({"email": given}).encode(), JSON), 422, "INTAKE-FIELDS"
    )
    assert [fault["pointer"] for fault in document["errors"]] == ["/email"]


def test_nothing_but_an_email_address_is_taken(node: Node) -> None:
    more = {"email": "a@example.org", "name": "Asa"}
    answer = node.request("POST", "/newsletter", json.dumps(more).encode(), JSON)
    assert "no other" in problem(answer, 422, "INTAKE-FIELDS")["errors"][0]["detail"]
    for body, rule, code in (
        (b"[]", "INTAKE-JSON", 400),
        (b"{", "INTAKE-JSON", 400),
        (b"{}", "INTAKE-FIELDS", 422),
    ):
        problem(node.request("POST", "/newsletter", body, JSON), code, rule)
    problem(node.request("POST", "/newsletter", b" " * 40_000, JSON), 413, "INTAKE-BODY-SIZE")
    form = node.get("/newsletter", Accept="text/html").body.decode().split("<form")[1]
    assert form.count("<input") == 1


def test_another_site_cannot_sign_a_customer_up(node: Node) -> None:
    assert ask(node, "victim@example.org", **{"Sec-Fetch-Site": "cross-site"}).status == 403


@pytest.fixture
def subscribers(tmp_path: Path) -> Iterator[Subscribers]:
    ids = iter(range(1, 10_000))
    made = open_subscribers(tmp_path, random=lambda size: next(ids).to_bytes(size, "big"))
    yield made
    made.file.close()


def waiting(subscribers: Subscribers) -> list[str]:
    return [one.address for one in subscribers.to_confirm(now=10**10)]


def test_a_stranger_can_have_us_write_to_somebody_three_times_and_no_more(subscribers: Subscribers) -> None:
    mails = 0
    for minute in range(0, 6 * 24 * 60, 5):
        assert subscribers.ask("victim@example.org", words="", now=minute * 60)
        for one in subscribers.to_confirm(now=10**10):
            mails += 1
            subscribers.was_mailed(one.id, now=minute * 60)
    assert mails == 3


def test_a_confirmation_that_was_put_off_is_not_pressed_on_the_server(
    subscribers: Subscribers, mail: MailServer
) -> None:
    subscribers.ask("grey@example.org", words="", now=1000)
    mail.rcpt["grey@example.org"] = "450 greylisted"
    settings = checked(
        MailConfig(sender="news@shop.example", shop_url="https://shop.example", port=mail.port)
    )

    def at(now: int) -> Sent:
        with MailLine(settings, name=SHOP) as line:
            return send_confirmations(
                subscribers, line, shop=SHOP, shop_url="https://shop.example", now=lambda: now
            )

    assert [at(now) for now in (1000, 1002, 1299)] == [Sent(later=1), Sent(), Sent()]
    mail.rcpt.clear()
    assert [at(now) for now in (1299, 1300, 1302)] == [Sent(), Sent(taken=1), Sent()]


def test_an_address_that_nobody_confirms_is_erased(subscribers: Subscribers, tmp_path: Path) -> None:
    subscribers.ask("silent@example.org", words="w", now=0)
    [one] = subscribers.to_confirm(now=10**10)
    assert subscribers.erase_unconfirmed(now=PENDING_DAYS * DAY) == 0
    assert subscribers.is_waiting(one.id, now=PENDING_DAYS * DAY)
    assert not subscribers.is_waiting(one.id, now=PENDING_DAYS * DAY + 1)
    assert not subscribers.confirm(one.id, words="w", now=PENDING_DAYS * DAY + 1)
    assert b"silent@example.org" in raw_bytes(tmp_path)
    assert subscribers.erase_unconfirmed(now=PENDING_DAYS * DAY + 1) == 1
    assert b"silent@example.org" not in raw_bytes(tmp_path)


def test_a_flood_of_addresses_is_turned_away_and_tells_nobody_who_is_known(subscribers: Subscribers) -> None:
    subscribers.ask("known@example.org", words="", now=1)
    [known] = subscribers.to_confirm(now=10**10)
    subscribers.confirm(known.id, words="", now=1)
    answers = [
        subscribers.ask(f"a{number}@example.org", words="", now=2) for number in range(AN_HOUR_MAXIMUM + 1)
    ]
    assert answers == [True] * AN_HOUR_MAXIMUM + [False]
    assert not subscribers.ask("known@example.org", words="", now=2)
    assert subscribers.ask("known@example.org", words="", now=3603)
    assert subscribers.ask("new@example.org", words="", now=3603)


def test_confirmations_that_nobody_sends_are_a_persons_business(
    subscribers: Subscribers, tmp_path: Path, run_intake: Run
) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[node]\nnode = "shop-t"\nstate = "."\n')
    subscribers.ask("late@example.org", words="", now=int(time.time()) - 3700)
    code, out, _ = run_intake("newsletter", "status", "--config", config)
    assert code == 3
    assert "Does `intake newsletter deliver --follow` run?" in out
    assert "late@" not in out


def test_confirmations_go_out_by_themselves_until_it_is_stopped(
    subscribers: Subscribers, tmp_path: Path, mail: MailServer
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        '[node]\nnode = "shop-t"\nstate = "."\n[mail]\nsender = "news@shop.example"\n'
        f'shop_url = "https://shop.example"\nport = {mail.port}\n'
    )
    command = [sys.executable, "-m", "intake", "newsletter", "deliver", "--follow", "--config", str(config)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert "Ctrl-C ends it" in process.stderr.readline()
        subscribers.ask("soon@example.org", words="", now=int(time.time()))
        end = time.monotonic() + 20
        while not mail.inbox and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert mail.counts == {"soon@example.org": 1}


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "newsletter.db").touch(0o644)
    open_subscribers(tmp_path, random=bytes).file.close()
    assert stat.S_IMODE((tmp_path / "newsletter.db").stat().st_mode) == 0o600


def test_too_many_who_wait_are_an_answer_and_not_a_full_disk(subscribers: Subscribers) -> None:
    with subscribers.file.transaction() as connection:
        connection.executemany(
            "INSERT INTO subscriber (id, mark, address, asked_at, wants_mail) VALUES (?, ?, 'x', 0, 0)",
            ((b"i%d" % number, b"m%d" % number) for number in range(WAITING_MAXIMUM)),
        )
    assert not subscribers.ask("one@example.org", words="", now=0)
    subscribers.erase_unconfirmed(now=PENDING_DAYS * DAY + 1)
    assert subscribers.ask("one@example.org", words="", now=PENDING_DAYS * DAY + 1)


def test_who_left_and_asks_again_is_in_again(subscribers: Subscribers) -> None:
    one = None
    for now in (1, 1000):
        subscribers.ask("again@example.org", words="w", now=now)
        [one] = subscribers.to_confirm(now=10**10)
        assert subscribers.confirm(one.id, words="w", now=now)
        assert (subscribers.counts().confirmed, subscribers.counts().left) == (1, 0)
        subscribers.leave(one.id, now=now)
        assert (subscribers.counts().confirmed, subscribers.counts().left) == (0, 1)
    assert one is not None
    assert not subscribers.confirm(one.id, words="w", now=1001)


def test_every_wording_that_was_agreed_to_is_kept(subscribers: Subscribers) -> None:
    for number, words in enumerate(("first words", "second words", "first words")):
        subscribers.ask(f"a{number}@example.org", words=words, now=0)
    rows = subscribers.file.rows(
        "SELECT address, text FROM subscriber JOIN words ON number = asked_words ORDER BY 1"
    )
    assert rows == [
        ("a0@example.org", "first words"),
        ("a1@example.org", "second words"),
        ("a2@example.org", "first words"),
    ]


def test_a_damaged_secret_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "newsletter.key").write_bytes(b"short")
    with pytest.raises(IntakeError) as refusal:
        open_subscribers(tmp_path, random=bytes)
    assert refusal.value.rule == "NEWSLETTER-KEY"
    assert (tmp_path / "newsletter.key").read_bytes() == b"short"


def test_a_damaged_file_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "newsletter.db").write_bytes(b"not a database" * 100)
    with pytest.raises(IntakeError) as refusal:
        open_subscribers(tmp_path, random=bytes)
    assert refusal.value.rule == "PERSONAL-DAMAGED"


@given(st.binary(min_size=16, max_size=16), st.sampled_from(Purpose))
def test_a_token_opens_its_own_subscription_for_its_own_purpose(identity: bytes, purpose: Purpose) -> None:
    token = KEY.token(purpose, identity)
    assert KEY.read(purpose, token) == identity
    other = Purpose.CONFIRM if purpose is Purpose.UNSUBSCRIBE else Purpose.UNSUBSCRIBE
    for key, wanted in ((KEY, other), (LinkKey(secret=bytes(32)), purpose)):
        with pytest.raises(IntakeError) as refusal:
            key.read(wanted, token)
        assert refusal.value.rule == "NEWSLETTER-TOKEN"


@given(st.binary(min_size=16, max_size=16), st.integers(0, 38), st.integers(1, 255))
def test_a_token_with_any_other_byte_is_refused(identity: bytes, place: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(KEY.token(Purpose.CONFIRM, identity)))
    raw[place] ^= change
    with pytest.raises(IntakeError):
        KEY.read(Purpose.CONFIRM, base64.urlsafe_b64encode(raw).decode())


@given(st.one_of(st.text(max_size=80), st.from_regex(r"[A-Za-z0-9_-]{52}", fullmatch=True)))
def test_no_other_text_is_a_token(text: str) -> None:
    with pytest.raises(IntakeError) as refusal:
        KEY.read(Purpose.UNSUBSCRIBE, text)
    assert refusal.value.rule == "NEWSLETTER-TOKEN"


@given(st.emails())
def test_one_person_has_one_mark_however_it_is_written(address: str) -> None:
    assert KEY.mark(address) == KEY.mark(address.swapcase().casefold())
    assert address.encode() not in KEY.mark(address)
    assert KEY.mark(address) != LinkKey(secret=bytes(32)).mark(address)
