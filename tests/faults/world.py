"""A small world under one directory: an intake node, an offline machine, a medium between them, and an acquirer.

Why here: every sweep drives the same pipeline, through the commands that people type and the real web application.
Must not: share anything between two worlds, or reach past the commands into the code that is under test.

``root`` is what breaks: both machines' disks and the medium. The acquirer's books and the customers' memory of what
they were promised stand beside it: no fault on our machines changes those.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import pytest

from intake import cli as intake_cli
from intake import server
from intake.app import Intake
from intake.config import IntakeConfig
from intake.limits import LimitsConfig
from intake.server import build, prepare
from intake.surroundings import Outside, share
from keys import cli as keys_cli
from keys import console
from keys.config import load
from keys.custody import Custody
from keys.keystore import Keystore
from keys.private import sodium
from keys.private.locked import LockedBuffer
from offline_processor import cli as offline_cli
from offline_processor import reporting, station
from tests.faults.orders import CATALOGUE, DAYS, Wish
from transfer import cli as sync_cli
from transfer.config import NodeConfig

NODE = "shop-a"
ACCEPTED = 202
_FINGERPRINT = re.compile(r"\b[0-9a-f]{4}(?:-[0-9a-f]{4}){7}\b")
_CONFIRM = re.compile(r"--confirm '([^']+)'")
KEYS_KEPT = 4
_KEYS_ISSUED = 6
_PASSPHRASE = b"correct horse battery staple"
_WINDOW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended and what it said."""

    command: str
    code: int
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One world below ``place``, seen from one of its intake nodes, whose disk is ``online``."""

    place: Path
    online: str = "online"

    @property
    def root(self) -> Path:
        return self.place / "root"

    @property
    def node_toml(self) -> Path:
        return self.root / self.online / "node.toml"

    @property
    def node_state(self) -> Path:
        return self.root / self.online / "state"

    @property
    def offline_toml(self) -> Path:
        return self.root / "offline" / "offline.toml"

    @property
    def ledger(self) -> Path:
        return self.root / "offline" / "state" / "ledger.db"

    @property
    def medium(self) -> Path:
        return self.root / "medium"

    @property
    def books(self) -> Path:
        return self.place / "acquirer" / "books.db"

    @property
    def promises(self) -> Path:
        return self.place / f"promises-{self.online}.jsonl"

    def copy_to(self, place: Path) -> World:
        """The same world again, elsewhere."""
        shutil.copytree(self.place, place, symlinks=True)
        return World(place=place, online=self.online)

    # The commands

    def push(self) -> Ended:
        return command(sync_cli.commands, "push", "--config", self.node_toml)

    def pull(self) -> Ended:
        return command(sync_cli.commands, "pull", "--config", self.node_toml)

    def run(self) -> Ended:
        """The operator's run; the control total that it asks for is confirmed, as a person would after comparing."""
        config = ("--config", self.offline_toml)
        asked = command(offline_cli.cli, "run", *config)
        total = _CONFIRM.search(asked.said)
        return command(offline_cli.cli, "run", *config, "--confirm", total[1]) if total else asked

    def verify_ledger(self) -> Ended:
        return command(offline_cli.cli, "verify-ledger", "--config", self.offline_toml)

    def status(self) -> dict[str, Any]:
        """What the node tells its administrator."""
        ended = command(sync_cli.commands, "status", "--config", self.node_toml, "--json")
        told: dict[str, Any] = json.loads(ended.said)
        return told

    # The customers

    def take_orders(self, groups: Iterable[Sequence[Wish]]) -> dict[int, int]:
        """Post orders, those of a group at the same time; the answer's code by the order's number.

        The web application is built for it and closed after it, as one worker's life. Whatever is promised to a
        customer is written down at the moment when the first byte of the answer leaves.
        """
        with _answering(self) as app:
            return asyncio.run(self._post(app, groups))

    def statuses(self, numbers: Iterable[int] | None = None) -> dict[int, str]:
        """What each customer with a promise sees, by the order's number; the code where there is no status."""
        with _answering(self) as app:
            return asyncio.run(self._ask(app, numbers))

    def promised(self) -> dict[int, dict[str, str]]:
        """The promises by the order's number: order id and token."""
        if not self.promises.exists():
            return {}
        lines = self.promises.read_text("utf-8").splitlines()
        return {promise["number"]: promise for promise in map(json.loads, lines)}

    async def _post(self, app: Intake, groups: Iterable[Sequence[Wish]]) -> dict[int, int]:
        codes: dict[int, int] = {}

        async def post(wish: Wish, body: bytes) -> None:
            answer = await request(
                app, "POST", "/orders", body, {"idempotency-key": wish.key}, self._witness(wish)
            )
            codes[wish.number] = answer[0]

        for group in groups:
            _, raw = await request(app, "GET", "/keys")
            keys = json.loads(raw)
            if "batch_key" not in keys:
                codes.update(dict.fromkeys((wish.number for wish in group), 503))
                continue
            await asyncio.gather(*(post(wish, wish.body(keys)) for wish in group))
        return codes

    async def _ask(self, app: Intake, numbers: Iterable[int] | None) -> dict[int, str]:
        seen: dict[int, str] = {}
        promised = self.promised()
        for number in promised if numbers is None else numbers:
            promise = promised[number]
            headers = {"authorization": f"Bearer {promise['token']}"}
            code, raw = await request(app, "GET", f"/orders/{promise['order_id']}", b"", headers)
            seen[number] = json.loads(raw)["status"] if code == 200 else str(code)
        return seen

    def _witness(self, wish: Wish) -> Witness:
        return Witness(path=self.promises, wish=wish)


class Witness:
    """Writes a promise down when an answer begins, whatever becomes of the process afterwards."""

    def __init__(self, *, path: Path, wish: Wish) -> None:
        self._path = path
        self._wish = wish
        self._code = 0

    def __call__(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._code = message["status"]
        elif self._code == ACCEPTED:
            answer = json.loads(message["body"])
            note = {
                "number": self._wish.number,
                "order_id": answer["order_id"],
                "token": answer["access_token"],
            }
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(note) + "\n")


def make_world(place: Path, *, custody: Custody | None = None) -> World:
    """Both sides, enrolled with each other by the usual commands; nothing is ordered yet.

    ``custody``: with it the offline machine can be backed up and restored, as after a ceremony.
    """
    world = World(place=place)
    for folder in ("offline", "medium/in", "medium/out"):
        (world.root / folder).mkdir(parents=True)
    world.books.parent.mkdir()
    world.offline_toml.write_text(
        '[keystore]\npath = "keystore"\npassphrase_file = "passphrase"\n'
        f'[processor]\nstate = "state"\ndrop_in = "../medium/in"\ndrop_out = "../medium/out"\nwindow = {_WINDOW}\n'
        '[acquirer]\nbooks = "../../acquirer/books.db"\n',
        encoding="utf-8",
    )
    _write_passphrase(world.offline_toml.parent)
    if custody is None:
        _done(command(keys_cli.commands, "init", "--config", world.offline_toml, "--rehearsal"))
    else:
        with LockedBuffer(len(_PASSPHRASE)).copy_from(_PASSPHRASE) as secret:
            keystore = world.root / "offline" / "keystore"
            Keystore.create(keystore, [secret], rehearsal=True, now=int(time.time()), custody=custody).close()
    return add_node(world, NODE)


def add_node(world: World, node: str) -> World:
    """One more intake node, on the disk that ``world`` names, enrolled with the offline side."""
    (world.root / world.online).mkdir()
    _write_node_settings(world, node=node)
    said = _done(command(sync_cli.commands, "init-node", "--config", world.node_toml))
    spoken = fingerprints(said)[0]
    enrolment = world.place / f"for-{node}"
    enrol: tuple[object, ...] = ("enrol-node", "--config", world.offline_toml, "--node", node)
    enrol += (
        "--who",
        "A. Keeper",
        "--public-key",
        world.node_state / "identity.pub",
        "--fingerprint",
        spoken,
    )
    said = _done(command(keys_cli.commands, *enrol, "--out", enrolment, "--batch-keys", _KEYS_ISSUED))
    theirs = fingerprints(said)[-1]
    _done(
        command(intake_cli.commands, "trust", enrolment, "--config", world.node_toml, "--fingerprint", theirs)
    )
    prepare(*_settings(world.node_toml), LimitsConfig(), random=os.urandom)
    return world


def _write_node_settings(world: World, *, node: str) -> None:
    """A node's configuration, with relative paths, so that a world can be copied."""
    (world.node_toml.parent / "catalogue.toml").write_text(CATALOGUE, encoding="utf-8")
    world.node_toml.write_text(
        f'[node]\nnode = "{node}"\nstate = "state"\npassphrase_file = "passphrase"\n'
        '[sync]\ndrop_in = "../medium/in"\ndrop_out = "../medium/out"\n'
        f'[intake]\nbind = "127.0.0.1:{20_000 + os.getpid() % 10_000}"\ncatalogue = "catalogue.toml"\n',
        encoding="utf-8",
    )
    _write_passphrase(world.node_toml.parent)


def _write_passphrase(folder: Path) -> None:
    passphrase = folder / "passphrase"
    passphrase.write_bytes(_PASSPHRASE + b"\n")
    passphrase.chmod(0o600)


def command(group: click.Command, *words: object) -> Ended:
    """One command in this process, as the console script runs it."""
    said = io.StringIO()
    code = 0
    with redirect_stdout(said), redirect_stderr(said):
        try:
            console.run(group, [str(word) for word in words])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    return Ended(command=f"{group.name} {words[0]}", code=code, said=said.getvalue())


def fingerprints(said: str) -> list[str]:
    """The fingerprints in what a command said."""
    return _FINGERPRINT.findall(said)


async def request(
    app: Intake,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    witness: Witness | None = None,
) -> tuple[int, bytes]:
    """One request to the web application; its code and body."""
    given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    code, parts = 0, bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal code
        if witness is not None:
            witness(message)
        if message["type"] == "http.response.start":
            code = message["status"]
        else:
            parts.extend(message.get("body", b""))

    await app(scope, receive, send)
    return code, bytes(parts)


def make_light(patch: pytest.MonkeyPatch) -> None:
    """Costs that say nothing about faults are made small: the stretching of passphrases, long key rolls, a document.

    The whole world is one process here, so it keeps its network; what a run gives up is shown by test_isolation.py.
    """
    real = sodium.argon2id

    def light(*arguments: Any) -> Any:
        out, size, passphrase, length, salt, _passes, _memory, algorithm = arguments
        return real(out, size, passphrase, length, salt, 1, 8192, algorithm)

    patch.setattr(sodium, "argon2id", light)
    patch.setattr(reporting, "BATCH_KEYS_KEPT", KEYS_KEPT)
    patch.setattr(station, "confine", lambda **needs: [])
    patch.setattr(server, "openapi_document", lambda: b"{}", raising=False)


@contextmanager
def _answering(world: World) -> Iterator[Intake]:
    node, intake = _settings(world.node_toml)
    shared = share(random=os.urandom)
    outside = Outside(now=time.time, ticks=time.perf_counter, random=os.urandom, worker=0, log_to=2)
    app = build(node, intake, LimitsConfig(), shared=shared, outside=outside).application
    try:
        yield app
    finally:
        app._close()
        os.close(shared.rates)
        os.close(shared.tallies)


def _settings(path: Path) -> tuple[NodeConfig, IntakeConfig]:
    sections = load(path, {"node": NodeConfig, "intake": IntakeConfig}, {})
    return cast("NodeConfig", sections["node"]), cast("IntakeConfig", sections["intake"])


def _done(ended: Ended) -> str:
    if ended.code != 0:
        raise AssertionError(f"{ended.command} ended with {ended.code}:\n{ended.said}")
    return ended.said


def all_wishes() -> list[list[Wish]]:
    """Every group of every day."""
    return [group for day in DAYS for group in day]
