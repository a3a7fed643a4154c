"""Configuration: typed, relative to its file, overridden by the environment, and nothing unknown."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from keys.config import KeystoreConfig, Risk, load
from keys.errors import KeysError


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    node: str
    state: Path
    max_orders: int = 10000


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = '[node]\nnode = "shop-a"\nstate = "state"\n[keystore]\npath = "/keys"\n'


def test_sections_become_types_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, GOOD), {"node": Node, "keystore": KeystoreConfig}, {})
    assert loaded["node"] == Node(node="shop-a", state=tmp_path / "state")
    assert loaded["keystore"] == KeystoreConfig(path=Path("/keys"))


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    environ = {"NODE_MAX_ORDERS": "25", "NODE_STATE": "elsewhere", "KEYSTORE_PASSPHRASE_FILE": "pass"}
    loaded = load(write(tmp_path, GOOD), {"node": Node, "keystore": KeystoreConfig}, environ)
    assert loaded["node"].max_orders == 25
    assert loaded["node"].state == tmp_path / "elsewhere"
    assert loaded["keystore"].passphrase_file == tmp_path / "pass"


def test_accepted_risks_are_named_one_by_one(tmp_path: Path) -> None:
    text = '[keystore]\npath = "/keys"\naccept_risk = ["unencrypted-swap"]\n'
    settings = load(write(tmp_path, text), {"keystore": KeystoreConfig}, {})["keystore"]
    assert settings.accept_risk == (Risk.UNENCRYPTED_SWAP,)
    from_environment = load(
        write(tmp_path, GOOD), {"keystore": KeystoreConfig}, {"KEYSTORE_ACCEPT_RISK": "unencrypted-swap"}
    )
    assert from_environment["keystore"].accept_risk == (Risk.UNENCRYPTED_SWAP,)


@pytest.mark.parametrize(
    ("text", "environ", "rule"),
    [
        ("[nodes]\n", {}, "CONFIG-UNKNOWN"),
        (GOOD + "colour = 1\n", {}, None),  # a section that is not asked for is not judged
        ('[node]\nnode = "a"\nstate = "s"\ncolour = "red"\n', {}, "CONFIG-UNKNOWN"),
        ('[node]\nnode = 7\nstate = "s"\n', {}, "CONFIG-VALUE"),
        ('[node]\nnode = "a"\n', {}, "CONFIG-VALUE"),
        ('[node]\nnode = "a"\nstate = "s"\nmax_orders = "5"\n', {}, "CONFIG-VALUE"),
        ('[node]\nnode = "a"\nstate = ""\n', {}, "CONFIG-VALUE"),
        (GOOD, {"NODE_MAX_ORDERS": "many"}, "CONFIG-VALUE"),
        ("node = 1\n", {}, "CONFIG-VALUE"),
        ('[keystore]\npath = "k"\naccept_risk = ["all"]\n', {}, "CONFIG-VALUE"),
        ('[keystore]\npath = "k"\naccept_risk = "unencrypted-swap"\n', {}, "CONFIG-VALUE"),
        ("[node\n", {}, "CONFIG-FILE"),
        ("#" * 300_000, {}, "CONFIG-FILE"),
    ],
)
def test_bad_configuration_is_refused_by_rule(
    tmp_path: Path, text: str, environ: dict[str, str], rule: str | None
) -> None:
    path = write(tmp_path, text)
    if rule is None:
        load(path, {"node": Node}, environ)
        return
    with pytest.raises(KeysError) as refusal:
        load(path, {"node": Node} | ({"keystore": KeystoreConfig} if "[keystore]" in text else {}), environ)
    assert refusal.value.rule == rule


def test_missing_file_is_refused_by_rule(tmp_path: Path) -> None:
    with pytest.raises(KeysError) as refusal:
        load(tmp_path / "none.toml", {"node": Node}, {})
    assert refusal.value.rule == "CONFIG-FILE"
