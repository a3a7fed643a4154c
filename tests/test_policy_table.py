"""Every promise of the policy has a rule and a test: README, RULES.md and the privacy page say the same sentences."""

from __future__ import annotations

import ast
import html
import re
import tomllib
from dataclasses import dataclass
from functools import cache

import pytest

from offline_processor.exports.purposes import Purpose
from tests.source import ROOT
from transfer.retention import Kept

README = ROOT / "README.md"
RULES = ROOT / "offline_processor" / "RULES.md"
PRIVACY = ROOT / "intake" / "page" / "templates" / "privacy.html"
ROW = re.compile(r"^\| \*(?P<promise>[^*|]+)\* \|(?P<rest>.*)\|$", re.MULTILINE)
TEST = re.compile(r"`(test_[a-z0-9_]+)`")
PROMISES = 9


@dataclass(frozen=True, kw_only=True)
class Promise:
    sentence: str
    how: str
    kept_by: tuple[str, ...]
    tests: tuple[str, ...]


def table(text: str) -> list[Promise]:
    """The rows of RULES.md's policy table."""
    promises = []
    for row in ROW.finditer(section(text)):
        how, by, tests = (cell.strip() for cell in row["rest"].split("|"))
        promises.append(
            Promise(
                sentence=row["promise"],
                how=how,
                kept_by=tuple(part.strip() for part in by.split(",") if part.strip()),
                tests=tuple(TEST.findall(tests)),
            )
        )
    return promises


def section(text: str) -> str:
    return text.split("\n## The policy\n", 1)[1].split("\n## ", 1)[0]


def quoted(readme: str) -> list[str]:
    return [row["promise"] for row in ROW.finditer(section(readme))]


def shown(page: str) -> list[str]:
    """The sentences of the privacy page's list."""
    promises = page.split('<ul class="promises">')[1].split("</ul>", maxsplit=1)[0]
    items = re.findall(r"<li>(.*?)<a ", promises)
    return [html.unescape(re.sub(r"<[^>]+>", "", item)).strip() for item in items]


@cache
def known_tests() -> frozenset[str]:
    return frozenset(
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


@cache
def known_rules() -> frozenset[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = {contract["id"] for contract in project["tool"]["importlinter"]["contracts"]}
    return frozenset(
        {
            *re.findall(r"^\| ([A-Z]+(?:-[A-Z0-9]+)+) \|", RULES.read_text("utf-8"), re.MULTILINE),
            *(f"contract {name}" for name in contracts),
            *(f"purpose {purpose}" for purpose in Purpose),
            *(f"retention {kind}" for kind in Kept),
        }
    )


def faults(rules: str, readme: str, page: str) -> list[str]:
    """What is wrong with the policy's table, in words; an empty list for a whole one."""
    promises = table(rules)
    sentences = [promise.sentence for promise in promises]
    found = []
    if len(promises) != PROMISES:
        found.append(f"{len(promises)} promises, not {PROMISES}")
    if sentences != quoted(readme):
        found.append("README and table differ")
    if sentences != shown(page):
        found.append("privacy page and table differ")
    for promise in promises:
        if not promise.tests:
            found.append(f"no test: {promise.sentence}")
        if not promise.kept_by or not promise.how:
            found.append(f"kept by nothing: {promise.sentence}")
        found += [f"no such test: {test}" for test in promise.tests if test not in known_tests()]
        found += [f"no such rule: {rule}" for rule in promise.kept_by if rule not in known_rules()]
    return found


def read() -> tuple[str, str, str]:
    return RULES.read_text("utf-8"), README.read_text("utf-8"), PRIVACY.read_text("utf-8")


def test_every_promise_has_a_rule_and_a_test_that_exist_and_is_said_alike_everywhere() -> None:
    assert faults(*read()) == []


@pytest.mark.parametrize(
    ("place", "old", "new", "wrong"),
    [
        (0, "`test_nothing_but_an_email_address_is_taken`", "`test_that_is_not_there`", "no such test"),
        (0, "NEWSLETTER-TOKEN, retention newsletter", "NEWSLETTER-NOTHING", "no such rule"),
        (0, "NEWSLETTER-TOKEN, retention newsletter", "", "kept by nothing"),
        (0, "retention newsletter", "retention nothing", "no such rule"),
        (0, "*Advertising cookies can be refused.*", "*Advertising cookies can be eaten.*", "differ"),
        (1, "*Advertising cookies can be refused.*", "*Advertising cookies can be eaten.*", "README"),
        (2, "<li>Advertising cookies can be refused.", "<li>There is no advertising.", "privacy page"),
        (1, "| *Nothing about you is sold or shared.*", "| Nothing about you is sold or shared.", "README"),
    ],
)
def test_table_that_is_not_whole_is_found(place: int, old: str, new: str, wrong: str) -> None:
    texts = list(read())
    assert old in texts[place]
    texts[place] = texts[place].replace(old, new)
    assert any(wrong in fault for fault in faults(*texts))


def test_promise_without_a_test_is_found() -> None:
    rules, readme, page = read()
    row = next(row for row in ROW.finditer(section(rules)))
    bare = rules.replace(row[0], TEST.sub("", row[0]))
    assert any(fault.startswith("no test") for fault in faults(bare, readme, page))
