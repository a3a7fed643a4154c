"""Pre-flight: each thing that must be in order, out of order, and the run that refuses to open anything then."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from keys.config import KeystoreConfig
from offline_processor import preflight
from offline_processor.config import (
    AcquirerConfig,
    ChargingConfig,
    ExportsConfig,
    OperatorConfig,
    ProcessorConfig,
)
from offline_processor.errors import ProcessorError
from offline_processor.finding import Severity
from offline_processor.machine import LEAST_SPACE, of_disk
from offline_processor.station import Settings, Surroundings, check_machine
from offline_processor.trail import Trail
from tests.offline_processor.commands import ROOT, configure, processor, profile_with
from tests.offline_processor.mac_keys import CHECKS, key_file
from tests.offline_processor.shop import NOW, Shop, next_bundle, open_shop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ALONE = Surroundings(ways_out=[], radios=[], circuit=None)
ON_AIR = Surroundings(ways_out=[], radios=["wireless radio phy0 is switched on"], circuit=None)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = open_shop(tmp_path, batch_keys=30)
    next_bundle(made, 0, 1, 2)
    made.run()
    yield made
    made.keystore.close()


def settings(shop: Shop, driver: Any = "operator") -> Settings:
    return Settings(
        keystore=KeystoreConfig(path=shop.root / "keystore"),
        processor=ProcessorConfig(
            state=shop.root / "state", drop_in=shop.drop_in, drop_out=shop.drop_out, window=shop.window
        ),
        acquirer=AcquirerConfig(driver=driver),
        charging=ChargingConfig(),
        exports=ExportsConfig(),
        operator=OperatorConfig(),
        trail=Trail(command="preflight", account="operator", clock=lambda: shop.now),
    )


def look(shop: Shop, **changes: Any) -> preflight.Preflight:
    given: dict[str, Any] = {"seen": ALONE, "now": shop.now + 60, "ticks": time.monotonic, **changes}
    with shop.ledger() as ledger:
        return preflight.look(
            preflight.Look(settings=settings(shop), keystore=shop.keystore, ledger=ledger, **given)
        )


def found(shop: Shop, **changes: Any) -> dict[str, str]:
    """Rule to severity; core dumps, which the tests' own process does not forbid, left out."""
    findings = {item.rule: item.severity.value for item in look(shop, **changes).findings}
    findings.pop("MACHINE-CORE-DUMPS", None)
    return findings


def test_machine_in_order_passes(shop: Shop) -> None:
    assert found(shop) == {}
    (chain,) = [check.seen for check in look(shop).checks if check.what == "ledger chain"]
    assert chain.startswith("all ")


# The machine


def test_process_that_may_be_dumped_is_found() -> None:
    asked = (
        "from offline_processor.machine import of_memory; from keys.private.locked import harden_process\n"
        "print([item.rule for item in of_memory(5)]); harden_process()\n"
        "print([item.rule for item in of_memory(5)])"
    )
    ran = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["['MACHINE-CORE-DUMPS']", "[]"]


def test_memory_that_cannot_be_locked_is_found_before_the_run() -> None:
    asked = (
        "import ctypes, os, resource\n"
        "from offline_processor.machine import of_memory\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (8192, 8192))\n"
        "os.geteuid() or os.setresuid(65534, 65534, 65534)\n"  # root may lock what it likes
        "print([item.rule for item in of_memory(500)])"
    )
    ran = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "MEMORY-LOCK" in ran.stdout


def test_disk_without_room_is_found_before_the_run(tmp_path: Path, tool: Callable[[str], Path]) -> None:
    with tmpfs(tmp_path, tool("mounts"), LEAST_SPACE // 2):
        (finding,) = of_disk("the ledger", tmp_path)
        assert (finding.rule, finding.severity) == ("MACHINE-DISK", Severity.REFUSED)
    with tmpfs(tmp_path, tool("mounts"), LEAST_SPACE * 2):
        (finding,) = of_disk("the ledger", tmp_path)
        assert (finding.rule, finding.severity) == ("MACHINE-DISK", Severity.WARNING)


@contextmanager
def tmpfs(place: Path, mount: Path, size: int) -> Iterator[None]:
    subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def test_radio_that_is_on_is_refused_with_real_keys_and_marked_in_a_rehearsal(shop: Shop) -> None:
    with pytest.raises(ProcessorError, match="phy0") as refused:
        check_machine(settings(shop), ON_AIR, rehearsal=False)
    assert refused.value.rule == "RUN-WIRELESS"
    assert "WIRELESS: wireless radio phy0 is switched on" in check_machine(
        settings(shop), ON_AIR, rehearsal=True
    )
    assert found(shop, seen=ON_AIR) == {"RUN-WIRELESS": "warning"}  # the shop's keystore is a rehearsal's


def test_what_could_not_be_given_up_is_marked(shop: Shop) -> None:
    kept = Surroundings(ways_out=[], radios=[], circuit=None, kept=["the run kept its network"])
    assert check_machine(settings(shop), kept, rehearsal=False) == ["NOT CONFINED: the run kept its network"]


# Clock, ledger, keys


def test_clock_behind_the_ledger_or_before_the_keystore_is_refused(shop: Shop, tmp_path: Path) -> None:
    assert found(shop, now=shop.now - 60)["CLOCK-BACK"] == "refused"
    (tmp_path / "new").mkdir()
    new = open_shop(tmp_path / "new")
    try:
        assert found(new, now=NOW - 5000)["CLOCK-BACK"] == "refused"
    finally:
        new.keystore.close()


def test_altered_entry_is_found_before_an_order_is_opened(shop: Shop) -> None:
    alter(shop, 2)
    assert found(shop) == {"LEDGER-CHAIN": "refused"}
    with pytest.raises(ProcessorError, match="LEDGER-CHAIN"):
        look(shop).require()


def test_daily_look_at_the_chain_is_bounded_and_the_whole_one_is_not(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(shop, 2)
    monkeypatch.setattr(preflight, "DAILY_ENTRIES", 3)
    daily = look(shop)
    assert "LEDGER-CHAIN" not in {item.rule for item in daily.findings}
    (chain,) = [check.seen for check in daily.checks if check.what == "ledger chain"]
    assert chain.startswith("the newest 3 of ")
    assert found(shop, whole=True) == {"LEDGER-CHAIN": "refused"}


def alter(shop: Shop, number: int) -> None:
    with shop.ledger() as ledger, ledger.atomic():
        ledger.execute("DROP TRIGGER entry_is_never_changed")
        ledger.execute("UPDATE entry SET at = at - 1 WHERE id = ?", (number,))


def test_damaged_page_of_the_ledger_is_found_before_an_order_is_opened(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 60, batch_keys=30)
    next_bundle(shop, *range(40))
    shop.run()
    next_bundle(shop, 100)
    config = configure(shop)
    ledger = tmp_path / "state" / "ledger.db"
    raw = bytearray(ledger.read_bytes())
    for page in range(len(raw) // 4096 // 2, len(raw) // 4096):
        raw[page * 4096 + 2000 : page * 4096 + 2100] = bytes(100)
        raw[page * 4096 : page * 4096 + 8] = bytes(8)
    ledger.write_bytes(raw)
    ran = processor("run", config, "--confirm", "1 order: EUR 24.99", "--json")
    assert ran.code != 0
    assert (
        "LEDGER-DAMAGED" in ran.out or "malformed" in ran.err
    )  # some damage keeps it from being opened at all
    assert len(shop.charges()) == 40


def test_damage_is_refused_by_its_rule(shop: Shop) -> None:
    with shop.ledger() as ledger, ledger.atomic():
        ledger.execute("CREATE TABLE spoilt (a INTEGER NOT NULL)")
        ledger.execute("PRAGMA writable_schema = ON")
        ledger.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE spoilt (a INTEGER NOT NULL, b TEXT NOT NULL)'"
            " WHERE name = 'spoilt'"
        )
        ledger.execute("INSERT INTO spoilt (a) VALUES (1)")
    assert found(shop) == {"LEDGER-DAMAGED": "refused"}


def test_look_at_a_large_ledger_is_bounded_and_says_so(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offline_processor.ledger.ledger._STEPS", 1)
    hours = itertools.count(step=3600.0)
    assert found(shop, ticks=lambda: next(hours)) == {"LEDGER-UNCHECKED": "warning"}
    assert found(shop, ticks=lambda: next(hours), whole=True) == {}


def test_ledger_that_is_an_old_copy_is_refused(shop: Shop) -> None:
    with shop.ledger() as ledger, ledger.atomic():
        ledger.set_counter("behind", 1)
    assert found(shop) == {"LEDGER-BEHIND": "refused"}


def test_state_of_keys_and_backup_is_among_the_findings(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, batch_keys=3, custodians=(2, 3))
    assert found(shop) == {"KEYS-LOW": "warning", "BACKUP-OLD": "warning"}
    low, backup = (item for item in look(shop).findings if item.rule in ("KEYS-LOW", "BACKUP-OLD"))
    assert low.message == "shop-a has 3 batch keys left that it may seal to"
    assert "next return" in low.remedy
    assert "offline-processor backup" in backup.remedy
    shop.keystore.close()


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({}, None),
        ({"mac_key_check": "000000"}, "CONFIG-MAC-CHECK"),
        ({"mac_key": None, "mac_key_check": ""}, "CONFIG-MAC"),
        ({"merchant": ""}, "CONFIG-ISO8583"),
        ({"profile": "other-1987"}, "ISO-PROFILE"),
    ],
)
def test_line_that_cannot_be_used_is_told_before_anything_is_sent(
    shop: Shop, tmp_path: Path, wrong: dict[str, Any], rule: str | None
) -> None:
    agreed: dict[str, Any] = {
        "profile": str(profile_with(tmp_path, answer=1, mac="retail")),
        "address": "127.0.0.1:9",  # nobody answers there, and nobody is asked
        "terminal": "SHOP0001",
        "merchant": "RECORDSTORE0001",
        "mac_key": key_file(tmp_path, "retail"),
        "mac_key_check": CHECKS["retail"],
    }
    acquirer = AcquirerConfig(driver="iso8583", **agreed | wrong)
    with shop.ledger() as ledger:
        seen = preflight.look(
            preflight.Look(
                settings=dataclasses.replace(settings(shop), acquirer=acquirer),
                keystore=shop.keystore,
                ledger=ledger,
                seen=ALONE,
                now=shop.now + 60,
                ticks=time.monotonic,
            )
        )
    (line,) = [check for check in seen.checks if check.what == "acquirer's line"]
    assert [(one.rule, one.severity) for one in line.findings] == ([(rule, Severity.PERSON)] if rule else [])
    assert all(rule != one.rule for one in seen.refusals)  # bundles can be received meanwhile


# The commands


def test_every_check_is_shown_with_its_result(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 60, batch_keys=30)
    config = configure(shop)
    document = processor("preflight", config, "--json").document
    assert document["passed"] is True
    assert "REHEARSAL" in document["marks"][0]
    ran = processor("preflight", config)
    assert ran.code == 0
    for check in document["checks"]:
        assert check["check"] in ran.out
    assert "Pre-flight passed." in ran.out


def test_run_begins_with_preflight_and_opens_nothing_when_it_refuses(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, now=int(time.time()) - 60)
    next_bundle(shop, 0)
    shop.run()
    alter(shop, 2)
    next_bundle(shop, 1)
    config = configure(shop)
    for command in ("run", "receive", "write-return"):
        ran = processor(command, config, "--json")
        assert (ran.code, ran.document["rule"]) == (4, "LEDGER-CHAIN")
    looked = processor("preflight", config, "--json")
    assert (looked.code, looked.document["passed"]) == (4, False)
    assert len(shop.charges()) == 1
    assert shop.rows("SELECT last_sequence FROM node") == [(1,)]


def test_document_is_one_whatever_was_found(shop: Shop) -> None:
    document = json.loads(json.dumps(look(shop, seen=ON_AIR).as_document()))
    (radio,) = [check for check in document["checks"] if check["check"] == "wireless"]
    assert radio["findings"][0]["severity"] == "warning"
    assert "rfkill" in radio["findings"][0]["remedy"]
