"""The main job: forty orders go in at the web intake, cross the gap sealed, are charged offline, and are answered.

Why here: `make run` and `make demo` are this.
Must not: leave a process behind, or call a failing proof done.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from http.client import HTTPException
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from tests.end_to_end import story
from tests.end_to_end.commands import JobFailedError, Shell, namespace_prefix
from tests.end_to_end.places import ROOT, Places, fresh

ORDERS = 40
_WIDTH_OF_A_FILE = 140
_STOPPED = 130
_STEP = 0.5


def main() -> NoReturn:
    """The entry point of `make run` and `make demo`."""
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.main_job", description=__doc__)
    parser.add_argument("--keep-running", action="store_true", help="leave intake serving until Ctrl-C")
    parser.add_argument("--var", type=Path, default=ROOT / "var", metavar="DIR", help="where all files go")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="intake processes")
    arguments = parser.parse_args()
    var = arguments.var.resolve()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    try:
        with fresh(var) as places:
            shell = Shell(console=console, folder=ROOT, logs=places.logs, prefix=namespace_prefix())
            holds = play(shell, places, workers=arguments.workers, keep_running=arguments.keep_running)
    except Exception as error:  # noqa: BLE001  whatever went wrong, its logs are named
        if not isinstance(error, JobFailedError):
            traceback.print_exc()
        console.print(f"\nThe main job failed: {error}", style="bold red", soft_wrap=True)
        if (var / "logs").is_dir():
            console.print(f"Every command's output is in {var / 'logs'}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("\nStopped. Nothing is left running.")
        sys.exit(_STOPPED)
    sys.exit(0 if holds else 1)


def play(shell: Shell, places: Places, *, workers: int, keep_running: bool) -> bool:
    """The whole way, from empty directories to the proof; true when all of the proof holds."""
    started = time.monotonic()
    shell.say("Lines with $ are commands as you could type them here, after: . .venv/bin/activate")
    if not shell.prefix:
        shell.say(
            "NOT ISOLATED: this machine allows no network namespace, so the offline side runs without.",
            "yellow",
        )
    with story.open_circuit(shell, places):
        url = story.set_up(shell, places, workers=workers)
        return _first_day(shell, places, url, started=started, keep_running=keep_running)


def _first_day(shell: Shell, places: Places, url: str, *, started: float, keep_running: bool) -> bool:
    shell.title("Online: the intake serves")
    with story.open_shop(shell, places, url) as shop:
        try:
            day = story.day(shell, places, url, count=ORDERS)
            paper = story.paper(shell, places)
        except (OSError, HTTPException) as error:
            raise JobFailedError(f"{type(error).__name__}: {error}\n{shop.service.last_words()}") from error
        if not keep_running:
            shop.service.stop()
        found = story.evidence(shell, places, day)
        for path in paper:
            shell.say(f"To look at: {shell.short(path)}")
        seconds = time.monotonic() - started
        if found.holds:
            shell.say(f"All of the proof holds. {seconds:.0f} seconds.", "bold green")
        else:
            failing = sum(line.holds is False for line in found.lines)
            shell.say(
                f"THE PROOF FAILS in {failing} of {len(found.lines)} lines. Logs: {places.logs}", "bold red"
            )
        if keep_running:
            _keep_running(shell, places, shop)
    return found.holds


def _keep_running(shell: Shell, places: Places, shop: story.Shop) -> None:
    shell.title(f"The intake goes on serving at {shop.url} until Ctrl-C")
    node, offline = shell.short(places.node_toml), shell.short(places.offline_toml)
    shell.say(
        f"  In a browser: {shop.url}/ is the shop; its checkout encrypts as the real one would.", "bold"
    )
    for line in (
        f"curl {shop.url}/readyz",
        f"curl {shop.url}/keys",
        f"curl {shop.url}/openapi.json",
        f"intake sample --url {shop.url} --count 5",
        f"spool-sync push --config {node}",
        " ".join((*shell.prefix, "offline-processor", "run", "--config", offline)),
        f"spool-sync pull --config {node}",
        f"intake orders --config {node}",
        f"offline-processor status --config {offline}",
    ):
        shell.say(f"  {line}", "cyan")
    while shop.service.alive():
        time.sleep(_STEP)
    raise JobFailedError(f"intake stopped by itself; see {shop.service.log}\n{shop.service.last_words()}")


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
