"""A node for tests: its offline identity, key rolls, state directory, and a real intake process in front of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nacl.public
import nacl.signing

from keys.public.announcement import revocation_message
from keys.public.fingerprint import fingerprint
from keys.public.minisign import MinisignPublicKey, prehash, signature_text
from keys.public.roll import ROLL_COMMENT, KeyEntry, KeyRoll, Role, encode_roll, entry_message
from keys.public.seal import key_id
from transfer.sync import revoked, trust
from transfer.wire.records import Revocation

NODE = "shop-t"
FAR = 4_000_000_000
_START_SECONDS = 20.0


@dataclass(slots=True)
class OfflineSide:
    """The keys that a ceremony would have made."""

    identity: nacl.signing.SigningKey = field(default_factory=nacl.signing.SigningKey.generate)
    order_key: nacl.public.PrivateKey = field(default_factory=nacl.public.PrivateKey.generate)
    batch_keys: list[nacl.public.PrivateKey] = field(default_factory=list)
    rolls: int = 0
    order_keys: list[tuple[nacl.public.PrivateKey, int]] = field(default_factory=list)
    """Further order keys with their `seal_until`, newest last; ``order_key`` is number 1."""

    @property
    def public(self) -> MinisignPublicKey:
        return MinisignPublicKey(public_key=self.identity.verify_key.encode())

    def roll(
        self,
        batch_keys: int,
        *,
        seal_until: int = FAR,
        first: int = 1,
        order_until: int = FAR,
        issued_at: int | None = None,
    ) -> bytes:
        """The next roll, with ``batch_keys`` batch keys numbered from ``first``."""
        while len(self.batch_keys) < first + batch_keys - 1:
            self.batch_keys.append(nacl.public.PrivateKey.generate())
        self.rolls += 1
        used = enumerate(self.batch_keys[first - 1 : first - 1 + batch_keys], first)
        roll = KeyRoll(
            node=NODE,
            epoch=1,
            number=self.rolls,
            prev="0" * 64,
            issued_at=int(time.time()) if issued_at is None else issued_at,
            order_keys=[
                self._entry(Role.ORDER, number, key, until)
                for number, (key, until) in enumerate([(self.order_key, order_until), *self.order_keys], 1)
            ],
            batch_keys=[self._entry(Role.BATCH, number, key, seal_until) for number, key in used],
        )
        return encode_roll(roll)

    def enrolment(self, directory: Path, roll: bytes) -> Path:
        """The files that enrol-node writes."""
        directory.mkdir(parents=True)
        (directory / "identity.pub").write_text(self.public.encode())
        (directory / "keyroll.json").write_bytes(roll)
        signature = self.identity.sign(prehash(roll)).signature
        whole = self.identity.sign(signature + ROLL_COMMENT.encode()).signature
        text = signature_text(self.public, signature, ROLL_COMMENT, whole)
        (directory / "keyroll.json.minisig").write_text(text)
        return directory

    def revocation(self, role: Role, public_key: bytes) -> Revocation:
        """The signed record that revokes a key."""
        key = key_id(public_key)
        message = revocation_message(role=role, epoch=1, key=key, revoked_at=1)
        signature = self.identity.sign(message).signature.hex()
        return Revocation(key=key.hex(), role=role, epoch=1, revoked_at=1, signature=signature)

    def _entry(self, role: Role, number: int, key: nacl.public.PrivateKey, seal_until: int) -> KeyEntry:
        public_key = key.public_key.encode()
        message = entry_message(
            role=role,
            node=NODE,
            epoch=1,
            number=number,
            public_key=public_key,
            seal_until=seal_until,
            destroy_at=FAR,
        )
        return KeyEntry(
            role=role,
            node=NODE,
            epoch=1,
            number=number,
            public_key=public_key.hex(),
            seal_until=seal_until,
            destroy_at=FAR,
            signature=self.identity.sign(message).signature.hex(),
        )


@dataclass(slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Node:
    """A node's directory, and its intake process when it runs."""

    root: Path
    offline: OfflineSide = field(default_factory=OfflineSide)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.root / "node.toml"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def log(self) -> Path:
        return self.root / "intake.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configure(self, *, workers: int = 1, max_orders: int = 10_000, more: str = "") -> Node:
        """Write the configuration; ``more`` goes to the end of [intake], with further sections if need be."""
        self.root.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.config.write_text(
            f'[node]\nnode = "{NODE}"\nstate = "state"\nmax_orders = {max_orders}\n'
            f'[intake]\nbind = "127.0.0.1:{self.port}"\nworkers = {workers}\n{more}'
        )
        return self

    def enrol(self, batch_keys: int = 3, **options: int) -> Node:
        """Pin the identity and install the first roll."""
        directory = self.offline.enrolment(
            self.root / f"enrolment-{self.offline.rolls}", self.offline.roll(batch_keys, **options)
        )
        trust.pin(self.state, directory, node=NODE, spoken=fingerprint(self.offline.public.public_key))
        return self

    def new_roll(self, batch_keys: int, **options: int) -> None:
        """What a return does: a newer roll."""
        trust.accept_roll(self.state, self.offline.roll(batch_keys, **options), node=NODE)

    def revoke(self, role: Role, public_key: bytes) -> None:
        """What a return does that revokes a key."""
        revoked.remember(self.state, [self.offline.revocation(role, public_key)])

    def start(self) -> Node:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "intake", "serve", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                start_new_session=True,
            )
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            try:
                if self.get("/livez").status == 200:
                    return self
            except OSError:
                time.sleep(0.05)
            if self.process.poll() is not None:
                break
        raise AssertionError(f"the intake did not start:\n{self.log.read_text()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, how)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
                raise
            finally:
                self.process = None

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            named: dict[str, str] = {}
            for name, value in response.getheaders():
                before = named.get(name.lower())
                named[name.lower()] = value if before is None else f"{before}, {value}"
            return Answer(response.status, named, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request(
            "GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )

    def post(self, order: object, key: str, **headers: str) -> Answer:
        body = order if isinstance(order, bytes) else json.dumps(order).encode()
        given = {"Content-Type": "application/json", "Idempotency-Key": key}
        return self.request("POST", "/orders", body, given | headers)

    def files(self) -> Sequence[Path]:
        """Every file of the node but its configuration."""
        return [path for path in self.root.rglob("*") if path.is_file() and path != self.config]
