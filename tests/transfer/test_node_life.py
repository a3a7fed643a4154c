"""A node's own life: a new identity, the end, a restored offline side, and what is said of it all."""

from __future__ import annotations

from pathlib import Path

import pytest

from keys.errors import RuleError
from keys.keyfile import read_header
from keys.public.roll import Role
from tests.transfer.house import NODE, NOW, House, batch_key_id, fixed_key, order_id
from tests.transfer.test_cli import Desk, desk, enrolled
from tests.transfer.test_crash import sweep
from tests.transfer.test_pull import shown, status
from transfer.sync.notices import KeyFacts, of_clock, of_keys
from transfer.sync.retired import RetireReport, load_retired, retire
from transfer.sync.revoked import revoked_keys
from transfer.sync.signing import activate_identity, next_identity
from transfer.sync.status import look
from transfer.sync.trust import load_roll, node_identity
from transfer.wire.manifest import MANIFEST_NAME, SIGNATURE_NAME
from transfer.wire.records import StatusState

__all__ = ["desk", "enrolled"]
DAY = 86_400


def notices(house: House, now: int = NOW) -> dict[str, str]:
    return {notice.rule: notice.message for notice in look(house.node, house.register, now=now).notices}


def retire_it(house: House, *, lost: bool = False) -> RetireReport:
    with house.node.alone():
        return retire(house.node, house.register, now=NOW, lost=lost)


# Retiring.


def test_a_node_with_orders_in_its_spool_is_not_retired(house: House) -> None:
    house.take([1, 2])
    with pytest.raises(RuleError) as caught:
        retire_it(house)
    assert caught.value.rule == "RETIRE-WAITING"
    assert order_id(1) in caught.value.message
    assert load_retired(house.node.state) is None
    assert house.take([3])


def test_a_retired_node_names_what_has_no_receipt_and_still_delivers_it(house: House) -> None:
    house.take([1, 2])
    house.push()
    house.take([3])
    house.push()
    house.give_return([house.receipt(1)], accepted=1)
    house.pull()
    report = retire_it(house)
    assert [(bundle.sequence, bundle.orders) for bundle in report.bundles] == [(2, [order_id(3)])]
    assert (report.uncut, report.missing, report.open_orders) == ([], [], 1)
    before = (house.unit(2) / MANIFEST_NAME).read_bytes()
    for path in house.unit(2).iterdir():
        path.unlink()
    house.unit(2).rmdir()
    pushed = house.push(empty=True)
    assert (pushed.written, pushed.cut) == (["b00000002"], [])
    assert (house.unit(2) / MANIFEST_NAME).read_bytes() == before
    house.give_return([house.receipt(1), house.receipt(2)], accepted=2)
    assert house.pull().receipts == [2]
    assert retire_it(house).open_orders == 0
    assert "NODE-RETIRED" in notices(house)


def test_a_retired_node_begins_no_group_on_any_key(house: House) -> None:
    retire_it(house)
    for key in range(1, 6):
        assert house.spool.open_group(batch_key_id(key)) is None


def test_an_order_that_slips_in_at_the_last_moment_is_named_and_delivered(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker stores a group between the look at the spool and the mark."""
    honest = "transfer.sync.retired.write_durable"

    def slow(path: Path, data: bytes) -> None:
        house.take([7])
        path.write_bytes(data)

    monkeypatch.setattr(honest, slow)
    report = retire_it(house)
    assert report.uncut == [order_id(7)]
    assert house.push().cut[0].orders == 1
    assert house.carried(1) == [order_id(7)]


def test_an_old_copy_is_closed_as_it_is_and_cuts_nothing(house: House) -> None:
    house.take([1, 2])
    house.push()
    house.take([3])
    report = retire_it(house, lost=True)
    assert [bundle.sequence for bundle in report.bundles] == [1]
    assert report.uncut == [order_id(3)]
    assert house.push().cut == []
    assert retire_it(house) == report
    house.give_return([house.receipt(1)], accepted=1)
    house.pull()
    assert retire_it(house).bundles == []


def test_a_mark_that_cannot_be_read_closes_the_node(house: House) -> None:
    (house.node.state / "retired.json").write_bytes(b"{")
    retired = load_retired(house.node.state)
    assert retired is not None
    assert retired.lost


def test_retiring_survives_death_at_any_step(tmp_path: Path) -> None:
    template = House(root=tmp_path / "template", identity=fixed_key(1), node_key=fixed_key(2))
    template.take([1], key=1)
    template.push()
    template.take([2], key=2)
    template.close()

    def check(house: House) -> None:
        report = retire_it(house, lost=True)
        assert ([bundle.orders for bundle in report.bundles], report.uncut) == (
            [[order_id(1)]],
            [order_id(2)],
        )
        assert house.spool.open_group(batch_key_id(3)) is None

    assert sweep(tmp_path / "template", tmp_path, lambda house: retire_it(house, lost=True), check) > 10


# The node's own identity.


def test_a_new_identity_is_made_then_activated_and_the_old_key_is_gone(desk: Desk) -> None:
    state = desk.house.node.state
    old, old_file = node_identity(state), (state / "identity.key").read_bytes()
    desk.house.take([1])
    desk.report("push")
    signed = {
        name: (desk.house.node.bundle(1) / name).read_bytes() for name in (MANIFEST_NAME, SIGNATURE_NAME)
    }
    made = desk.report("rotate-identity")
    assert desk.report("rotate-identity")["fingerprint"] == made["fingerprint"]
    assert (made["active"], len(made["words"].split())) == (False, 12)
    assert node_identity(state) == old
    desk.house.take([2])
    desk.report("push")
    assert desk.report("status", code=3)["next_fingerprint"] == made["fingerprint"]
    kept_open = (state / "identity.key").open("rb")
    active = desk.report("rotate-identity", "--activate")
    assert (active["active"], active["fingerprint"]) == (True, made["fingerprint"])
    assert node_identity(state) != old
    assert kept_open.read() != old_file  # overwritten, not only unlinked
    kept_open.close()
    assert not any(old_file[:200] in path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert {path.name for path in state.glob("identity*")} == {
        "identity.key",
        "identity.pub",
        "identity.former",
    }
    desk.house.take([3])
    desk.report("push")
    assert all((desk.house.node.bundle(1) / name).read_bytes() == content for name, content in signed.items())
    assert desk.report("rotate-identity", "--activate", code=4)["rule"] == "ROTATE-NONE"


def test_what_does_not_exist_is_not_activated(desk: Desk) -> None:
    assert desk.report("rotate-identity", "--activate", code=4)["rule"] == "ROTATE-NONE"
    before = desk.house.node.state.joinpath("identity.key").read_bytes()
    desk.report("rotate-identity")
    (desk.house.node.state / "identity.next.key").unlink()
    assert desk.report("rotate-identity", "--activate", code=4)["rule"] == "NODE-IDENTITY"
    assert desk.house.node.state.joinpath("identity.key").read_bytes() == before


def test_a_push_amid_an_interrupted_activation_says_how_to_go_on(desk: Desk) -> None:
    desk.report("rotate-identity")
    state = desk.house.node.state
    (state / "identity.spent.key").hardlink_to(state / "identity.key")
    (state / "identity.next.key").rename(state / "identity.key")
    desk.house.take([1])
    for verb in ("push", "rotate-identity"):
        report = desk.report(verb, code=4)
        assert report["rule"] == "ROTATE-UNFINISHED"
        assert "--activate" in report["remedy"]
    desk.report("rotate-identity", "--activate")
    assert desk.report("push")["cut"][0]["orders"] == 1


def test_a_bundle_of_an_identity_before_is_still_known_as_this_node_s(desk: Desk) -> None:
    desk.house.take([1])
    desk.report("push")
    desk.report("rotate-identity")
    desk.report("rotate-identity", "--activate")
    for name in ("register.db", "register.db-wal", "register.db-shm"):
        (desk.house.node.state / name).unlink(missing_ok=True)
    for path in desk.house.node.bundle(1).iterdir():
        path.unlink()
    desk.house.node.bundle(1).rmdir()
    assert desk.report("push", code=4)["rule"] == "NODE-BEHIND"


def test_an_activation_that_dies_anywhere_is_completed_by_the_next(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = desk.house.root
    how = {"passphrase_file": root / "passphrase", "descriptor": None}
    following = next_identity(root / "state", **how)  # type: ignore[arg-type]
    desk.house.close()
    old_file = (root / "state" / "identity.key").read_bytes()

    def act(house: House) -> None:
        activate_identity(house.node.state, **how)  # type: ignore[arg-type]

    def check(house: House) -> None:
        state = house.node.state
        finished = not (state / "identity.next.pub").exists() and not (state / "identity.spent.key").exists()
        if not finished:
            act(house)
        assert node_identity(state) == following
        assert read_header(state / "identity.key").public_key == following.public_key.hex()
        assert not any(old_file[:200] in path.read_bytes() for path in state.glob("identity*"))
        assert {path.name for path in state.glob("identity*")} == {
            "identity.key",
            "identity.pub",
            "identity.former",
        }

    assert sweep(root, tmp_path / "sweep", act, check) > 8
    desk.house.open()


# Revoked for ever.


def test_a_later_roll_does_not_bring_a_revoked_key_back(house: House) -> None:
    house.give_return(
        [house.revocation(Role.BATCH, batch_key_id(2)), house.revocation(Role.ORDER, bytes(16))]
    )
    assert house.pull().revoked == 2
    for _ in range(3):
        house.give_return()
        house.pull()
        roll = load_roll(house.node.state, node=NODE)
        assert {entry.number for entry in roll.batch_keys} == {1, 3, 4, 5}
    assert revoked_keys(house.node.state) == {batch_key_id(2), bytes(16)}
    group = house.spool.open_current(load_roll(house.node.state, node=NODE), NOW)
    assert group is not None
    assert group.batch_key_id == batch_key_id(1)
    group.abandon()


def test_orders_that_a_revoked_key_already_holds_are_still_delivered(house: House) -> None:
    house.take([1, 2], key=2)
    house.give_return([house.revocation(Role.BATCH, batch_key_id(2))])
    house.pull()
    assert house.push().cut[0].orders == 2


# The chain of rolls.


def test_a_break_in_the_chain_of_rolls_is_a_finding_and_no_refusal(house: House) -> None:
    house.give_return(roll=house.roll(2, prev="77" * 32))
    report = house.pull()
    assert report.taken
    assert "ROLL-CHAIN" in report.findings[0]
    assert "ROLL-CHAIN" in notices(house)
    assert load_roll(house.node.state, node=NODE).number == 2
    house.roll_number = 2
    house.give_return()
    assert house.pull().findings == []
    assert "ROLL-CHAIN" not in notices(house)
    house.give_return(roll=house.roll(9, prev="77" * 32))  # rolls between that this node never saw
    assert house.pull().findings == []


# After the offline side was restored.


def test_after_a_restore_orders_that_no_return_tells_of_are_named(house: House) -> None:
    house.take(range(5))
    house.push()
    house.give_return(
        [house.receipt(1), status(0), status(1, StatusState.HELD), status(2, StatusState.HELD)], accepted=1
    )
    house.pull()
    house.give_return(
        [status(1, StatusState.ORDER_AGAIN)], accepted=1, epoch=2, number=1, roll=house.roll(1, epoch=2)
    )
    report = house.pull()
    assert report.untold == [order_id(2), order_id(3), order_id(4)]
    assert "EPOCH-UNTOLD" in report.findings[0]
    assert "EPOCH-UNTOLD" in notices(house)
    house.give_return([status(2), status(3, StatusState.HELD), status(4)], accepted=1, epoch=2, number=2)
    assert house.pull().untold == []
    assert "EPOCH-UNTOLD" not in notices(house)


@pytest.mark.parametrize("now_said", [StatusState.ORDER_AGAIN, StatusState.DECLINED])
def test_nobody_who_was_told_paid_is_told_to_order_again(house: House, now_said: StatusState) -> None:
    """A restore whose report missed a charge would have the customer pay twice."""
    house.take([0, 1, 2])
    house.push()
    house.give_return([house.receipt(1), status(0), status(1, StatusState.HELD)], accepted=1)
    house.pull()
    later = [status(0, now_said), status(1, now_said), status(2, now_said)]
    house.give_return(later, accepted=1, epoch=2, number=1, roll=house.roll(1, epoch=2))
    report = house.pull()
    (finding,) = [text for text in report.findings if text.startswith("STATUS-BACK")]
    assert order_id(0) in finding
    assert order_id(1) not in finding
    assert [shown(house, number) for number in range(3)] == ["paid", now_said, now_said]
    assert finding in look(house.node, house.register, now=NOW).findings


def test_statuses_of_the_new_epoch_win_over_old_ones_whatever_the_medium_brings_later(house: House) -> None:
    house.take([1])
    house.push()
    house.give_return([house.receipt(1), status(1, StatusState.PAID)], accepted=1, number=7)
    house.pull()
    house.give_return(
        [status(1, StatusState.HELD)], accepted=1, epoch=2, number=1, roll=house.roll(1, epoch=2)
    )
    house.pull()
    assert shown(house, 1) == "held"
    house.give_return([status(1, StatusState.PAID)], accepted=1, number=9)
    assert house.pull().taken is None
    assert shown(house, 1) == "held"


# What is said.

FINE = KeyFacts(order_ends=(NOW + 90 * DAY,), unused_ends=(NOW + 10 * DAY,) * 9, heard_at=NOW)


def test_a_node_that_lacks_nothing_has_no_notice() -> None:
    assert of_keys(FINE, NOW) + of_clock(FINE, NOW) == []


@pytest.mark.parametrize(
    ("facts", "rule", "stops"),
    [
        (KeyFacts(order_ends=FINE.order_ends, unused_ends=(), heard_at=NOW), "KEYS-OUT", True),
        (KeyFacts(order_ends=FINE.order_ends, unused_ends=(NOW,) * 9, heard_at=NOW), "KEYS-OUT", True),
        (
            KeyFacts(order_ends=FINE.order_ends, unused_ends=(NOW + 9 * DAY,) * 4, heard_at=NOW),
            "KEYS-LOW",
            False,
        ),
        (
            KeyFacts(order_ends=FINE.order_ends, unused_ends=(NOW + DAY,) * 9, heard_at=NOW),
            "KEYS-EXPIRING",
            False,
        ),
        (KeyFacts(order_ends=(), unused_ends=FINE.unused_ends, heard_at=NOW), "ORDER-KEY-EXPIRED", True),
        (KeyFacts(order_ends=(NOW,), unused_ends=FINE.unused_ends, heard_at=NOW), "ORDER-KEY-EXPIRED", True),
        (
            KeyFacts(order_ends=(NOW + 1,), unused_ends=FINE.unused_ends, heard_at=NOW),
            "ORDER-KEY-EXPIRING",
            False,
        ),
    ],
)
def test_what_ends_is_said_by_its_rule_with_a_remedy(facts: KeyFacts, rule: str, stops: bool) -> None:
    (notice,) = of_keys(facts, NOW)
    assert (notice.rule, notice.stops) == (rule, stops)
    assert notice.message
    assert notice.remedy


@pytest.mark.parametrize(
    ("heard_at", "doubted"),
    [
        (0, False),
        (NOW, False),
        (NOW + 300, False),
        (NOW + 301, True),
        (NOW - 30 * DAY, False),
        (NOW - 31 * DAY, True),
    ],
)
def test_a_clock_is_doubted_when_the_offline_side_contradicts_it(heard_at: int, doubted: bool) -> None:
    found = of_clock(KeyFacts(heard_at=heard_at), NOW)
    assert [notice.rule for notice in found] == (["CLOCK-DOUBT"] if doubted else [])
    assert not any(notice.stops for notice in found)


def test_the_newest_return_s_time_counts_for_the_clock(house: House) -> None:
    house.give_return(time=NOW + 2 * 3600)
    house.pull()
    assert "CLOCK-DOUBT" in notices(house)
    assert "CLOCK-DOUBT" not in notices(house, NOW + 2 * 3600)


def test_a_bundle_that_waits_long_for_its_receipt_is_said(house: House) -> None:
    house.take([1])
    house.push()
    assert "BUNDLE-LATE" not in notices(house, NOW + 6 * DAY)
    assert "BUNDLE-LATE" in notices(house, NOW + 8 * DAY)


def test_retire_for_a_script_and_a_person(desk: Desk) -> None:
    desk.house.take([1])
    assert desk.report("retire", code=4)["rule"] == "RETIRE-WAITING"
    report = desk.report("retire", "--lost", code=3)
    assert (report["uncut"], report["open_orders"], report["lost"]) == ([order_id(1)], 1, True)
    shown_to_person = desk.run("retire", "--lost")
    assert shown_to_person.returncode == 3
    assert order_id(1) in shown_to_person.stderr
    assert "order again" in shown_to_person.stderr
    seen = desk.report("status", code=3)
    assert seen["retired"]["lost"] is True
    assert seen["keys_left"] == 0
    assert {notice["rule"] for notice in seen["notices"]} == {"NODE-RETIRED"}


def test_status_tells_whom_the_node_trusts(desk: Desk) -> None:
    desk.house.give_return([desk.house.handover(fixed_key(20))])
    pulled = desk.report("pull")
    assert pulled["handover"] == "announced"
    seen = desk.report("status", code=3)
    assert len(seen["trusted"]["words"].split()) == 12
    assert seen["trusted"]["successor"]
    assert "HANDOVER-PENDING" in {notice["rule"] for notice in seen["notices"]}
    person = desk.run("status")
    assert "What to do:" in person.stderr
    assert seen["trusted"]["fingerprint"] in person.stdout
