"""`python -m tests.vectors.make` writes the golden vectors again; `--new-boxes` seals the sealed ones anew.

Why here: whoever changes the wire format must see which vectors change, and a released format changes none.
Must not: be run by a test; tests compare what it would write with what is there.
"""

from __future__ import annotations

import sys

from tests.vectors import plain, sealed, signed
from tests.vectors.form import HERE, Vector, text_of

FILES = plain.FILES | signed.FILES


def made() -> dict[str, list[Vector]]:
    """Every deterministic file's vectors."""
    return {name: make() for name, make in FILES.items()}


def main() -> None:
    """Write the files."""
    for name, vectors in made().items():
        (HERE / name).write_text(text_of(vectors), "ascii")
    boxes = HERE / sealed.FILE
    if not boxes.exists() or "--new-boxes" in sys.argv[1:]:
        boxes.write_text(text_of(sealed.sealed_orders()), "ascii")


if __name__ == "__main__":
    main()
