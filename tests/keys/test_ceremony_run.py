"""A whole ceremony at a real terminal, its mistakes and its interruptions, and the recovery that it is for."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keys import custody_copy
from keys.custody import split
from keys.keystore import Keystore
from keys.private.sign import generate_signing_key
from keys.public.fingerprint import fingerprint, words
from keys.public.roll import decode_roll
from keys.record import verify_record
from keys.record_form import Act, decode_record
from keys.software import file_digest
from tests.keys.ceremony_play import CUSTODIANS, PASSPHRASES, Players, write_plan
from tests.keys.conftest import locked
from tests.keys.terminal import CLEAR, ENTER, LEAVE, ROOT, Terminal, trace_of

if TYPE_CHECKING:
    from collections.abc import Callable

REHEARSAL = "REHEARSAL"


@dataclass(frozen=True)
class Held:
    """A ceremony that was held to its end, and the sheets that the custodians took home."""

    home: Path
    shares: list[str]
    shown: bytes
    main_screen: str
    node: bytes


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    home = tmp_path_factory.mktemp("ceremony")
    node = generate_signing_key().minisign
    (home / "shop-a.pub").write_text(node.encode(), encoding="ascii")
    plan = write_plan(home, nodes={"shop-a": "shop-a.pub"})
    with Terminal("run", plan) as terminal:
        players = Players(terminal)
        players.hold(words(node.public_key))
        assert terminal.end() == 0, terminal.shown[-800:]
        return Held(
            home=home,
            shares=players.shares,
            shown=terminal.shown,
            main_screen=terminal.main_screen(),
            node=node.public_key,
        )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_plan(tmp_path)
    return tmp_path


def refused(*arguments: object, **options: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "keys", *map(str, arguments), "--json"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **options,
    )
    document = json.loads(done.stdout)
    assert isinstance(document, dict)
    return document | {"code": done.returncode}


def nothing_was_made(home: Path) -> bool:
    return sorted(path.name for path in home.iterdir()) == ["CEREMONY.toml"]


def test_keystore_opens_with_both_passphrases_and_has_what_the_record_says(held: Held) -> None:
    out = held.home / "ceremony"
    record = decode_record((out / "record.json").read_bytes())
    with (
        locked(PASSPHRASES["Ben"].encode()) as first,
        locked(PASSPHRASES["Cleo"].encode()) as second,
        Keystore.open(held.home / "keystore", [first, second]) as keystore,
    ):
        assert keystore.rehearsal
        assert keystore.identity.public_key.hex() == record.identity.public_key
        assert [order.key.key_id.hex() for order in keystore.order_keys] == [
            key.key_id for key in record.order_keys
        ]
        custody = keystore.custody
    assert custody is not None
    assert record.custody is not None
    assert (custody.threshold, custody.shares) == (3, 5)
    assert record.custody.set_id == custody.set_id
    assert record.custody.custodians == CUSTODIANS
    assert (record.act, record.rehearsal, record.passphrases) == (Act.CEREMONY, True, 2)
    assert len(record.steps) == 13
    assert all(step.began <= step.ended for step in record.steps)
    roll = decode_roll(
        (out / "node-shop-a/keyroll.json").read_bytes(),
        node="shop-a",
        identity=bytes.fromhex(record.identity.public_key),
    )
    assert len(roll.batch_keys) == 4
    assert record.nodes[0].key.public_key == held.node.hex()


def test_record_verifies_with_our_command_and_with_minisign(held: Held, tool: Callable[[str], Path]) -> None:
    out = held.home / "ceremony"
    record = decode_record((out / "record.json").read_bytes())
    assert verify_record(out, spoken=record.identity.words, software=record.software).same_version
    command: list[str | Path] = [tool("minisign"), "-Vm", out / "record.json", "-p", out / "identity.pub"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_what_is_no_fingerprint_is_not_taken_for_another_identity(held: Held) -> None:
    for spoken, rule, code in (
        ("about " * 13, "USAGE-FINGERPRINT", 2),
        ("1a2b-3c4d", "USAGE-FINGERPRINT", 2),
        (fingerprint(b"?" * 32), "RECORD-IDENTITY", 4),
        (words(b"?" * 32), "RECORD-IDENTITY", 4),
    ):
        said = refused("verify-record", held.home / "ceremony", "--fingerprint", spoken)
        assert (said["rule"], said["code"]) == (rule, code)


def test_every_step_says_rehearsal_its_number_and_who_does_it(held: Held) -> None:
    pages = held.shown.partition(ENTER)[2].partition(LEAVE)[0].split(CLEAR)
    shown = [page.decode() for page in pages if page.strip()]
    assert len(shown) > 20
    assert [page for page in shown if REHEARSAL not in page] == []
    headings = [
        step.heading for step in decode_record((held.home / "ceremony/record.json").read_bytes()).steps
    ]
    assert "Step 5 of 13 - custodian Ada: take a share" in headings
    for heading in headings:
        assert any(heading in page for page in shown), heading
    assert held.main_screen.count(REHEARSAL) >= 2


def test_no_share_is_left_on_the_screen_nor_two_on_one_page(held: Held) -> None:
    assert len(set(held.shares)) == 5
    for share in held.shares:
        assert trace_of(share, held.shown.decode()) is not None  # it was there
        assert trace_of(share, held.main_screen) is None
    for page in held.shown.split(CLEAR):
        # The first four words of all shares of a set are alike.
        own = [" ".join(share.split()[4:]) for share in held.shares]
        assert sum(trace_of(share, page.decode()) is not None for share in own) <= 1
    # The last thing on the other screen is that it is cleared, with its history, before it is left.
    assert held.shown.partition(LEAVE)[0].endswith(CLEAR)
    assert held.shown.count(ENTER) == held.shown.count(LEAVE) == 1


def test_nothing_secret_is_in_any_file(held: Held) -> None:
    files = [path for path in held.home.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        for secret in PASSPHRASES.values():
            assert secret.encode() not in content, path
        for share in held.shares:
            assert trace_of(share, content.decode("latin-1")) is None, path
    assert "first passphrase" not in held.shown.decode()


def test_three_shares_recover_the_keystore_on_a_new_machine(held: Held, tmp_path: Path) -> None:
    config = tmp_path / "offline.toml"
    config.write_text('[keystore]\npath = "keys"\npassphrase_file = "passphrase"\n', encoding="ascii")
    (tmp_path / "passphrase").write_text("a new passphrase\n", encoding="ascii")
    (tmp_path / "passphrase").chmod(0o600)
    arguments = (
        "recover",
        "--passphrases",
        "1",
        "--config",
        config,
        "--copy",
        held.home / "ceremony/custody.copy",
    )
    on_paper = decode_record((held.home / "ceremony/record.json").read_bytes()).identity
    with Terminal(*arguments, "--out", tmp_path / "recovery", "--epoch-above", 6) as terminal:
        before_typed = terminal.answer("from the paper", words(b"?" * 32))
        before_typed += terminal.answer("from the paper", on_paper.words.upper())
        assert on_paper.fingerprint not in before_typed
        assert on_paper.words not in before_typed
        terminal.expect(on_paper.fingerprint)
        for place in (1, 3, 4):
            terminal.answer("Word 1", held.shares[place])
        assert terminal.end() == 0, terminal.shown[-800:]
        said = terminal.main_screen()
        assert [share for share in held.shares if trace_of(share, said)] == []
    assert "epoch 7" in said
    assert REHEARSAL in said  # for ever
    assert "please order again" in said
    assert "node shop-a: batch keys 1, 2, 3, 4" in said
    before = decode_record((held.home / "ceremony/record.json").read_bytes())
    after = decode_record((tmp_path / "recovery/record.json").read_bytes())
    assert after.identity == before.identity
    assert after.order_keys == before.order_keys
    assert (after.act, after.epoch) == (Act.RECOVERY, 7)
    assert [(lost.node, lost.numbers) for lost in after.lost] == [("shop-a", (1, 2, 3, 4))]
    verify_record(tmp_path / "recovery", spoken=None, software=after.software)
    with (
        locked(b"a new passphrase") as passphrase,
        Keystore.open(tmp_path / "keys", [passphrase]) as keystore,
    ):
        assert keystore.rehearsal
        assert keystore.ring.unused("shop-a") == []


def fingerprint_of(held: Held) -> str:
    return decode_record((held.home / "ceremony/record.json").read_bytes()).identity.fingerprint


def test_copy_with_another_identity_is_refused_before_anyone_is_asked_for_a_share(
    held: Held, tmp_path: Path
) -> None:
    """Whoever has seen a copy knows the custody key, and could seal keys of their own to it."""
    config = tmp_path / "offline.toml"
    config.write_text('[keystore]\npath = "keys"\n', encoding="ascii")
    index = custody_copy.look((held.home / "ceremony/custody.copy").read_bytes()).keystore
    assert index.custody is not None
    with (
        locked(b"the passphrase of a thief") as passphrase,
        Keystore.create(
            tmp_path / "forger", [passphrase], rehearsal=True, now=1, custody=index.custody.custody()
        ) as forger,
    ):
        (tmp_path / "forged.copy").write_bytes(forger.custody_copy(2))
    given = (
        "recover",
        "--passphrases",
        "1",
        "--config",
        config,
        "--copy",
        tmp_path / "forged.copy",
        "--out",
        tmp_path / "out",
    )
    for more in (("--fingerprint", fingerprint_of(held)), ()):  # with one from paper; with nobody to ask
        assert refused(*given, *more)["rule"] == "KEY-FINGERPRINT"
    with Terminal(*given) as terminal:
        for _ in range(3):
            terminal.answer("from the paper", fingerprint_of(held))
        assert terminal.end() == 2
        assert "Share 1" not in terminal.shown.decode()
    assert not (tmp_path / "keys").exists()


def shares_on_a_descriptor(tmp_path: Path, *shares: str) -> int:
    place = tmp_path / "shares"
    place.write_text("".join(f"{share}\n" for share in shares), encoding="ascii")
    return os.open(place, os.O_RDONLY)


def test_too_few_or_foreign_shares_recover_nothing(held: Held, tmp_path: Path) -> None:
    config = tmp_path / "offline.toml"
    config.write_text('[keystore]\npath = "keys"\n', encoding="ascii")
    _, key, foreign = split(3, 5)
    key.close()
    for shares, rule in (
        (held.shares[:2], "SHARE-MISSING"),
        (foreign[:3], "SHARE-OTHER-SET"),  # a whole quorum, of another custody: told at the first of them
        ([held.shares[0], foreign[1]], "SHARE-OTHER-SET"),
        ([held.shares[0], held.shares[0]], "SHARE-REPEATED"),
        ([held.shares[0].rpartition(" ")[0] + " academic", held.shares[1]], "SHARE-CHECKSUM"),
        (["capital surprise"], "SHARE-FORM"),
    ):
        descriptor = shares_on_a_descriptor(tmp_path, *shares)
        passphrase = os.open(_passphrase(tmp_path), os.O_RDONLY)
        said = refused(
            *(
                "recover",
                "--passphrases",
                "1",
                "--config",
                config,
                "--copy",
                held.home / "ceremony/custody.copy",
            ),
            *("--out", tmp_path / "recovery", "--shares-fd", descriptor, "--passphrase-fd", passphrase),
            *("--fingerprint", fingerprint_of(held)),
            pass_fds=(descriptor, passphrase),
        )
        os.close(descriptor)
        os.close(passphrase)
        assert said["rule"] == rule, said
        assert not (tmp_path / "keys").exists()
        assert not (tmp_path / "recovery").exists()
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def with_passphrase_files(tmp_path: Path, home: Path) -> Path:
    config = tmp_path / "offline.toml"
    config.write_text(
        f'[keystore]\npath = "{home}/keystore"\npassphrase_file = "one"\nsecond_passphrase_file = "two"\n',
        encoding="ascii",
    )
    for name, secret in zip(("one", "two"), PASSPHRASES.values(), strict=True):
        (tmp_path / name).write_text(secret + "\n", encoding="ascii")
        (tmp_path / name).chmod(0o600)
    return config


def _passphrase(tmp_path: Path) -> Path:
    place = tmp_path / "new-passphrase"
    place.write_text("a new passphrase\n", encoding="ascii")
    return place


def test_a_new_share_set_replaces_the_former_one_when_its_sheets_are_proved(
    held: Held, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(held.home, home)
    config = with_passphrase_files(tmp_path, home)
    cast = [part for name in ("Ada", "Ben", "Fay") for part in ("--custodian", name)]
    arguments = ("reshare", "--config", config, "--threshold", 2, *cast, "--out", tmp_path / "reshare")
    with Terminal(*arguments) as terminal:  # broken off before the new sheets are proved
        Players(terminal).see_share()
        terminal.interrupt()
        assert terminal.end() == 1
        assert "the former shares stay as they are" in terminal.main_screen()
    assert not (tmp_path / "reshare").exists()
    with Terminal(*arguments) as terminal:
        players = Players(terminal)
        for _ in range(3):
            share = players.see_share()
            terminal.answer("Word 1", share)
            terminal.answer("into its envelope", "")
        terminal.answer("Word 1", held.shares[0])  # of the former set
        assert "SHARE-OTHER-SET" in terminal.answer("Word 1", players.shares[2])
        terminal.answer("Word 1", players.shares[0])
        assert terminal.end() == 0, terminal.shown[-800:]
        assert not any(trace_of(share, terminal.main_screen()) for share in players.shares)
    record = decode_record((tmp_path / "reshare/record.json").read_bytes())
    assert record.act is Act.RESHARE
    assert record.custody is not None
    assert (record.custody.threshold, record.custody.custodians) == (2, ("Ada", "Ben", "Fay"))
    verify_record(tmp_path / "reshare", spoken=None, software=record.software)
    for shares, rule in ((held.shares[:3], "SHARE-OTHER-SET"), (players.shares[1:], None)):
        descriptor = shares_on_a_descriptor(tmp_path, *shares)
        given = ("check-shares", "--config", config, "--shares-fd", descriptor, "--who", "Ada")
        said = refused(*given, pass_fds=(descriptor,))
        os.close(descriptor)
        assert said.get("rule") == rule, said


def test_yearly_check_proves_the_shares_lists_the_copies_and_changes_nothing(
    held: Held, tmp_path: Path
) -> None:
    config = with_passphrase_files(tmp_path, held.home)
    before = {path: path.read_bytes() for path in (held.home / "keystore").iterdir()}
    kept = tmp_path / "drawer.copy"
    shutil.copyfile(held.home / "ceremony/custody.copy", kept)
    with Terminal("check-shares", "--config", config, "--custody-copy", kept) as terminal:
        terminal.answer("Who does this", "Ben, Cleo")
        terminal.answer("Word 1", held.shares[2])
        terminal.answer("Word 1", held.shares[2])  # Cleo once more
        assert "SHARE-REPEATED" in terminal.answer("Word 1", held.shares[0])
        terminal.answer("Word 1", held.shares[1])
        assert terminal.end() == 0, terminal.shown[-800:]
        assert "Nothing was changed" in terminal.main_screen()
        assert "CUSTODY-COPY-OLD" not in terminal.main_screen()
    [place] = (held.home / "keystore.records").iterdir()
    made_with = decode_record((place / "record.json").read_bytes()).software
    record = verify_record(place, spoken=None, software=made_with).record
    assert record.act is Act.CHECK_SHARES
    assert [person.name for person in record.people] == ["Ben", "Cleo"]
    assert {copy.name: copy.digest for copy in record.custody_copies} == {
        name: file_digest(kept) for name in ("keystore.custody", "drawer.copy")
    }
    assert {path: path.read_bytes() for path in (held.home / "keystore").iterdir()} == before


def test_wrong_shares_are_told_apart_when_they_are_typed_back(home: Path) -> None:
    with Terminal("run", home / "CEREMONY.toml") as terminal:
        players = Players(terminal)
        players.check_machine()
        players.choose_passphrases()
        ada = players.see_share().split()
        assert re.search(r"Share 1 of 5, set \d+\. Any 3 shares", terminal.shown.decode())
        wrong = "academic" if ada[6] != "academic" else "acid"
        terminal.answer("Word 1", " ".join([*ada[:6], wrong, *ada[7:]]))
        assert "SHARE-CHECKSUM: word 7 on your sheet is not what you were shown" in terminal.answer(
            "type it again", ""
        )
        terminal.answer("Word 1", " ".join([*ada[:4], "aardvark"]))
        terminal.expect("Word 5, 'aardvark', is not in the list")
        terminal.answer("Word 5", "academic academic academic " + " ".join(ada[:29]))
        terminal.expect("A share has 33 words, and with this line there would be 36. Nothing of the line")
        terminal.answer("Word 5", "redo")
        terminal.answer("Word 1", "academic")
        terminal.answer("Word 2", " ".join([*ada[:32], "academic" if ada[32] != "academic" else "acid"]))
        assert "all 33 words: what was typed before is forgotten" in terminal.answer("type it again", "")
        _, key, foreign = split(3, 5)
        key.close()
        terminal.answer("Word 1", foreign[0])
        assert "SHARE-OTHER-SET" in terminal.answer("type it again", "show")
        terminal.answer("words are on your sheet", "")
        terminal.answer("Word 1", " ".join(ada))
        terminal.answer("into its envelope", "")
        ben = players.see_share()
        terminal.answer("Word 1", " ".join(ada))
        assert "SHARE-WRONG: it is the share of another custodian" in terminal.answer("type it again", "")
        terminal.answer("Word 1", ben)
        terminal.answer("into its envelope", "")


@pytest.mark.parametrize("how", ["interrupt", "hang up", "terminate", "a no"])
def test_a_broken_off_ceremony_leaves_nothing_and_says_so(home: Path, how: str) -> None:
    with Terminal("run", home / "CEREMONY.toml") as terminal:
        players = Players(terminal)
        share = ""
        if how == "a no":
            players.check_machine("maybe")  # a typo is asked again
            players.check_machine("")
            players.check_machine("no")
        else:
            players.check_machine()
            players.choose_passphrases()
            share = players.see_share()
            terminal.expect("Word 1: ")
            assert not nothing_was_made(home)  # the keys are there, aside
        if how == "interrupt":
            terminal.interrupt()
        elif how != "a no":
            terminal.wait_until_asked()
            os.kill(terminal.child, signal.SIGHUP if how == "hang up" else signal.SIGTERM)
        assert terminal.end() == 1
        said = terminal.main_screen()
        assert ("burn them" in said) == (how != "a no")  # nobody has a sheet yet
        if how != "a no":
            assert trace_of(share, terminal.shown.decode()) is not None
            assert trace_of(share, said) is None
    assert "CEREMONY-BROKEN-OFF" in said
    assert "Step 1 of 12" in said if how == "a no" else "Step 5 of 12 - custodian Ada" in said
    assert nothing_was_made(home)


def test_what_a_killed_ceremony_left_is_removed_by_the_next(home: Path) -> None:
    with Terminal("run", home / "CEREMONY.toml") as terminal:
        players = Players(terminal)
        players.check_machine()
        players.choose_passphrases()
        os.kill(terminal.child, signal.SIGKILL)
        assert terminal.end() == -signal.SIGKILL
    assert not nothing_was_made(home)
    assert not (home / "keystore").exists()
    with Terminal("run", home / "CEREMONY.toml") as terminal:
        Players(terminal).check_machine("no")
        terminal.end()
    assert nothing_was_made(home)


def test_two_ceremonies_do_not_take_each_others_keystore_away(home: Path) -> None:
    with Terminal("run", home / "CEREMONY.toml") as terminal:
        players = Players(terminal)
        players.check_machine()
        players.choose_passphrases()
        terminal.expect("When you are alone")
        with Terminal("run", home / "CEREMONY.toml") as other:
            assert other.end() == 2
            assert "KEYSTORE-BUSY" in other.main_screen()
        assert not nothing_was_made(home)


def test_missing_custody_copy_is_refused_before_anyone_is_asked(tmp_path: Path) -> None:
    config = tmp_path / "offline.toml"
    config.write_text('[keystore]\npath = "keys"\n', encoding="ascii")
    said = refused(
        "recover",
        "--passphrases",
        "1",
        "--config",
        config,
        "--copy",
        tmp_path / "none",
        "--out",
        tmp_path / "out",
    )
    assert (said["rule"], said["code"]) == ("CUSTODY-MISSING", 2)


def test_bad_passphrases_are_asked_for_again(home: Path) -> None:
    with Terminal("run", home / "CEREMONY.toml") as terminal:
        players = Players(terminal)
        players.check_machine()
        for typed in (("short",), ("long enough to take", "but not the same")):
            for answer in typed:
                terminal.expect("passphrase of Ben: " if answer == typed[0] else "once more: ")
                terminal.send(answer)
        terminal.expect("KEY-PASSPHRASE-TWICE")
        players.choose_passphrases()


def test_wrong_fingerprints_are_asked_for_again(tmp_path: Path) -> None:
    node = generate_signing_key().minisign
    (tmp_path / "shop-a.pub").write_text(node.encode(), encoding="ascii")
    plan = write_plan(tmp_path, passphrases=1, nodes={"shop-a": "shop-a.pub"})
    with Terminal("run", plan) as terminal:
        players = Players(terminal, holders=("Ben",))
        players.check_machine()
        players.choose_passphrases()
        players.take_shares()
        terminal.answer("Word 1", players.shares[0])
        terminal.answer("Word 1", players.shares[0])
        assert "SHARE-REPEATED" in terminal.answer("Word 1", players.shares[1])
        terminal.answer("Word 1", players.shares[4])
        terminal.answer("Everybody may look", "")
        terminal.answer("as it is read out", fingerprint(b"\x01" * 32))
        terminal.expect("That is not the fingerprint of the key in the file")
        players.enrol(fingerprint(node.public_key))
        terminal.answer("written down", "")
        terminal.answer("Type it", words(b"\x02" * 32))
        terminal.expect("That is not the fingerprint of the offline identity")
        players.finish()
        assert terminal.end() == 0


def test_file_is_judged_before_a_key_is_touched(home: Path) -> None:
    plan = home / "CEREMONY.toml"
    good = plan.read_text(encoding="utf-8")
    for text, rule in (
        (good.replace("title", "titel", 1), "CEREMONY-FILE"),
        (good + "\n[extra]\nx = 1\n", "CEREMONY-FILE"),
        (good.replace("threshold = 3", "threshold = 6"), "CEREMONY-PEOPLE"),
    ):
        plan.write_text(text, encoding="utf-8")
        for more in ((), ("--check",)):
            said = refused("run", plan, *more)
            assert (said["rule"], said["code"]) == (rule, 2)
    plan.write_text(good, encoding="utf-8")
    assert refused("run", plan)["rule"] == "CEREMONY-TERMINAL"
    assert nothing_was_made(home)
    for name, rule in (("keystore", "KEYSTORE-EXISTS"), ("ceremony", "CEREMONY-EXISTS")):
        (home / name).mkdir()
        assert refused("run", plan)["rule"] == rule
        (home / name).rmdir()


def test_real_ceremony_makes_a_real_keystore_and_says_rehearsal_nowhere(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, rehearsal=False, passphrases=1)
    with Terminal("run", plan) as terminal:
        Players(terminal, holders=("Ben",)).hold()
        assert terminal.end() == 0, terminal.shown[-800:]
        assert REHEARSAL not in terminal.shown.decode()
    assert not decode_record((tmp_path / "ceremony/record.json").read_bytes()).rehearsal
    with (
        locked(PASSPHRASES["Ben"].encode()) as passphrase,
        Keystore.open(tmp_path / "keystore", [passphrase]) as keystore,
    ):
        assert not keystore.rehearsal


def test_check_lists_the_steps_and_makes_nothing(home: Path) -> None:
    listed = refused("run", home / "CEREMONY.toml", "--check")
    assert len(listed["steps"]) == 12
    assert listed["steps"][4] == "Step 5 of 12 - custodian Ada: take a share"
    assert nothing_was_made(home)
