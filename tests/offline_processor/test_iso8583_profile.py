"""Profiles: the two shipped ones load, mistakes in one are refused when it is loaded, the page names every key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offline_processor.acquirers.iso8583 import profile as profiles
from offline_processor.acquirers.iso8583.profile import SHIPPED, Codes, Profile, Timeouts, load, read
from offline_processor.acquirers.protocol import Verb
from offline_processor.charging import DeclineClass
from offline_processor.errors import ProcessorError

FOLDER = Path(profiles.__file__).parent


def document(name: str = "ascii-1987") -> dict[str, Any]:
    return tomllib.loads((FOLDER / "profiles" / f"{name}.toml").read_text("utf-8"))


def test_shipped_profiles_are_those_of_the_folder() -> None:
    assert sorted(path.stem for path in (FOLDER / "profiles").iterdir()) == sorted(SHIPPED)


def test_shipped_profiles_load() -> None:
    ascii_profile, bcd = (load(name) for name in SHIPPED)
    assert (ascii_profile.header, ascii_profile.reversal_stan) == ("", "new")
    assert (len(bytes.fromhex(bcd.header)), bcd.reversal_stan) == (5, "same")
    assert ascii_profile.pan_in == bcd.pan_in == {Verb.REVERSE}
    assert ascii_profile.spec["2"]["data_enc"] == "ascii"
    assert bcd.spec["2"] | {"desc": ""} == {
        "data_enc": "b",
        "len_enc": "bcd",
        "len_type": 1,
        "len_count": "nibbles",
        "left_pad": "0",
        "max_len": 19,
        "desc": "",
    }


def test_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    text = (FOLDER / "profiles" / "bcd-1987.toml").read_text("utf-8")
    (tmp_path / "ours.toml").write_text(text.replace("answer = 30", "answer = 12.5"), "utf-8")
    assert load(str(tmp_path / "ours.toml")).timeouts == Timeouts(connect=10, answer=12.5)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("nothing", None, "no ISO 8583 profile 'nothing'"),
        ("../ascii-1987", None, "no ISO 8583 profile"),
        ("missing.toml", None, "No such file"),
        ("broken.toml", b"title = ", "cannot be used"),
        ("bytes.toml", b"\xff", "cannot be used"),
        ("large.toml", b"#" * 70_000, "larger"),
        ("empty.toml", b"", "title"),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    given_name = str(tmp_path / name) if name.endswith(".toml") else name
    with pytest.raises(ProcessorError, match="ISO-PROFILE") as caught:
        load(given_name)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"unheard_of": 1}, "unheard_of"),
        ({"timeouts": {"connect": 10, "answer": 30, "more": 1}}, "more"),
        ({"timeouts": {"connect": 10, "answer": 0}}, "answer"),
        ({"header": "6"}, "header"),
        ({"length_prefix": "none"}, "length_prefix"),
        ({"pan_in": ["echo"]}, "pan_in"),
        ({"cvv_field": 4}, "the same element"),
        ({"cvv_field": 63}, "the same element"),
        ({"cvv_field": 44}, "never read"),
        ({"operation_field": 60}, "the same element"),
        ({"constants": {"25": "59"}}, "the same element"),
        ({"constants": {"x": "59"}}, "no element's number"),
        ({"constants": {"022": "812"}}, "no element's number"),
        ({"constants": {"22": "8125"}}, "cannot be written"),
        ({"constants": {"129": "0"}}, "no element's number"),
        ({"eci_value": "597"}, "cannot be written"),
        ({"cvv_before": "{length}" + "9" * 90, "cvv_field": 44, "cvv_result_field": 48}, "never read"),
        ({"order_reference_field": 44}, "cannot be written"),
        (
            {"order_reference_field": 57, "fields": {"57": {"kind": "digits", "size": 32}}, "digits": "bcd"},
            "",
        ),
        ({"fields": {"4": {"kind": "digits", "size": 11}}}, "cannot be written"),
        ({"fields": {"11": {"kind": "text", "size": 6, "length_digits": 1}}}, "length_digits"),
        ({"codes": {"approved": ["00", "05"]}}, "two meanings"),
        ({"codes": {"approved": ["00", "09"]}}, "two meanings"),
        ({"codes": {"declines": {"never_retry": ["00"]}}}, "two meanings"),
        ({"codes": {"declines": {"sometimes": ["Z1"]}}}, "sometimes"),
        ({"mac": True}, "go together"),
        ({"mac_algorithm": "retail"}, "go together"),
        ({"mac": True, "mac_algorithm": "des"}, "mac_algorithm"),
        ({"mac": True, "mac_algorithm": "retail", "mac_field": 65}, "mac_field"),
        (
            {"mac": True, "mac_algorithm": "retail", "fields": {"128": {"kind": "text", "size": 16}}},
            "text of size 16",
        ),
        (
            {"mac": True, "mac_algorithm": "retail"}
            | {"fields": {key: {"kind": "text", "size": 8} for key in ("64", "128")}},
            "text of size 16",
        ),
    ],
)
def test_mistake_in_a_profile_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(document() | changes)
    assert reason in str(caught.value)


def test_further_codes_have_their_class() -> None:
    codes = {"approved": ["00", "08"], "declines": {"never_retry": ["Z1", "05"], "new_card": ["Z2"]}}
    profile = read(document() | {"codes": codes})
    assert profile.declines == {
        "Z1": DeclineClass.NEVER_RETRY,
        "05": DeclineClass.NEVER_RETRY,
        "Z2": DeclineClass.NEW_CARD,
    }


def test_element_may_be_other_than_the_standard_has_it() -> None:
    changes = {"fields": {"63": {"kind": "text", "size": 32, "length_digits": 2}}}
    assert read(document() | changes).spec["63"]["len_type"] == 2


@given(
    key=st.sampled_from(sorted(Profile.__struct_fields__)),
    value=st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-1, 130),
        st.text(max_size=5),
        st.lists(st.text(max_size=3), max_size=2),
        st.dictionaries(st.text("0123456789x", max_size=3), st.text(max_size=3), max_size=2),
    ),
)
def test_any_value_is_refused_with_a_reason_or_makes_a_profile(key: str, value: object) -> None:
    try:
        read(document() | {key: value})
    except ValueError as error:
        assert str(error)  # noqa: PT017


def test_page_names_every_key() -> None:
    page = (FOLDER / "PROFILES.md").read_text("utf-8")
    keys = (*Profile.__struct_fields__, *Codes.__struct_fields__, *Timeouts.__struct_fields__)
    assert [key for key in keys if f"`{key}`" not in page] == []
    assert [name for name in SHIPPED if f"`{name}`" not in page] == []
