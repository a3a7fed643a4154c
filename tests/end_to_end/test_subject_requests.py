"""A person's wish crosses the gap and one word comes back: both sides with real processes, by the typed commands.

Why here: request, bundle, decision, return and answer are each another room's; the promise is about the whole way.
Must not: reach into a state directory but to search it.
"""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from intake.catalogue import SHIPPED, load_catalogue
from intake.money import control_total
from intake.sample import post_orders, sample_orders
from keys.console import ExitCode
from tests.end_to_end import story
from tests.end_to_end.commands import environment
from tests.end_to_end.conftest import System

WHO = ("--who", "A. Keeper")


def _ask(system: System, kind: str, address: str, *more: str) -> str:
    command = ("intake", "subject", "ask", kind, *more, "--config", str(system.places.node_toml), "--json")
    asked = subprocess.run(
        command,
        input=f"{address}\n",
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
        timeout=60,
    )
    return str(json.loads(asked.stdout)["request"])


def _carry(system: System, *words: str) -> dict[str, Any]:
    """Push, the operator's run, pull."""
    node, anything = ("--config", system.places.node_toml), tuple(ExitCode)
    system.shell.run("spool-sync", "push", *node, expect=anything)
    run: tuple[str | Path, ...] = (
        "offline-processor",
        "run",
        "--config",
        system.places.offline_toml,
        "--json",
    )
    report = system.shell.offline(*run, *words, expect=anything).document
    system.shell.run("spool-sync", "pull", *node, expect=anything)
    return report


def _subject(system: System, *words: str | Path, expect: ExitCode = ExitCode.DONE) -> dict[str, Any]:
    command = ("offline-processor", "subject", *words, "--config", system.places.offline_toml, "--json")
    return system.shell.offline(*command, expect=(expect,)).document


def _answers(system: System) -> dict[str, str]:
    command = ("intake", "subject", "list", "--config", system.places.node_toml, "--json")
    return {row["request"]: row["state"] for row in system.shell.run(*command).document["requests"]}


def _bytes_of(*places: Path) -> bytes:
    return b"".join(path.read_bytes() for place in places for path in place.rglob("*") if path.is_file())


def test_copy_and_erasure_of_a_person_cross_the_gap_and_only_a_word_comes_back(
    system: System, tmp_path: Path
) -> None:
    places = system.places
    made = list(sample_orders(load_catalogue(SHIPPED), count=3, seed=11, year=datetime.now(UTC).year))
    wanted = json.loads(made[0].body)["customer"]
    address, street = wanted["email"], json.loads(made[0].body)["delivery"]["lines"][0].encode()
    with story.open_shop(system.shell, places, system.url):
        receipts = post_orders(system.url, iter(made), progress=lambda _: None)
    total = control_total((receipt.amount, receipt.currency) for receipt in receipts)
    first = _carry(system, "--confirm", total)
    assert first["orders"].get("paid", 0) >= 1
    ledger = places.offline_toml.parent
    assert street in _bytes_of(ledger)

    copy = _ask(system, "export", address, "--out", str(tmp_path / "online.json"))
    erasure = _ask(system, "erase", address, "--order", receipts[0].order_id)
    assert set(_answers(system).values()) == {"waiting"}
    assert _carry(system)["subject_requests"] == 2
    assert set(_answers(system).values()) == {"sent"}
    listed = _subject(system, "list", expect=ExitCode.NEEDS_PERSON)
    touched = {
        request["request"]: [order["order"] for order in request["orders"]] for request in listed["requests"]
    }
    assert touched[erasure] == [receipts[0].order_id]

    count = "1 order" if len(touched[copy]) == 1 else f"{len(touched[copy])} orders"
    written = _subject(system, "export", "--request", copy, "--out", tmp_path, "--confirm", count, *WHO)
    assert address in (Path(written["export"]) / "data.txt").read_text()
    erase = ("erase", "--request", erasure, "--confirm", "1 order", "--undelivered", *WHO)
    assert _subject(system, *erase)["proof"]["holds"]
    assert street not in _bytes_of(ledger)
    _carry(system)
    assert _answers(system) == {copy: "done", erasure: "done"}

    # Nothing of the person was on a medium in clear, in either direction, nor is any of it at the node.
    assert street not in _bytes_of(places.drop_in, places.drop_out, places.node_toml.parent)
    verified = system.shell.offline(
        "offline-processor", "verify-ledger", "--config", places.offline_toml, "--json"
    ).document
    assert verified["chain"] == "intact"
    assert verified["signed_to"] == verified["entries"] - 1  # all but the last command's last word
