"""The main job's browser: what it says when there is none, and that its look at what was sent can fail."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from intake.sample_people import CARDS, PEOPLE
from tests.end_to_end.browser import Sent
from tests.end_to_end.conftest import quiet_shell
from tests.end_to_end.page_order import SECRETS, in_clear, place
from tests.end_to_end.places import Places

ORDER = "c7263020" * 4


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(var=tmp_path)
    made.logs.mkdir()
    return made


@pytest.mark.parametrize("text", SECRETS)
@pytest.mark.parametrize(
    "way",
    [
        str,
        quote,
        json.dumps,
        lambda text: base64.b64encode(f"name={text}&".encode()).decode(),
        lambda text: base64.b64encode(f"n={text}&".encode()).decode(),
        lambda text: base64.b64encode(f"={text}&".encode()).decode(),
    ],
)
def test_a_text_that_is_sent_readable_is_found(text: str, way: Callable[[str], str]) -> None:
    harmless = Sent(url="http://127.0.0.1/keys", text="{}")
    assert in_clear([harmless], ORDER) == ()
    for sent in (
        Sent(url=f"http://127.0.0.1/?x={way(text)}", text=""),
        Sent(url="http://127.0.0.1/", text=f"x{way(text)}y"),
    ):
        assert text in in_clear([harmless, sent], ORDER)


def test_no_browser_is_said_and_nothing_is_installed(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.end_to_end.browser.search_path", lambda: str(places.var))
    placed = place(quiet_shell(places), places, "http://127.0.0.1:9")
    assert placed.receipt is None
    assert "no Chromium is installed here" in placed.why
    assert not placed.is_clean


def test_a_browser_that_does_not_start_is_not_a_page_that_fails(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = places.var / "chromium"
    broken.write_text("#!/bin/sh\necho no sandbox >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("tests.end_to_end.browser.search_path", lambda: str(places.var))
    placed = place(quiet_shell(places), places, "http://127.0.0.1:9")
    assert (placed.receipt, placed.is_clean) == (None, False)
    assert "does not start" in placed.why
    assert "no sandbox" in (places.logs / "browser.log").read_text()
    assert not places.browser.exists()


def test_everything_that_the_customer_types_is_looked_for() -> None:
    person = PEOPLE[0]
    assert {person.name, person.email, person.city, CARDS[0]} < set(SECRETS)
