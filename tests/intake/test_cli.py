"""The `intake` command as a person and a script use it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from intake.enquiries.desk import EnquiryDesk
from intake.enquiries.form import Question
from intake.newsletter.place import open_subscribers
from keys.public.fingerprint import fingerprint, words
from tests.intake.answers import problem, stored
from tests.intake.node import Node, OfflineSide
from tests.intake.test_durability import workers_of
from transfer.sync import trust

NewNode = Callable[[], Node]
RunIntake = Callable[..., tuple[int, str, str]]
CARD_DATA = re.compile(r"\b(?:\d[ -]?){12,19}\b")


@pytest.fixture
def enrolment(tmp_path: Path) -> tuple[Path, str, OfflineSide]:
    """What enrol-node wrote, and the fingerprint that its operator reads out."""
    offline = OfflineSide()
    directory = offline.enrolment(tmp_path / "for-shop-t", offline.roll(4))
    return directory, fingerprint(offline.public.public_key), offline


def test_trust_with_the_right_fingerprint_pins_and_installs(
    new_node: NewNode, run_intake: RunIntake, enrolment: tuple[Path, str, OfflineSide]
) -> None:
    node = new_node().configure()
    directory, spoken, _ = enrolment
    code, output, _ = run_intake(
        "trust", directory, "--fingerprint", spoken.upper(), "--config", node.config, "--json"
    )
    assert code == 0
    report = json.loads(output)
    assert len(report.pop("words").split()) == 12
    assert report == {
        "fingerprint": spoken,
        "node": "shop-t",
        "roll": 1,
        "batch_keys": 4,
        "replaced": None,
    }
    assert (node.state / "trusted.pub").exists()
    assert run_intake("trust", directory, "--fingerprint", spoken, "--config", node.config)[0] == 0


def test_trust_with_another_fingerprint_installs_nothing(
    new_node: NewNode, run_intake: RunIntake, enrolment: tuple[Path, str, OfflineSide]
) -> None:
    node = new_node().configure()
    code, output, _ = run_intake(
        "trust", enrolment[0], "--fingerprint", "0000-" * 7 + "0000", "--config", node.config, "--json"
    )
    assert code == 4
    assert json.loads(output)["rule"] == "TRUST-FINGERPRINT"
    assert not node.state.exists()


@pytest.mark.parametrize(("typed", "code"), [("hex", 0), ("words", 0), ("y", 4), ("wrong", 4), ("", 2)])
def test_trust_shows_the_fingerprint_and_has_it_typed(
    new_node: NewNode,
    run_intake: RunIntake,
    enrolment: tuple[Path, str, OfflineSide],
    typed: str,
    code: int,
) -> None:
    node = new_node().configure()
    directory, spoken, offline = enrolment
    forms = {"hex": spoken.upper(), "words": words(offline.public.public_key), "wrong": "0000-" * 7 + "0000"}
    line = forms.get(typed, typed)
    done, _, errors = run_intake("trust", directory, "--config", node.config, typed=line and line + "\n")
    assert done == code
    assert spoken in errors
    assert words(offline.public.public_key) in errors
    assert ("USAGE-FINGERPRINT" in errors) == (typed == "")  # nobody is there
    assert (node.state / "trusted.pub").exists() == (code == 0)


def test_another_identity_is_trusted_only_when_asked_to_replace_it(
    new_node: NewNode, run_intake: RunIntake, tmp_path: Path
) -> None:
    node = new_node().configure().enrol(3)
    other = OfflineSide()
    directory = other.enrolment(tmp_path / "again", other.roll(6))
    spoken = words(other.public.public_key)
    arguments = ("trust", directory, "--config", node.config, "--json", "--fingerprint")
    code, output, _ = run_intake(*arguments, spoken)
    assert (code, json.loads(output)["rule"]) == (4, "TRUST-PINNED")
    code, output, _ = run_intake(*arguments, "0000", "--replace")
    assert (code, json.loads(output)["rule"]) == (4, "TRUST-FINGERPRINT")
    assert trust.load_identity(node.state).public_key == node.offline.public.public_key
    code, output, errors = run_intake(*arguments, spoken, "--replace")
    report = json.loads(output)
    assert (code, report["batch_keys"]) == (0, 6)
    assert report["fingerprint"] == fingerprint(other.public.public_key)
    assert report["replaced"] == fingerprint(node.offline.public.public_key)
    assert "What changes" in errors
    assert json.loads(run_intake(*arguments, spoken, "--replace")[1])["replaced"] is None
    assert json.loads(run_intake("status", "--config", node.config, "--json")[1])["keys_left"] == 6


def test_a_running_intake_drops_the_keys_of_an_identity_that_was_replaced(
    new_node: NewNode, run_intake: RunIntake, tmp_path: Path
) -> None:
    node = new_node().configure().enrol(3).start()
    before = node.get("/keys").json
    other = OfflineSide()
    directory = other.enrolment(tmp_path / "again", other.roll(6))
    spoken = fingerprint(other.public.public_key)
    run_intake("trust", directory, "--config", node.config, "--fingerprint", spoken, "--replace")
    after = node.get("/keys").json
    assert after["order_key"]["public_key"] == other.order_key.public_key.encode().hex()
    assert after["order_key"]["public_key"] != before["order_key"]["public_key"]
    # The old identity's roll comes back, as whoever stole its key could bring it: nothing is sealed to it.
    (node.state / "keyroll.json").write_bytes(node.offline.roll(3))
    assert node.get("/keys").json == after
    (node.state / "keyroll.json").unlink()
    (node.state / "trusted.pub").write_text(node.offline.public.encode())
    problem(node.get("/keys"), 503, "INTAKE-KEYS-OUT")


def test_sample_posts_orders_of_every_kind_and_writes_receipts(
    new_node: NewNode, run_intake: RunIntake
) -> None:
    node = new_node().configure().enrol(3).start()
    receipts = node.root / "receipts.json"
    code, output, errors = run_intake("sample", "--url", node.url, "--count", 40, "--receipts", receipts)
    assert (code, errors) == (0, "")
    total = output.splitlines()[0]
    assert re.fullmatch(r"40 orders: (?:[A-Z]{3} \d+(?:\.\d{2,3})?(?:, )?)+", total)
    assert {"EUR", "JPY", "KWD"} <= set(re.findall("[A-Z]{3}", total))
    document = json.loads(receipts.read_bytes())
    assert document["control_total"] == total
    assert {order["order_id"] for order in document["orders"]} == stored(node).keys()
    assert not CARD_DATA.search(receipts.read_text())
    assert receipts.stat().st_mode & 0o777 == 0o600
    one = document["orders"][0]
    path = one["url"].removeprefix(node.url)
    assert node.get(path, Authorization=f"Bearer {one['access_token']}").json["status"] == "received"


def test_sample_can_be_repeated_and_has_a_report_for_scripts(
    new_node: NewNode, run_intake: RunIntake
) -> None:
    node = new_node().configure().enrol(3).start()
    arguments = ("sample", "--url", node.url, "--count", 5, "--seed", 7, "--json")
    first, second = run_intake(*arguments), run_intake(*arguments)
    assert json.loads(first[1]) == json.loads(second[1])
    assert json.loads(first[1])["orders"] == 5
    assert len(stored(node)) == 10


def test_sample_says_plainly_when_no_intake_answers(run_intake: RunIntake) -> None:
    code, output, _ = run_intake("sample", "--url", "http://127.0.0.1:9", "--json")
    assert code == 4
    assert json.loads(output)["rule"] == "SAMPLE-SERVER"
    code, output, _ = run_intake("sample", "--url", "ftp://x", "--json")
    assert (code, json.loads(output)["rule"]) == (2, "USAGE-URL")


def test_sample_says_plainly_when_orders_are_refused(new_node: NewNode, run_intake: RunIntake) -> None:
    node = new_node().configure().start()
    code, output, _ = run_intake("sample", "--url", node.url, "--json")
    assert (code, json.loads(output)["rule"]) == (4, "SAMPLE-REFUSED")
    assert "INTAKE-KEYS-OUT" in json.loads(output)["message"]


def test_status_and_orders_for_the_staff(new_node: NewNode, run_intake: RunIntake) -> None:
    node = new_node().configure().enrol(8).start()
    assert run_intake("orders", "--config", node.config)[0] == 5
    run_intake("sample", "--url", node.url, "--count", 3)
    code, output, _ = run_intake("status", "--config", node.config, "--json")
    assert code == 0
    report = json.loads(output)
    trusted = report.pop("trusted")
    assert trusted["fingerprint"] == fingerprint(node.offline.public.public_key)
    assert trusted["words"] == words(node.offline.public.public_key)
    assert report == {
        "node": "shop-t",
        "ready": True,
        "keys_left": 8,
        "reasons": [],
        "warnings": [],
        "notices": [],
        "orders": {"received": 3},
    }
    code, output, _ = run_intake("orders", "--config", node.config, "--json")
    orders = json.loads(output)["orders"]
    assert code == 0
    assert {order["order_id"] for order in orders} == stored(node).keys()
    assert (
        json.loads(run_intake("orders", "--config", node.config, "--state", "paid", "--json")[1])["orders"]
        == []
    )
    table = run_intake("orders", "--config", node.config)[1]
    assert all(order["order_id"] in table for order in orders)
    assert "8 batch keys left" in run_intake("status", "--config", node.config)[1]


def test_status_before_anything_says_what_to_do(new_node: NewNode, run_intake: RunIntake) -> None:
    node = new_node().configure()
    code, output, _ = run_intake("status", "--config", node.config, "--json")
    assert code == 3
    report = json.loads(output)
    assert not report["ready"]
    assert "intake trust" in report["reasons"][0]
    code, output, _ = run_intake("orders", "--config", node.config, "--json")
    assert (code, json.loads(output)["rule"]) == (2, "CONFIG-STATE")


def test_a_second_intake_on_the_same_port_is_refused(new_node: NewNode, run_intake: RunIntake) -> None:
    node = new_node().configure().enrol().start()
    code, output, _ = run_intake("serve", "--config", node.config, "--json")
    assert (code, json.loads(output)["rule"]) == (2, "CONFIG-BIND")
    assert node.get("/livez").status == 200


def test_a_damaged_token_key_is_not_replaced(new_node: NewNode, run_intake: RunIntake) -> None:
    node = new_node().configure().enrol()
    (node.state / "token.key").write_bytes(b"short")
    code, output, _ = run_intake("serve", "--config", node.config, "--json")
    assert (code, json.loads(output)["rule"]) == (4, "INTAKE-TOKEN-KEY")
    assert (node.state / "token.key").read_bytes() == b"short"


def test_trust_says_what_is_missing(new_node: NewNode, run_intake: RunIntake, tmp_path: Path) -> None:
    node = new_node().configure()
    code, output, _ = run_intake("trust", tmp_path, "--config", node.config, "--json")
    assert (code, json.loads(output)["rule"]) == (4, "TRUST-FILES")


def at_work(process: int) -> bool:
    """False for one that has ended, also while nobody has asked yet how it ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_workers_end_with_the_process_that_started_them(new_node: NewNode) -> None:
    node = new_node().configure(workers=2).enrol().start()
    assert node.process is not None
    workers = workers_of(node)
    assert len(workers) == 2, workers
    node.process.kill()
    node.process.wait()
    end = time.monotonic() + 10
    while any(map(at_work, workers)):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_status_names_letters_that_nobody_sees_to(new_node: NewNode, run_intake: RunIntake) -> None:
    node = new_node().configure().enrol(40)
    now = int(time.time())
    subscribers = open_subscribers(node.state, random=bytes)
    desk = EnquiryDesk(node.state, random=bytes)

    def rules() -> set[str]:
        _, output, _ = run_intake("status", "--config", node.config, "--json")
        return {notice["rule"] for notice in json.loads(output)["notices"]}

    young, old = (Question(name="N", email="late@example.org", text=text) for text in ("Hej", "Hallo"))
    desk.receive(young, now=now - 86_400)
    subscribers.ask("late@example.org", words="", now=now - 60)
    before = rules()
    assert not before & {"NEWSLETTER-UNSENT", "ENQUIRY-WAITING"}
    with subscribers.file.transaction() as connection:
        connection.execute("UPDATE subscriber SET asked_at = ?", (now - 3700,))
    desk.erase("AAAA-AAAA")  # the number that this desk gives to all
    desk.receive(old, now=now - 4 * 86_400)
    code, output, _ = run_intake("status", "--config", node.config)
    assert code == 3
    assert rules() - before == {"NEWSLETTER-UNSENT", "ENQUIRY-WAITING"}
    assert "late@" not in output
    subscribers.file.close()
    desk.close()
