"""Paper out of a printer: CUPS gets the document through a pipe, and says whether it took it.

Why here: the only place that speaks to a printer.
Must not: be used while a key is open (it starts a process), or put a document into a file of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Final

from offline_processor.errors import ProcessorError

_PRINTER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}")
_PATIENCE: Final = 120  # seconds until the printer's queue has taken a document


def to_printer(printer: str, media: str, path: str | None = None) -> Callable[[str, bytes], None]:
    """Lets documents out to this queue of CUPS, on paper called ``media``; ``USAGE-PRINTER``, ``PRINT-REFUSED``.

    ``path``: where to look for the program ``lp``; None for where the system does.
    """
    program = shutil.which("lp", path=path)
    if program is None:
        raise ProcessorError(
            "USAGE-PRINTER",
            "this machine has no lp",
            "apt-get install cups-client, or use --out and print the file",
        )
    if _PRINTER.fullmatch(printer) is None:
        raise ProcessorError("USAGE-PRINTER", "this is no name of a printer", "lpstat -e lists their names")

    def let_out(name: str, content: bytes) -> None:
        try:
            ended = subprocess.run(  # noqa: S603  the name was checked above
                [program, "-d", printer, "-t", name, "-o", f"media={media}", "-"],
                input=content,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=_PATIENCE,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _refused(printer, "it did not answer") from error
        if ended.returncode != 0:
            raise _refused(
                printer, ended.stdout.decode("utf-8", "replace").strip()[:200] or "no reason given"
            )

    return let_out


def _refused(printer: str, why: str) -> ProcessorError:
    return ProcessorError(
        "PRINT-REFUSED",
        f"printer {printer} did not take it: {why}",
        "look at lpstat -p; nothing counts as printed, so the same command prints it again",
    )
