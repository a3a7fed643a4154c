"""The operator's desk: one process in which the commands are given one after another, as at a terminal.

Why here: a day at the desk is dozens of commands, and each would pay for its own interpreter.
Must not: stand in for any part of a command; each goes through the entry point and ends with its exit code.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.offline_processor.commands import ROOT, Ran

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHILD = """
import contextlib, io, json, sys
from keys import console
from offline_processor.cli import cli
for line in sys.stdin:
    sys.argv = ["offline-processor", *json.loads(line)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            console.run(cli)
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


class Desk:
    """Gives commands with the configuration file ``config``."""

    def __init__(self, config: Path, process: subprocess.Popen[str]) -> None:
        self._config, self._process = config, process

    def say(self, *words: str, as_json: bool = True) -> Ran:
        """One command to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = [*words, "--config", str(self._config), *(["--json"] if as_json else [])]
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()
        code, out, err = json.loads(self._process.stdout.readline())
        return Ran(code=code, out=out, err=err)


@contextmanager
def desk(config: Path) -> Iterator[Desk]:
    """A desk for the length of a test."""
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Desk(config, process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=30)
