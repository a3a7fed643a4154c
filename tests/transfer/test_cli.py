"""spool-sync as a user types it: exit codes, the JSON report, and messages that say what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keys.private.sign import generate_signing_key
from keys.public.fingerprint import fingerprint
from keys.public.minisign import MinisignPublicKey
from tests.transfer.house import NODE, NOW, House, batch_key_id, order_id
from transfer.sync.trust import pin
from transfer.wire.manifest import MANIFEST_NAME
from transfer.wire.records import Reason, StatusRecord, StatusState

PASSPHRASE = "correct horse battery staple"


@dataclass(kw_only=True)
class Desk:
    """A shell in front of one node."""

    house: House
    config: Path

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "transfer", *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # no terminal to ask on
        )

    def report(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        done = self.run(*arguments, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node that was made by ``init-node`` and enrolled; copied for each test."""
    root = tmp_path_factory.mktemp("desk")
    (root / "passphrase").write_text(PASSPHRASE + "\n")
    (root / "passphrase").chmod(0o600)
    (root / "node.toml").write_text(
        f'[node]\nnode = "{NODE}"\nstate = "state"\npassphrase_file = "passphrase"\n'
        '[sync]\ndrop_in = "in"\ndrop_out = "out"\n[intake]\nworkers = 1\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "transfer", "init-node", "--config", str(root / "node.toml"), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    public = MinisignPublicKey.decode((root / "state" / "identity.pub").read_text())
    assert json.loads(done.stdout)["fingerprint"] == fingerprint(public.public_key)
    return root


@pytest.fixture
def desk(enrolled: Path, tmp_path: Path) -> Iterator[Desk]:
    root = tmp_path / "root"
    shutil.copytree(enrolled, root)
    for drop in ("in", "out"):
        (root / drop).mkdir()
    house = House(root=root)
    said = fingerprint(house.identity.public_key)
    pin(house.node.state, house.enrolment(house.next_roll()), node=NODE, spoken=said)
    yield Desk(house=house, config=root / "node.toml")
    house.close()


def paid(number: int) -> StatusRecord:
    return StatusRecord(order=order_id(number), state=StatusState.PAID, reason=Reason.NONE, changed_at=NOW)


def test_orders_go_out_and_statuses_come_back(desk: Desk) -> None:
    desk.house.take([1, 2])
    pushed = desk.report("push")
    assert [(made["sequence"], made["orders"]) for made in pushed["cut"]] == [(1, 2)]
    assert pushed["written"] == ["b00000001"]
    seen = desk.report("status", code=3)
    assert (seen["keys_left"], seen["waiting"]) == (4, 0)
    assert [(made["sequence"], made["orders"]) for made in seen["in_flight"]] == [(1, 2)]
    assert any("4 batch keys" in warning for warning in seen["warnings"])

    desk.house.give_return([desk.house.receipt(1), paid(1), paid(2)], accepted=1)
    pulled = desk.report("pull")
    assert (pulled["taken"], pulled["roll"], pulled["statuses"]) == ("r0001-00000001", "newer", 2)
    assert pulled["receipts"] == [1]
    assert desk.report("status", code=3)["in_flight"] == []
    confirming = desk.report("push")
    assert [(made["sequence"], made["orders"]) for made in confirming["cut"]] == [(2, 0)]


def test_the_same_for_a_person(desk: Desk) -> None:
    desk.house.take([1])
    pushed = desk.run("push")
    assert pushed.returncode == 0, pushed.stderr
    assert "read back and compared: b00000001" in pushed.stdout
    desk.house.give_return([desk.house.receipt(1), paid(1)], accepted=1)
    pulled = desk.run("pull")
    assert "Return r0001-00000001 taken in: 1 statuses." in pulled.stdout
    status = desk.run("status")
    assert "Batch keys left: 4" in status.stdout
    for done in (pushed, pulled, status):
        assert "only 4 batch keys are left" in done.stderr
    assert "Traceback" not in pushed.stderr + pulled.stderr + status.stderr


def test_nothing_to_do_is_exit_code_5(desk: Desk) -> None:
    assert desk.run("push").returncode == 5
    assert desk.run("pull").returncode == 5


def test_a_refused_return_is_exit_code_4_and_names_its_rule(desk: Desk) -> None:
    desk.house.give_return([], signer=generate_signing_key())
    done = desk.run("pull")
    assert done.returncode == 4
    assert "RETURN-SIGNATURE" in done.stderr
    assert "What to do:" in done.stderr
    assert desk.report("pull", code=4)["refused"][0]["rule"] == "RETURN-SIGNATURE"


def test_missing_orders_are_exit_code_3_and_named(desk: Desk) -> None:
    desk.house.take([1, 2])
    shutil.rmtree(desk.house.spool.root / batch_key_id(1).hex())
    done = desk.run("push")
    assert done.returncode == 3
    assert order_id(1) in done.stderr
    assert desk.report("status", code=3)["missing"]


def test_a_second_identity_is_refused(desk: Desk) -> None:
    assert desk.report("init-node", code=2)["rule"] == "NODE-EXISTS"


def test_an_interrupted_init_is_completed_with_the_same_key(desk: Desk) -> None:
    public = desk.house.node.state / "identity.pub"
    before = public.read_text()
    public.unlink()
    desk.report("init-node")
    assert public.read_text() == before


def test_a_wrong_passphrase_is_said_and_loses_nothing(desk: Desk) -> None:
    desk.house.take([1])
    wrong = desk.house.root / "wrong"
    wrong.write_text("another passphrase\n")
    wrong.chmod(0o600)
    done = desk.run("push", NODE_PASSPHRASE_FILE=str(wrong))
    assert done.returncode == 2
    assert "KEY-PASSPHRASE" in done.stderr
    assert desk.report("push")["cut"][0]["orders"] == 1


def test_keys_that_do_not_belong_together_sign_nothing(desk: Desk) -> None:
    desk.house.take([1])
    (desk.house.node.state / "identity.pub").write_text(generate_signing_key().minisign.encode())
    assert desk.report("push", code=4)["rule"] == "NODE-IDENTITY"
    assert not desk.house.unit(1).exists()


def test_before_init_every_command_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(
        '[node]\nnode = "shop-a"\nstate = "state"\n[sync]\ndrop_in = "in"\ndrop_out = "out"\n'
    )
    for command in ("push", "status"):
        done = subprocess.run(
            [sys.executable, "-m", "transfer", command, "--config", str(tmp_path / "node.toml")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 4
        assert "spool-sync init-node" in done.stderr
        assert "NODE-MISSING" in done.stderr
    assert not (tmp_path / "state").exists()


def test_an_unknown_setting_is_exit_code_2(desk: Desk) -> None:
    desk.config.write_text(desk.config.read_text().replace("[sync]", "[sync]\nskip_signature = true"))
    done = desk.run("push")
    assert done.returncode == 2
    assert "skip_signature" in done.stderr


def test_a_bad_node_id_is_refused(desk: Desk) -> None:
    assert desk.run("status", NODE_NODE="../../etc").returncode == 4


def test_what_lies_on_the_drop_is_the_outbox(desk: Desk) -> None:
    desk.house.take([1])
    desk.report("push")
    assert (desk.house.unit(1) / MANIFEST_NAME).read_bytes() == (
        desk.house.node.bundle(1) / MANIFEST_NAME
    ).read_bytes()
