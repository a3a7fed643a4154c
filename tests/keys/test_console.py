"""Commands speak alike: exit codes, refusals as text or as one JSON document, no terminal tricks."""

from __future__ import annotations

import json

import click
import pytest

from keys import console
from keys.console import ExitCode
from keys.errors import RuleError


@click.group(name="tool")
def tool() -> None:
    pass


@tool.command()
@click.argument("what")
@click.option("--json", "as_json", is_flag=True)
def do(*, what: str, as_json: bool) -> ExitCode | None:
    assert isinstance(as_json, bool)
    match what:
        case "nothing":
            return ExitCode.NOTHING_TO_DO
        case "refuse":
            raise RuleError("BUNDLE-SEQUENCE", "sequence 9 follows 7", "carry bundle 8")
        case "misconfigure":
            raise RuleError("CONFIG-UNKNOWN", "unknown key")
        case "exists":
            raise RuleError("BACKUP-EXISTS", "b exists already")
        case "untrusting":
            raise RuleError("TRUST-NONE", "nobody is trusted yet")
        case "break":
            raise RuntimeError("broken")
        case "broken-off":
            raise RuleError("CEREMONY-BROKEN-OFF", "broken off")
        case "interrupt":
            raise KeyboardInterrupt
        case _:
            console.say(what)
            return None


def outcome(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        console.run(tool, arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("do", "something"), ExitCode.DONE),
        (("do", "nothing"), ExitCode.NOTHING_TO_DO),
        (("do", "refuse"), ExitCode.REFUSED),
        (("do", "misconfigure"), ExitCode.USAGE),
        (("do", "exists"), ExitCode.USAGE),
        (("do", "untrusting"), ExitCode.USAGE),
        (("do", "break"), ExitCode.ERROR),
        (("do", "broken-off"), ExitCode.ERROR),
        (("do", "interrupt"), ExitCode.ERROR),
        (("undo",), ExitCode.USAGE),
        (("--help",), ExitCode.DONE),
    ],
)
def test_exit_code_says_what_happened(arguments: tuple[str, ...], code: ExitCode) -> None:
    assert outcome(*arguments) == code


def test_interrupted_command_says_that_nothing_is_half_done(capsys: pytest.CaptureFixture[str]) -> None:
    outcome("do", "interrupt")
    assert "stopped; nothing is half-done" in capsys.readouterr().err


def test_refusal_is_text_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    outcome("do", "refuse")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "BUNDLE-SEQUENCE: sequence 9 follows 7" in printed.err
    assert "carry bundle 8" in printed.err


def test_refusal_is_one_json_document_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    outcome("do", "refuse", "--json")
    assert json.loads(capsys.readouterr().out) == {
        "rule": "BUNDLE-SEQUENCE",
        "message": "sequence 9 follows 7",
        "remedy": "carry bundle 8",
    }


def test_text_from_a_medium_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    outcome("do", "\x1b[2J[red]cleared[/red]\x07")
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "[red]cleared[/red]" in printed
