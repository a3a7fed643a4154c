"""Enquiries: kept for their answer only, answered by mail, erased for good; and never with a card number in them."""

from __future__ import annotations

import json
import random
import signal
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

from intake.enquiries.answering import letter as answer_letter
from intake.enquiries.desk import EnquiryDesk
from intake.enquiries.form import CARD_NUMBER, QUESTION_MAXIMUM, Question, holds_card_number, read_question
from intake.housekeeping import Housekeeping
from intake.sample_people import CARDS
from tests.intake.answers import problem
from tests.intake.mail_server import MailServer
from tests.intake.node import Answer, Node
from tests.source import ROOT

Run = Callable[..., tuple[int, str, str]]
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "text/html"}
JSON = {"Content-Type": "application/json"}
COMMAND = (sys.executable, "-m", "intake", "enquiries", "answer")
DAY = 86_400
ASA = {
    "name": "Åsa Ölund",
    "email": "asa@example.org",
    "order": "0123 4567 89ab cdef 0123 4567 89ab cdef",
    "postcode": "352 30",
    "text": "Hej,\n\när sida B i stereo?\n\tÅsa",
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[EnquiryDesk]:
    made = EnquiryDesk(tmp_path / "state", random=random.Random(3).randbytes)
    yield made
    made.close()


@pytest.fixture
def mail() -> Iterator[MailServer]:
    server = MailServer().start()
    yield server
    server.stop()


def write(node: Node, form: dict[str, str], **headers: str) -> Answer:
    return node.request("POST", "/enquiries", urlencode(form).encode(), FORM | headers)


def post(node: Node, document: object) -> Answer:
    return node.request("POST", "/enquiries", json.dumps(document).encode(), JSON)


def raw_bytes(state: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(state.glob("enquiries.db*")))


def read(document: dict[str, object]) -> Question:
    letter = read_question(document)
    assert isinstance(letter, Question), letter
    return letter


def test_an_enquiry_is_answered_by_mail_closed_and_erased_without_a_trace(
    new_node: Callable[[], Node], mail: MailServer, run_intake: Run
) -> None:
    node = new_node().configure().enrol(1).start()
    node.config.write_text(
        node.config.read_text()
        + f'[mail]\nsender = "ask@shop.example"\nshop_url = "{node.url}"\nport = {mail.port}\n'
    )
    answer = write(node, ASA)
    assert answer.status == 200
    assert stat.S_IMODE((node.state / "enquiries.db").stat().st_mode) == 0o600
    code, out, _ = run_intake("enquiries", "list", "--config", node.config, "--json")
    [listed] = json.loads(out)["enquiries"]
    number = listed["number"]
    assert (code, listed["email"]) == (0, "asa@example.org")
    assert number in answer.body.decode()
    assert listed["text"] == ASA["text"]
    assert listed["order_number"] == "0123456789abcdef" * 2
    code, out, _ = run_intake(
        "enquiries", "answer", number, "--config", node.config, "--json", typed="Ja, det är den.\n"
    )
    assert (code, json.loads(out)["answer"]) == (0, "taken")
    [came] = mail.inbox
    assert (came.to, came.message["Subject"]) == (
        "asa@example.org",
        f"Your question {number} to Quiet Groove Records",
    )
    assert came.text.replace("\r\n", "\n").startswith("Ja, det är den.\n\n-- \n")
    assert "> är sida B i stereo?" in came.text
    assert "List-Unsubscribe" not in came.message
    assert run_intake("enquiries", "list", "--config", node.config)[0] == 5
    assert run_intake("enquiries", "erase-old", "--config", node.config)[0] == 5
    assert b"stereo" in raw_bytes(node.state)  # the search can find
    assert run_intake("enquiries", "erase", number.lower(), "--config", node.config)[0] == 0
    left = raw_bytes(node.state)
    for trace in ("stereo", "asa@example.org", "Ölund", "352 30", "det är den"):
        assert trace.encode() not in left, trace
    assert "stereo" not in node.log.read_text()
    code, out, _ = run_intake("enquiries", "show", number, "--config", node.config, "--json")
    assert (code, json.loads(out)["rule"]) == (2, "USAGE-ENQUIRY")


def test_what_was_kept_for_its_time_is_erased(desk: EnquiryDesk, tmp_path: Path) -> None:
    numbers = {}
    for word in ("closed", "open", "answered", "fresh"):
        numbers[word] = desk.receive(read({**ASA, "text": f"marker-{word}"}), now=100 * DAY)
    assert all(numbers.values())
    desk.settle(str(numbers["closed"]), now=110 * DAY)
    desk.begin_answer(str(numbers["answered"]), "an answer", now=130 * DAY)
    desk.settle(str(numbers["fresh"]), now=139 * DAY)

    def kept_at(day: int) -> set[str]:
        desk.erase_old(closed_days=30, open_days=180, now=day * DAY)
        left = raw_bytes(tmp_path / "state")
        return {word for word in numbers if f"marker-{word}".encode() in left}

    assert kept_at(139) == {"closed", "open", "answered", "fresh"}
    assert kept_at(140) == {"open", "answered", "fresh"}
    assert kept_at(168) == {"open", "answered", "fresh"}
    assert kept_at(169) == {"open", "answered"}
    assert kept_at(279) == {"open", "answered"}
    assert kept_at(280) == {"answered"}
    assert b"an answer" in raw_bytes(tmp_path / "state")
    assert kept_at(310) == set()
    assert b"an answer" not in raw_bytes(tmp_path / "state")


def test_the_server_erases_by_itself(new_node: Callable[[], Node]) -> None:
    node = new_node().configure().enrol(1)
    desk = EnquiryDesk(node.state, random=random.Random(1).randbytes)
    number = desk.receive(read(dict(ASA)), now=1)
    assert number
    kept = desk.receive(read({**ASA, "text": "a young one"}), now=int(time.time()))
    desk.close()
    node.start()
    end = time.monotonic() + 10
    while b"stereo" in raw_bytes(node.state) and time.monotonic() < end:
        time.sleep(0.05)
    assert b"stereo" not in raw_bytes(node.state)
    assert str(kept).encode() in raw_bytes(node.state)


def test_a_task_that_fails_ends_neither_the_others_nor_the_thread() -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError("full")

    keeping = Housekeeping([fail, lambda: done.append(1)])
    keeping.start()
    keeping.stop()
    assert done == [1]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"name": ""}, ["name"]),
        ({"email": "nobody"}, ["email"]),
        ({"text": " \n "}, ["text"]),
        ({"name": "x" * 201, "postcode": "x" * 21, "order": "x" * 65}, ["name", "order", "postcode"]),
        ({"text": "x" * (QUESTION_MAXIMUM + 1)}, ["text"]),
        ({"text": "a\x00b"}, ["text"]),
        ({"name": "a\nb"}, ["name"]),
        ({"name": "a\u202eb"}, ["name"]),
        ({"text": "my card is 4242 4242 4242 4242 12/29 123"}, ["text"]),
        ({"order": "4242424242424242"}, ["order"]),
        ({"name": "", "email": "", "text": ""}, ["name", "email", "text"]),
    ],
)
def test_every_fault_is_named_beside_its_field_and_nothing_is_kept(
    node: Node, changes: dict[str, str], names: list[str]
) -> None:
    before = raw_bytes(node.state)
    answer = write(node, ASA | changes)
    text = answer.body.decode()
    assert answer.status == 422
    assert [name for name in ASA if f'id="{name}-fault"' in text] == names
    assert text.count('<li><a href="#') == len(names)
    document = problem(post(node, ASA | changes), 422, "INTAKE-FIELDS")
    assert sorted(fault["pointer"] for fault in document["errors"]) == sorted(f"/{name}" for name in names)
    assert raw_bytes(node.state) == before
    assert "\u202e" not in text
    assert "\x00" not in text


def test_what_was_typed_is_still_there_after_a_fault(node: Node) -> None:
    text = write(node, ASA | {"email": "", "text": '</textarea><script>"1"'}).body.decode()
    assert 'value="Åsa Ölund"' in text
    assert "&lt;/textarea&gt;&lt;script&gt;" in text
    assert "<script" not in text


def test_json_takes_the_same_and_nothing_else(node: Node) -> None:
    answer = post(node, ASA | {"text": "by a program"})
    assert (answer.status, set(answer.json)) == (202, {"enquiry"})
    assert (
        "no other" in problem(post(node, {**ASA, "phone": "1"}), 422, "INTAKE-FIELDS")["errors"][0]["detail"]
    )
    problem(post(node, {**ASA, "name": 1}), 422, "INTAKE-FIELDS")
    problem(post(node, [1]), 400, "INTAKE-JSON")
    problem(
        node.request("POST", "/enquiries", b"{}", {"Content-Type": "text/plain"}), 415, "INTAKE-MEDIA-TYPE"
    )
    problem(node.request("POST", "/enquiries", b"{" * 40_000, JSON), 413, "INTAKE-BODY-SIZE")
    assert node.request("POST", "/enquiries", b"x=" + b"y" * 40_000, FORM).status == 400


def test_the_longest_letter_fits_into_a_request(node: Node) -> None:
    letter = ASA | {"name": "語" * 200, "text": "語" * QUESTION_MAXIMUM}
    assert write(node, letter).status == 200


def test_another_site_cannot_write_for_a_customer(node: Node) -> None:
    assert write(node, ASA, **{"Sec-Fetch-Site": "cross-site"}).status == 403


def test_a_second_click_is_not_a_second_enquiry(desk: EnquiryDesk) -> None:
    first = desk.receive(read(dict(ASA)), now=0)
    assert desk.receive(read(dict(ASA)), now=3599) == first
    assert desk.receive(read(dict(ASA)), now=3601) != first
    assert desk.receive(read({**ASA, "text": "another"}), now=0) != first


def test_a_flood_is_turned_away_by_address_and_in_all(desk: EnquiryDesk, tmp_path: Path) -> None:
    answers = [desk.receive(read({**ASA, "text": f"n{number}"}), now=1) for number in range(12)]
    assert [answer is not None for answer in answers] == [True] * 10 + [False] * 2
    assert desk.receive(read({**ASA, "email": "ASA@example.org", "text": "n"}), now=1) is None
    assert desk.receive(read({**ASA, "text": "next day"}), now=DAY + 2) is not None
    others = [
        desk.receive(read({**ASA, "email": f"a{number}@example.org"}), now=2 * DAY) for number in range(501)
    ]
    assert others.count(None) == 1
    assert desk.receive(read({**ASA, "email": "late@example.org"}), now=2 * DAY + 3601) is not None


def test_what_a_flood_left_is_erased_by_its_time_and_what_was_answered_stays(
    tmp_path: Path, run_intake: Run
) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[node]\nnode = "shop-t"\nstate = "state"\n')
    start = 1_795_824_000  # 2026-11-28 00:00 UTC
    desk = EnquiryDesk(tmp_path / "state", random=random.Random(3).randbytes)
    numbers = [
        desk.receive(read({**ASA, "email": f"{minute}@example.org"}), now=start + minute * 60) or ""
        for minute in range(5)
    ]
    desk.begin_answer(numbers[2], "Yes.", now=start + 999)
    desk.close()
    window = ("--since", "2026-11-28T00:01", "--until", "2026-11-28 00:04", "--config", config, "--json")
    code, out, _ = run_intake("enquiries", "erase", "--dry-run", *window)
    assert (code, json.loads(out)) == (0, {"enquiries": [numbers[1], numbers[3]], "erased": 0})
    code, out, _ = run_intake("enquiries", "erase", *window)
    assert (code, json.loads(out)) == (0, {"erased": 2})
    code, out, _ = run_intake("enquiries", "list", "--config", config, "--json")
    assert [one["number"] for one in json.loads(out)["enquiries"]] == [numbers[0], numbers[2], numbers[4]]
    assert run_intake("enquiries", "erase", *window)[0] == 5
    for wrong in ((numbers[0], *window), window[2:], ("--config", config)):
        assert run_intake("enquiries", "erase", *wrong)[0] == 2


def test_an_answer_that_may_have_been_sent_is_not_sent_again_unasked(
    desk: EnquiryDesk, mail: MailServer, tmp_path: Path
) -> None:
    number = desk.receive(read(dict(ASA)), now=1)
    assert number
    (tmp_path / "node.toml").write_text(
        '[node]\nnode = "shop-t"\nstate = "state"\n'
        f'[mail]\nsender = "ask@shop.example"\nshop_url = "https://shop.example"\nport = {mail.port}\n'
    )

    def run(*more: str) -> subprocess.Popen[str]:
        started = subprocess.Popen(
            [*COMMAND, number, "--config", str(tmp_path / "node.toml"), "--json", *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert started.stdin
        started.stdin.write("An answer.\n")
        started.stdin.close()
        return started

    running: list[subprocess.Popen[str]] = []
    mail.at_data = lambda _: running[0].send_signal(signal.SIGKILL)
    running.append(run())
    assert running[0].wait(30) == -signal.SIGKILL
    mail.at_data = lambda _: None
    assert len(mail.inbox) == 1
    again = run()
    assert again.wait(30) == 4
    assert again.stdout
    assert json.loads(again.stdout.read())["rule"] == "ENQUIRY-ANSWER-UNKNOWN"
    assert len(mail.inbox) == 1
    mail.rcpt["asa@example.org"] = "450 later"
    assert run("--again").wait(30) == 3
    mail.rcpt.clear()
    enquiry, answers = desk.one(number)
    assert (enquiry.closed_at, [one.sent for one in answers]) == (0, [False])
    assert run("--again", "--keep-open").wait(30) == 0
    assert (len(mail.inbox), desk.one(number)[0].closed_at) == (2, 0)
    assert len({came.message["Message-ID"] for came in mail.inbox}) == 2


def test_closing_twice_changes_nothing(desk: EnquiryDesk) -> None:
    number = str(desk.receive(read(dict(ASA)), now=1))
    desk.settle(number, now=5)
    desk.settle(number, now=9)
    assert desk.one(number)[0].closed_at == 5
    assert desk.open() == []
    assert [one.number for one in desk.all()] == [number]


def test_an_answer_shows_what_was_asked(desk: EnquiryDesk) -> None:
    number = str(desk.receive(read(dict(ASA)), now=1))
    made = answer_letter(desk.one(number)[0], "Ja.", 1, shop="Shop")
    assert (
        made.text
        == "Ja.\n\n-- \nShop\n\nYou wrote on 1970-01-01:\n> Hej,\n> \n> är sida B i stereo?\n> \tÅsa\n"
    )


def test_an_answer_that_is_empty_or_drives_a_terminal_is_refused(
    desk: EnquiryDesk, mail: MailServer, tmp_path: Path, run_intake: Run
) -> None:
    number = desk.receive(read(dict(ASA)), now=1)
    config = tmp_path / "node.toml"
    config.write_text(
        '[node]\nnode = "shop-t"\nstate = "state"\n'
        f'[mail]\nsender = "ask@shop.example"\nshop_url = "https://shop.example"\nport = {mail.port}\n'
    )
    for number_of, text in enumerate((b"\x1b[2J\n", b"caf\xe9\n", b"\n")):
        path = tmp_path / f"answer-{number_of}"
        path.write_bytes(text)
        arguments = ("enquiries", "answer", number, "--config", config, "--json", "--file", path)
        code, out, _ = run_intake(*arguments)
        assert (code, json.loads(out)["rule"]) == (2, "USAGE-ANSWER")
    assert mail.inbox == []


@pytest.mark.parametrize("card", CARDS)
def test_card_numbers_are_found_however_they_are_written(card: object) -> None:
    digits = str(getattr(card, "number", card)).replace(" ", "").replace("-", "")
    grouped = " ".join(digits[start : start + 4] for start in range(0, len(digits), 4))
    for written in (
        digits,
        grouped,
        grouped.replace(" ", "-"),
        grouped.replace(" ", " - "),
        grouped.replace(" ", "\n"),
        *(grouped.replace(" ", between) for between in ("–", "\u2011", "/", "_", ", ", "\u200b", " | ")),  # noqa: RUF001  so they are written
        "\u200b".join(digits),
    ):
        for text in (
            written,
            f"It is {written}.",
            f"{written} 12/29 123",
            f"no 7 {written} 08",
            f"tel. 12 {written}",
        ):
            assert holds_card_number(text), text
    wide = "".join(chr(ord(digit) - ord("0") + ord("０")) for digit in digits)  # noqa: RUF001  that is the point
    assert holds_card_number(wide)


@pytest.mark.parametrize("local", ["4242424242424242", "4242.4242.4242.4242", "my-4242_4242_4242_4242"])
def test_card_number_is_not_taken_as_an_email_address_either(local: str) -> None:
    faults = read_question(ASA | {"email": f"{local}@example.org"})
    assert isinstance(faults, list)
    assert [(one.pointer, one.detail) for one in faults] == [("/email", CARD_NUMBER)]
    assert isinstance(read_question(ASA | {"email": "4242424242@4242.example.org"}), Question)


@pytest.mark.parametrize(
    "text",
    [
        "call me: +49 30 901820, or 0049 176 12345678",
        "order 2026-11-27, 3 records, 24.99 and 21.99",
        "4242 4242 4242 4243",
        "1234567890123456",
        "",
    ],
)
def test_other_numbers_are_not_card_numbers(text: str) -> None:
    assert not holds_card_number(text)
    assert CARD_NUMBER.startswith("must not")


@given(st.text(max_size=200))
def test_looking_for_card_numbers_never_fails(text: str) -> None:
    assert holds_card_number(text) in {True, False}


@given(
    st.dictionaries(
        st.sampled_from(["name", "email", "order", "postcode", "text", "more"]),
        st.one_of(st.text(max_size=40), st.integers(), st.none(), st.emails()),
    )
)
def test_every_document_is_a_letter_or_has_faults(document: dict[str, object]) -> None:
    found = read_question(document)
    if isinstance(found, Question):
        assert found.name
        assert found.text
        assert "@" in found.email
        assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in found.text)
        assert "\n" not in found.name + found.email + found.order + found.postcode
    else:
        assert found
