"""What a golden vector is, and how a file of them is written.

Why here: the maker and the judge share it.
Must not: know any wire format.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OK = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """``inputs`` and ``output``: bytes as hexadecimal. ``expect``: "ok", or the rule that must refuse the inputs.

    ``output`` is what a reader finds in good inputs.
    """

    name: str
    kind: str
    what: str
    inputs: dict[str, Any]
    expect: str = OK
    output: dict[str, Any] = field(default_factory=dict)


def text_of(vectors: list[Vector]) -> str:
    """The content of a vector file."""
    return json.dumps([asdict(vector) for vector in vectors], indent=1, ensure_ascii=True) + "\n"


def read(name: str) -> list[Vector]:
    """The vectors of one file."""
    return [Vector(**vector) for vector in json.loads((HERE / name).read_text("ascii"))]


def names() -> list[str]:
    """The vector files that there are."""
    return sorted(path.name for path in HERE.glob("*.json"))
