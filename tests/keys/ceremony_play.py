"""People who hold a ceremony at a terminal, by the book; a test lets one of them make a mistake."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.keys.terminal import Terminal, words_in

if TYPE_CHECKING:
    from pathlib import Path

CUSTODIANS = ("Ada", "Ben", "Cleo", "Dan", "Eve")
PASSPHRASES = {"Ben": "first passphrase of Ben", "Cleo": "second passphrase of Cleo"}

PLAN = """\
format = 1
title = "First ceremony of the record store"
place = "back office"
rehearsal = {rehearsal}
output = "ceremony"
passphrases = {passphrases}

[keystore]
path = "keystore"

[custody]
threshold = 3
custodians = ["Ada", "Ben", "Cleo", "Dan", "Eve"]

[[people]]
name = "Ada"
roles = ["administrator", "custodian"]
[[people]]
name = "Ben"
roles = ["operator", "custodian", "witness"]
[[people]]
name = "Cleo"
roles = ["operator", "custodian"]
[[people]]
name = "Dan"
roles = ["custodian"]
[[people]]
name = "Eve"
roles = ["custodian"]
"""
NODE = """\
[[nodes]]
name = "{name}"
public_key = "{public_key}"
batch_keys = 4
"""


def write_plan(
    directory: Path, *, rehearsal: bool = True, passphrases: int = 2, nodes: dict[str, str] | None = None
) -> Path:
    """A ceremony file for these people; ``nodes`` maps names to public key files."""
    text = PLAN.format(rehearsal=str(rehearsal).lower(), passphrases=passphrases)
    for name, public_key in (nodes or {}).items():
        text += NODE.format(name=name, public_key=public_key)
    path = directory / "CEREMONY.toml"
    path.write_text(text, encoding="utf-8")
    return path


@dataclass
class Players:
    """They answer what the tool asks; ``shares`` are their sheets."""

    terminal: Terminal
    holders: tuple[str, ...] = ("Ben", "Cleo")
    shares: list[str] = field(default_factory=list)

    def check_machine(self, answer: str = "yes") -> None:
        self.terminal.answer("Is all of this so", answer)

    def choose_passphrases(self) -> None:
        for name in self.holders:
            for prompt in (f"passphrase of {name}: ", f"passphrase of {name}, once more: "):
                self.terminal.expect(prompt)
                self.terminal.send(PASSPHRASES[name])
        self.terminal.answer("Call the custodians", "")

    def see_share(self) -> str:
        self.terminal.answer("When you are alone", "")
        share = " ".join(words_in(self.terminal.answer("words are on your sheet", "")))
        self.shares.append(share)
        return share

    def take_shares(self) -> None:
        for _ in CUSTODIANS[len(self.shares) :]:
            share = self.see_share()
            self.terminal.answer("Word 1", " ".join(word[:4] for word in share.split()))
            self.terminal.answer("into its envelope", "")

    def rehearse(self, *places: int) -> None:
        for place in places or (4, 0, 2):
            self.terminal.answer("Word 1", self.shares[place])
        self.terminal.answer("Everybody may look", "")

    def enrol(self, fingerprint: str) -> None:
        self.terminal.answer("as it is read out", fingerprint)
        self.terminal.answer("is enrolled", "")

    def finish(self) -> None:
        page = self.terminal.answer("written down", "")
        spoken = page.partition("offline identity")[2].split()
        fingerprint = next(word for word in spoken if word.count("-") == 7)
        self.terminal.answer("Type it", fingerprint)

    def hold(self, *fingerprints: str) -> None:
        """The whole ceremony, without a mistake."""
        self.check_machine()
        self.choose_passphrases()
        self.take_shares()
        self.rehearse()
        for fingerprint in fingerprints:
            self.enrol(fingerprint)
        self.finish()
