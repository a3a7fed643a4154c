"""Where the main job keeps its things, and how it starts with a clean table.

Why here: job, proof and tests must mean the same files.
Must not: remove anything that the main job did not make, or put a card anywhere.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tests.end_to_end.commands import JobFailedError

ROOT = Path(__file__).resolve().parents[2]
NODE = "shop-a"
_PROFILE = "ascii-1987"
_MARK = "MADE-BY-THE-MAIN-JOB"
_MARK_TEXT = "Everything beside this file that the main job makes, it removes at its next start.\n"
_MADE = ("online", "offline", "medium", "copies", "logs", "browser", "paper", "planted-marker.bin")
_SECRET_MODE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The files of one play, all under ``var``."""

    var: Path

    @property
    def node_toml(self) -> Path:
        return self.var / "online" / "node.toml"

    @property
    def node_passphrase(self) -> Path:
        return self.var / "online" / "passphrase"

    @property
    def node_state(self) -> Path:
        return self.var / "online" / "state"

    @property
    def node_identity(self) -> Path:
        return self.node_state / "identity.pub"

    @property
    def receipts(self) -> Path:
        return self.var / "online" / "receipts.json"

    @property
    def offline_toml(self) -> Path:
        return self.var / "offline" / "offline.toml"

    @property
    def offline_passphrase(self) -> Path:
        return self.var / "offline" / "passphrase"

    @property
    def profile(self) -> Path:
        """How the offline side and the simulated acquirer speak with each other."""
        return self.var / "offline" / "acquirer.toml"

    @property
    def books(self) -> Path:
        return self.var / "offline" / "simulator-books.db"

    @property
    def listening(self) -> Path:
        """Where the simulated acquirer says that it listens."""
        return self.var / "offline" / "simulator-listens"

    @property
    def drop_in(self) -> Path:
        return self.var / "medium" / "in"

    @property
    def drop_out(self) -> Path:
        return self.var / "medium" / "out"

    @property
    def enrolment(self) -> Path:
        return self.var / "medium" / f"for-{NODE}"

    @property
    def offline_identity(self) -> Path:
        return self.enrolment / "identity.pub"

    @property
    def copies(self) -> Path:
        return self.var / "copies"

    @property
    def logs(self) -> Path:
        return self.var / "logs"

    @property
    def browser(self) -> Path:
        """The home of the customer's browser, as long as it runs."""
        return self.var / "browser"

    @property
    def paper(self) -> Path:
        """What the offline side prints and exports: packing slips, the carrier's file, the day report."""
        return self.var / "paper"

    @property
    def planted(self) -> Path:
        return self.var / "planted-marker.bin"


@contextmanager
def fresh(var: Path) -> Iterator[Places]:
    """A clean ``var`` that no other main job uses meanwhile. What an earlier one made there is removed first."""
    mark = var / _MARK
    in_the_way = [name for name in _MADE if os.path.lexists(var / name)]
    if in_the_way and not mark.is_file():
        raise JobFailedError(
            f"{var / in_the_way[0]} was not made by the main job, so it is not removed: move it away and repeat"
        )
    var.mkdir(parents=True, exist_ok=True)
    with mark.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JobFailedError(
                f"another main job (or make demo) is using {var}: end that one first"
            ) from error
        file.truncate(0)
        file.write(_MARK_TEXT)
        file.flush()
        places = Places(var=var)
        for name in _MADE:
            _remove(var / name)
        for folder in (places.drop_in, places.drop_out, places.copies, places.logs):
            folder.mkdir(parents=True)
        for folder in (places.node_toml.parent, places.offline_toml.parent, places.paper):
            folder.mkdir(mode=0o700)
        yield places


def write_profile(places: Places) -> None:
    """The shipped one, but an answer that is lost is waited for 5 seconds, and not half a minute."""
    shipped = files("offline_processor.acquirers.iso8583") / "profiles" / f"{_PROFILE}.toml"
    text = shipped.read_text("utf-8")
    places.profile.write_text(text.replace("answer = 30", "answer = 5"), encoding="utf-8")


def write_passphrases(places: Places) -> None:
    """For both sides; nobody has to type them."""
    for path in (places.node_passphrase, places.offline_passphrase):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _SECRET_MODE)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(24) + "\n")


def write_settings(places: Places, *, port: int, workers: int) -> None:
    """Both configuration files.

    The offline side's names the address at which the simulated acquirer listens already.
    """
    circuit = places.listening.read_text("ascii").strip()
    places.node_toml.write_text(
        f"""\
[node]
node = "{NODE}"
state = "state"
passphrase_file = "passphrase"
accept_risk = ["unencrypted-swap"]  # throwaway keys on a developer's machine; never on a node that serves customers

[sync]
drop_in = "../medium/in"
drop_out = "../medium/out"

[intake]
bind = "127.0.0.1:{port}"
workers = {workers}
""",
        encoding="utf-8",
    )
    places.offline_toml.write_text(
        f"""\
[keystore]
path = "keystore"
passphrase_file = "passphrase"

[processor]
state = "state"
drop_in = "../medium/in"
drop_out = "../medium/out"

[acquirer]
driver = "iso8583"
profile = "{places.profile}"
address = "{circuit}"
terminal = "SHOP0001"
merchant = "RECORDSTORE0001"
acquirer_id = "000001"

[exports]
sender = ["Sealed Records", "Plattenweg 3", "10115 Berlin"]
""",
        encoding="utf-8",
    )


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
