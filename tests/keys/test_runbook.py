"""keys/CEREMONY.md and the tool say the same: steps, commands, rules, tests, and the file that it shows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest

from keys.ceremony_file import CeremonyPlan, check_people, parse_plan
from keys.ceremony_steps import StepKind
from keys.cli import commands
from tests.source import ROOT

PAGE = (ROOT / "keys/CEREMONY.md").read_text(encoding="utf-8")
STEPS = "## The ceremony, step by step"
AFTERWARDS = ["After", "The paper of the ceremony"]
PCI = ("3.6.1", "3.6.1.1", "3.6.1.2", "3.6.1.3", "3.6.1.4", *(f"3.7.{number}" for number in range(1, 10)))


def test_every_step_has_its_section_in_order_and_every_section_its_step() -> None:
    section = PAGE.partition(STEPS)[2].partition("\n## ")[0]
    headings = re.findall(r"^### (.+)$", section, re.MULTILINE)
    assert headings == [kind.capitalize() for kind in StepKind] + AFTERWARDS


def test_every_command_that_the_page_names_exists() -> None:
    named = set(re.findall(r"key-ceremony ([a-z-]+(?: [a-z-]+)?)", PAGE))
    assert {name.split()[0] for name in named} <= set(commands.commands)
    for name in ("rotate", "revoke"):
        group = commands.commands[name]
        assert isinstance(group, click.Group)
        assert set(re.findall(rf"`{name} (order-key|identity|node|batch-keys)", PAGE)) <= set(group.commands)
    options = {option for command in walk(commands) for param in command.params for option in param.opts}
    foreign = {"--fingerprint", "--replace"}  # of `intake trust`
    assert set(re.findall(r"--[a-z][a-z-]+", PAGE)) - foreign <= options


def walk(group: click.Group) -> list[click.Command]:
    found: list[click.Command] = []
    for command in group.commands.values():
        found += walk(command) if isinstance(command, click.Group) else [command]
    return found


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_[a-z0-9_]+)`", PAGE))
    assert len(named) > 20
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    defined = {name for source in sources for name in re.findall(r"^def (test_\w+)\(", source, re.MULTILINE)}
    assert sorted(named - defined) == []


def test_every_requirement_has_one_row_with_how_and_what_shows_it() -> None:
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| 3.")]
    assert tuple(row[0].strip("| ") for row in rows) == PCI
    for row in rows:
        assert len(row) == 4, row
        assert "`test_" in row[3] or "*" in row[3] or "**not met by software**" in row[2], row


@pytest.mark.parametrize("name", ["SHARE-CHECKSUM", "SHARE-WRONG", "SHARE-OTHER-SET"])
def test_kinds_of_wrong_are_named_as_the_tool_names_them(name: str) -> None:
    assert name in PAGE


def test_file_that_the_page_shows_is_good_but_for_the_people_left_out() -> None:
    shown = PAGE.partition("```toml\n")[2].partition("```")[0]
    people = "".join(
        f'[[people]]\nname = "{name}"\nroles = {duties}\n'
        for name, duties in (
            ("Ben", ["operator", "custodian", "witness"]),
            ("Cleo", ["operator", "custodian"]),
            ("Dan", ["custodian"]),
            ("Eve", ["custodian"]),
        )
    )
    plan = parse_plan(shown.replace("[[nodes]]", people + "[[nodes]]").encode(), Path("/"))
    check_people(plan)
    # Every field there is stands in it, so that nobody must look into the source.
    assert set(tomllib.loads(shown)) == set(CeremonyPlan.__struct_fields__) - {"accept_risk"}
    defaults = CeremonyPlan.__struct_defaults__
    assert plan.cryptoperiods == next(d.factory() for d in defaults if hasattr(d, "factory"))
