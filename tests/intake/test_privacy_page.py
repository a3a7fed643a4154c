"""The privacy page says what is promised, and names no rule and no time that is not kept."""

from __future__ import annotations

import re

from intake.config import IntakeConfig
from intake.page.inventory import PAGES
from tests.intake.node import Node
from tests.intake.test_consent import page
from tests.source import ROOT

PROMISES = (
    "Once the payment has been processed, your credit card security code is not retained on our servers.",
    "All activities on the website are encrypted in your browser before they are sent to us.",
    "Orders are processed on a server that is not connected to the Internet.",
)


def test_it_quotes_the_three_sentences_of_the_readme(node: Node) -> None:
    shown = page(node, "/privacy").body.decode()
    readme = (ROOT / "README.md").read_text("utf-8")
    for promise in PROMISES:
        assert f"<q>{promise}</q>" in shown
        assert promise in readme


def test_every_promise_leads_to_how_it_is_kept(node: Node) -> None:
    shown = page(node, "/privacy").body.decode()
    links = re.findall(r'href="#([a-z-]+)"', shown.split('<ul class="promises">')[1].split("</ul>")[0])
    assert len(links) == 9
    assert [link for link in links if f'<section id="{link}">' not in shown] == []


def test_every_rule_that_it_names_is_one(node: Node) -> None:
    named = set(re.findall(r"<code>([A-Z-]+)</code>", page(node, "/privacy").body.decode()))
    rules = (ROOT / "offline_processor" / "RULES.md").read_text("utf-8")
    assert named
    assert [rule for rule in named if f"| {rule} |" not in rules] == []


def test_its_times_are_those_of_the_settings(node: Node) -> None:
    shown = page(node, "/privacy").body.decode()
    kept = IntakeConfig()
    assert f"erased {kept.enquiry_days} days after it was resolved" in shown
    assert f"in any case {kept.enquiry_open_days} days" in shown


def test_every_page_leads_to_it(node: Node) -> None:
    for path in PAGES:
        footer = page(node, path).body.decode().split("<footer>")[1]
        for link in ("/privacy", "/cookies", "/enquiries", "/newsletter"):
            assert f'href="{link}"' in footer, path
