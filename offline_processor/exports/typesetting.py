"""Typesetting in a child process: data in on its standard input, a PDF out on its standard output, no file at all.

Why here: the typesetter keeps what it has set, so that each stack of paper gets a process that ends and gives it back.
Must not: be used while a key is open (it starts a process), write a file, or read what a person wrote as markup.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from offline_processor.errors import ProcessorError
from offline_processor.exports.fonts import font_files

_AT_ONCE: Final = 2
_PATIENCE: Final = 600  # seconds for one document
Document = tuple[str, dict[str, Any]]
"""A shipped template (package and name, "package:name") and its data."""


def typeset(
    documents: Iterable[Document], fonts: Path | None, *, now: int, tagged: bool = False
) -> Iterator[bytes]:
    """The PDF of each document, in their order; the same bytes for the same data and ``now`` (Unix seconds).

    ``fonts``: the directory to look for fonts in, None for the system's. ``tagged``: for programs that read aloud.
    ``TYPESET-FAILED``.
    """

    def in_a_child(document: Document) -> bytes:
        template, data = document
        given = {
            "template": template,
            "data": json.dumps(data, ensure_ascii=False),
            "fonts": None if fonts is None else str(fonts),
            "now": now,
            "tagged": tagged,
        }
        try:
            child = subprocess.run(  # noqa: S603  ourselves, with no word from outside in the command
                # -P: a file in the current directory is no module of ours
                [sys.executable, "-P", "-m", __name__],
                input=json.dumps(given).encode(),
                capture_output=True,  # what it says of a fault may quote a person
                check=False,
                timeout=_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise _failed(f"was not done after {_PATIENCE} seconds") from None
        except OSError as error:
            raise _failed(f"did not start: {error.strerror}") from error
        if child.returncode:
            raise _failed(f"ended with code {child.returncode}")
        return child.stdout

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as children:
        yield from children.map(in_a_child, documents)


def _failed(how: str) -> ProcessorError:
    return ProcessorError(
        "TYPESET-FAILED",
        f"the typesetter {how}; nothing was written, and nothing counts as printed",
        "look at the free memory (`free -m`), then give the command again",
    )


def hold_back() -> None:
    """From here on this process can write into no file, and leaves no core: what it sets goes out by the pipe alone."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _main() -> None:
    import typst  # noqa: PLC0415  as in fonts.py

    hold_back()
    given = json.loads(sys.stdin.buffer.read())
    package, _, name = given["template"].partition(":")
    compiler = typst.Compiler(
        files(package).joinpath(name).read_bytes(),
        font_paths=font_files(None if given["fonts"] is None else Path(given["fonts"])),
        ignore_system_fonts=True,
        sys_inputs={"data": given["data"]},
    )
    made = compiler.compile(format="pdf", pdf_tags=given["tagged"], timestamp=given["now"])
    if not isinstance(made, bytes):
        raise TypeError("the typesetter made no single document")
    sys.stdout.buffer.write(made)


if __name__ == "__main__":
    _main()
