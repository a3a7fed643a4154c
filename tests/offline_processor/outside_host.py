"""An acquirer's host that shares no code with us: Node, with npm's iso_8583 as its codec (tests/acquirer_js).

Why here: two ends that are written with one codec agree in its mistakes.
Must not: read or write a message itself; it only starts the host and hands on what that one says.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline_processor.acquirers.iso8583.mac import Algorithm
from tests.offline_processor.mac_keys import KEYS
from tests.tools.known import ACQUIRER_JS

_LENGTHS = {0: "fixed", 1: "lvar", 2: "llvar", 3: "lllvar"}
_ECHOED = ("3", "4", "7", "11", "12", "13", "15", "32", "37", "41", "42", "49", "50", "63", "70")
_LAST_FIELD = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One message as the host read it, and its answer as the host meant it; field number to text, "0" for the MTI."""

    read: Mapping[str, str]
    sent: Mapping[str, str]


class OutsideHost:
    """The running host: where it listens, and what it saw."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = f"127.0.0.1:{self._said()['port']}"

    def exchange(self) -> Exchange:
        """The next message that it has answered."""
        said = self._said()
        return Exchange(read=said["read"], sent=said["sent"])

    def _said(self) -> Any:
        if self._process.stdout is None:
            raise RuntimeError("the host speaks through a pipe")
        said = json.loads(self._process.stdout.readline())
        if "error" in said:
            raise RuntimeError(f"the outside host could not read or answer a message: {said['error']}")
        return said


@contextmanager
def outside_host(
    node: Path,
    folder: Path,
    spec: Mapping[str, Mapping[str, Any]],
    *,
    simulator_field: str = "63",
    silent_once: int | None = None,
    mac: Algorithm | None = None,
) -> Iterator[OutsideHost]:
    """The host for messages of ``spec`` (as pyiso8583 has it), as long as the context lasts.

    ``silent_once``: the first authorisation of this amount gets no answer. ``mac``: it takes and gives only messages
    with a code of the tests' key.
    """
    settings = folder / "formats.json"
    settings.write_text(
        json.dumps(
            {
                "formats": formats_of(spec),
                "simulatorField": simulator_field,
                "simulatorText": "SIMULATOR",
                "silentOnce": None if silent_once is None else f"{silent_once:012d}",
                "mac": None if mac is None else {"algorithm": mac, "key": KEYS[mac]},
                "echoed": [name for name in _ECHOED if name != simulator_field],
            }
        ),
        encoding="utf-8",
    )
    process = subprocess.Popen(
        [node, ACQUIRER_JS / "host.mjs", settings],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        yield OutsideHost(process)
    finally:
        process.kill()
        process.communicate()


def formats_of(spec: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, object]]:
    """The fields in the words of iso_8583, which counts a binary field's hexadecimal digits."""
    found: dict[str, dict[str, object]] = {}
    for number in range(2, _LAST_FIELD + 1):
        field = spec[str(number)]
        binary = field["data_enc"] == "b"
        found[str(number)] = {
            "ContentType": "b" if binary else "ans",
            "Label": field["desc"],
            "LenType": _LENGTHS[field["len_type"]],
            "MaxLen": field["max_len"] * (2 if binary else 1),
        }
    return found
