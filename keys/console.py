"""How every command speaks: exit codes, messages for people, one JSON document for programs.

Why here: the four commands must not differ in what a script sees.
Must not: decide anything, or print a secret.
"""

from __future__ import annotations

import functools
import json
import sys
import traceback
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keys.errors import RuleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_WIDTH_OF_A_FILE = 160  # a table in a log must not be folded to an imagined terminal

F = TypeVar("F", bound="Callable[..., Any]")


class ExitCode(IntEnum):
    """The same for all commands; scripts may rely on them."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    NEEDS_PERSON = 3
    REFUSED = 4
    NOTHING_TO_DO = 5


# Rules that speak about what a person typed or configured, or how this machine was set up: USAGE. All others are
# refusals of a medium, a bundle, a return, a ledger. What exists already (…-EXISTS) is never written over: USAGE too.
_USAGE_RULES = (
    "CEREMONY-",
    "CONFIG-",
    "CUSTODY-",
    "KEY-",
    "KEYSTORE-",
    "MEMORY-",
    "OPERATOR-",
    "RING-",
    "SWAP-",
    "TRUST-NONE",
    "USAGE-",
)
_EXISTS = "-EXISTS"
_STOPPED_RULES = ("CEREMONY-BROKEN-OFF",)
_STOPPED = "stopped; nothing is half-done: the same command can be given again"


def code_of(rule: str) -> ExitCode:
    """The exit code of a command that ends with a refusal by this rule."""
    if rule in _STOPPED_RULES:
        return ExitCode.ERROR  # as Ctrl-C anywhere else
    usage = rule.startswith(_USAGE_RULES) or rule.endswith(_EXISTS)
    return ExitCode.USAGE if usage else ExitCode.REFUSED


def run(command: click.Command, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run ``command`` and leave the process with its exit code: the ``ExitCode`` that it returns, or DONE.

    A ``RuleError`` is printed as message and remedy on standard error, or with ``--json`` as the one document
    on standard output.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = command.main(args=given, prog_name=command.name, standalone_mode=False)
        code = ExitCode(result) if isinstance(result, int) else ExitCode.DONE
    except RuleError as error:
        report_error(error, as_json="--json" in given)
        code = code_of(error.rule)
    except click.ClickException as error:
        error.show()
        code = ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        warn(_STOPPED)
        code = ExitCode.ERROR
    except Exception:  # noqa: BLE001  the last line of defence: shown whole, never dressed up as bad input
        traceback.print_exc()
        code = ExitCode.ERROR
    sys.stdout.flush()
    sys.exit(int(code))


def report_error(error: RuleError, *, as_json: bool) -> None:
    """Print a refusal: for people on standard error, for programs on standard output."""
    if as_json:
        print_json({"rule": error.rule, "message": error.message, "remedy": error.remedy})
        return
    warn(f"{error.rule}: {error.message}")
    if error.remedy:
        warn(f"  What to do: {error.remedy}")


def print_json(document: object) -> None:
    """The one JSON document of a run, on standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=True, indent=2, default=_plain) + "\n")


def say(text: str, style: str = "") -> None:
    """One line (or several) for a person, on standard output. No markup is read in ``text``."""
    _console(stderr=False).print(Text(_printable(text), style=style), soft_wrap=True)


def warn(text: str, style: str = "") -> None:
    """The same on standard error."""
    _console(stderr=True).print(Text(_printable(text), style=style), soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table for a person, on standard output."""
    shown = Table(title=Text(title), title_justify="left")
    for column in columns:
        shown.add_column(Text(column), overflow="fold")
    for row in rows:
        shown.add_row(*(Text(_printable(str(cell))) for cell in row))
    _console(stderr=False).print(shown)


def is_terminal() -> bool:
    """True when a person watches standard error, so that progress may be shown there."""
    return sys.stderr.isatty()


def shared_options(function: F) -> F:
    """Add ``--config FILE`` (passed as ``config``, a Path) and ``--json`` (passed as ``as_json``)."""
    config = click.option(
        "--config",
        required=True,
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="TOML file.",
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
    return config(as_json(function))


def passphrase_option(function: F) -> F:
    """Add ``--passphrase-fd N`` (passed as ``passphrase_fd``), for runs that nobody watches."""
    option = click.option(
        "--passphrase-fd",
        type=click.IntRange(min=0),
        metavar="N",
        help="Read the passphrase from this open file descriptor.",
    )
    return option(function)


def keystore_passphrase_option(function: F) -> F:
    """Add ``--passphrase-fd N`` and ``--second-passphrase-fd N`` (passed as ``passphrase_fds``, a pair).

    For the commands that open the keystore, which may ask for two people's passphrases.
    """

    @functools.wraps(function)
    def with_both(*, passphrase_fd: int | None, second_passphrase_fd: int | None, **others: Any) -> Any:
        return function(passphrase_fds=(passphrase_fd, second_passphrase_fd), **others)

    second = click.option(
        "--second-passphrase-fd",
        type=click.IntRange(min=0),
        metavar="N",
        help="The same for the second passphrase, of a keystore that has two.",
    )
    return cast("F", passphrase_option(second(with_both)))


def shares_option(function: F) -> F:
    """Add ``--shares-fd N`` (passed as ``shares_fd``), for the acts of a quorum at which nobody types."""
    option = click.option(
        "--shares-fd",
        type=click.IntRange(min=0),
        metavar="N",
        help="Read the custodians' shares, one a line, from this open file descriptor.",
    )
    return option(function)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    return console


def _printable(text: str) -> str:
    # What a file or a medium says must not be able to drive the terminal.
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a report holds a {type(value).__name__}")
