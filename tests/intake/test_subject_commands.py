"""`intake subject` and `intake retention`: what a person asks is sealed at once, sent, listed, and over in its time."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from nacl.public import SealedBox

from intake.config import IntakeConfig
from intake.enquiries.desk import EnquiryDesk
from intake.enquiries.form import Question
from intake.newsletter.place import open_subscribers
from intake.newsletter.subscribers import PENDING_DAYS
from tests.intake.node import Node
from transfer.register import Register
from transfer.retention import RULES, Kept
from transfer.subject_outbox import SubjectOutbox
from transfer.wire.envelope import decode_envelope
from transfer.wire.order import decode_subject_request
from transfer.wire.records import SubjectAnswer, SubjectState

NewNode = Callable[[], Node]
Run = Callable[..., tuple[int, str, str]]
ADDRESS = "Asa.Oelund@example.org"
ORDER = "0123456789abcdef" * 2


def raw_bytes(place: Path) -> bytes:
    return b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())


def ask(run_intake: Run, node: Node, kind: str, *more: str, typed: str = ADDRESS) -> str:
    code, out, err = run_intake(
        "subject", "ask", kind, *more, "--config", node.config, "--json", typed=typed + "\n"
    )
    assert code == 0, err
    return str(json.loads(out)["request"])


def test_request_is_sealed_to_the_offline_side_and_leaves_no_address_here(
    new_node: NewNode, run_intake: Run
) -> None:
    node = new_node().configure().enrol(2)
    request = ask(run_intake, node, "erase", "--order", ORDER)
    (waiting,) = SubjectOutbox(root=node.state / "subjects").waiting()
    assert waiting.name == request
    box = decode_envelope(waiting.read_bytes()).order_box
    asked = decode_subject_request(SealedBox(node.offline.order_key).decrypt(box))
    assert (asked.request, asked.email, asked.orders) == ("erase", ADDRESS, [ORDER])
    assert ADDRESS.lower().encode() not in raw_bytes(node.state).lower()
    assert ADDRESS.encode() in asked.email.encode()  # the search above would have found it
    code, out, _ = run_intake("subject", "list", "--config", node.config, "--json")
    (listed,) = json.loads(out)["requests"]
    assert (code, listed["request"], listed["kind"], listed["state"]) == (0, request, "erase", "waiting")


def test_what_cannot_be_asked_is_refused(new_node: NewNode, run_intake: Run) -> None:
    node = new_node().configure().enrol(2)
    for arguments, typed, rule in (
        (("restrict", "--order", "nothing"), ADDRESS, "USAGE-ORDER"),
        (("restrict",), "no address", "USAGE-ADDRESS"),
        (("export",), ADDRESS, "USAGE-OUT"),
        (("export", "--out", str(node.config)), ADDRESS, "USAGE-OUT"),
    ):
        code, out, _ = run_intake(
            "subject", "ask", *arguments, "--config", node.config, "--json", typed=f"{typed}\n"
        )
        assert (code, json.loads(out)["rule"]) == (2, rule)
    bare = new_node().configure()
    code, out, _ = run_intake(
        "subject", "ask", "erase", "--config", bare.config, "--json", typed=f"{ADDRESS}\n"
    )
    assert code != 0
    assert not SubjectOutbox(root=bare.state / "subjects").waiting()


def test_copy_and_erasure_cover_what_this_side_keeps(
    new_node: NewNode, run_intake: Run, tmp_path: Path
) -> None:
    node = new_node().configure().enrol(2)
    now, mine, others = int(time.time()), "asa.oelund@example.org", "other@example.org"
    desk = EnquiryDesk(node.state, random=os.urandom)
    subscribers = open_subscribers(node.state, random=os.urandom)
    for address in (mine, others):
        question = Question(name="N", email=address, order="", postcode="", text=f"a question of {address}")
        assert desk.receive(question, now=now)
        subscribers.ask(address, words="yes", now=now)
    out = tmp_path / "theirs.json"
    ask(run_intake, node, "export", "--out", str(out))
    kept = json.loads(out.read_bytes())
    assert [enquiry["text"] for enquiry in kept["enquiries"]] == [f"a question of {mine}"]
    assert kept["newsletter"]["asked_at"] == now
    assert others not in out.read_text()
    assert out.stat().st_mode & 0o077 == 0
    code, answer, _ = run_intake(
        "subject", "ask", "erase", "--config", node.config, "--json", typed=f"{ADDRESS}\n"
    )
    assert (code, json.loads(answer)["erased_here"]) == (0, {"newsletter": 1, "enquiry": 1})
    desk.close()
    subscribers.file.close()
    found = raw_bytes(node.state).lower()
    assert mine.encode() not in found
    assert others.encode() in found  # the positive control


def test_sealed_request_is_kept_for_a_restore_and_goes_when_its_time_is_over(
    new_node: NewNode, run_intake: Run
) -> None:
    node = new_node().configure().enrol(2)
    old, new = ask(run_intake, node, "erase"), ask(run_intake, node, "restrict")
    outbox = SubjectOutbox(root=node.state / "subjects")
    outbox.mark_sent(outbox.waiting())
    now = int(time.time())
    times = {old: now - RULES[Kept.SEALED_SUBJECT].seconds - 60, new: now}
    register = Register(node.state / "register.db")
    register.take_answers(
        SubjectAnswer(request=request, state=SubjectState.DONE, changed_at=at)
        for request, at in times.items()
    )
    register.close()
    for dry, left in ((("--dry-run",), {old, new}), ((), {new})):
        code, out, _ = run_intake("retention", "run", *dry, "--config", node.config, "--json")
        assert (code, json.loads(out)["erased"]["sealed-subject"]) == (0, 1)
        assert {path.name for path in outbox.sent()} == left
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    code, out, _ = run_intake("subject", "resend", "--since", day, "--config", node.config, "--json")
    assert (code, json.loads(out)["again"]) == (0, [new])
    assert [path.name for path in outbox.waiting()] == [new]


def test_schedule_and_settings_say_the_same() -> None:
    assert RULES[Kept.ENQUIRY].days == IntakeConfig().enquiry_days
    assert f"{PENDING_DAYS} days" in RULES[Kept.NEWSLETTER].kept
