"""The rules of the house that an import linter cannot say, read off our own source.

Why here: they hold for all rooms at once.
Must not: run the system.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.source import ROOMS, ROOT, defined_names, dotted, imports, modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOP_LEVEL = {
    *ROOMS,
    "tests",
    "Makefile",
    "README.md",
    # Only what tools demand:
    ".ci",
    ".gitignore",
    "LICENSE",
    "pyproject.toml",
    "requirements-dev.txt",
    "requirements-offline.txt",
    "requirements-online.txt",
}
LOCKS = ("requirements-dev.txt", "requirements-offline.txt", "requirements-online.txt")
FORBIDDEN_WORDS = {
    *("blob", "blobs", "payload", "payloads", "ack", "acks", "manager", "managers"),
    *("helper", "helpers", "util", "utils", "common", "misc"),
}
# Of the key room, what both sides may see; the linter names what is forbidden, this names what is allowed.
SHARED_KEYS = ("keys.public", "keys.errors", "keys.durable", "keys.config", "keys.console")
SIGNER = "transfer.sync.signing"
RULE_ID = re.compile(r"[A-Z]+(?:-[A-Z0-9]+)+")
# Looks like a rule id and is none: names of encodings, and of records in the sample catalogue.
NOT_A_RULE = re.compile(r"(?:(?:UTF|SHA|HMAC|RFC|LP|CD|EP|MC|BOX)-[A-Z0-9-]+|ISO-[0-9-]+)")


def tracked_files(tool: Callable[[str], Path]) -> list[str]:
    result = subprocess.run(
        [tool("git"), "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return [name for name in result.stdout.split("\0") if name]


def test_top_level_holds_the_rooms_and_what_tools_demand(tool: Callable[[str], Path]) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing says which files belong to it")
    assert {name.split("/")[0] for name in tracked_files(tool)} - TOP_LEVEL == set()


def test_every_module_opens_with_a_docstring() -> None:
    assert [str(module.path) for module in modules() if not ast.get_docstring(module.tree)] == []


def test_no_name_uses_a_forbidden_word() -> None:
    faults = [
        f"{module.at(node)}: {name}"
        for module in modules()
        for node, name in defined_names(module)
        if FORBIDDEN_WORDS & set(words(name))
    ]
    assert faults == []


def test_no_file_name_uses_a_forbidden_word() -> None:
    files = (path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*"))
    shown = [path for path in files if "__pycache__" not in path.parts]
    assert [str(path) for path in shown if FORBIDDEN_WORDS & set(words(path.name))] == []


def test_online_rooms_see_only_the_shared_part_of_the_key_room() -> None:
    faults = [
        f"{module.at(node)}: {name}"
        for module in modules()
        if module.name.split(".")[0] in {"intake", "transfer"} and module.name != SIGNER
        for node, name in imports(module)
        if name.split(".")[0] == "keys"
        and not f"{name}.".startswith(tuple(f"{part}." for part in SHARED_KEYS))
    ]
    assert faults == []


def test_no_module_is_imported_behind_the_linters_back() -> None:
    faults = [
        f"{module.at(node)}: {name}"
        for module in modules()
        for node, name in (*imports(module), *calls(module.tree))
        if name.split(".")[0] in {"importlib", "__import__", "exec", "eval", "runpy"}
        # Files that a package brings are read through importlib.resources, which imports nothing.
        and not name.startswith("importlib.resources")
    ]
    assert faults == []


def test_only_command_lines_read_the_environment_and_the_wall_clock() -> None:
    outside = {
        "os.environ",
        "os.getenv",
        "time.time",
        "time.time_ns",
        "datetime.now",
        "datetime.datetime.now",
    }
    outside |= {"datetime.utcnow", "datetime.today", "date.today", "datetime.date.today", "time.localtime"}
    faults = [
        f"{module.at(node)}: {name}"
        for module in modules()
        if not re.fullmatch(r"cli(_[a-z_]+)?", module.name.split(".")[-1])
        for node, name in (*imports(module), *chains(module.tree))
        if name in outside
    ]
    assert faults == []


def test_every_package_and_every_data_file_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    listed = set(project["tool"]["setuptools"]["packages"])
    assert {module.name for module in modules() if module.path.name == "__init__.py"} == listed
    suffixes = {pattern.rpartition("*")[2] for pattern in project["tool"]["setuptools"]["package-data"]["*"]}
    files = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file()]
    data = {path.suffix for path in files if "__pycache__" not in path.parts} - {".py"}
    assert data - suffixes == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_every_package_by_hash_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    assert not re.search(
        r"://|^\s*(--index-url|--extra-index-url|--find-links|--trusted-host|-i|-f)\b", text, re.MULTILINE
    )
    entries = list(locked(lock))
    assert len(entries) > 10
    assert [name for name, version, hashes in entries if not version or hashes == 0] == []


def test_locks_agree_with_each_other() -> None:
    dev = {name: version for name, version, _ in locked("requirements-dev.txt")}
    for lock in LOCKS:
        assert {(name, version) for name, version, _ in locked(lock)} <= set(dev.items()), lock


@pytest.mark.parametrize(("lock", "extra"), [(lock, lock[13:-4]) for lock in LOCKS])
def test_lock_covers_what_the_project_declares(lock: str, extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    declared = project["project"]["dependencies"] + project["project"]["optional-dependencies"][extra]
    names = {re.split(r"[\[<>=]", entry)[0] for entry in declared} - {project["project"]["name"]}
    assert names | {"setuptools"} <= {name for name, _, _ in locked(lock)}


def test_npm_locks_pin_every_package_by_hash_and_name_no_host() -> None:
    for lock in (ROOT / "tests").glob("*/package-lock.json"):
        for name, entry in json.loads(lock.read_text("utf-8"))["packages"].items():
            assert "resolved" not in entry, (
                f"{lock}: {name} (npm config set omit-lockfile-registry-resolved true)"
            )
            assert name == "" or entry.get("integrity", "").startswith("sha512-"), f"{lock}: {name}"


def test_every_rule_is_documented() -> None:
    documented = rule_ids_in(ROOT / "offline_processor" / "RULES.md")
    missing = sorted(f"{rule} ({place})" for rule, place in rules().items() if rule not in documented)
    assert not missing, "\n".join(missing)


def test_every_rule_is_shown_by_a_test() -> None:
    sources = [
        path for suffix in ("py", "json", "js", "mjs") for path in (ROOT / "tests").rglob(f"*.{suffix}")
    ]
    shown: set[str] = set()
    for path in sources:
        if "node_modules" not in path.parts:
            shown |= rule_ids_in(path)
    missing = sorted(f"{rule} ({place})" for rule, place in rules().items() if rule not in shown)
    assert not missing, "\n".join(missing)


def test_every_documented_rule_is_in_the_code() -> None:
    rows = [
        line
        for line in (ROOT / "offline_processor" / "RULES.md").read_text("utf-8").splitlines()
        if line[:1] == "|"
    ]
    named = {match[0] for row in rows if (match := RULE_ID.search(row.split("|")[1]))}
    assert len(named) > 10
    assert sorted(named - rules().keys()) == []


def rules() -> dict[str, str]:
    """Every rule id in our code, with one place: whole string constants of the form, enumerations included."""
    return {
        node.value: module.at(node)
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node not in prefixes(module.tree)
        if RULE_ID.fullmatch(node.value) and not NOT_A_RULE.fullmatch(node.value)
    }


@cache
def prefixes(tree: ast.Module) -> frozenset[ast.expr]:
    """What code compares beginnings with: the beginning of a rule id is not one."""
    compared: set[ast.expr] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="startswith"), args=beginnings):
                compared.update(beginnings)
    return frozenset(compared)


def rule_ids_in(path: Path) -> set[str]:
    return set(RULE_ID.findall(path.read_text("utf-8")))


def words(name: str) -> list[str]:
    """``AnHTTPThing_two`` -> an, http, thing, two."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def calls(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, dotted(node.func)


def chains(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node, dotted(node)


def locked(lock: str) -> Iterator[tuple[str, str, int]]:
    """Name, version and number of hashes of each package in a lock."""
    for entry in (ROOT / lock).read_text("utf-8").replace("\\\n", " ").splitlines():
        if entry and not entry.startswith((" ", "#")):
            name, _, rest = entry.partition("==")
            yield (
                name.strip(),
                rest.partition(" ")[0],
                len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)),
            )
