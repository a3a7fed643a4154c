"""Running commands as a user would type them, each shown before it runs and logged while it does.

Why here: the main job must be nothing but such commands, so that a newcomer can repeat every step by hand.
Must not: leave a process behind, nor pass anything to a command that its screen line does not show.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.text import Text

DONE = 0
_PATIENCE = 120.0
_STOP_PATIENCE = 15.0
_STEP = 0.1
_PLAIN_WORD = re.compile(r"[a-z][a-z-]*")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SHOWN_OF_A_LOG = 30
# A setting in the caller's environment would change what the files that we wrote say.
_OVERRIDES = (
    *("NODE_", "SYNC_", "INTAKE_", "KEYSTORE_", "PROCESSOR_", "ACQUIRER_", "CHARGING_", "EXPORTS_"),
    *("LIMITS_", "WEBHOOKS_", "OPERATOR_"),
)


class JobFailedError(Exception):
    """The job cannot go on; the message says what happened and where to look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    output: str
    errors: str
    log: Path

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document of a command that was run with ``--json``."""
        try:
            found = json.loads(self.output)
        except ValueError as error:
            raise JobFailedError(f"a command printed no JSON; see {self.log}") from error
        if not isinstance(found, dict):
            raise JobFailedError(f"a command printed another JSON document than expected; see {self.log}")
        return found


@dataclass(slots=True, kw_only=True)
class Shell:
    """Runs commands in ``folder`` and logs them in ``logs``; ``prefix`` goes before commands of the offline side."""

    console: Console
    folder: Path
    logs: Path
    prefix: tuple[str, ...] = ()
    _count: int = field(default=0, init=False)

    def say(self, text: str, style: str = "") -> None:
        """A line for the reader. No markup is read in ``text``."""
        self.console.print(Text(text, style=style), soft_wrap=True)

    def title(self, text: str) -> None:
        """A heading before a group of commands."""
        self.console.print()
        self.say(text, "bold")

    def run(self, *words: str | Path, expect: tuple[int, ...] = (DONE,), show: bool = True) -> Outcome:
        """Show and run a command to its end; another exit code than those expected fails the job.

        A command that prints one JSON document keeps its standard error apart; any other shows both as they come.
        """
        command = [self.short(word) for word in words]
        merged = "--json" not in command
        self.say(f"$ {shlex.join(command)}", "cyan")
        process: subprocess.Popen[str] | None = None
        try:
            with _undivided():
                process = subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT if merged else subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                )
            output, errors = process.communicate(timeout=_PATIENCE)
            errors = errors or ""
        except subprocess.TimeoutExpired as error:
            raise JobFailedError(f"`{shlex.join(command)}` did not end in {_PATIENCE:.0f} seconds") from error
        finally:
            if process is not None:
                _end(process)
        log = self._log(command, f"{output}{errors}exit code {process.returncode}\n")
        outcome = Outcome(code=process.returncode, output=output, errors=errors, log=log)
        if show or outcome.code not in expect:
            for line in (outcome.output + outcome.errors).splitlines():
                self.say(f"  {line.rstrip()}", "dim")
        if outcome.code not in expect:
            raise JobFailedError(f"`{shlex.join(command)}` ended with exit code {outcome.code}; see {log}")
        return outcome

    def offline(self, *words: str | Path, expect: tuple[int, ...] = (DONE,), show: bool = True) -> Outcome:
        """The same for a command of the offline side, in a network namespace of its own where that is possible."""
        return self.run(*self.prefix, *words, expect=expect, show=show)

    @contextmanager
    def background(
        self, *words: str | Path, log: Path, pipes: tuple[int, ...] = (), home: Path | None = None
    ) -> Iterator[Service]:
        """Show and start a command in the background; it and all its workers end with the context.

        ``pipes``: descriptors of ours that become its 3 and 4; with them goes a ``home`` of its own.
        """
        command = [self.short(word) for word in words]
        self.say(f"$ {shlex.join(command)} &", "cyan")
        if pipes and home:
            adapter = (sys.executable, "-m", "tests.end_to_end.with_pipes")
            command = [*adapter, *map(str, pipes), str(home), *command]
        service: Service | None = None
        try:
            with log.open("ab") as sink, _undivided():
                process = subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is ours to pass on, to the whole group
                    pass_fds=pipes,
                )
                service = Service(process=process, log=log)
            yield service
        finally:
            if service is not None:
                service.stop()

    def short(self, word: str | Path) -> str:
        """A word as it is typed in the folder where the commands run."""
        if isinstance(word, Path) and word.is_relative_to(self.folder):
            return str(word.relative_to(self.folder))
        return str(word)

    def _log(self, command: list[str], text: str) -> Path:
        self._count += 1
        known = len(self.prefix) if command[: len(self.prefix)] == list(self.prefix) else 0
        name = "-".join(word for word in command[known : known + 2] if _PLAIN_WORD.fullmatch(word))
        log = self.logs / f"{self._count:02d}-{name}.log"
        log.write_text(f"$ {shlex.join(command)}\n{text}", encoding="utf-8")
        return log


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A command in the background, with every process that it started."""

    process: subprocess.Popen[bytes]
    log: Path

    def alive(self) -> bool:
        return self.process.poll() is None

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_SHOWN_OF_A_LOG:])

    def stop(self) -> None:
        """End it and its workers: asked first, then made to. May be called again."""
        try:
            if self._signal(signal.SIGTERM):
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(timeout=_STOP_PATIENCE)
                deadline = time.monotonic() + _STOP_PATIENCE
                while self._signal(0) and time.monotonic() < deadline:
                    time.sleep(_STEP)
        finally:
            self._signal(signal.SIGKILL)
            self.process.wait()

    def _signal(self, number: int) -> bool:
        """True when somebody of its process group is still there to get the signal."""
        self.process.poll()
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return False
        return True


def environment() -> dict[str, str]:
    """The caller's environment with this installation's commands first, and none of our settings' overrides."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OVERRIDES)}
    return own | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", os.defpath)])}


def namespace_prefix() -> tuple[str, ...]:
    """What to type before a command so that it has no network; empty where this machine does not allow it."""
    tries: list[tuple[str, ...]] = [("unshare", "-rn")]
    if os.geteuid() == 0:
        tries.insert(0, ("unshare", "-n"))
    for prefix in tries:
        try:
            tried = subprocess.run([*prefix, "true"], capture_output=True, check=False, env=environment())
        except OSError:
            continue
        if tried.returncode == 0:
            return prefix
    return ()


def entered(prefix: tuple[str, ...], service: Service) -> tuple[str, ...]:
    """What to type before a command so that it runs in the namespace which ``prefix`` made for a service."""
    if not prefix:
        return ()
    user = ("-U", "--preserve-credentials") if "-rn" in prefix else ()
    return ("nsenter", "-t", str(service.process.pid), *user, "-n", "--")


@contextmanager
def _undivided() -> Iterator[None]:
    """Puts a signal off until the block is done: a child that is being born must not be forgotten."""
    late: list[int] = []

    def later(number: int, frame: FrameType | None) -> None:
        del frame
        late.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, later) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if late:
        signal.raise_signal(late[0])


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=_STOP_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
