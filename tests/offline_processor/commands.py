"""The offline processor as its operator runs it: a process of its own, with a configuration file.

Why here: what is shown about processes must be shown about the real command.
Must not: hold the shop's keystore open; two processes never do.
"""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keys import console
from offline_processor.acquirers.iso8583.mac import Algorithm
from offline_processor.cli import cli
from tests.offline_processor.mac_keys import CHECKS, key_file
from tests.offline_processor.shop import PASSPHRASE, Shop

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "offline_processor" / "acquirers" / "iso8583" / "profiles"
TIMEOUT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document of a run with ``--json``."""
        return json.loads(self.out)


def configure(shop: Shop, *, window: int = 50) -> Path:
    """Write the shop's configuration file, and let go of its keystore for the command to open."""
    shop.keystore.close()
    passphrase = shop.root / "passphrase"
    passphrase.write_bytes(PASSPHRASE + b"\n")
    passphrase.chmod(0o600)
    for drop in (shop.drop_in, shop.drop_out):
        drop.mkdir(exist_ok=True)
    config = shop.root / "offline.toml"
    config.write_text(
        '[keystore]\npath = "keystore"\npassphrase_file = "passphrase"\n'
        f'[processor]\nstate = "state"\ndrop_in = "in"\ndrop_out = "out"\nwindow = {window}\n'
        '[acquirer]\nbooks = "books.db"\n'
    )
    return config


def profile_with(
    folder: Path,
    *,
    answer: float,
    name: str = "ascii-1987",
    tls: bool = False,
    mac: Algorithm | None = None,
) -> Path:
    """A shipped profile in that folder, with another time to wait for an answer, and perhaps with TLS or a MAC."""
    own = folder / f"{name}.toml"
    shipped = (PROFILES / f"{name}.toml").read_text("utf-8")
    changed = shipped.replace("answer = 30", f"answer = {answer}")
    if mac is not None:
        changed = changed.replace("mac = false", f'mac = true\nmac_algorithm = "{mac}"')
    own.write_text(changed.replace("tls = false", "tls = true") if tls else changed, encoding="utf-8")
    return own


def over_the_line(
    config: Path,
    address: str,
    *,
    answer: float = 30,
    profile: str = "ascii-1987",
    authority: Path | None = None,
    mac: Algorithm | None = None,
    in_flight: int = 32,
) -> Path:
    """The same configuration, with an ISO 8583 line to that address in place of the acquirer in the process.

    ``authority``: with TLS, to a host that this one certified as acquirer.example. ``mac``: with the tests' key.
    """
    own = profile_with(config.parent, answer=answer, name=profile, tls=authority is not None, mac=mac)
    more = f'tls_authority = "{authority}"\ntls_name = "acquirer.example"\n' if authority else ""
    if mac is not None:
        more += f'mac_key = "{key_file(config.parent, mac)}"\nmac_key_check = "{CHECKS[mac]}"\n'
    before, _, _ = config.read_text().partition("[acquirer]")
    config.write_text(
        f'{before}[acquirer]\ndriver = "iso8583"\nprofile = "{own}"\naddress = "{address}"\n'
        f'terminal = "SHOP0001"\nmerchant = "RECORDSTORE0001"\nacquirer_id = "000001"\n'
        f"in_flight = {in_flight}\n{more}"
    )
    return config


def accept_swap(config: Path) -> Path:
    """The same configuration, for the acts that refuse a machine with unencrypted swap."""
    config.write_text(
        config.read_text().replace("[processor]", 'accept_risk = ["unencrypted-swap"]\n[processor]')
    )
    return config


def processor(
    command: str,
    config: Path,
    *arguments: str,
    program: Sequence[str] = (sys.executable, "-m", "offline_processor"),
    descriptors: Sequence[int] = (),
    group: str = "",
) -> Ran:
    """Run one command to its end; ``group``: the command of that name within ``command``."""
    words = [command, group] if group else [command]
    return _ended([*program, *words, "--config", str(config), *arguments], descriptors)


def in_process(config: Path, *words: str) -> Ran:
    """A command that opens no key, in this process as the console script runs it: a tenth of a process's time."""
    return here(*words, "--config", str(config))


def here(*words: str) -> Ran:
    """The same for one that takes no configuration."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            console.run(cli, [*words])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    return Ran(code=code, out=out.getvalue(), err=err.getvalue())


def acquirer_report(books: Path, out: Path) -> Ran:
    """The simulated acquirer's report of what it booked."""
    words = ("acquirer-report", "--books", str(books), "--out", str(out), "--json")
    return _ended([sys.executable, "-m", "offline_processor", *words])


def _ended(command: Sequence[str], descriptors: Sequence[int] = ()) -> Ran:
    ended = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
        timeout=TIMEOUT,
    )
    return Ran(code=ended.returncode, out=ended.stdout, err=ended.stderr)


def processor_at_a_terminal(config: Path, typed: str) -> Ran:
    """``offline-processor run`` by a person who types one line."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        with os.fdopen(theirs, "r+b", buffering=0) as child_terminal:
            process = subprocess.Popen(
                [sys.executable, "-m", "offline_processor", "run", "--config", str(config)],
                cwd=ROOT,
                stdin=child_terminal,
                stdout=subprocess.PIPE,
                stderr=child_terminal,
                text=True,
                start_new_session=True,
            )
        terminal.write(typed.encode() + b"\n")
        shown = bytearray()
        while True:
            try:
                part = terminal.read(4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        out, _ = process.communicate(timeout=TIMEOUT)
    return Ran(code=process.returncode, out=out, err=shown.decode("utf-8", "replace"))
