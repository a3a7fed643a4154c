"""CEREMONY.toml: strict, whole, and refused before anything happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.ceremony_file import check_people, parse_plan, read_plan
from keys.ceremony_steps import StepKind, steps_of
from keys.errors import KeysError
from keys.private.sign import generate_signing_key
from keys.ring_index import RingBackend
from tests.keys.ceremony_play import PLAN, write_plan

BASE = Path("/ceremony")


@pytest.fixture
def good(tmp_path: Path) -> str:
    return write_plan(tmp_path).read_text(encoding="utf-8")


def rule_of(text: str) -> str | None:
    try:
        check_people(parse_plan(text.encode(), BASE))
    except KeysError as error:
        return error.rule if "no key was touched" in error.remedy else "no remedy"
    return None


def test_good_file_is_taken_with_paths_beside_it(good: str) -> None:
    plan = parse_plan(good.encode(), BASE)
    assert (plan.keystore.path, plan.output) == (BASE / "keystore", BASE / "ceremony")
    assert plan.keystore.ring_secret is RingBackend.FILE
    assert plan.passphrase_holders == ("Ben", "Cleo")
    assert rule_of(good) is None
    assert rule_of(good.replace("Eve", "Zoë")) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('title = "First', 'titel = "First'),
        ("rehearsal = true", "rehearsal = 1"),
        ("rehearsal = true", ""),  # nobody holds a real one because a line was forgotten
        ("format = 1", "format = 2"),
        ("passphrases = 2", "passphrases = 3"),
        ("passphrases = 2", 'passphrases = "2"'),
        ('path = "keystore"', 'path = ""'),
        ('path = "keystore"', 'path = "keystore"\nring_secret = "paper"'),
        ('path = "keystore"', 'path = "ceremony/keystore"\n'),
        ("threshold = 3", "threshold = 1"),
        ("threshold = 3", "threshold = 17"),
        ('place = "back office"', 'place = "back\\u001b[2Joffice"'),
        ('place = "back office"', 'place = ""'),
        ('roles = ["custodian"]', 'roles = ["thief"]'),
        ('roles = ["custodian"]', "roles = []"),
        ("[custody]", "[cryptoperiods]\norder_seal = 400\n[custody]"),
        ("[custody]", "[cryptoperiods]\norder_destroy = 731\n[custody]"),
        ("[custody]", "[cryptoperiods]\nbatch_destroy = 91\n[custody]"),
        ("[custody]", "[cryptoperiods]\nbatch_seal = 28\n[custody]"),
        ("[custody]", "[cryptoperiods]\nbatch_seal = 0\n[custody]"),
        ("[custody]", "[custody"),
        ("[custody]", "accept = true\n[custody]"),
    ],
)
def test_wrong_file_is_refused(tmp_path: Path, good: str, old: str, new: str) -> None:
    assert old in good
    plan = tmp_path / "CEREMONY.toml"
    plan.write_text(good.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(KeysError) as refusal:
        read_plan(plan)
    assert refusal.value.rule == "CEREMONY-FILE"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"Dan", "Eve"]', '"Dan", "Dan"]'),
        ('"Dan", "Eve"]', '"Dan"]'),
        ('"Dan", "Eve"]', '"Dan", "Mallory"]'),
        ('name = "Eve"', 'name = "eve"'),
        ('name = "Eve"', 'name = "Dan"'),
        ("threshold = 3", "threshold = 6"),
        ('"administrator", "custodian"', '"custodian"'),
        ('"operator", "custodian", "witness"', '"operator", "custodian"'),
        ('"operator", "custodian", "witness"', '"custodian", "witness"'),
        ('"administrator", "custodian"', '"administrator", "administrator", "custodian"'),
    ],
)
def test_people_who_do_not_fit_are_refused(good: str, old: str, new: str) -> None:
    assert old in good
    assert rule_of(good.replace(old, new, 1)) == "CEREMONY-PEOPLE"


def test_witness_is_somebody_else_than_the_administrator(good: str) -> None:
    alone = good.replace('"operator", "custodian", "witness"', '"operator", "custodian"')
    assert rule_of(alone.replace('"administrator"', '"administrator", "witness"')) == "CEREMONY-PEOPLE"


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        (
            "threshold = 3",
            'threshold = "3"',
            "custody.threshold: a whole number is wanted, not text in quotes",
        ),
        ("threshold = 3", "threshold = 1", "custody.threshold: at least 2"),
        ("passphrases = 2", "passphrases = 7", "passphrases: at most 2"),
        ("title =", "titel =", "titel is not a field of it"),
        ("rehearsal = true\n", "", "rehearsal is missing"),
        ('name = "Dan"', 'name = ""', "people 4.name: at least 1 character"),
        (
            'name = "Dan"\nroles = ["custodian"]',
            'name = "Dan"\nroles = ["boss"]',
            "people 4.roles 1: 'boss' is not allowed; allowed are administrator, operator, custodian, witness",
        ),
        (
            'path = "keystore"\n',
            'path = "keystore"\nring_secret = "usb"\n',
            "keystore.ring_secret: 'usb' is not allowed; allowed are file, tpm",
        ),
    ],
)
def test_refusal_names_the_field_and_what_is_allowed(was: str, becomes: str, says: str) -> None:
    text = PLAN.format(rehearsal="true", passphrases=2)
    assert was in text
    with pytest.raises(KeysError) as refusal:
        parse_plan(text.replace(was, becomes, 1).encode(), BASE)
    assert refusal.value.message == f"this is no ceremony file: {says}"


@given(st.binary(max_size=400))
def test_no_bytes_make_it_fail_in_another_way(raw: bytes) -> None:
    with pytest.raises(KeysError) as refusal:
        parse_plan(raw, BASE)
    assert refusal.value.rule == "CEREMONY-FILE"


@given(st.data())
def test_no_change_of_one_place_makes_it_fail_in_another_way(data: st.DataObject) -> None:
    text = TEMPLATE
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    put = data.draw(st.text(max_size=8))
    assert rule_of(text[:start] + put + text[end:]) in {None, "CEREMONY-FILE", "CEREMONY-PEOPLE"}


def test_too_large_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"#" * 70_000)
    for name in ("large", "none"):
        with pytest.raises(KeysError) as refusal:
            read_plan(tmp_path / name)
        assert refusal.value.rule == "CEREMONY-FILE"
        assert refusal.value.remedy


def test_nodes_and_outputs_are_looked_at_before_the_start(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, nodes={"shop-a": "shop-a.pub"})
    with pytest.raises(KeysError) as refusal:
        read_plan(plan)
    assert refusal.value.rule == "KEY-PUBLIC"
    (tmp_path / "shop-a.pub").write_text(generate_signing_key().minisign.encode(), encoding="ascii")
    assert [node.name for node in read_plan(plan)[0].nodes] == ["shop-a"]
    for name, rule in (("keystore", "KEYSTORE-EXISTS"), ("ceremony", "CEREMONY-EXISTS")):
        (tmp_path / name).symlink_to("nowhere")
        with pytest.raises(KeysError) as refusal:
            read_plan(plan)
        assert refusal.value.rule == rule
        (tmp_path / name).unlink()


@given(st.integers(2, 16), st.integers(1, 2), st.integers(0, 3))
def test_every_step_has_one_number_and_every_kind_of_step_its_turn(
    custodians: int, passphrases: int, nodes: int
) -> None:
    names = [f"C{number}" for number in range(custodians)]
    text = f'format = 1\ntitle = "T"\nrehearsal = true\noutput = "o"\npassphrases = {passphrases}\n'
    text += f'[keystore]\npath = "k"\n[custody]\nthreshold = 2\ncustodians = {names}\n'
    for number, name in enumerate(names):
        duties = ["custodian", "operator"] + (["administrator"] if number == 0 else ["witness"])
        text += f'[[people]]\nname = "{name}"\nroles = {duties}\n'
    for number in range(nodes):
        text += f'[[nodes]]\nname = "n{number}"\npublic_key = "p"\n'
    plan = parse_plan(text.encode(), BASE)
    check_people(plan)
    steps = steps_of(plan)
    assert len(steps) == 5 + passphrases + custodians + nodes
    kinds = [step.kind for step in steps]
    assert sorted(kinds, key=list(StepKind).index) == kinds
    assert set(kinds) == set(StepKind) - (set() if nodes else {StepKind.ENROL_NODE})
    assert [step.place for step in steps if step.kind is StepKind.TAKE_SHARE] == list(range(custodians))


TEMPLATE = """\
format = 1
title = "T"
rehearsal = true
output = "o"
[keystore]
path = "k"
[custody]
threshold = 2
custodians = ["A", "B"]
[[people]]
name = "A"
roles = ["custodian", "administrator"]
[[people]]
name = "B"
roles = ["custodian", "witness", "operator"]
"""


def test_template_of_the_mutations_is_good() -> None:
    assert rule_of(TEMPLATE) is None
