"""The lines of the proof block: a promise, what was found about it, and whether it holds.

Why here: what is looked for and how it is shown are two things.
Must not: look for anything itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.table import Table
from rich.text import Text

from tests.end_to_end.commands import Shell
from tests.end_to_end.page_order import PageOrder

_MARKS = {
    True: Text("holds", style="green"),
    None: Text("not shown", style="yellow"),
    False: Text("FAILS", style="bold red"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One promise: what was looked for, what was found, and whether that is as it must be.

    ``holds`` is None for what this machine does not let us show; it is said, and does not count as shown.
    """

    promise: str
    found: str
    holds: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What the play saw that its files do not tell.

    ``orders`` is the number sent; ``paid`` the ids that ended as paid, ``unsettled`` those that did not end;
    ``opened_before`` of ``cards_before`` cards of the kept bundle opened while its key lived; ``not_isolated``
    is what the ``runs`` of the offline side said when they saw a network; ``page`` is the order by a real browser.
    """

    orders: int
    paid: frozenset[str]
    unsettled: int
    cards_before: int
    opened_before: int
    runs: int
    not_isolated: tuple[str, ...] = ()
    page: PageOrder = field(default_factory=PageOrder)


@dataclass(slots=True, kw_only=True)
class Proof:
    """All lines, and files that a person should look at."""

    lines: list[Line] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return bool(self.lines) and all(line.holds is not False for line in self.lines)

    def add(self, promise: str, found: str, *, holds: bool | None) -> None:
        self.lines.append(Line(promise=promise, found=found, holds=holds))


def show(shell: Shell, proof: Proof) -> None:
    """Print the block."""
    table = Table(title=Text("Proof: found in this run, by looking", style="bold"), title_justify="left")
    table.add_column("promise")
    table.add_column("found", overflow="fold")
    table.add_column("")
    for line in proof.lines:
        table.add_row(Text(line.promise), Text(line.found), _MARKS[line.holds])
    shell.console.print(table)
    for place in proof.places:
        shell.say(f"  look at: {place}", "red")
