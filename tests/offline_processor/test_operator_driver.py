"""An order is keyed into a terminal by a person: shown once, gone at a key, in time, or when the process must end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_processor.acquirers.operator_page import short_form
from offline_processor.acquirers.operator_questions import minor_units
from offline_processor.control_total import money
from tests.keys.terminal import CLEAR, ENTER, LEAVE, Terminal
from tests.offline_processor.operator_child import reference
from tests.offline_processor.shop import a_card
from tests.offline_processor.traces import Cards
from transfer.wire.card import Card, encode_card

CARDS = [a_card(b"4539578763621486", cvv=b"739"), a_card(b"371449635398431", cvv=b"8164")]
KNOWN = Cards(cvv_of={card.pan: card.cvv for card in CARDS})


def grouped(pan: bytes) -> bytes:
    return b" ".join(pan[start : start + 4] for start in range(0, len(pan), 4))


class Keying:
    """The child on a terminal, with its files."""

    def __init__(
        self,
        folder: Path,
        cards: list[Card],
        *,
        mode: str = "plain",
        verb: str = "authorise",
        seconds: int = 60,
    ) -> None:
        self.out, self.memory = folder / "answers.json", folder / "memory"
        slots = folder / "cards"
        slots.write_bytes(
            b"".join(
                encode_card(
                    card, header_digest=bytes(32), order_box_digest=bytes(32), amount=2499, currency="EUR"
                )
                for card in cards
            )
        )
        arguments = (mode, verb, seconds, slots, self.out, self.memory)
        self.terminal = Terminal(*arguments, module="tests.offline_processor.operator_child")

    def see(self, card: Card) -> str:
        """Step up to the screen, and read the card."""
        self.terminal.answer("waits for the card", "")
        page = self.terminal.expect("Press a key when the terminal has answered.")
        assert grouped(card.pan).decode() in page
        assert f"Security code  {card.cvv.decode()}" in page
        assert "REHEARSAL" in page
        time.sleep(0.05)
        return page

    def press(self) -> None:
        self.terminal.send_raw(b" ")

    def choose(self, choice: int, **typed: str) -> None:
        self.terminal.answer("1 to 5", str(choice))
        for prompt, line in typed.items():
            self.terminal.answer(prompt.replace("_", " "), line)

    def confirm(self, answer: str = "yes") -> None:
        self.terminal.answer("Is that what the terminal says", answer)

    @property
    def answers(self) -> list[str]:
        return list(json.loads(self.out.read_text()))


def no_card_left(terminal: Terminal, cards: list[Card]) -> None:
    """Outside the other screen there is no card, and on it every card was cleared, with its history."""
    main = terminal.main_screen().encode()
    for card in cards:
        for form in (card.pan, grouped(card.pan)):
            assert form not in main
        place = terminal.shown.rfind(grouped(card.pan))
        assert place >= 0
        assert terminal.shown.find(CLEAR, place) >= 0
        assert terminal.shown.find(LEAVE, place) >= 0
    assert b"Security code  " not in main


def test_order_is_shown_once_and_its_approval_is_typed(tmp_path: Path) -> None:
    keying = Keying(tmp_path, CARDS)
    with keying.terminal as terminal:
        page = keying.see(CARDS[0])
        assert "EUR 24.99" in page
        assert short_form(reference(1).order_id) in page
        keying.press()
        keying.choose(1, Approval_code_on_the_receipt="a1b2c3")
        assert "it counts as paid" in terminal.expect("Is that what the terminal says")
        terminal.send("yes")
        keying.see(CARDS[1])
        keying.press()
        keying.choose(4)
        terminal.answer("1 to 9", "2")
        keying.confirm()
        assert terminal.end() == 0
        no_card_left(terminal, CARDS)
        for card in CARDS:
            assert terminal.shown.count(grouped(card.pan)) == 1
    approved, declined = keying.answers
    assert "code='00'" in approved
    assert "approval='A1B2C3'" in approved
    assert "code='51'" in declined


def test_wrong_answer_is_typed_again_and_not_known_is_no_answer(tmp_path: Path) -> None:
    keying = Keying(tmp_path, CARDS[:1])
    with keying.terminal as terminal:
        keying.see(CARDS[0])
        keying.press()
        terminal.answer("1 to 5", "6")
        terminal.expect("Type a number from 1 to 5")
        terminal.answer("", "1")
        terminal.answer("Approval code on the receipt", "!")
        terminal.expect("2 to 6 letters")
        terminal.answer("Approval code on the receipt", "OK12")
        keying.confirm("no")
        keying.choose(5)
        keying.confirm()
        assert terminal.end() == 0
        assert terminal.shown.count(grouped(CARDS[0].pan)) == 1  # asked anew, never shown anew
    assert keying.answers == ["None"]


@pytest.mark.parametrize(
    ("choice", "typed", "wanted"),
    [
        (2, {"Approval_code_on_the_receipt": "77"}, ("code='00'", "MISMATCH")),
        (3, {"Approval_code_on_the_receipt": "77", "Approved_amount": "12,50"}, ("code='10'", "amount=1250")),
    ],
)
def test_approvals_that_are_not_good_are_told_apart(
    tmp_path: Path, choice: int, typed: dict[str, str], wanted: tuple[str, str]
) -> None:
    keying = Keying(tmp_path, CARDS[:1])
    with keying.terminal as terminal:
        keying.see(CARDS[0])
        keying.press()
        keying.choose(choice, **typed)
        assert "must not stand" in terminal.expect("Is that what the terminal says")
        terminal.send("yes")
        assert terminal.end() == 0
    assert all(part in keying.answers[0] for part in wanted)


def test_card_is_cleared_when_its_time_is_over(tmp_path: Path) -> None:
    keying = Keying(tmp_path, CARDS[:1], seconds=1)
    with keying.terminal as terminal:
        keying.see(CARDS[0])
        keying.choose(5)
        keying.confirm()
        assert terminal.end() == 0
        no_card_left(terminal, CARDS[:1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_card_is_cleared_when_the_process_must_end(tmp_path: Path, number: signal.Signals) -> None:
    keying = Keying(tmp_path, CARDS[:1])
    with keying.terminal as terminal:
        keying.see(CARDS[0])
        os.kill(terminal.child, number)
        assert terminal.end() == 130
        no_card_left(terminal, CARDS[:1])
    assert not keying.out.exists()


@pytest.mark.parametrize("key", [b"\x03", b"\x04"])
def test_stop_key_clears_the_card_and_ends_without_an_answer(tmp_path: Path, key: bytes) -> None:
    keying = Keying(tmp_path, CARDS[:1])
    with keying.terminal as terminal:
        keying.see(CARDS[0])
        terminal.send_raw(key)
        assert terminal.end() == 130
        no_card_left(terminal, CARDS[:1])


def test_suspending_key_does_not_leave_the_card_on_the_screen(tmp_path: Path) -> None:
    keying = Keying(tmp_path, CARDS[:1])
    with keying.terminal as terminal:
        keying.see(CARDS[0])
        terminal.send_raw(b"\x1a")  # counts as a key
        keying.choose(5)
        keying.confirm()
        assert terminal.end() == 0
        no_card_left(terminal, CARDS[:1])


def test_killed_while_the_card_stands_there_is_asked_about_in_the_journal_first(tmp_path: Path) -> None:
    keying = Keying(tmp_path, CARDS[:1])
    with keying.terminal as terminal:
        keying.see(CARDS[0])
        os.kill(terminal.child, signal.SIGKILL)
        terminal.end()
    assert not keying.out.exists()
    again = Keying(tmp_path, CARDS[:1], verb="reverse")
    with again.terminal as terminal:
        terminal.answer("1 to 3", "2")
        again.terminal.answer("Is that right", "yes")
        assert terminal.end() == 0
        assert grouped(CARDS[0].pan) not in terminal.shown
        assert b"EUR 24.99" in terminal.shown
    assert "code='25'" in again.answers[0]


@pytest.mark.parametrize(("choice", "wanted"), [("1", "code='00'"), ("3", "None")])
def test_void_is_looked_up_in_the_journal(tmp_path: Path, choice: str, wanted: str) -> None:
    asked = Keying(tmp_path, CARDS[:1], verb="reverse")
    with asked.terminal as terminal:
        terminal.answer("1 to 3", choice)
        terminal.answer("Is that right", "yes")
        assert terminal.end() == 0
        assert b"A1B2C3" in terminal.shown
    assert wanted in asked.answers[0]


def test_sale_is_taken_at_once_and_a_pre_authorisation_is_asked_for(tmp_path: Path) -> None:
    at_once = Keying(tmp_path, CARDS[:1], verb="capture")
    with at_once.terminal as terminal:
        assert terminal.end() == 0
        assert ENTER not in terminal.shown
    assert "code='00'" in at_once.answers[0]
    later = Keying(tmp_path, CARDS[:1], verb="capture", mode="dispatch")
    with later.terminal as terminal:
        terminal.answer("1 to 3", "1")
        terminal.answer("Is that right", "yes")
        assert terminal.end() == 0
    assert "code='00'" in later.answers[0]


def test_order_that_is_captured_later_is_keyed_as_a_pre_authorisation(tmp_path: Path) -> None:
    keying = Keying(tmp_path, CARDS[:1], mode="dispatch")
    with keying.terminal as terminal:
        keying.see(CARDS[0])
        keying.press()
        keying.choose(5)
        keying.confirm()
        assert terminal.end() == 0
    assert b"Choose pre-authorisation, card not present" in terminal.shown


def test_refund_that_the_terminal_refuses_has_its_code(tmp_path: Path) -> None:
    asked = Keying(tmp_path, CARDS[:1], verb="refund")
    with asked.terminal as terminal:
        terminal.answer("1 to 3", "2")
        terminal.answer("Is that right", "yes")
        terminal.answer("1 to 9", "9")
        terminal.answer("The code", "00")
        terminal.answer("The code", "13")
        assert terminal.end() == 0
    assert "code='13'" in asked.answers[0]


@pytest.mark.parametrize(("sold", "wanted"), [("49.98", "IN_BALANCE"), ("49.97", "OUT_OF_BALANCE")])
def test_day_report_is_compared(tmp_path: Path, sold: str, wanted: str) -> None:
    asked = Keying(tmp_path, CARDS[:1], verb="close")
    with asked.terminal as terminal:
        terminal.answer("Is the report there", "yes")
        for prompt, line in (
            ("How many sales", "2"),
            ("Sales together", sold),
            ("How many refunds", "0"),
            ("Refunds together", "0"),
            ("Is that what the report says", "yes"),
        ):
            terminal.answer(prompt, line)
        assert terminal.end() == 0
    assert wanted in asked.answers[0]


def test_without_a_terminal_it_refuses_before_anything_is_shown(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.offline_processor.operator_child",
            "plain",
            "authorise",
            "9",
            "-",
            "-",
            "-",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        timeout=60,
    )
    assert ended.returncode == 4
    assert "OPERATOR-TERMINAL" in ended.stderr


@pytest.mark.parametrize("mode", ["dump", "leak"])
def test_memory_holds_no_card_after_keying(tmp_path: Path, mode: str) -> None:
    keying = Keying(tmp_path, CARDS, mode=mode)
    with keying.terminal as terminal:
        for card in CARDS:
            keying.see(card)
            keying.press()
            keying.choose(1, Approval_code_on_the_receipt="A1")
            keying.confirm()
        assert terminal.end() == 0
    memory = keying.memory.read_bytes()
    assert str(tmp_path).encode() in memory
    leaked = [CARDS[0].pan] if mode == "leak" else []
    assert sorted(set(KNOWN.pans_in(memory))) == leaked
    assert bool(KNOWN.cvvs_in(memory)) == bool(leaked)
    for card in CARDS:
        assert grouped(card.pan) not in memory
        assert b"Security code  " + card.cvv not in memory


def test_main_screen_check_finds_a_planted_card() -> None:
    class Planted(Terminal):
        def __init__(self) -> None:
            self.shown = ENTER + b"x" + LEAVE + grouped(CARDS[0].pan) + CLEAR + LEAVE

    with pytest.raises(AssertionError):
        no_card_left(Planted(), CARDS[:1])


@given(st.integers(0, 10**12), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_amount_as_printed_is_read_back(amount: int, currency: str) -> None:
    assert minor_units(money(amount, currency).partition(" ")[2], currency) == amount


@given(st.text(max_size=20), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_any_text_is_an_amount_or_none(typed: str, currency: str) -> None:
    found = minor_units(typed, currency)
    assert found is None or (found >= 0 and re.fullmatch(r"[0-9]+([.,][0-9]+)?", typed, re.ASCII))
